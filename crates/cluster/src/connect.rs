//! From a kubeconfig to a client with our clock below it.

use std::path::Path;
use std::time::Duration;

use http::Request;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

use crate::Error;
use crate::clock::{ClockLayer, ServerClock};

/// Reads the configuration: the file, else what kubectl would read, else the pod's own account.
pub(crate) async fn config(kubeconfig: Option<&Path>) -> Result<Config, Error> {
    let Some(path) = kubeconfig else {
        return Config::infer().await.map_err(|source| Error::Config {
            why: "set KUBECONFIG or pass --kubeconfig".to_owned(),
            source: Some(source.into()),
        });
    };
    let wrong = |source: kube::config::KubeconfigError| Error::Config {
        why: format!("{}: {source}", path.display()),
        source: Some(source.into()),
    };
    let file = Kubeconfig::read_from(path).map_err(wrong)?;
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(file, &options).await.map_err(wrong)
}

/// Makes the client. It never repeats a call by itself: one call here is one call there.
pub(crate) fn client(config: Config, clock: ServerClock) -> Result<Client, Error> {
    let wrong = |source: kube::Error| Error::Config {
        why: source.to_string(),
        source: Some(source.into()),
    };
    if config.proxy_url.is_some() {
        tracing::warn!("Kubernetes is reached directly: proxies are not supported");
    }
    let https = config.rustls_https_connector_with_connector(connector()).map_err(wrong)?;
    let http: HyperClient<_, Body> = HyperClient::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .build(https);
    let service = ServiceBuilder::new()
        .layer(ClockLayer(clock))
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(wrong)?)
        .map_err(BoxError::from)
        .map_request(|request: Request<Body>| request)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

/// Keystrokes are small and must not wait for more of them; a dead peer must be noticed.
fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    connector.set_keepalive(Some(Duration::from_secs(15)));
    connector.set_keepalive_interval(Some(Duration::from_secs(5)));
    connector.set_keepalive_retries(Some(3));
    connector
}
