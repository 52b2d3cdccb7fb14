//! Viewers of an image's own program, which has no host: a `tee` on a terminal that remembers.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use client::{Attach, AttachOptions, Event};
use futures::future::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use wire::frame::{Frame, Size};

use super::{OWN, Rig};
use crate::close::End;
use crate::doors;
use crate::exec::Program;

/// What the program was told, and when it is to end.
#[derive(Clone, Default)]
pub(super) struct Own {
    heard: Arc<Mutex<Vec<u8>>>,
    sizes: Arc<Mutex<Vec<Size>>>,
    first: Arc<Mutex<Vec<bool>>>,
    ends: Arc<watch::Sender<bool>>,
}

impl Own {
    /// Attaches as Kubernetes does: every stream gets what is typed from then on by anybody.
    pub(super) fn door(&self) -> Arc<doors::Own> {
        let own = self.clone();
        Arc::new(move |_, first| {
            own.first.lock().unwrap().push(first);
            let program = own.program();
            async move { Ok(program) }.boxed()
        })
    }

    fn program(&self) -> Program {
        let (stdin, typed) = tokio::io::duplex(1024);
        let (stdout, out) = tokio::io::duplex(1024);
        let (heard, sizes, mut ends) =
            (self.heard.clone(), self.sizes.clone(), self.ends.subscribe());
        let echo = service::Task::spawn(echo(typed, out, heard));
        Program {
            stdin: Some(Box::new(stdin)),
            stdout: Box::new(stdout),
            stderr: None,
            resize: Some(Box::new(move |size| {
                sizes.lock().unwrap().push(size);
                async {}.boxed()
            })),
            end: async move {
                // The sender lives as long as the rig.
                let _ = ends.wait_for(|ends| *ends).await;
                drop(echo);
                End::Exited(9)
            }
            .boxed(),
            is_main: true,
        }
    }

    fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
}

/// Ends its output, as a container does, at the word `end`.
async fn echo(mut typed: DuplexStream, mut out: DuplexStream, heard: Arc<Mutex<Vec<u8>>>) {
    let mut bytes = [0; 1024];
    while let Ok(read @ 1..) = typed.read(&mut bytes).await {
        heard.lock().unwrap().extend_from_slice(&bytes[..read]);
        out.write_all(&bytes[..read]).await.unwrap();
        if bytes[..read].ends_with(b"end") {
            return;
        }
    }
    // A main process outlives whoever typed.
    std::future::pending::<()>().await;
}

async fn attach(rig: &Rig, options: &AttachOptions) -> (Attach, [u8; 16]) {
    let mut attach = rig.client().attach(&rig.url(OWN), options).await.unwrap();
    match attach.next().await.unwrap() {
        Event::Frame(Frame::Hello { offset: 0, hello }) => (attach, hello.session),
        event => panic!("{event:?}"),
    }
}

async fn until(attach: &mut Attach, wanted: impl Fn(&Frame) -> bool) -> Frame {
    loop {
        match attach.next().await.unwrap() {
            Event::Frame(frame) if wanted(&frame) => return frame,
            Event::Frame(_) => {}
            event @ Event::Close(_) => panic!("{event:?}"),
        }
    }
}

fn input(offset: u64, data: &'static [u8]) -> Frame {
    Frame::Input { offset, data: Bytes::from_static(data) }
}

#[tokio::test]
async fn each_viewer_begins_where_it_came() {
    let rig = Rig::start().await;
    let options = AttachOptions { from_start: true, ..AttachOptions::default() };
    let (mut one, session) = attach(&rig, &options).await;
    one.sender().send(input(0, b"hello")).await.unwrap();
    until(&mut one, |frame| matches!(frame, Frame::Output { offset: 0, .. })).await;
    let (_two, other) = attach(&rig, &AttachOptions::default()).await;
    assert_ne!(session, other, "offsets of the one are nothing to the other");
    assert_eq!(*rig.own.first.lock().unwrap(), [true, false]);
    assert_eq!(rig.host.links(), 0, "no host is asked for");
}

#[tokio::test]
async fn ctrl_d_goes_to_the_program_and_an_end_of_input_does_not() {
    let rig = Rig::start().await;
    let (mut one, _) = attach(&rig, &AttachOptions::default()).await;
    let to = one.sender();
    to.send(Frame::Leave { offset: 0 }).await.unwrap();
    to.send(Frame::Eof { offset: 1 }).await.unwrap();
    to.send(input(1, b"more")).await.unwrap();
    until(&mut one, |frame| *frame == Frame::InputAck { offset: 5 }).await;
    assert_eq!(rig.own.heard(), b"\x04more");
}

#[tokio::test]
async fn the_programs_end_is_told_with_its_code() {
    let rig = Rig::start().await;
    let (mut one, _) = attach(&rig, &AttachOptions::default()).await;
    one.sender().send(input(0, b"end")).await.unwrap();
    rig.own.ends.send_replace(true);
    let exit = until(&mut one, |frame| matches!(frame, Frame::Exit { .. })).await;
    assert_eq!(exit, Frame::Exit { code: 9 });
    let Event::Close(close) = one.next().await.unwrap() else { panic!("more after the end") };
    assert_eq!((close.code, close.reason.as_str()), (1000, "exit 9"));
}

#[tokio::test]
async fn who_comes_later_lets_it_paint_anew() {
    let rig = Rig::start().await;
    let size = Size::new(24, 80);
    let options = AttachOptions { size, ..AttachOptions::default() };
    let (mut one, _) = attach(&rig, &options).await;
    one.sender().send(input(0, b"x")).await.unwrap();
    until(&mut one, |frame| matches!(frame, Frame::Output { .. })).await;
    let sizes = rig.own.sizes.lock().unwrap().clone();
    assert_eq!(sizes, [Size::new(25, 81).unwrap(), size.unwrap()]);
}

#[tokio::test]
async fn v1_sees_it_too() {
    let rig = Rig::start().await;
    let path = format!("/api/weavers/{OWN}/attach");
    let mut socket = super::Socket::open(rig.address, &path, super::TOKEN).await;
    socket.text("hello end").await;
    socket.until("hello end").await;
    rig.own.ends.send_replace(true);
    let close = socket.closed().await;
    assert_eq!((close.0, close.1.as_str()), (1000, "exit 9"));
}
