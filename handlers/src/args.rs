//! Flags and variables of `loom-handlers`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use service::{GuardArgs, LogArgs, ServeArgs};
use url::Url;
use weaver::Image;

/// Loom's HTTP API: weavers are made, listed, extended and deleted here
#[derive(Debug, Clone, Parser)]
#[command(name = "loom-handlers", version)]
pub struct Args {
    /// Address to listen on
    #[arg(long, env = "LOOM_SERVER_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// What the API does.
    #[command(flatten)]
    pub api: ApiArgs,
    /// Who gets in.
    #[command(flatten)]
    pub guard: GuardArgs,
    /// The cluster.
    #[command(flatten)]
    pub cluster: cluster::ClusterArgs,
    /// Deadlines and bounds.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What the API does, apart from where it listens and who gets in.
#[derive(Debug, Clone, clap::Args)]
pub struct ApiArgs {
    /// Image of a weaver that asks for none
    #[arg(
        long,
        env = "LOOM_SERVER_WEAVER_IMAGE",
        default_value = "ghcr.io/ghuntley/loom/weaver:latest"
    )]
    pub weaver_image: Image,
    /// Most CPU that one weaver may ask for
    #[arg(long, env = "LOOM_SERVER_WEAVER_MAX_CPU", default_value = "64", value_parser = cluster::millicores)]
    pub weaver_max_cpu: u64,
    /// Most memory that one weaver may ask for
    #[arg(long, env = "LOOM_SERVER_WEAVER_MAX_MEMORY", default_value = "256Gi", value_parser = cluster::mebibytes)]
    pub weaver_max_memory: u64,
    /// Let weavers run as root, in user namespaces; their namespace's pod security must allow it too
    #[arg(long, env = "LOOM_SERVER_WEAVER_ALLOW_ROOT")]
    pub weaver_allow_root: bool,
    /// Let weavers run their image's own program as main process (--keep-entrypoint), outside loom-host
    #[arg(
        long,
        env = "LOOM_SERVER_WEAVER_ALLOW_KEEP_ENTRYPOINT",
        default_value_t = true,
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    pub weaver_allow_keep_entrypoint: bool,
    /// Whether ports are published: who asks is on the machine that runs the weavers
    #[arg(skip)]
    pub publishes: bool,
    /// URL of the relay, for attach_url; without it the address under which this server was called
    #[arg(long, env = "LOOM_SERVER_RELAY_URL", value_name = "URL", value_parser = relay_url)]
    pub relay_url: Option<Url>,
    /// Seconds that a request may take until its answer begins
    #[arg(long, env = "LOOM_SERVER_REQUEST_DEADLINE_SECS", default_value = "25",
        value_parser = clap::value_parser!(u64).range(1..=600))]
    pub request_deadline_secs: u64,
    /// How the one user of a server without login is called
    #[arg(long, env = "LOOM_SERVER_LOCAL_USER", default_value = "local", value_name = "NAME")]
    pub local_user: String,
}

impl ApiArgs {
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_secs(self.request_deadline_secs)
    }
}

/// Reads the relay's URL; `http` and `https` stand for `ws` and `wss`.
fn relay_url(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| error.to_string())?;
    let scheme = match url.scheme() {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        _ => return Err("it must start with ws://, wss://, http:// or https://".to_owned()),
    };
    let wrong = || "it is not the URL of a server".to_owned();
    url.set_scheme(scheme).map_err(|()| wrong())?;
    if url.host().is_none() || !url.username().is_empty() || url.password().is_some() {
        return Err(wrong());
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_urls_become_web_sockets() {
        for (text, url) in [
            ("https://relay.example", "wss://relay.example/"),
            ("http://127.0.0.1:1/loom?x#y", "ws://127.0.0.1:1/loom"),
            ("wss://relay.example/a", "wss://relay.example/a"),
        ] {
            assert_eq!(relay_url(text).unwrap().as_str(), url);
        }
        for text in ["", "relay", "ftp://a", "wss://u:p@a"] {
            assert!(relay_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_documents_settings_have_the_documents_values() {
        let args = Args::parse_from(["loom-handlers"]);
        assert_eq!(args.api.weaver_image.as_str(), "ghcr.io/ghuntley/loom/weaver:latest");
        assert_eq!(args.cluster.weaver_namespace, "loom-weavers");
    }
}
