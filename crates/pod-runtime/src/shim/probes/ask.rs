//! One try of a probe: by a program inside, or over the pod's network.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::grpc;
use super::http::{self, Url};
use crate::clock;
use crate::shim::link::Exit;
use crate::shim::state::Shared;
use crate::shim::{cgroup, logs};
use crate::spec::{Handler, Probe};
use crate::zygote::failure::{Failure, Step};
use crate::zygote::message::{Key, Order, Stdio};

const SIGKILL: i32 = 9;
/// As much of a program's output is told as Kubernetes does.
const MOST_OUTPUT: u64 = 10 << 10;
/// How often a program's end is looked for once its output has one.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Why a try did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The answer is no.
    Failed(String),
    /// It could not be asked, which says nothing of the container.
    Errored(String),
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Errored(why) => write!(f, "errored and resulted in unknown state: {why}"),
        }
    }
}

/// Tries once; says why it did not succeed.
pub(super) fn ask(shared: &Shared, container: &str, probe: &Probe) -> Result<(), Trouble> {
    let patience = Duration::from_secs(probe.timeout_seconds.max(1));
    match &probe.handler {
        Handler::Exec { argv } => exec(shared, container, argv, patience),
        Handler::Tcp { port: 0 }
        | Handler::Http { port: 0, .. }
        | Handler::Grpc { port: 0, .. } => {
            Err(Trouble::Errored("the container has no port of that name".to_owned()))
        }
        Handler::Tcp { port } => connect(shared, address(shared, *port), patience)
            .map(drop)
            .map_err(|why| why.to_string().into()),
        Handler::Http { port, path, headers, tls } => {
            let url = Url { tls: *tls, address: address(shared, *port), path };
            let until = clock::uptime() + patience;
            let connected = connect(shared, url.address, patience);
            connected
                .and_then(|stream| http::get(stream, &url, headers, until))
                .map_err(|why| http::explain(&url, &why))?
                .map_or(Ok(()), |why| Err(why.into()))
        }
        Handler::Grpc { port, service } => {
            let address = address(shared, *port);
            let until = clock::uptime() + patience;
            let stream = connect(shared, address, patience)
                .map_err(|_| grpc::no_connection(address, patience))?;
            let left = until.saturating_sub(clock::uptime());
            Ok(grpc::check(stream, address, service, (left, patience))?)
        }
    }
}

/// Where the pod's programs are reached, as Kubernetes does it: not only on loopback.
fn address(shared: &Shared, port: u16) -> SocketAddr {
    let ip = shared.status().ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    SocketAddr::new(ip, port)
}

/// Connects within the pod's network.
pub(in crate::shim) fn connect(
    shared: &Shared,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<TcpStream> {
    let dial = |why: &str| io::Error::other(format!("dial tcp {to}: {why}"));
    let socket = shared.link.socket().map_err(|failure| dial(&failure.to_string()))?;
    let result = match rustix::net::connect(&socket, &to) {
        Err(Errno::INPROGRESS) => {
            let mut wait = [PollFd::new(&socket, PollFlags::OUT)];
            let woken = poll(&mut wait, Timespec::try_from(patience).ok().as_ref());
            match woken {
                Ok(0) => return Err(dial("i/o timeout")),
                Ok(_) => rustix::net::sockopt::socket_error(&socket).and_then(|result| result),
                Err(error) => Err(error),
            }
        }
        result => result,
    };
    result.map_err(|error| dial(&format!("connect: {}", words(error))))?;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// As Go says it.
fn words(error: Errno) -> String {
    match error {
        Errno::CONNREFUSED => "connection refused".to_owned(),
        Errno::TIMEDOUT => "connection timed out".to_owned(),
        other => io::Error::from(other).to_string(),
    }
}

fn exec(
    shared: &Shared,
    container: &str,
    argv: &[String],
    patience: Duration,
) -> Result<(), Trouble> {
    let until = clock::uptime() + patience;
    let program = Program::start(shared, container, argv).map_err(|failure| {
        let why = "rpc error: code = Unknown desc = failed to exec in container";
        Trouble::Errored(format!("{why}: {failure}"))
    })?;
    let (output, exit) = program.attend(until);
    match exit {
        Some(exit) if exit.code == 0 => Ok(()),
        Some(_) => Err(output.into()),
        None => {
            shared.link.signal(program.key, SIGKILL, true);
            let command = argv.join(" ");
            let seconds = patience.as_secs();
            Err(format!("command timed out: {command:?} timed out after {seconds}s").into())
        }
    }
}

/// A program that was started to be asked.
struct Program {
    key: Key,
    output: OwnedFd,
    end: Receiver<Exit>,
}

impl Program {
    fn start(shared: &Shared, container: &str, argv: &[String]) -> Result<Self, Failure> {
        let running = shared.running(container).ok_or(Failure::Gone)?;
        let procs = cgroup::open_all(&running.cgroup_procs).step("opening control groups")?;
        let (output, out) = logs::pipe().step("making pipes")?;
        let mut fds = vec![out.as_fd(), out.as_fd()];
        fds.extend(procs.iter().map(AsFd::as_fd));
        let (argv, container) = (argv.to_owned(), running.key);
        let stdio = Stdio::Pipes { stdin: false };
        let order = |key| Order::Exec { key, container, argv, stdio };
        let (ended, end) = channel();
        let on_exit = move |exit| {
            ended.send(exit).ok();
        };
        let started = shared.link.start(order, &fds, Box::new(on_exit))?;
        Ok(Self { key: started.key, output, end })
    }

    /// Reads what it says until it ends or the time is over. What it leaves behind may hold the
    /// pipe open, so its end is looked for meanwhile.
    fn attend(&self, until: Duration) -> (String, Option<Exit>) {
        let (mut said, mut open) = (Vec::new(), true);
        loop {
            let mut wait = [PollFd::new(&self.output, PollFlags::IN)];
            let readable = open && poll(&mut wait, Some(&LOOK)).is_ok_and(|count| count > 0);
            if readable {
                open = self.read(&mut said);
                continue;
            }
            let left = until.saturating_sub(clock::uptime());
            let wait = if open { Duration::ZERO } else { left };
            let exit = self.end.recv_timeout(wait).ok();
            if exit.is_some() || left.is_zero() {
                return (String::from_utf8_lossy(&said).into_owned(), exit);
            }
        }
    }

    /// Takes what is there; false at the end.
    fn read(&self, said: &mut Vec<u8>) -> bool {
        let mut chunk = [0; 4096];
        let count = self.output.try_clone().and_then(|fd| File::from(fd).read(&mut chunk));
        let Ok(count @ 1..) = count else { return false };
        let room = usize::try_from(MOST_OUTPUT).unwrap_or_default() - said.len();
        said.extend(&chunk[..count.min(room)]);
        true
    }
}
