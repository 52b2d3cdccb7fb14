//! Reads what a weaver writes, from its first byte on, over as many connections as it takes.

use std::future::Future;
use std::time::Duration;

use client::{Attach, AttachOptions, Event};
use wire::frame::{Frame, Hello};
use wire::link::Resume;

use crate::stage::{Maker, Stage};
use crate::support::{PATIENCE, text};

/// Prints numbered lines until it is told to stop, then how many.
pub(crate) const LINES: &str = "i=0; until [ -e /tmp/stop ]; do n=0; while [ $n -lt 20 ]; do \
    n=$((n+1)); i=$((i+1)); echo \"line $i.\"; done; sleep 0.1; done; echo \"all $i.\"; sleep 1000";

/// How long is waited before a connection that was lost is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// A viewer that acknowledges what it has read and resumes where it was.
pub(crate) struct Reader {
    maker: Maker,
    url: String,
    session: Option<[u8; 16]>,
    bytes: Vec<u8>,
    attach: Option<Attach>,
    /// How often a connection was lost.
    pub(crate) lost: usize,
}

impl Reader {
    pub(crate) fn new(stage: &Stage, id: &str) -> Self {
        let url = stage.find(id).unwrap()["attach_url"].as_str().unwrap().to_owned();
        let (maker, bytes) = (stage.maker(), Vec::new());
        Self { maker, url, session: None, bytes, attach: None, lost: 0 }
    }

    /// Reads until a text has come.
    pub(crate) fn until(&mut self, what: &str) {
        while !text(&self.bytes).contains(what) {
            let maker = self.maker.clone();
            let step = maker.runtime.block_on(patiently(self.step()));
            assert!(step.is_some(), "never read {what:?} after {:?}", self.end());
        }
    }

    /// Fails unless every line has come, once and in order.
    pub(crate) fn has_all(&self) {
        let said = text(&self.bytes).replace('\r', "");
        let (lines, all) = said.trim_end().rsplit_once("\nall ").unwrap();
        let all: usize = all.trim_end_matches('.').parse().unwrap();
        let wanted: Vec<_> = (1..=all).map(|nth| format!("line {nth}.")).collect();
        let got: Vec<_> = lines.lines().collect();
        let other = got.iter().zip(&wanted).position(|(got, wanted)| got != wanted);
        assert_eq!((other, got.len()), (None, wanted.len()), "{:?}", self.end());
    }

    fn end(&self) -> String {
        text(&self.bytes[self.bytes.len().saturating_sub(200)..])
    }

    /// Takes one event, or attaches.
    async fn step(&mut self) {
        let Some(attach) = &mut self.attach else { return self.come().await };
        match attach.next().await {
            Ok(Event::Frame(frame)) => self.take(frame).await,
            Ok(Event::Close(_)) | Err(_) => self.lose().await,
        }
    }

    async fn come(&mut self) {
        let offset = self.bytes.len() as u64;
        let resume = self.session.map(|session| Resume { session: hex(&session), offset });
        let from_start = resume.is_none();
        let options = AttachOptions { client: "reader".to_owned(), resume, size: None, from_start };
        match self.maker.client.attach(&self.url, &options).await {
            Ok(attach) => self.attach = Some(attach),
            // The weaver is there, so nothing else may be wrong.
            Err(error) if error.is_transient() => self.lose().await,
            Err(error) => panic!("{error}"),
        }
    }

    async fn lose(&mut self) {
        (self.attach, self.lost) = (None, self.lost + 1);
        tokio::time::sleep(PAUSE).await;
    }

    async fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Hello { offset, hello } => self.greeted(offset, &hello),
            Frame::Output { offset, data } => {
                assert_eq!(offset, self.bytes.len() as u64, "nothing is lost and nothing repeated");
                self.bytes.extend_from_slice(&data);
                let attach = self.attach.as_ref().unwrap();
                let ack = Frame::Ack { offset: self.bytes.len() as u64 };
                // A connection that is lost shows when it is read.
                let _ = attach.sender().send(ack).await;
            }
            Frame::Size(_) | Frame::InputAck { .. } | Frame::Notice { .. } => {}
            other => panic!("{other:?} after {:?}", self.end()),
        }
    }

    fn greeted(&mut self, offset: u64, hello: &Hello) {
        assert_eq!(offset, self.bytes.len() as u64, "it goes on where it was");
        let session = *self.session.get_or_insert(hello.session);
        assert_eq!(session, hello.session, "it is the same session");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn patiently<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, work).await.ok()
}
