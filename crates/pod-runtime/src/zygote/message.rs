//! What shim and zygote say to each other: JSON behind a length, descriptors with the first byte.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fdpass;
use crate::shim::ids::IdMap;
use crate::spec::{ContainerSpec, FileContent, Volume};

/// Names a process that the shim asked for; never used twice.
pub(crate) type Key = u32;

/// The longest message; environments are the largest part of any.
const MAX: usize = 16 << 20;

/// From shim to zygote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The first one, once the id maps are written.
    Ids(IdMap),
    /// The second one, once it is known which pod this is.
    Setup(Box<Setup>),
    /// Starts a container. Descriptors: the report, the [`Stdio`], then `cgroup.procs` files.
    /// `again`: it has run before, and what it left makes way.
    Run { key: Key, container: Box<ContainerSpec>, stdio: Stdio, again: bool },
    /// Starts a program in the container that runs under `container`. Descriptors as above.
    Exec { key: Key, container: Key, argv: Vec<String>, stdio: Stdio },
    /// Sends a signal to a process, or to the group that it leads.
    Signal { key: Key, signal: i32, group: bool },
    /// Replaces the files of a volume. Descriptors: the report.
    Files { volume: String, files: BTreeMap<String, FileContent> },
    /// Counts what has been written, in a process of its own. Descriptors: the report, through
    /// which a [`crate::spec::Usage`] comes.
    Usage { key: Key, containers: Vec<String> },
    /// Makes a TCP socket in the pod's network. Descriptors: the report, through which it comes.
    Socket,
}

/// What the pod as a whole needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) ids: IdMap,
    pub(crate) hostname: String,
    pub(crate) volumes: BTreeMap<String, Volume>,
    /// Unpacked images, in the order in which [`super::images`] shows them. With a range of ids
    /// each comes as a mount that is nowhere yet.
    pub(crate) images: Vec<PathBuf>,
    /// Its address and name server, when it has a network.
    pub(crate) ip: Option<std::net::IpAddr>,
    pub(crate) dns: Option<std::net::IpAddr>,
}

/// What a process's standard streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stdio {
    /// A terminal of the container; its master comes back through the report.
    Terminal,
    /// Pipes: output, errors, and input if that is wanted.
    Pipes { stdin: bool },
    /// `/dev/null`.
    Null,
}

impl Stdio {
    /// How many descriptors it takes along.
    pub(crate) fn fds(self) -> usize {
        match self {
            Self::Terminal | Self::Null => 0,
            Self::Pipes { stdin } => 2 + usize::from(stdin),
        }
    }
}

/// From zygote to shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Namespaces exist; maps are awaited. The TUN comes along, or why there is none.
    Born { no_network: Option<String> },
    /// Volumes exist; programs are awaited.
    Ready,
    /// The pod cannot be set up.
    Failed(String),
    /// A process has ended: its exit code or its signal.
    Exited { key: Key, code: i32, signal: Option<i32> },
}

/// Sends a message.
pub(crate) fn send<T: Serialize>(
    socket: &UnixStream,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(body);
    fdpass::send_all(socket, &bytes, fds)
}

/// Receives a message; `None` when the other side is gone.
pub(crate) fn recv<T: DeserializeOwned>(
    socket: &UnixStream,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let (mut header, mut fds) = ([0; 4], Vec::new());
    if !fill(socket, &mut header, &mut fds)? {
        return Ok(None);
    }
    let length = u32::from_be_bytes(header) as usize;
    if length > MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    if !fill(socket, &mut body, &mut fds)? {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&body)?, fds)))
}

fn fill(socket: impl AsFd, mut buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<bool> {
    while !buffer.is_empty() {
        let (count, more) = fdpass::recv(&socket, buffer)?;
        fds.extend(more);
        if count == 0 {
            return Ok(false);
        }
        buffer = &mut buffer[count..];
    }
    Ok(true)
}
