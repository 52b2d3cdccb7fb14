//! `serve` against clients that are slow, silent, many, or in the way of a shutdown.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::routing::{get, post};
use http::{StatusCode, header};
use hyper_util::rt::TokioIo;
use service::{ServeOptions, Task, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Long enough for any machine; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: Task<usize>,
}

async fn start(router: Router, options: ServeOptions) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let task = Task::spawn(serve(listener, router, options, shutdown.clone()));
    Server { address, shutdown, task }
}

fn quick() -> ServeOptions {
    let short = Duration::from_millis(200);
    ServeOptions { first_byte: short, head: short, body: short, ..ServeOptions::default() }
}

fn router() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/length", post(async |body: Bytes| body.len().to_string()))
        .route("/echo", get(echo))
}

/// Upgrades and sends back what comes.
async fn echo(request: Request) -> (StatusCode, [(header::HeaderName, &'static str); 2]) {
    let upgrade = hyper::upgrade::on(request);
    let copying = async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        let mut bytes = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            stream.write_all(&bytes[..count]).await.unwrap();
        }
    };
    // It ends with the test's runtime.
    std::mem::forget(Task::spawn(copying));
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")];
    (StatusCode::SWITCHING_PROTOCOLS, headers)
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address).await.unwrap()
}

/// Waits until the other side closes; whatever it says before that is returned.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    // A reset is a close as well.
    let _ = end.expect("the server closes the connection");
    said
}

async fn ask(server: &Server, path: &str) -> String {
    let mut stream = connect(server).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    String::from_utf8(until_closed(&mut stream).await).unwrap()
}

#[tokio::test]
async fn it_serves() {
    let server = start(router(), ServeOptions::default()).await;
    let answer = ask(&server, "/").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    server.shutdown.cancel();
    assert_eq!(server.task.join().await.unwrap(), 0);
}

#[tokio::test]
async fn abuse_10_000_half_open_connections_are_dropped_and_others_served() {
    let options = ServeOptions {
        first_byte: Duration::from_secs(3),
        head: Duration::from_secs(3),
        ..ServeOptions::default()
    };
    let many = half_open(&options);
    let server = start(router(), options).await;
    let mut streams = Vec::with_capacity(many);
    for nth in 0..many {
        let mut stream = connect(&server).await;
        if nth % 2 == 1 {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: l").await.unwrap();
        }
        streams.push(stream);
        if nth % 1000 == 999 {
            assert!(ask(&server, "/").await.ends_with("hello"), "others are served at {nth}");
        }
    }
    for stream in &mut streams {
        assert_eq!(until_closed(stream).await, b"");
    }
    assert!(ask(&server, "/").await.ends_with("hello"));
}

/// Returns how many half-open connections this process can hold both ends of: 10,000 where it may
/// have 20,000 files, which is usual.
fn half_open(options: &ServeOptions) -> usize {
    let files = usize::try_from(service::raise_open_files().unwrap_or(1024)).unwrap();
    // Beyond its places the server keeps none.
    let both_ends = (files / 2).max(files.saturating_sub(options.max_connections));
    let many = both_ends.saturating_sub(500).min(10_000);
    if many < 10_000 {
        eprintln!("only {many}: this process may have {files} files");
    }
    many
}

#[tokio::test]
async fn half_a_request_does_not_hold_up_the_end() {
    let forever = Duration::from_secs(3600);
    let options = ServeOptions { first_byte: forever, head: forever, drain: forever, ..quick() };
    let server = start(router(), options).await;
    let (mut silent, mut half) = (connect(&server).await, connect(&server).await);
    half.write_all(b"GET / HTTP/1.1\r\nhost: l").await.unwrap();
    assert!(ask(&server, "/").await.ends_with("hello"), "they were accepted before");
    server.shutdown.cancel();
    let ended = tokio::time::timeout(PATIENCE, server.task.join()).await;
    assert_eq!(ended.expect("nothing is waited for").unwrap(), 0);
    for stream in [&mut silent, &mut half] {
        assert_eq!(until_closed(stream).await, b"");
    }
}

#[tokio::test]
async fn abuse_half_open_connections_beyond_the_cap_give_way() {
    let forever = Duration::from_secs(3600);
    let options =
        ServeOptions { first_byte: forever, head: forever, max_connections: 8, ..quick() };
    let server = start(router(), options).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(connect(&server).await);
    }
    for nth in 0..8 {
        assert!(ask(&server, "/").await.ends_with("hello"), "served at {nth}");
    }
    assert_eq!(until_closed(&mut silent[0]).await, b"");
}

#[tokio::test]
async fn abuse_a_head_of_one_byte_a_time_is_dropped() {
    let server = start(router(), quick()).await;
    let mut slow = connect(&server).await;
    let (mut reading, mut writing) = slow.split();
    let trickle = async {
        let endless =
            b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ".iter().chain([b'y'].iter().cycle());
        for byte in endless {
            if writing.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut said = Vec::new();
    let ends = async {
        let _ = reading.read_to_end(&mut said).await;
    };
    let both = async {
        tokio::select! { () = trickle => {}, () = ends => {} }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("the server closes the connection");
    assert!(!String::from_utf8_lossy(&said).contains("200"));
    assert!(ask(&server, "/").await.ends_with("hello"));
}

#[tokio::test]
async fn abuse_a_chunked_body_without_end_is_closed() {
    let server = start(router(), quick()).await;
    let mut endless = connect(&server).await;
    let head = b"POST /length HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    endless.write_all(head).await.unwrap();
    endless.write_all(b"1\r\na\r\n").await.unwrap();
    let said = until_closed(&mut endless).await;
    assert!(said.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn a_whole_body_passes() {
    let server = start(router(), ServeOptions::default()).await;
    let mut stream = connect(&server).await;
    let head = "POST /length HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let chunked = "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    stream.write_all(format!("{head}{chunked}").as_bytes()).await.unwrap();
    let said = until_closed(&mut stream).await;
    assert!(said.ends_with(b"5"), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn an_upgraded_connection_outlives_the_deadlines_and_the_drain() {
    let server = start(router(), quick()).await;
    let mut stream = connect(&server).await;
    let head =
        "GET /echo HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n") {
        said.push(tokio::time::timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    assert!(said.starts_with(b"HTTP/1.1 101"));
    server.shutdown.cancel();
    assert_eq!(server.task.join().await.unwrap(), 0, "it is not waited for");
    stream.write_all(b"still here").await.unwrap();
    let mut back = [0; 10];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"still here");
}

#[tokio::test]
async fn requests_may_end_after_the_shutdown_but_not_for_ever() {
    let (begun, mut begins) = tokio::sync::mpsc::channel::<()>(2);
    let (go, going) = tokio::sync::watch::channel(false);
    let stuck_begun = begun.clone();
    let slow = get(move || {
        let (begun, mut going) = (begun.clone(), going.clone());
        async move {
            begun.send(()).await.unwrap();
            going.wait_for(|go| *go).await.unwrap();
            "done"
        }
    });
    let stuck = get(async move || {
        stuck_begun.send(()).await.unwrap();
        std::future::pending::<&str>().await
    });
    let router = Router::new().route("/slow", slow).route("/stuck", stuck);
    let options = ServeOptions { drain: Duration::from_secs(1), ..ServeOptions::default() };
    let server = start(router, options).await;
    let mut waits = connect(&server).await;
    waits.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut hangs = connect(&server).await;
    hangs.write_all(b"GET /stuck HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    begins.recv().await.unwrap();
    begins.recv().await.unwrap();
    server.shutdown.cancel();
    go.send(true).unwrap();
    assert!(until_closed(&mut waits).await.ends_with(b"done"));
    assert_eq!(until_closed(&mut hangs).await, b"");
    assert_eq!(server.task.join().await.unwrap(), 1, "the one that hangs is cut off");
}

#[tokio::test]
async fn it_serves_https() {
    service::install_crypto();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let certificate = made.cert.der().clone();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.clone()], key).unwrap();
    let options = ServeOptions { tls: Some(config.into()), ..quick() };
    let server = start(router(), options).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder().with_root_certificates(roots);
    let connector =
        tokio_rustls::TlsConnector::from(std::sync::Arc::new(client.with_no_client_auth()));
    let name = "localhost".try_into().unwrap();
    let mut stream = connector.connect(name, connect(&server).await).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.ends_with("hello"), "{said}");
    let mut stalls = connect(&server).await;
    stalls.write_all(&[22]).await.unwrap();
    assert_eq!(until_closed(&mut stalls).await, b"");
}

#[tokio::test]
async fn metrics_and_health_have_routes() {
    let metrics = service::Metrics::install().unwrap();
    metrics::counter!("loom_test_total").increment(2);
    let health = service::Health::new();
    let router = Router::new().merge(metrics.router()).merge(health.router());
    let server = start(router, ServeOptions::default()).await;
    assert!(ask(&server, "/metrics").await.contains("loom_test_total 2"));
    assert!(ask(&server, "/healthz").await.ends_with(r#"{"status":"ok"}"#));
    health.waiting("namespace", "is missing");
    assert!(ask(&server, "/readyz").await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn an_empty_body_needs_no_deadline() {
    let seen =
        get(async |body: Body| axum::body::to_bytes(body, 1).await.unwrap().len().to_string());
    let server = start(Router::new().route("/", seen), quick()).await;
    assert!(ask(&server, "/").await.ends_with('0'));
}
