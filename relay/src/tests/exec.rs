//! Programs beside the session, by the crate that the CLI uses.

use bytes::Bytes;
use client::{Attach, Close, Event, ExecOptions};
use futures::future::FutureExt;
use tokio::io::{AsyncWriteExt, DuplexStream};
use wire::frame::{Frame, Size};
use wire::problem::Code;

use super::{Rig, WEAVER};
use crate::close::End;
use crate::exec::{Ask, Program};
use crate::problem::Refusal;

const BUFFER: usize = 64 * 1024;
/// More than all buffers on the way hold.
const FLOOD: usize = 16 * 1024 * 1024;

/// Plays a weaver's programs: `cat`, `fail`, `flood` and `missing`; everything else is not running.
pub(super) fn run(ask: &Ask) -> Result<Program, Refusal> {
    let (stdin, mut typed) = tokio::io::duplex(BUFFER);
    let (stdout, mut out) = tokio::io::duplex(BUFFER);
    let (stderr, mut errors) = tokio::io::duplex(BUFFER);
    let name = ask.argv[0].clone();
    let end = match name.as_str() {
        "cat" => async move {
            tokio::io::copy(&mut typed, &mut out).await.unwrap();
            End::Exited(0)
        }
        .boxed(),
        "fail" => async move {
            write(&mut out, b"out\n").await;
            write(&mut errors, b"no\n").await;
            End::Exited(7)
        }
        .boxed(),
        "flood" => async move {
            write(&mut out, &vec![b'x'; FLOOD]).await;
            End::Exited(0)
        }
        .boxed(),
        "missing" => async { End::CannotRun(127, "missing: command not found".into()) }.boxed(),
        _ => return Err(Refusal::new(Code::Conflict, "the weaver is not running")),
    };
    Ok(program(stdin, stdout, stderr, end))
}

async fn write(to: &mut DuplexStream, bytes: &[u8]) {
    // A viewer may leave at any time.
    let _ = to.write_all(bytes).await;
}

/// The program runs as soon as its end is awaited or its output read: here it gets its own task.
fn program(
    stdin: DuplexStream,
    stdout: DuplexStream,
    stderr: DuplexStream,
    end: futures::future::BoxFuture<'static, End>,
) -> Program {
    let task = service::Task::spawn(end);
    Program {
        stdin: Some(Box::new(stdin)),
        stdout: Box::new(stdout),
        stderr: Some(Box::new(stderr)),
        resize: None,
        end: async move { task.join().await.unwrap() }.boxed(),
        is_main: false,
    }
}

async fn exec(rig: &Rig, command: &str) -> Result<Attach, client::Error> {
    let options = ExecOptions { command: vec![command.into()], ..ExecOptions::default() };
    rig.client().exec(&rig.url(WEAVER), &options).await
}

/// Returns output, errors, exit code and close.
async fn everything(mut attach: Attach) -> (Vec<u8>, Vec<u8>, Option<i32>, Close) {
    let (mut out, mut errors, mut exit) = (Vec::new(), Vec::new(), None);
    loop {
        match attach.next().await.unwrap() {
            Event::Frame(Frame::Output { data, .. }) => out.extend_from_slice(&data),
            Event::Frame(Frame::Stderr { data, .. }) => errors.extend_from_slice(&data),
            Event::Frame(Frame::Exit { code }) => exit = Some(code),
            Event::Frame(_) => {}
            Event::Close(close) => return (out, errors, exit, close),
        }
    }
}

#[tokio::test]
async fn output_errors_and_exit_code_come_apart() {
    let rig = Rig::start().await;
    let (out, errors, exit, close) = everything(exec(&rig, "fail").await.unwrap()).await;
    assert_eq!((out.as_slice(), errors.as_slice()), (&b"out\n"[..], &b"no\n"[..]));
    assert_eq!((exit, close.code, close.reason.as_str()), (Some(7), 1000, "exit 7"));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told_as_a_shell_does() {
    let rig = Rig::start().await;
    let (out, errors, exit, close) = everything(exec(&rig, "missing").await.unwrap()).await;
    assert_eq!((out.len(), errors.as_slice()), (0, &b"loom: missing: command not found\n"[..]));
    assert_eq!((exit, close.code, close.reason.as_str()), (Some(127), 1000, "exit 127"));
}

#[tokio::test]
async fn a_large_input_reaches_the_program_and_its_end_too() {
    let rig = Rig::start().await;
    let attach = exec(&rig, "cat").await.unwrap();
    let sender = attach.sender();
    let input: Vec<u8> = (0..FLOOD / 4).map(|at| at.to_le_bytes()[1]).collect();
    let typing = async {
        let mut offset = 0;
        for piece in input.chunks(100_000) {
            let data = Bytes::copy_from_slice(piece);
            sender.send(Frame::Input { offset, data }).await.unwrap();
            offset += piece.len() as u64;
        }
        sender.send(Frame::Eof { offset }).await.unwrap();
    };
    let ((), (out, _, exit, _)) = tokio::join!(typing, everything(attach));
    assert!(out == input);
    assert_eq!(exit, Some(0));
}

#[tokio::test]
async fn a_slow_viewer_slows_the_program_and_loses_nothing() {
    let rig = Rig::start().await;
    let mut attach = exec(&rig, "flood").await.unwrap();
    assert!(matches!(attach.next().await.unwrap(), Event::Frame(Frame::Hello { .. })));
    let mut expected = 0;
    while expected < FLOOD as u64 {
        let event = attach.next().await.unwrap();
        let Event::Frame(Frame::Output { offset, data }) = event else { panic!("{event:?}") };
        assert_eq!(offset, expected);
        expected += data.len() as u64;
        tokio::task::yield_now().await;
    }
    assert_eq!(everything(attach).await.2, Some(0));
}

#[tokio::test]
async fn refusals_come_before_the_upgrade() {
    let rig = Rig::start().await;
    let refused = async |options: ExecOptions| {
        rig.client().exec(&rig.url(WEAVER), &options).await.unwrap_err().code()
    };
    let other = ExecOptions { command: vec!["other".into()], ..ExecOptions::default() };
    assert_eq!(refused(other).await, Some(Code::Conflict));
    let nothing = ExecOptions { size: Size::new(1, 1), ..ExecOptions::default() };
    assert_eq!(refused(nothing).await, Some(Code::Invalid));
}
