//! Attach v1 as the documents have it, by a client that is not ours.

use wire::api::CreateWeaver;

use crate::stage::{Stage, TOKEN};
use crate::support::{Case, until};
use crate::web_socket::{Message, WebSocket};

pub(crate) const CASES: &[Case] = &[
    ("plain_client::text_both_ways_resize_and_exit", session),
    ("plain_client::a_deleted_weaver_closes_the_stream", deleted),
];

const SCRIPT: &str = "echo 'hel''lo wörld'; read a; stty size; read b; echo got $b; exit 7";

/// Reads until a text has come; what comes in pieces counts as one.
fn sees(socket: &mut WebSocket, what: &str) {
    let mut seen = String::new();
    while !seen.contains(what) {
        match socket.next() {
            Message::Text(text) => seen += &text,
            close @ Message::Close(..) => panic!("{close:?} instead of {what:?} after {seen:?}"),
        }
    }
}

/// Reads until the end.
fn end(socket: &mut WebSocket) -> (u16, String) {
    loop {
        if let Message::Close(code, reason) = socket.next() {
            return (code, reason);
        }
    }
}

fn make(stage: &Stage, script: &str) -> wire::api::WeaverView {
    let args = vec!["-c".to_owned(), script.to_owned()];
    let ask = CreateWeaver {
        command: vec!["sh".to_owned()],
        args,
        tty: Some(true),
        ..CreateWeaver::default()
    };
    stage.maker().create(&ask, "v1").unwrap()
}

fn session() {
    let stage = Stage::new();
    let view = make(&stage, SCRIPT);
    // It need not run yet: the relay waits for it.
    let mut socket = WebSocket::connect(&view.attach_url, TOKEN);
    sees(&mut socket, "hello wörld\r\n");
    socket.send(r#"{ "cols": 101, "type": "resize", "rows": 33 }"#);
    socket.send("go\r");
    sees(&mut socket, "33 101\r\n");
    socket.send("é\r");
    sees(&mut socket, "got é\r\n");
    assert_eq!(end(&mut socket), (1000, "exit 7".to_owned()));
    until("the pod tells the same", || {
        let view = stage.find(&view.id).unwrap();
        view["status"] == "Failed" && view["exit_code"] == 7
    });
}

fn deleted() {
    let stage = Stage::new();
    let view = make(&stage, "echo he''re; sleep 1000");
    let mut socket = WebSocket::connect(&view.attach_url, TOKEN);
    sees(&mut socket, "here\r\n");
    stage.ok("rm", &[&view.id]);
    let (code, reason) = end(&mut socket);
    assert_ne!(code, 1000, "{reason}");
}
