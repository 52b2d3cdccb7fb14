//! One connection of a relay: records in, records out, many viewers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use bytes::BytesMut;
use terminal::{Accepted, InputError, Size, ViewerKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use wire::frame::Frame;
use wire::link::{Open, Record, ViewerId};

use crate::generation::{Generation, Host};
use crate::translate;

/// Most viewers of one connection.
const VIEWERS: usize = 1024;
/// Bytes that are put together before they are written.
const BATCH: usize = 64 * 1024;

struct Link {
    host: Rc<Host>,
    wake: Rc<Notify>,
    viewers: RefCell<BTreeMap<ViewerId, Viewer>>,
}

#[derive(Clone)]
struct Viewer {
    generation: Rc<Generation>,
    key: ViewerKey,
}

/// Serves a connection until it ends, or sends what cannot be read.
pub(crate) async fn serve(stream: UnixStream, host: Rc<Host>) {
    let wake = Rc::new(Notify::new());
    host.add_link(&wake);
    let link = Link { host, wake, viewers: RefCell::default() };
    let (from, to) = stream.into_split();
    // Whichever side ends first: the viewers are gone with it.
    let result = tokio::select! {
        result = link.read(from) => result,
        result = link.write(to) => result,
    };
    // What is said here is in the weaver's log, among what its program says.
    match result {
        Err(error) if !left(&error) => eprintln!("loom-host: a connection ended: {error}"),
        _ => {}
    }
}

/// Whether the other side has only gone, as a relay does that is killed.
fn left(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

impl Drop for Link {
    fn drop(&mut self) {
        for viewer in self.viewers.take().into_values() {
            viewer.generation.session.borrow_mut().leave(viewer.key, self.host.now());
        }
        self.host.work.notify_one();
        self.host.wake_links();
    }
}

impl Link {
    async fn read(&self, mut from: OwnedReadHalf) -> io::Result<()> {
        let mut buffer = BytesMut::with_capacity(4096);
        while from.read_buf(&mut buffer).await? > 0 {
            loop {
                let record = Record::take(&mut buffer);
                let record =
                    record.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                let Some(record) = record else { break };
                self.take(record)?;
            }
            self.host.work.notify_one();
            self.wake.notify_one();
        }
        Ok(())
    }

    async fn write(&self, mut to: OwnedWriteHalf) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        loop {
            self.fill(&mut buffer);
            if buffer.is_empty() {
                self.wake.notified().await;
            } else {
                to.write_all(&buffer).await?;
                buffer.clear();
                // Another viewer's batch must not keep a big buffer alive while nothing happens.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Puts together what can be sent now: in turn, one event of each viewer.
    fn fill(&self, buffer: &mut BytesMut) {
        let now = self.host.now();
        let mut went_on = true;
        while went_on && buffer.len() < BATCH {
            went_on = false;
            for (id, viewer) in self.viewers.borrow().iter() {
                let event = viewer.generation.session.borrow_mut().next(viewer.key, now);
                let Some(event) = event else { continue };
                let frame = translate::frame(event, &viewer.generation, &self.host);
                Record::Frame(*id, frame).put(buffer);
                went_on = true;
            }
        }
    }

    fn take(&self, record: Record) -> io::Result<()> {
        match record {
            Record::Open(id, open) => self.open(id, open)?,
            Record::Frame(id, frame) => {
                let viewer = self.viewers.borrow().get(&id).cloned();
                if let Some(viewer) = viewer {
                    self.frame(&viewer, frame);
                }
            }
            Record::Close(id) => {
                let viewer = self.viewers.borrow_mut().remove(&id);
                if let Some(viewer) = viewer {
                    viewer.generation.session.borrow_mut().leave(viewer.key, self.host.now());
                }
            }
        }
        Ok(())
    }

    fn open(&self, id: ViewerId, open: Open) -> io::Result<()> {
        let mut viewers = self.viewers.borrow_mut();
        if viewers.contains_key(&id) || viewers.len() >= VIEWERS || open.client.len() > 256 {
            let error = "a viewer that is there already, one too many, or a name too long";
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        let join = translate::join(open, &self.host.current());
        let (generation, key) = self.host.join(join);
        viewers.insert(id, Viewer { generation, key });
        Ok(())
    }

    fn frame(&self, viewer: &Viewer, frame: Frame) {
        let (mut session, key) = (viewer.generation.session.borrow_mut(), viewer.key);
        let taken = match frame {
            Frame::Input { offset, data } => session.input(key, offset, data),
            Frame::Leave { offset } => session.ask_leave(key, offset),
            Frame::Eof { offset } => session.eof(key, offset),
            Frame::Ack { offset } => {
                session.ack(key, offset, self.host.now());
                Ok(Accepted::New)
            }
            Frame::Resize(size) => {
                if let Some(size) = Size::new(size.rows, size.cols) {
                    session.resize(key, size);
                    self.host.wake_links();
                }
                Ok(Accepted::New)
            }
            // What only a host says, from a relay: nothing to us.
            Frame::Hello { .. }
            | Frame::Output { .. }
            | Frame::Stderr { .. }
            | Frame::Gap { .. }
            | Frame::Screen { .. }
            | Frame::InputAck { .. }
            | Frame::Size(_)
            | Frame::Exit { .. }
            | Frame::Left { .. }
            | Frame::Notice { .. } => Ok(Accepted::New),
        };
        match taken {
            Ok(_) | Err(InputError::Viewer) => {}
            Err(InputError::Missing { .. }) => session.detach(key, "input"),
            Err(InputError::Full) => session.detach(key, "overrun"),
        }
    }
}
