//! A host that echoes: what is typed comes back as output, and some lines do more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};
use wire::frame::{Frame, Hello, Size};
use wire::link::{Open, Record, ViewerId};

use crate::close::End;
use crate::link::{self, Over};
use crate::links::Serve;

pub(super) const SESSION: [u8; 16] = [7; 16];
const IDLE: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

/// What tests know of the host, and say to it.
#[derive(Clone)]
pub(super) struct Host {
    heard: Arc<Mutex<Vec<Record>>>,
    changed: Arc<watch::Sender<usize>>,
    told: Arc<watch::Sender<Option<End>>>,
    broken: Arc<watch::Sender<bool>>,
    links: Arc<watch::Sender<usize>>,
    mute: Arc<watch::Sender<bool>>,
    idle: Arc<watch::Sender<Duration>>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            heard: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
            told: Arc::new(watch::Sender::new(None)),
            broken: Arc::new(watch::Sender::new(false)),
            links: Arc::new(watch::Sender::new(0)),
            mute: Arc::new(watch::Sender::new(false)),
            idle: Arc::new(watch::Sender::new(IDLE)),
        }
    }
}

impl Host {
    /// Ends every link as a deleted weaver does, or otherwise.
    pub(super) fn tell(&self, end: End) {
        self.told.send_replace(Some(end));
    }

    /// Says nothing to anybody any more.
    pub(super) fn fall_silent(&self) {
        self.mute.send_replace(true);
    }

    /// Lets links outlive their last viewer for good.
    pub(super) fn keep_links(&self) {
        self.idle.send_replace(Duration::MAX);
    }

    /// Breaks the stream.
    pub(super) fn break_stream(&self) {
        self.broken.send_replace(true);
    }

    /// Returns how many links were opened so far.
    pub(super) fn links(&self) -> usize {
        *self.links.borrow()
    }

    /// Waits until some record, heard by now or later, is as `wanted`.
    pub(super) async fn hears<T>(&self, wanted: impl Fn(&Record) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = self.heard.lock().unwrap().iter().find_map(&wanted) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(LONG, wait).await.expect("the host never hears of it")
    }

    /// Tells whether some record, heard by now, is as `wanted`.
    pub(super) fn heard_any(&self, wanted: impl Fn(&Record) -> bool) -> bool {
        self.heard.lock().unwrap().iter().any(wanted)
    }

    /// Returns what of the input has arrived.
    pub(super) fn typed(&self) -> Vec<u8> {
        let heard = self.heard.lock().unwrap();
        let inputs = heard.iter().filter_map(|record| match record {
            Record::Frame(_, Frame::Input { data, .. }) => Some(data.to_vec()),
            _ => None,
        });
        inputs.flatten().collect()
    }

    /// Returns what the relay serves links with.
    pub(super) fn serve(&self) -> Box<Serve> {
        let host = self.clone();
        Box::new(move |_, joins| host.clone().link(joins).boxed())
    }

    async fn link(self, mut joins: mpsc::Receiver<link::Join>) -> mpsc::Receiver<link::Join> {
        self.links.send_modify(|links| *links += 1);
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (read, write) = tokio::io::split(ours);
        let (mut pump, writer) = link::start(read, write);
        let mut told = self.told.subscribe();
        let told = async move {
            let end = told.wait_for(Option::is_some).await.unwrap();
            end.clone().unwrap()
        };
        let sides = async {
            let host = Echo::new(self.clone()).run(theirs);
            tokio::join!(writer, host);
            std::future::pending::<()>().await;
        };
        let idle = *self.idle.borrow();
        let over = tokio::select! {
            over = pump.run(&mut joins, told, idle) => over,
            () = sides => unreachable!(),
        };
        match over {
            Over::Idle => {}
            Over::Told(end) => pump.end(&end, &log()),
            Over::Broken(_) => pump.end(&End::Broken, &[]),
        }
        joins
    }
}

/// What the cluster kept of a program that nobody reached.
fn log() -> Vec<Frame> {
    let hello = Hello { session: [0; 16], input: 0, tty: true, size: Size::default() };
    let kept = Frame::Output { offset: 0, data: Bytes::from_static(b"from the log\n") };
    vec![Frame::Hello { offset: 0, hello }, kept]
}

struct Echo {
    host: Host,
    viewers: BTreeMap<ViewerId, Open>,
    offset: u64,
    out: BytesMut,
    over: bool,
}

impl Echo {
    fn new(host: Host) -> Self {
        Self { host, viewers: BTreeMap::new(), offset: 0, out: BytesMut::new(), over: false }
    }

    async fn run(mut self, mut stream: DuplexStream) {
        let mut broken = self.host.broken.subscribe();
        let mut buffer = BytesMut::new();
        while !self.over {
            tokio::select! {
                read = stream.read_buf(&mut buffer) => {
                    if !matches!(read, Ok(1..)) {
                        return;
                    }
                }
                _ = broken.wait_for(|broken| *broken) => return,
            }
            while let Some(record) = Record::take(&mut buffer).unwrap() {
                self.host.heard.lock().unwrap().push(record.clone());
                self.host.changed.send_modify(|count| *count += 1);
                self.take(record);
            }
            if stream.write_all(&self.out.split()).await.is_err() {
                return;
            }
        }
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Open(viewer, open) => {
                let hello = Hello { session: SESSION, input: 0, tty: true, size: Size::default() };
                self.send(viewer, Frame::Hello { offset: self.offset, hello });
                self.viewers.insert(viewer, open);
            }
            Record::Close(viewer) => {
                self.viewers.remove(&viewer);
            }
            Record::Frame(viewer, Frame::Input { offset, data }) => {
                let acked = offset + data.len() as u64;
                self.send(viewer, Frame::InputAck { offset: acked });
                self.line(viewer, data);
            }
            Record::Frame(viewer, Frame::Leave { .. }) => {
                self.send(viewer, Frame::Left { why: "detached".into() });
            }
            Record::Frame(..) => {}
        }
    }

    fn line(&mut self, viewer: ViewerId, data: Bytes) {
        let text = String::from_utf8_lossy(&data).into_owned();
        if let Some(code) = text.strip_prefix("exit ") {
            let code = code.trim().parse().unwrap();
            self.all(&Frame::Exit { code });
            self.over = true;
        } else if text == "detach\n" {
            self.send(viewer, Frame::Left { why: "detached".into() });
        } else if let Some(hex) = text.strip_prefix("bytes ") {
            let bytes = hex.trim().split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap());
            bytes.for_each(|byte| self.output(Bytes::copy_from_slice(&[byte])));
        } else if let Some(size) = text.strip_prefix("flood ") {
            for _ in 0..size.trim().parse::<usize>().unwrap() {
                self.output(Bytes::from(vec![b'x'; 64 * 1024]));
            }
        } else {
            self.output(data);
        }
    }

    fn output(&mut self, data: Bytes) {
        let frame = Frame::Output { offset: self.offset, data: data.clone() };
        self.offset += data.len() as u64;
        self.all(&frame);
    }

    fn all(&mut self, frame: &Frame) {
        let viewers: Vec<_> = self.viewers.keys().copied().collect();
        viewers.into_iter().for_each(|viewer| self.send(viewer, frame.clone()));
    }

    fn send(&mut self, viewer: ViewerId, frame: Frame) {
        if !*self.host.mute.borrow() {
            Record::Frame(viewer, frame).put(&mut self.out);
        }
    }
}
