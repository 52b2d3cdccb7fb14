//! A weaver under test: the real binary, its socket in a folder of its own, and viewers.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part of it")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tempfile::TempDir;
use wire::frame::{Frame, Hello, Size};
use wire::link::{Open, Record};

/// How long anything may take before a test gives up.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Weaver {
    pub(crate) folder: TempDir,
    pub(crate) host: Child,
}

/// The host's command line and surroundings; `prefix` runs it under another program.
pub(crate) fn command(folder: &TempDir, prefix: &[&str], args: &[&str]) -> Command {
    let binary = env!("CARGO_BIN_EXE_loom-host");
    let words: Vec<&str> = prefix.iter().copied().chain([binary]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(args);
    let path = std::env::var("PATH").unwrap();
    let path = format!("/of-the-image/bin:{path}");
    command.env_clear().env("PATH", path).env("HOME", folder.path()).env("SHELL", "/bin/bash");
    command.env("LOOM_HOST_SOCKET", folder.path().join("host.sock"));
    command.env("LOOM_HOST_WORKSPACE", folder.path().join("workspace"));
    command.env("LOOM_WEAVER_ID", "W-test").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Weaver {
    pub(crate) fn run(args: &[&str]) -> Self {
        Self::run_under(&[], args)
    }

    pub(crate) fn run_under(prefix: &[&str], args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::run_in(folder, prefix, args)
    }

    pub(crate) fn run_in(folder: TempDir, prefix: &[&str], args: &[&str]) -> Self {
        // No profile of this machine: prompts and messages are the same everywhere.
        for name in [".bash_profile", ".bashrc"].map(|name| folder.path().join(name)) {
            if !name.exists() {
                std::fs::write(name, "PS1='$ '\n").unwrap();
            }
        }
        let words: Vec<&str> = ["run"].iter().chain(args).copied().collect();
        let host = command(&folder, prefix, &words).spawn().unwrap();
        Self { folder, host }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("host.sock")
    }

    pub(crate) fn link(&self) -> Link {
        let stream = until("the socket", || UnixStream::connect(self.socket()).ok());
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Link { stream, buffer: BytesMut::new(), context: String::new() }
    }

    pub(crate) fn attach(&self, client: &str) -> Viewer {
        self.open(Open { client: client.into(), size: Some((24, 80)), ..Open::default() })
    }

    pub(crate) fn open(&self, open: Open) -> Viewer {
        Viewer::open(self.link(), 1, open)
    }

    /// Waits for the end and returns the exit code and all of stdout.
    pub(crate) fn finish(mut self) -> (i32, String) {
        let mut out = self.host.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            out.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        let status = until("the end", || self.host.try_wait().unwrap());
        (status.code().unwrap(), reader.join().unwrap())
    }
}

impl Drop for Weaver {
    fn drop(&mut self) {
        let _ = self.host.kill();
        let _ = self.host.wait();
    }
}

/// Asks until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let tries = DEADLINE.as_millis() / 5;
    for _ in 0..tries {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("waited too long for {what}");
}

pub(crate) struct Link {
    stream: UnixStream,
    buffer: BytesMut,
    /// The end of what a viewer was shown, for when nothing more comes.
    context: String,
}

impl Link {
    pub(crate) fn send(&mut self, record: &Record) {
        let mut bytes = BytesMut::new();
        record.put(&mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        // The host may have closed already.
        let _ = self.stream.write_all(bytes);
    }

    /// Returns the next record; `None` once the host has closed.
    pub(crate) fn next(&mut self) -> Option<Record> {
        loop {
            if let Some(record) = Record::take(&mut self.buffer).unwrap() {
                return Some(record);
            }
            let mut bytes = [0; 64 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came after {:?}: {error}", self.context),
            }
        }
    }
}

/// A viewer with a connection of its own, which acknowledges what it gets.
pub(crate) struct Viewer {
    pub(crate) link: Link,
    id: u32,
    pub(crate) hello: Hello,
    pub(crate) typed: u64,
    pub(crate) confirmed: u64,
    pub(crate) at: u64,
    /// Everything that was written to its terminal.
    pub(crate) shown: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) lost: u64,
    pub(crate) size: Option<Size>,
    pub(crate) last: Option<Frame>,
}

impl Viewer {
    pub(crate) fn open(mut link: Link, id: u32, open: Open) -> Self {
        link.send(&Record::Open(id, open));
        let Some(Record::Frame(_, Frame::Hello { offset, hello })) = link.next() else {
            panic!("no hello first");
        };
        Self {
            link,
            id,
            typed: hello.input,
            hello,
            confirmed: 0,
            at: offset,
            shown: Vec::new(),
            stderr: Vec::new(),
            lost: 0,
            size: None,
            last: None,
        }
    }

    pub(crate) fn send(&mut self, frame: Frame) {
        self.link.send(&Record::Frame(self.id, frame));
    }

    pub(crate) fn type_in(&mut self, text: &str) {
        let offset = self.typed;
        self.typed += text.len() as u64;
        self.send(Frame::Input { offset, data: Bytes::copy_from_slice(text.as_bytes()) });
    }

    pub(crate) fn ask_leave(&mut self) {
        let offset = self.typed;
        self.typed += 1;
        self.send(Frame::Leave { offset });
    }

    /// Takes one frame; says whether there was one.
    pub(crate) fn step(&mut self) -> bool {
        let Some(record) = self.link.next() else { return false };
        let Record::Frame(_, frame) = record else { panic!("not now: {record:?}") };
        self.take(frame);
        true
    }

    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Output { offset, data } => self.output(offset, &data, false),
            Frame::Stderr { offset, data } => self.output(offset, &data, true),
            Frame::Gap { offset, lost } => {
                self.lost += lost;
                self.at = offset;
            }
            Frame::Screen { offset, data } => {
                assert_eq!(offset, self.at);
                self.shown.extend_from_slice(&data);
            }
            Frame::InputAck { offset } => self.confirmed = offset,
            Frame::Size(size) => self.size = Some(size),
            Frame::Exit { .. } | Frame::Left { .. } => self.last = Some(frame),
            other => panic!("a host does not say {other:?}"),
        }
    }

    fn output(&mut self, offset: u64, data: &Bytes, err: bool) {
        assert_eq!(offset, self.at, "output that does not follow");
        self.at += data.len() as u64;
        let shown = if err { &mut self.stderr } else { &mut self.shown };
        shown.extend_from_slice(data);
        if shown.len() > 1 << 20 {
            shown.drain(..shown.len() - 4096);
        }
        self.link.context =
            String::from_utf8_lossy(&shown[shown.len().saturating_sub(400)..]).into();
        let offset = self.at;
        self.send(Frame::Ack { offset });
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Reads until the text was shown, and forgets all up to it.
    pub(crate) fn wait_for(&mut self, text: &str) {
        loop {
            if let Some(at) = find(&self.shown, text.as_bytes()) {
                self.shown.drain(..at + text.len());
                return;
            }
            assert!(self.last.is_none(), "{text:?} is not in {:?}: {:?}", self.text(), self.last);
            assert!(self.step(), "{text:?} is not in {:?}", self.text());
        }
    }

    /// Reads to the last frame and answers it as a relay does.
    pub(crate) fn wait_for_end(&mut self) -> Frame {
        while self.last.is_none() {
            assert!(self.step(), "no last frame after {:?}", self.text());
        }
        self.link.send(&Record::Close(self.id));
        self.last.clone().unwrap()
    }

    /// Reads to the stream's end and returns the last frame, if there was one.
    pub(crate) fn wait_for_close(&mut self) -> Option<Frame> {
        while self.step() {}
        self.last.clone()
    }

    pub(crate) fn wait_until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            assert!(self.step(), "the host closed");
        }
    }
}

fn find(all: &[u8], part: &[u8]) -> Option<usize> {
    all.windows(part.len()).position(|window| window == part)
}
