//! Servers for probes to ask. What they answer is in `/tmp/answer`, once it is there.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};

fn answer() -> String {
    std::fs::read_to_string("/tmp/answer").unwrap_or_default().trim().to_owned()
}

/// A web server whose certificate nobody has signed but itself, for another name.
pub(crate) fn tls(port: &str) -> io::Result<()> {
    let own = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    for stream in TcpListener::bind(format!("0.0.0.0:{port}"))?.incoming() {
        let mut connection = ServerConnection::new(config.clone()).unwrap();
        let mut stream = stream?;
        let mut tls = rustls::Stream::new(&mut connection, &mut stream);
        let mut request = [0; 1024];
        // Others than probes may come and go.
        let Ok(count @ 1..) = tls.read(&mut request) else { continue };
        println!("{}", String::from_utf8_lossy(&request[..count]).lines().next().unwrap());
        write!(tls, "HTTP/1.1 {}\r\n\r\n", answer()).ok();
    }
    Ok(())
}

/// Speaks gRPC's health protocol: the answer is a status of a service, or `code` and a number.
pub(crate) fn grpc(port: &str) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(format!("0.0.0.0:{port}")).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let mut connection = match h2::server::handshake(stream).await {
                Ok(connection) => connection,
                Err(_) => continue,
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                // Its body comes while the connection is asked for the next.
                let mut call = Box::pin(call(request, respond));
                tokio::select! {
                    () = &mut call => {}
                    _ = connection.accept() => call.await,
                }
            }
        }
    })
}

async fn call(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<bytes::Bytes>,
) {
    let (head, mut body) = request.into_parts();
    let mut asked = Vec::new();
    while let Some(Ok(part)) = body.data().await {
        asked.extend_from_slice(&part);
    }
    println!("{} {}", head.uri.path(), String::from_utf8_lossy(&asked[5..]).trim());
    let response = http::Response::builder().header("content-type", "application/grpc");
    let answer = answer();
    if let Some(code) = answer.strip_prefix("code ") {
        let response = response.header("grpc-status", code).header("grpc-message", "no%20luck");
        respond.send_response(response.body(()).unwrap(), true).ok();
        return;
    }
    let Ok(mut out) = respond.send_response(response.body(()).unwrap(), false) else { return };
    let message = [0, 0, 0, 0, 2, 8, answer.parse().unwrap_or(0)];
    out.send_data(message.to_vec().into(), false).ok();
    let trailers = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        http::HeaderValue::from_static("0"),
    )]);
    out.send_trailers(trailers).ok();
}
