//! Answers on the control socket, a thread for each connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use rustix::termios::{Winsize, tcsetwinsize};

use super::life::Happening;
use super::link::Exit;
use super::state::Shared;
use super::{cgroup, logs, probes, threads};
use crate::control::{self, ExecInput, ExecOutput, Reply, Request};
use crate::spec::{AttachSpec, ExecSpec, Usage};
use crate::zygote::failure::{Failure, Step};
use crate::zygote::message::{Key, Order, Stdio};
use crate::{fdpass, folder};

const SIGHUP: i32 = 1;
const SIGKILL: i32 = 9;
/// Between SIGHUP and SIGKILL for a program whose user has gone.
const HANG_UP_GRACE: Duration = Duration::from_secs(1);
/// How long no connection is accepted after one that could not be.
const OUT_OF_FILES: Duration = Duration::from_millis(20);
/// How long a program may take to accept a connection.
const DIAL: Duration = Duration::from_secs(10);
/// The longest line that a program's user may send.
const MAX_INPUT: u64 = 4096;

/// Accepts until the process ends.
pub(crate) fn serve(listener: &UnixListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of files, most likely.
            std::thread::sleep(OUT_OF_FILES);
            continue;
        };
        let shared = shared.clone();
        // Without a thread the connection is closed, which its user sees.
        threads::spawn("control", move || drop(answer(&shared, stream))).ok();
    }
}

fn answer(shared: &Arc<Shared>, mut stream: UnixStream) -> io::Result<()> {
    if socket_peercred(&stream)?.uid != geteuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (text, _) = control::read_line(&stream)?;
    match serde_json::from_slice(&text)? {
        Request::Status => stream.write_all(&control::line(&shared.status())),
        Request::Subscribe => shared.subscribe(stream),
        Request::Stop { grace_millis } => {
            let grace = Duration::from_millis(grace_millis);
            // A pod whose life is over needs no stop.
            shared.happenings.send(Happening::Stop { grace }).ok();
            stream.write_all(&control::line(&Reply::Done))
        }
        Request::End { reason, message, grace_millis } => {
            let grace = Duration::from_millis(grace_millis);
            let why = (reason, message);
            // A pod whose life is over needs no end.
            shared.happenings.send(Happening::Doom { why, grace }).ok();
            stream.write_all(&control::line(&Reply::Done))
        }
        Request::Usage => stream.write_all(&control::line(&usage(shared)?)),
        Request::Exec(spec) => exec(shared, &spec, stream),
        Request::Files { volume } => {
            let given = folder::read_json(&shared.folder().fresh(&volume))?;
            let reply = match shared.link.replace(volume, given) {
                Ok(()) => Reply::Done,
                Err(failure) => Reply::Program(failure.to_string()),
            };
            stream.write_all(&control::line(&reply))
        }
        Request::Attach(spec) => attach(shared, &spec, stream),
        Request::Dial { port } => dial(shared, port, stream),
    }
}

/// Serves somebody who is attached until he leaves.
fn attach(shared: &Shared, spec: &AttachSpec, mut stream: UnixStream) -> io::Result<()> {
    let running = shared.running(&spec.container);
    let attached = running.map(|running| running.console.attach(spec.stdin, &stream));
    match attached {
        Some(Ok(attached)) => attached.attend(&stream),
        Some(Err(Failure::Gone)) | None => {
            stream.write_all(&control::line(&Reply::NotRunning(spec.container.clone())))
        }
        Some(Err(failure)) => {
            stream.write_all(&control::line(&Reply::Program(failure.to_string())))
        }
    }
}

fn dial(shared: &Shared, port: u16, mut stream: UnixStream) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match probes::connect(shared, address, DIAL) {
        Ok(connected) => {
            fdpass::send_all(&stream, &control::line(&Reply::Done), &[connected.as_fd()])
        }
        Err(error) => stream.write_all(&control::line(&Reply::Program(error.to_string()))),
    }
}

/// Adds the logs, which are not the pod's own, to what the pod has written.
fn usage(shared: &Shared) -> io::Result<Usage> {
    let status = shared.status();
    let all = status.init_containers.iter().chain(&status.containers);
    let names: Vec<String> = all.map(|container| container.name.clone()).collect();
    let usage = shared.link.usage(names);
    let mut usage = usage.map_err(|failure| io::Error::other(failure.to_string()))?;
    for (name, bytes) in &mut usage.containers {
        *bytes += logs::size(&shared.folder().log(name));
    }
    Ok(usage)
}

/// The pipes of a program: theirs go to the zygote, ours to whoever asked.
struct Pipes {
    stdio: Stdio,
    ours: Vec<OwnedFd>,
    theirs: Vec<OwnedFd>,
}

impl Pipes {
    fn new(spec: &ExecSpec) -> io::Result<Self> {
        if spec.tty {
            return Ok(Self { stdio: Stdio::Terminal, ours: Vec::new(), theirs: Vec::new() });
        }
        let ((stdout, out), (stderr, err)) = (logs::pipe()?, logs::pipe()?);
        let (mut ours, mut theirs) = (vec![stdout, stderr], vec![out, err]);
        if spec.stdin {
            let (read, write) = logs::pipe()?;
            ours.insert(0, write);
            theirs.push(read);
        }
        Ok(Self { stdio: Stdio::Pipes { stdin: spec.stdin }, ours, theirs })
    }
}

fn exec(shared: &Arc<Shared>, spec: &ExecSpec, mut stream: UnixStream) -> io::Result<()> {
    match start(shared, spec, &stream) {
        Ok(program) => program.attend(&stream),
        Err(Failure::Gone) => {
            stream.write_all(&control::line(&Reply::NotRunning(spec.container.clone())))
        }
        Err(failure) => stream.write_all(&control::line(&Reply::Program(failure.to_string()))),
    }
}

/// A program that was started for somebody.
struct Program<'a> {
    shared: &'a Shared,
    key: Key,
    master: Option<OwnedFd>,
    ended: Arc<AtomicBool>,
}

fn start<'a>(
    shared: &'a Shared,
    spec: &ExecSpec,
    stream: &UnixStream,
) -> Result<Program<'a>, Failure> {
    let running = shared.running(&spec.container).ok_or(Failure::Gone)?;
    let pipes = Pipes::new(spec).step("making pipes")?;
    let procs = cgroup::open_all(&running.cgroup_procs).step("opening control groups")?;
    let fds: Vec<_> = pipes.theirs.iter().chain(&procs).map(AsFd::as_fd).collect();
    let (argv, stdio) = (spec.argv.clone(), pipes.stdio);
    let order = |key| Order::Exec { key, container: running.key, argv, stdio };
    let ended = Arc::new(AtomicBool::new(false));
    let (answered, answer) = channel();
    let (goodbye, flag) = (stream.try_clone().step("copying a connection")?, ended.clone());
    let on_exit = move |exit: Exit| {
        flag.store(true, Ordering::SeqCst);
        threads::spawn("goodbye", move || say_goodbye(&goodbye, exit, &answer)).ok();
    };
    let started = shared.link.start(order, &fds, Box::new(on_exit))?;
    let master = started.master;
    let mut ours: Vec<BorrowedFd<'_>> = pipes.ours.iter().map(AsFd::as_fd).collect();
    if let Some(master) = &master {
        ours.extend(std::iter::repeat_n(master.as_fd(), 1 + usize::from(spec.stdin)));
    }
    let sent = fdpass::send_all(stream, &control::line(&Reply::Done), &ours);
    // Whoever says goodbye may have said it already, to nobody.
    answered.send(()).ok();
    let program = Program { shared, key: started.key, master, ended };
    if sent.is_err() {
        program.hang_up();
    }
    Ok(program)
}

/// The answer to the start must come before the news of the end, which another thread brings.
fn say_goodbye(mut stream: &UnixStream, exit: Exit, answer: &Receiver<()>) {
    if answer.recv().is_err() {
        // It was never started, which is said instead.
        return;
    }
    stream.write_all(&control::line(&ExecOutput::Exit(exit.code))).ok();
    stream.shutdown(std::net::Shutdown::Both).ok();
}

impl Program<'_> {
    /// Does what its user says until it ends or the user has gone.
    fn attend(&self, stream: &UnixStream) -> io::Result<()> {
        hear(stream, |input| {
            if let (ExecInput::Resize { rows, cols }, Some(master)) = (input, &self.master) {
                resize(master, rows, cols);
            }
        });
        self.hang_up();
        Ok(())
    }

    fn hang_up(&self) {
        if self.ended.load(Ordering::SeqCst) {
            return;
        }
        self.shared.link.signal(self.key, SIGHUP, true);
        std::thread::sleep(HANG_UP_GRACE);
        if !self.ended.load(Ordering::SeqCst) {
            self.shared.link.signal(self.key, SIGKILL, true);
        }
    }
}

/// Takes what the user of a program says until he leaves.
pub(super) fn hear(stream: &UnixStream, mut take: impl FnMut(ExecInput)) {
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = lines.by_ref().take(MAX_INPUT).read_until(b'\n', &mut line).unwrap_or(0);
        if count == 0 {
            return;
        }
        if let Ok(input) = serde_json::from_slice(&line) {
            take(input);
        }
    }
}

pub(super) fn resize(terminal: &OwnedFd, rows: u16, cols: u16) {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    // A terminal whose program has ended has no size.
    tcsetwinsize(terminal, size).ok();
}
