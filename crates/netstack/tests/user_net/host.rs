//! The host role: the stack on the TUN, and servers for the pod to talk to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;

use netstack::{Config, Counters, Reading};

use crate::rig;

/// The address of the host that a pod may talk to.
pub(crate) const HOST: &str = "192.0.2.1";

/// A running stack; stopped by closing the pipe.
pub(crate) struct Stack {
    counters: Arc<Counters>,
    stop: std::io::PipeWriter,
    thread: JoinHandle<Result<(), netstack::Error>>,
}

impl Stack {
    /// Starts the stack on the TUN that came as standard input.
    pub(crate) fn start(resolvers: &[SocketAddr]) -> Self {
        Self::start_with(|config| config.resolvers = resolvers.to_vec())
    }

    pub(crate) fn start_with(adjust: impl FnOnce(&mut Config)) -> Self {
        let tun = std::io::stdin().as_fd().try_clone_to_owned().expect("standard input is open");
        let mut config = Config::new(tun);
        config.offload = true;
        // The servers of the cases are on this machine; who leaves that out is refused them.
        config.policy = config.policy.reaching_this_machine();
        adjust(&mut config);
        let counters = Arc::clone(&config.counters);
        let (stopped, stop) = std::io::pipe().expect("a pipe");
        let thread = std::thread::spawn(move || netstack::run(config, stopped.into()));
        Self { counters, stop, thread }
    }

    pub(crate) fn counters(&self) -> Reading {
        self.counters.read()
    }

    /// Waits until the counters are as `wanted`, within a generous time.
    pub(crate) fn wait(&self, wanted: impl Fn(&Reading) -> bool) {
        let deadline = rig::deadline();
        while !wanted(&self.counters()) {
            assert!(!rig::passed(deadline), "it never came to pass: {:?}", self.counters());
            std::thread::yield_now();
        }
    }

    /// Stops the stack, which must end well.
    pub(crate) fn stop(self) -> Reading {
        drop(self.stop);
        self.thread.join().expect("no panic").expect("no error");
        self.counters.read()
    }
}

/// Runs the case named by the environment; a panic is its failure.
pub(crate) fn play() -> ExitCode {
    let case = std::env::var("NETSTACK_CASE").expect("a case is named");
    let known = crate::every_case().find(|(name, _)| *name == case);
    match known {
        Some((_, case)) => case(),
        None => drop(Stack::start(&[]).stop()),
    }
    ExitCode::SUCCESS
}

/// Serves one connection in a thread; returns the address and what the server made of it.
pub(crate) fn serve<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    serve_at(HOST, serve)
}

/// As [`serve`], at another address.
pub(crate) fn serve_at<T: Send + 'static>(
    host: &str,
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind((host, 0)).expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let thread = std::thread::spawn(move || serve(listener.accept().expect("a connection").0));
    (address, thread)
}

/// Answers every datagram with `prefix` and itself, for as long as the process lives.
pub(crate) fn echo_datagrams(address: &str, prefix: &'static [u8]) -> SocketAddr {
    let socket = UdpSocket::bind(address).expect("a port");
    let address = socket.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut buffer = [0; 65535];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&[prefix, &buffer[..len]].concat(), from);
        }
    });
    address
}

/// Answers one connection with `prefix` and the first bytes that come.
pub(crate) fn answer(mut stream: TcpStream, prefix: &[u8]) {
    let mut buffer = [0; 1024];
    let len = stream.read(&mut buffer).expect("a question");
    stream.write_all(&[prefix, &buffer[..len]].concat()).expect("an answer");
}
