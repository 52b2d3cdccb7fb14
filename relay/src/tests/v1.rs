//! Attach v1, as the documents write it.

use wire::frame::{Frame, Size};
use wire::link::Record;

use super::Rig;
use super::socket::{BINARY, CLOSE, PING, PONG};

#[tokio::test]
async fn what_is_typed_comes_back() {
    let rig = Rig::start().await;
    let mut viewer = rig.v1().await;
    viewer.text("ls\n").await;
    assert_eq!(viewer.until("\n").await, "ls\n");
    viewer.send(BINARY, b"raw\x04\n").await;
    assert_eq!(viewer.until("\n").await, "raw\u{4}\n");
    assert_eq!(rig.host.typed(), b"ls\nraw\x04\n");
}

#[tokio::test]
async fn output_is_acknowledged_on_behalf_of_the_viewer() {
    let rig = Rig::start().await;
    let mut viewer = rig.v1().await;
    viewer.text("12345\n").await;
    viewer.until("\n").await;
    let acked = |record: &Record| match record {
        Record::Frame(_, Frame::Ack { offset }) => Some(*offset),
        _ => None,
    };
    assert_eq!(rig.host.hears(acked).await, 6);
}

#[tokio::test]
async fn a_resize_reaches_the_host() {
    let rig = Rig::start().await;
    let mut viewer = rig.v1().await;
    viewer.text(" {\"cols\": 132, \"type\": \"resize\", \"rows\": 43} ").await;
    let resized = |record: &Record| match record {
        Record::Frame(_, Frame::Resize(size)) => Some(*size),
        _ => None,
    };
    assert_eq!(rig.host.hears(resized).await, Size { rows: 43, cols: 132 });
    assert_eq!(rig.host.typed(), b"");
}

#[tokio::test]
async fn a_character_in_two_pieces_arrives_whole() {
    let rig = Rig::start().await;
    let mut viewer = rig.v1().await;
    viewer.text("bytes 61 c3 a9 ff e2 82 ac 0a").await;
    assert_eq!(viewer.until("\n").await, "aé\u{fffd}€\n");
}

#[tokio::test]
async fn the_end_of_the_program_is_told_with_its_code() {
    let rig = Rig::start().await;
    let (mut one, mut other) = (rig.v1().await, rig.v1().await);
    other.text("hello\n").await;
    assert_eq!(one.until("\n").await, "hello\n");
    one.text("exit 7\n").await;
    assert_eq!(one.closed().await, (1000, "exit 7".to_owned()));
    assert_eq!(other.closed().await, (1000, "exit 7".to_owned()));
}

#[tokio::test]
async fn detaching_leaves_the_others() {
    let rig = Rig::start().await;
    let (mut one, mut other) = (rig.v1().await, rig.v1().await);
    other.text("here\n").await;
    one.until("here\n").await;
    one.text("detach\n").await;
    assert_eq!(one.closed().await, (1000, "detached".to_owned()));
    other.text("still\n").await;
    assert!(other.until("still\n").await.ends_with("still\n"));
    assert_eq!(rig.host.links(), 1, "viewers share one link");
}

#[tokio::test]
async fn pings_are_answered_and_a_close_is_returned() {
    let rig = Rig::start().await;
    let mut viewer = rig.v1().await;
    viewer.send(PING, b"?").await;
    assert_eq!(viewer.receive().await, (PONG, b"?".to_vec()));
    viewer.send(CLOSE, &1000_u16.to_be_bytes()).await;
    assert_eq!(viewer.closed().await, (1000, String::new()));
    let left = |record: &Record| matches!(record, Record::Close(_)).then_some(());
    rig.host.hears(left).await;
}

#[tokio::test]
async fn a_million_bytes_typed_at_once_arrive_in_order() {
    let rig = Rig::start().await;
    let mut viewer = rig.v1().await;
    let paste: String = (0..100_000).map(|line| format!("{line:09}\n")).collect();
    viewer.text(&paste).await;
    let mut back = 0;
    while back < paste.len() {
        back += viewer.receive().await.1.len();
    }
    assert!(rig.host.typed() == paste.as_bytes());
}
