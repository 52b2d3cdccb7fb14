//! `loom-handlers` itself: it starts, serves over TCP, refuses, drains and ends.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod fake;

use std::process::{Output, Stdio};

use fake::Fake;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

fn program(fake: &Fake) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loom-handlers"));
    command
        .env_clear()
        .env("LOOM_LOG_FORMAT", "json")
        .env("LOOM_SERVER_LISTEN", "127.0.0.1:0")
        .env("LOOM_SERVER_TOOLS_IMAGE", "loom.local/tools")
        .env("LOOM_SERVER_TOOLS_MOUNT", "image")
        .env("LOOM_SERVER_KUBECONFIG", fake.kubeconfig())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn refusal(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().await.unwrap();
    assert_eq!(status.code(), Some(1));
    String::from_utf8(stderr).unwrap()
}

/// Waits for the line that names the address. Nobody reads what it says after that, and the pipe is
/// closed: it has to go on, and to end, all the same.
async fn address(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        if let Some(address) = line["address"].as_str() {
            return address.to_owned();
        }
    }
    panic!("it ended before it listened");
}

async fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn without_a_token_it_does_not_start() {
    let fake = Fake::start().await;
    let said = refusal(&mut program(&fake)).await;
    assert_eq!(
        said,
        "loom-handlers: a server without a token does not start: \
         set LOOM_SERVER_TOKEN_FILE or --token-file\n"
    );
    let said = refusal(program(&fake).env("LOOM_SERVER_TOKEN_FILE", "/nowhere/token")).await;
    assert!(said.contains("/nowhere/token"), "{said}");
    assert_eq!(fake.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn it_serves_until_it_is_told_to_end() {
    let fake = Fake::start().await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "hush\n").unwrap();
    let mut child = program(&fake)
        .env("LOOM_SERVER_TOKEN_FILE", token.path())
        .env("LOOM_SERVER_BODY_SECS", "1")
        .spawn()
        .unwrap();
    let address = address(&mut child).await;
    let head = format!("host: {address}\r\nauthorization: Bearer hush\r\n");
    let json = "content-type: application/json\r\n";
    let whole = format!(
        "POST /api/weavers HTTP/1.1\r\n{head}{json}connection: close\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    assert!(ask(&address, &whole).await.starts_with("HTTP/1.1 201"));
    let endless = format!(
        "POST /api/weavers HTTP/1.1\r\n{head}{json}transfer-encoding: chunked\r\n\r\n1\r\n{{\r\n"
    );
    let cut_off = ask(&address, &endless).await;
    assert!(cut_off.contains("the body did not end in time"), "{cut_off}");
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").arg(pid).status().await.unwrap().success());
    assert!(child.wait().await.unwrap().success());
    assert_eq!(fake.store().pods().len(), 1);
}
