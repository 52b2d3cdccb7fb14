//! Attach v2, by the crate that the CLI uses.

use bytes::Bytes;
use client::{Attach, AttachOptions, Close, Error, Event};
use wire::frame::{Frame, Size};
use wire::link::{Record, Resume};
use wire::problem::Code;

use super::host::SESSION;
use super::{ENDED, Rig, UNKNOWN, WEAVER};
use crate::close::End;

async fn attach(rig: &Rig) -> Attach {
    rig.client().attach(&rig.url(WEAVER), &AttachOptions::default()).await.unwrap()
}

async fn frame(attach: &mut Attach) -> Frame {
    match attach.next().await.unwrap() {
        Event::Frame(frame) => frame,
        Event::Close(close) => panic!("closed: {close:?}"),
    }
}

/// Returns the close, after whatever comes before.
async fn closed(attach: &mut Attach) -> Close {
    loop {
        if let Event::Close(close) = attach.next().await.unwrap() {
            return close;
        }
    }
}

fn close(code: u16, reason: &str) -> Close {
    Close { code, reason: reason.to_owned() }
}

fn input(text: &'static str) -> Frame {
    Frame::Input { offset: 0, data: Bytes::from_static(text.as_bytes()) }
}

#[tokio::test]
async fn frames_pass_both_ways_as_they_are() {
    let rig = Rig::start().await;
    let mut attach = attach(&rig).await;
    assert!(
        matches!(frame(&mut attach).await, Frame::Hello { hello, .. } if hello.session == SESSION)
    );
    attach.sender().send(input("ls\n")).await.unwrap();
    assert_eq!(frame(&mut attach).await, Frame::InputAck { offset: 3 });
    let output = Frame::Output { offset: 0, data: Bytes::from_static(b"ls\n") };
    assert_eq!(frame(&mut attach).await, output);
    attach.sender().send(Frame::Ack { offset: 3 }).await.unwrap();
    let acked = |record: &Record| {
        matches!(record, Record::Frame(_, Frame::Ack { offset: 3 })).then_some(())
    };
    rig.host.hears(acked).await;
}

#[tokio::test]
async fn how_a_viewer_comes_reaches_the_host() {
    let rig = Rig::start().await;
    let options = AttachOptions {
        client: "me".into(),
        resume: Some(Resume { session: "07".repeat(16), offset: 12 }),
        size: Size::new(43, 132),
        from_start: true,
    };
    let _attach = rig.client().attach(&rig.url(WEAVER), &options).await.unwrap();
    let open = |record: &Record| match record {
        Record::Open(_, open) => Some(open.clone()),
        _ => None,
    };
    let open = rig.host.hears(open).await;
    assert_eq!((open.client, open.resume), (options.client, options.resume));
    assert_eq!((open.size, open.from_start), (Some((43, 132)), true));
}

#[tokio::test]
async fn an_exit_is_a_frame_and_a_close() {
    let rig = Rig::start().await;
    let mut attach = attach(&rig).await;
    frame(&mut attach).await;
    attach.sender().send(input("exit 7\n")).await.unwrap();
    assert_eq!(frame(&mut attach).await, Frame::InputAck { offset: 7 });
    assert_eq!(frame(&mut attach).await, Frame::Exit { code: 7 });
    assert_eq!(closed(&mut attach).await, close(1000, "exit 7"));
}

#[tokio::test]
async fn leaving_is_a_frame_and_a_close() {
    let rig = Rig::start().await;
    let mut attach = attach(&rig).await;
    frame(&mut attach).await;
    attach.sender().send(Frame::Leave { offset: 0 }).await.unwrap();
    assert_eq!(frame(&mut attach).await, Frame::Left { why: "detached".into() });
    assert_eq!(closed(&mut attach).await, close(1000, "detached"));
}

#[tokio::test]
async fn ends_from_outside_are_told() {
    let broken = "the connection to the weaver broke: attach again";
    for (end, code, reason) in [
        (End::Deleted, 1001, "weaver deleted"),
        (End::Expired, 1001, "weaver expired"),
        (End::Exited(3), 1000, "exit 3"),
        (End::Broken, 1012, broken),
    ] {
        let rig = Rig::start().await;
        let mut attach = attach(&rig).await;
        frame(&mut attach).await;
        rig.host.tell(end.clone());
        if let End::Exited(code) = end {
            assert_eq!(frame(&mut attach).await, Frame::Exit { code });
        }
        assert_eq!(closed(&mut attach).await, close(code, reason));
    }
}

#[tokio::test]
async fn who_heard_nothing_of_a_program_that_has_ended_gets_its_log() {
    let rig = Rig::start().await;
    let mut early = attach(&rig).await;
    frame(&mut early).await;
    rig.host.fall_silent();
    let mut late = attach(&rig).await;
    let opened = |record: &Record| matches!(record, Record::Open(2, _)).then_some(());
    rig.host.hears(opened).await;
    rig.host.tell(End::Exited(0));
    assert!(matches!(frame(&mut late).await, Frame::Hello { .. }));
    let log = Frame::Output { offset: 0, data: Bytes::from_static(b"from the log\n") };
    assert_eq!(frame(&mut late).await, log);
    for viewer in [&mut early, &mut late] {
        assert_eq!(frame(viewer).await, Frame::Exit { code: 0 });
        assert_eq!(closed(viewer).await, close(1000, "exit 0"));
    }
}

#[tokio::test]
async fn a_broken_stream_lets_viewers_attach_again() {
    let rig = Rig::start().await;
    let mut viewer = attach(&rig).await;
    frame(&mut viewer).await;
    rig.host.break_stream();
    assert!(closed(&mut viewer).await.may_resume());
}

#[tokio::test]
async fn a_link_ends_after_its_last_viewer_and_another_one_opens() {
    let rig = Rig::start().await;
    for links in 1..3 {
        let mut viewer = attach(&rig).await;
        frame(&mut viewer).await;
        assert_eq!(rig.host.links(), links);
        drop(viewer);
        for tasks in [&rig.relay.tasks, rig.relay.links.tasks()] {
            tasks.close();
            let ended = tokio::time::timeout(std::time::Duration::from_secs(60), tasks.wait());
            ended.await.expect("viewer and link end");
        }
    }
}

#[tokio::test]
async fn a_shutdown_tells_every_viewer_and_waits_for_nothing_else() {
    let rig = Rig::start().await;
    rig.host.keep_links();
    let mut viewer = attach(&rig).await;
    frame(&mut viewer).await;
    rig.shutdown.cancel();
    let told = closed(&mut viewer).await;
    assert_eq!(told, close(1012, "the relay restarts: attach again"));
    drop(viewer);
    tokio::time::timeout(std::time::Duration::from_secs(60), rig.relay.drained()).await.unwrap();
}

#[tokio::test]
async fn refusals_come_before_the_upgrade() {
    let rig = Rig::start().await;
    let options = AttachOptions::default();
    let code = async |client: client::Client, id: &str| {
        client.attach(&rig.url(id), &options).await.unwrap_err()
    };
    assert_eq!(code(rig.client(), UNKNOWN).await.code(), Some(Code::NotFound));
    assert_eq!(code(rig.client(), "nonsense").await.code(), Some(Code::NotFound));
    let ended = code(rig.client(), ENDED).await;
    assert_eq!(ended.code(), Some(Code::Conflict));
    assert!(ended.to_string().ends_with("has ended with exit code 7"), "{ended}");
    let stranger = code(rig.client_with(None), WEAVER).await;
    assert!(matches!(stranger, Error::LoggedOut { .. }), "{stranger}");
}

#[tokio::test]
async fn viewers_beyond_the_limit_are_refused() {
    let rig = Rig::start().await;
    let relay = rig.relay.clone().with_max_viewers(1);
    let place = relay.place().ok().unwrap();
    assert_eq!(relay.place().err().unwrap().0.code, Code::TooMany);
    drop(place);
    assert!(relay.place().is_ok());
}
