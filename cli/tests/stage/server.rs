//! One of our servers as a process: started, killed, started again at the same address.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{PATIENCE, loom, until};

/// Returns the program that stands beside `loom`.
pub(crate) fn program(name: &str) -> PathBuf {
    loom().with_file_name(name)
}

/// Builds the servers beside `loom`: after `cargo test -p loom` alone they are missing, or old.
pub(crate) fn build_servers() {
    let is_there = |name: &&str| program(name).exists();
    let all = ["loom-handlers", "loom-relay", "loom-janitor"].iter().all(is_there);
    if all && std::env::var_os("LOOM_TEST_BIN").is_some() {
        return;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "-p", "handlers", "-p", "relay", "-p", "janitor"]);
    // What cargo says of this test would make build scripts that look at it run again: ring's.
    for (key, _) in std::env::vars_os() {
        let of_cargo = key.as_encoded_bytes().starts_with(b"CARGO_PKG_");
        if of_cargo || key == "CARGO_MANIFEST_DIR" || key == "OUT_DIR" {
            build.env_remove(key);
        }
    }
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
    assert!(built.is_ok_and(|status| status.success()), "the servers cannot be built");
}

/// A server that runs, unless it was killed.
pub(crate) struct Server {
    name: &'static str,
    listen: &'static str,
    variables: Vec<(String, String)>,
    log: PathBuf,
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts a server anywhere and waits until it is ready; `listen` is the variable for its address.
    pub(crate) fn start(
        name: &'static str,
        listen: &'static str,
        variables: &[(String, String)],
        log: PathBuf,
    ) -> Self {
        let variables = variables.to_vec();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let child = spawn(name, listen, address, &variables, &log);
        let mut server = Self { name, listen, variables, log, address, child };
        until("it says where it listens", || {
            server.check();
            server.said_address().is_some_and(|address| {
                server.address = address;
                true
            })
        });
        server.until_ready();
        server
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.name, self.listen, self.address, &self.variables, &self.log);
        self.until_ready();
    }

    fn until_ready(&mut self) {
        until("it is ready", || {
            self.check();
            self.ask("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        });
    }

    /// Fails when it has ended by itself.
    fn check(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{} has ended: {status}\n{}", self.name, self.said());
        }
    }

    /// Returns what it answers to an unguarded request.
    fn ask(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn said_address(&self) -> Option<SocketAddr> {
        let said = self.said();
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| line["address"].as_str()?.parse().ok()).next()
    }

    /// Returns its log.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.said());
        }
    }
}

fn spawn(
    name: &str,
    listen: &str,
    address: SocketAddr,
    variables: &[(String, String)],
    log: &Path,
) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    Command::new(program(name))
        .env_clear()
        .envs(variables.iter().cloned())
        .env(listen, address.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{name} does not start: {error}"))
}
