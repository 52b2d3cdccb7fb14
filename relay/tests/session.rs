//! Viewers, the relay and a real host with real programs; only Kubernetes' exec is a pipe.
//!
//! This binary is also the host: called as `loom-host` it is one.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use client::{Attach, AttachOptions, Client, Close, Event, Server, Token};
use libtest_mimic::{Arguments, Trial};
use relay::{Relay, app};
use service::{Guard, Secret, ServeOptions, Task};
use tokio::net::TcpListener;
use tokio::process::{Child as Connect, ChildStdin, ChildStdout};
use tokio_util::sync::CancellationToken;
use wire::frame::{Frame, Hello, Size};
use wire::link::Resume;

const HOST: &str = "loom-host";
const WEAVER: &str = "W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c";
const LONG: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    // A login shell goes on as the program of its host, which is this one.
    let mut args = std::env::args();
    if args.next().as_deref() == Some(HOST) || args.next().as_deref() == Some("shell") {
        return host::main_from_args(std::env::args_os());
    }
    let tests: [(&str, fn()); 5] = [
        ("a_command_is_typed_and_answered", || run(typed())),
        ("the_programs_end_ends_its_viewers_with_its_code", || run(exit_code())),
        ("a_newcomer_sees_the_present_screen", || run(newcomer())),
        ("a_viewer_that_comes_back_misses_nothing", || run(resumed())),
        ("a_shell_that_ends_lets_its_viewers_go_and_a_fresh_one_comes", || run(fresh())),
    ];
    let trials = tests.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, test).await.expect("it takes too long") });
}

/// A host, and a relay before it.
struct Rig {
    url: String,
    client: Client,
    host: Child,
    _folder: tempfile::TempDir,
    _server: Task<usize>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.host.kill();
        let _ = self.host.wait();
    }
}

fn this() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg0(HOST);
    command
}

fn connect(socket: &Path) -> std::io::Result<(Connect, ChildStdout, ChildStdin)> {
    let mut command = this();
    command.arg("connect").env("LOOM_HOST_SOCKET", socket);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    let (stdout, stdin) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    Ok((child, stdout, stdin))
}

impl Rig {
    async fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket: PathBuf = folder.path().join("host.sock");
        let mut host = this();
        host.arg("run").args(arguments).env("LOOM_HOST_SOCKET", &socket);
        host.env("SHELL", "/bin/sh").env("PS1", "$ ").env("HOME", folder.path());
        host.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let host = host.spawn().unwrap();
        // Kept until the end; a relay would drop the exec together with its streams.
        let pipes = Arc::new(Mutex::new(Vec::new()));
        let open = move |_| {
            let (child, stdout, stdin) = connect(&socket)?;
            pipes.lock().unwrap().push(child);
            Ok((stdout, stdin))
        };
        let guard = Guard::loopback(Secret::new("hush"));
        let relay = Relay::over_streams(guard, CancellationToken::new(), open);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (options, shutdown) = (ServeOptions::default(), CancellationToken::new());
        let server = Task::spawn(service::serve(listener, app(relay), options, shutdown));
        let client = Server::new(&address.to_string(), Some(Token::new("hush"))).unwrap();
        let url = format!("ws://{address}/api/weavers/{WEAVER}/attach");
        Self { url, client: Client::new(client).unwrap(), host, _folder: folder, _server: server }
    }

    async fn attach(&self, client: &str, resume: Option<Resume>) -> Viewer {
        let options = AttachOptions {
            client: client.to_owned(),
            resume,
            size: Size::new(24, 80),
            ..AttachOptions::default()
        };
        let attach = self.client.attach(&self.url, &options).await.unwrap();
        let mut viewer =
            Viewer { attach, typed: 0, session: [0; 16], end: 0, seen: Vec::new(), exit: None };
        assert_eq!(viewer.next().await, None);
        viewer
    }
}

/// A viewer that acknowledges what it sees.
struct Viewer {
    attach: Attach,
    typed: u64,
    session: [u8; 16],
    end: u64,
    seen: Vec<u8>,
    exit: Option<Frame>,
}

impl Viewer {
    async fn type_in(&mut self, text: &str) {
        let data = Bytes::copy_from_slice(text.as_bytes());
        self.attach.sender().send(Frame::Input { offset: self.typed, data }).await.unwrap();
        self.typed += text.len() as u64;
    }

    /// Takes the next event; returns the close.
    async fn next(&mut self) -> Option<Close> {
        match self.attach.next().await.unwrap() {
            Event::Close(close) => return Some(close),
            Event::Frame(Frame::Hello { offset, hello: Hello { session, input, .. } }) => {
                (self.end, self.session, self.typed) = (offset, session, input);
            }
            Event::Frame(Frame::Output { offset, data }) => {
                assert_eq!(offset, self.end, "neither gap nor repetition");
                self.end += data.len() as u64;
                self.seen.extend_from_slice(&data);
                let ack = Frame::Ack { offset: self.end };
                // The end of the connection is seen where events are read.
                let _ = self.attach.sender().send(ack).await;
            }
            Event::Frame(Frame::Screen { data, .. }) => self.seen.extend_from_slice(&data),
            Event::Frame(last @ (Frame::Exit { .. } | Frame::Left { .. })) => {
                self.exit = Some(last)
            }
            Event::Frame(_) => {}
        }
        None
    }

    async fn until(&mut self, text: &str) {
        while !contains(&self.seen, text) {
            let closed = self.next().await;
            assert_eq!(closed, None, "{:?}", String::from_utf8_lossy(&self.seen));
        }
    }

    async fn closed(&mut self) -> Close {
        loop {
            if let Some(close) = self.next().await {
                return close;
            }
        }
    }

    fn resume(&self) -> Resume {
        let session = self.session.iter().map(|byte| format!("{byte:02x}")).collect();
        Resume { session, offset: self.end }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

async fn typed() {
    let rig = Rig::start(&["--", "sh"]).await;
    let mut viewer = rig.attach("a", None).await;
    viewer.type_in("echo $((6*7)); stty size\n").await;
    viewer.until("42\r\n24 80\r\n").await;
}

async fn exit_code() {
    let rig = Rig::start(&["--", "sh", "-c", "read x; exit 7"]).await;
    let (mut one, mut other) = (rig.attach("a", None).await, rig.attach("b", None).await);
    one.type_in("\n").await;
    for viewer in [&mut one, &mut other] {
        let close = viewer.closed().await;
        assert_eq!((close.code, close.reason.as_str()), (1000, "exit 7"));
        assert_eq!(viewer.exit, Some(Frame::Exit { code: 7 }));
    }
}

async fn newcomer() {
    let rig = Rig::start(&["--", "sh"]).await;
    let mut one = rig.attach("a", None).await;
    one.type_in("printf 'over\\rpainted\\n'\n").await;
    one.until("over\rpainted\r\n").await;
    let mut other = rig.attach("b", None).await;
    other.until("painted").await;
    assert!(!contains(&other.seen, "over\r"), "the screen, not what led to it");
    other.type_in("echo to-$((1+1))-both\n").await;
    one.until("to-2-both\r\n").await;
    other.until("to-2-both\r\n").await;
}

async fn resumed() {
    let rig = Rig::start(&["--no-tty", "--", "sh", "-c", "read x; seq 1 50000; read y"]).await;
    let mut viewer = rig.attach("a", None).await;
    viewer.type_in("\n").await;
    let mut seen = Vec::new();
    let over = |bytes: &[u8]| bytes.ends_with(b"\n50000\n");
    while !over(&seen) {
        // After the last line nothing more comes.
        for _ in 0..3 {
            if !over(&viewer.seen) {
                assert_eq!(viewer.next().await, None);
            }
        }
        seen.append(&mut viewer.seen);
        let resume = viewer.resume();
        drop(viewer);
        viewer = rig.attach("a", Some(resume)).await;
        seen.append(&mut viewer.seen);
    }
    let expected: String = (1..=50000).map(|number| format!("{number}\n")).collect();
    assert!(seen == expected.as_bytes(), "the bytes received are the bytes sent");
}

async fn fresh() {
    let rig = Rig::start(&[]).await;
    let mut viewer = rig.attach("a", None).await;
    let first = viewer.session;
    viewer.type_in("exit\n").await;
    let close = viewer.closed().await;
    assert_eq!((close.code, close.reason.as_str()), (1000, "detached"));
    assert_eq!(viewer.exit, Some(Frame::Left { why: "exit".into() }));
    let mut next = rig.attach("a", None).await;
    assert_ne!(next.session, first);
    next.type_in("echo $((6*7))\n").await;
    next.until("42").await;
}
