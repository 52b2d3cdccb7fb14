//! Hostile and unlucky streams: each test is named after its row.

use std::time::Duration;

use service::ServeOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::frame::Frame;
use wire::link::Record;

use super::Rig;
use super::socket::{BINARY, FIN, PING, TEXT, frame, head};

#[tokio::test]
async fn frames_of_1_byte_to_64_kib_work() {
    let rig = Rig::start().await;
    let mut viewer = rig.v1().await;
    let mut sent = Vec::new();
    for power in 0..=16 {
        let payload = vec![b'a' + power; 1 << power];
        viewer.send(BINARY, &payload).await;
        sent.extend_from_slice(&payload);
    }
    let mut back = Vec::new();
    while back.len() < sent.len() {
        back.extend_from_slice(&viewer.receive().await.1);
    }
    assert!(back == sent && rig.host.typed() == sent);
}

#[tokio::test]
async fn a_64_mib_frame_is_closed_with_1009() {
    let rig = Rig::start().await;
    let mut viewer = rig.v1().await;
    viewer.raw(&head(FIN | BINARY, 64 << 20)).await;
    viewer.raw(&[0; 4096]).await;
    assert_eq!(viewer.closed().await.0, 1009);
}

#[tokio::test]
async fn a_message_of_many_parts_over_1_mib_is_closed_with_1009() {
    let rig = Rig::start().await;
    let mut viewer = rig.v1().await;
    viewer.raw(&frame(BINARY, &[b'a'; 65536])).await;
    for _ in 0..16 {
        viewer.raw(&frame(0, &[b'a'; 65536])).await;
    }
    assert_eq!(viewer.closed().await.0, 1009);
}

#[tokio::test]
async fn a_frame_whose_header_lies_is_closed_with_1002() {
    let reserved_bit = head(FIN | 0x40 | TEXT, 0);
    let reserved_kind = head(FIN | 3, 0);
    let long_ping = frame(FIN | PING, &[0; 126]);
    let long_close = frame(FIN | 8, &[0; 126]);
    let split_ping = frame(PING, b"");
    let no_mask = vec![FIN | TEXT, 1, b'a'];
    let part_of_nothing = frame(FIN, b"a");
    let inside_another = [frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat();
    for lie in [
        reserved_bit,
        reserved_kind,
        long_ping,
        long_close,
        split_ping,
        no_mask,
        part_of_nothing,
        inside_another,
    ] {
        let rig = Rig::start().await;
        let mut viewer = rig.v1().await;
        viewer.raw(&lie).await;
        assert_eq!(viewer.closed().await.0, 1002, "{lie:?}");
        assert_eq!(rig.host.typed(), b"");
    }
}

#[tokio::test]
async fn a_frame_longer_than_what_follows_is_closed_with_1002() {
    let rig = Rig::start().await;
    let mut viewer = rig.v1().await;
    viewer.raw(&head(FIN | TEXT, 1000)).await;
    viewer.raw(b"short").await;
    viewer.stream.shutdown().await.unwrap();
    assert_eq!(viewer.closed().await.0, 1002);
    assert_eq!(rig.host.typed(), b"");
}

#[tokio::test]
async fn a_million_empty_frames_are_rate_limited() {
    for kind in [FIN | TEXT, FIN | BINARY] {
        flood_is_closed(&frame(kind, b"")).await;
    }
}

#[tokio::test]
async fn empty_parts_without_end_are_rate_limited() {
    flood_is_closed(&frame(0, b"")).await;
}

#[tokio::test]
async fn pings_without_end_are_rate_limited() {
    flood_is_closed(&frame(FIN | PING, b"ping")).await;
}

/// Sends a frame a million times or until the other side has had enough; others are not disturbed.
async fn flood_is_closed(frame: &[u8]) {
    let rig = Rig::start().await;
    let (mut flood, mut other) = (rig.v1().await, rig.v1().await);
    if frame[0] == 0 {
        // An empty part belongs to a message that has begun.
        flood.raw(&super::socket::frame(TEXT, b"a")).await;
    }
    let chunk = frame.repeat(1000);
    for _ in 0..1000 {
        if flood.stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    other.text("calm\n").await;
    assert_eq!(other.until("calm\n").await, "calm\n");
    assert_eq!(flood.closed().await, (1008, "too many empty frames".to_owned()));
    assert_eq!(rig.host.typed(), b"calm\n");
}

#[tokio::test]
async fn a_text_frame_that_is_not_utf_8_is_closed_with_1007() {
    for parts in [
        vec![frame(FIN | TEXT, b"a\xff")],
        vec![frame(FIN | TEXT, b"\xc3")],
        vec![frame(TEXT, b"a\xc3"), frame(FIN, b"a")],
    ] {
        let rig = Rig::start().await;
        let mut viewer = rig.v1().await;
        viewer.raw(&parts.concat()).await;
        assert_eq!(viewer.closed().await.0, 1007, "{parts:?}");
        assert_eq!(rig.host.typed(), b"");
    }
}

#[tokio::test]
async fn a_character_split_over_parts_is_fine() {
    let rig = Rig::start().await;
    let mut viewer = rig.v1().await;
    viewer.raw(&[frame(TEXT, b"\xc3"), frame(FIN, b"\xa9\n")].concat()).await;
    assert_eq!(viewer.until("\n").await, "é\n");
}

#[tokio::test]
async fn a_resize_with_rows_0_minus_1_65536_or_x_is_ignored_with_a_notice() {
    for rows in ["0", "-1", "65536", "\"x\""] {
        let rig = Rig::start().await;
        let mut viewer = rig.v1().await;
        viewer.text(&format!(r#"{{"type":"resize","rows":{rows},"cols":80}}"#)).await;
        let notice = "\r\n[loom] that size cannot be; it was ignored\r\n";
        assert_eq!(viewer.until("ignored\r\n").await, notice);
        viewer.text("on\n").await;
        assert_eq!(viewer.until("on\n").await, "on\n");
        assert_eq!(rig.host.typed(), b"on\n");
    }
}

#[tokio::test]
async fn a_paste_that_contains_the_resize_json_passes_as_input() {
    let rig = Rig::start().await;
    let mut viewer = rig.v1().await;
    let paste = "echo '{\"type\":\"resize\",\"rows\":1,\"cols\":1}'\n";
    viewer.text(paste).await;
    assert_eq!(viewer.until("\n").await, paste);
    let resized = rig.host.heard_any(|record| matches!(record, Record::Frame(_, Frame::Resize(_))));
    assert!(!resized);
}

#[tokio::test]
async fn half_open_connections_and_slow_handshakes_are_dropped_at_the_deadline() {
    let deadline = Duration::from_secs(3);
    let options = ServeOptions { first_byte: deadline, head: deadline, ..ServeOptions::default() };
    let many = half_open(&options);
    let rig = Rig::with(options).await;
    let mut viewer = rig.v1().await;
    let mut half_open = Vec::new();
    for number in 0..many {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /api/weavers/").await.unwrap();
        }
        half_open.push(stream);
    }
    viewer.text("here\n").await;
    assert_eq!(viewer.until("here\n").await, "here\n");
    for _ in 0..3 {
        // One byte a second: it is no answer to a deadline.
        tokio::time::sleep(Duration::from_secs(1)).await;
        half_open.iter().step_by(2).for_each(|stream| drop(stream.try_write(b"x")));
        viewer.text("here\n").await;
        assert_eq!(viewer.until("here\n").await, "here\n");
    }
    for mut stream in half_open {
        // Whatever it is told, in the end nothing more comes.
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let read = tokio::time::timeout(Duration::from_secs(60), read).await;
        assert!(read.is_ok(), "a half-open connection is kept");
    }
    viewer.text("still\n").await;
    assert_eq!(viewer.until("still\n").await, "still\n");
    let mut other = rig.v1().await;
    other.text("new\n").await;
    assert!(other.until("new\n").await.ends_with("new\n"));
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
async fn a_viewer_that_does_not_read_holds_nobody_up() {
    let rig = Rig::start().await;
    let (deaf, mut other) = (rig.v1().await, rig.v1().await);
    other.text("flood 400\n").await;
    let mut got = 0;
    while got < 400 * 64 * 1024 {
        got += other.receive().await.1.len();
    }
    other.text("done\n").await;
    assert!(other.until("done\n").await.ends_with("done\n"));
    drop(deaf);
}

#[tokio::test]
async fn a_viewer_that_does_not_read_does_not_hold_up_the_end() {
    let rig = Rig::start().await;
    let (deaf, mut other) = (rig.v1().await, rig.v1().await);
    other.text("flood 400\n").await;
    let mut got = 0;
    while got < 400 * 64 * 1024 {
        got += other.receive().await.1.len();
    }
    rig.shutdown.cancel();
    let drained = tokio::time::timeout(Duration::from_secs(60), rig.relay.drained()).await;
    assert!(drained.is_ok(), "it waits for somebody that will never read");
    drop(deaf);
}
