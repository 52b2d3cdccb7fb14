//! The process that owns one pod: it makes the pod's namespaces and lives as long as the pod.

pub(crate) mod cgroup;
pub(crate) mod clean;
mod console;
mod ground;
pub(crate) mod ids;
mod images;
mod life;
mod link;
mod logs;
mod net;
mod plan;
mod probes;
mod server;
mod spare;
mod state;
mod subordinate;
mod threads;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::folder::{self, Folder};
use crate::spec::{ContainerSpec, ContainerState, ContainerStatus, Network, PodSpec, PodStatus};
use crate::sys;
use crate::zygote::message;
use ground::{Ground, Plan};
use life::Life;
use link::Link;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use probes::{fuzz_grpc, fuzz_http};
use state::Shared;
pub use subordinate::as_subordinate;

/// What a shim says on its standard output once: the pod stands, or why it does not.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum StartReport {
    Ready,
    Unsupported { cause: String, fix: String },
    Failed(String),
}

impl StartReport {
    fn failed(doing: &str) -> impl FnOnce(io::Error) -> Self + '_ {
        move |error| Self::Failed(format!("{doing}: {error}"))
    }

    /// Tells the one who waits, who waits for the end of our standard output.
    fn tell(&self) -> io::Result<()> {
        io::stdout().write_all(&control_line(self))?;
        let null = std::fs::File::options().write(true).open("/dev/null")?;
        Ok(rustix::stdio::dup2_stdout(null)?)
    }
}

fn control_line(report: &StartReport) -> Vec<u8> {
    crate::control::line(report)
}

/// Runs a shim: what `BINARY pod-shim ARGS…` must call, with the arguments after `pod-shim`,
/// before it starts any thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    match args.as_slice() {
        [verb, folder, binary] if verb == "run" => {
            detach(|| {
                // Its end is seen by the lock.
                let Ok(_lock) = keep_lock() else { return false };
                run(set_up(&Folder::new(folder.into()), Path::new(binary)).map(Some))
            })
        }
        [verb, folder, binary, mould] if verb == "spare" => {
            detach(|| run(spare::become_pod(&Folder::new(folder.into()), Path::new(binary), mould)))
        }
        [verb, program @ ..] if verb == subordinate::VERB => subordinate::main(program),
        [verb, folder] if verb == "clean" => clean::main(&Folder::new(folder.into())),
        _ => {
            eprintln!("pod-shim is started by the runtime only");
            ExitCode::from(2)
        }
    }
}

/// Takes the lock of the pod's folder, which came as standard input.
fn keep_lock() -> io::Result<OwnedFd> {
    let lock = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(lock)
}

/// Leaves the process that the caller waits for, and its session.
fn detach(run: impl FnOnce() -> bool) -> ExitCode {
    sys::close_inherited();
    match sys::fork_into(nix::sched::CloneFlags::empty()) {
        Ok(Some(_)) => ExitCode::SUCCESS,
        Ok(None) => {
            // It cannot fail: a forked process leads no group.
            rustix::process::setsid().ok();
            rustix::thread::set_name(c"loom-shim").ok();
            rustix::process::umask(Mode::from_raw_mode(0o022));
            sys::map_large_allocations();
            sys::exit_now(i32::from(!run()))
        }
        Err(error) => {
            eprintln!("cannot fork: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the pod, if it has become one, to its end.
fn run(born: Result<Option<Born>, StartReport>) -> bool {
    match born {
        Ok(Some(born)) => live(born).is_ok(),
        Ok(None) => true,
        Err(report) => {
            // Its end without a word would say less.
            report.tell().ok();
            false
        }
    }
}

/// A pod whose namespaces stand.
struct Born {
    folder: Folder,
    spec: PodSpec,
    ground: Ground,
    status: PodStatus,
    listener: std::os::unix::net::UnixListener,
}

fn set_up(folder: &Folder, binary: &Path) -> Result<Born, StartReport> {
    let spec = read_spec(folder)?;
    let ground = Ground::lay(folder, binary, Plan::of(&spec))?;
    settle(ground, folder, spec)
}

fn read_spec(folder: &Folder) -> Result<PodSpec, StartReport> {
    folder::read_json(&folder.spec()).map_err(StartReport::failed("reading the pod's spec"))
}

/// Makes what depends on which pod it is, and waits until the zygote takes orders.
fn settle(ground: Ground, folder: &Folder, spec: PodSpec) -> Result<Born, StartReport> {
    let failed = StartReport::failed;
    let paths = spec.rootfs_paths();
    let images =
        images::open(&paths, ground.ids, ground.zygote).map_err(failed("showing an image"))?;
    let setup = message::Setup {
        ids: ground.ids,
        images: paths,
        hostname: spec.hostname.clone(),
        volumes: spec.volumes.clone(),
        ip: ground.address(),
        dns: ground.network.is_some().then_some(IpAddr::V4(netstack::DNS)),
    };
    let images: Vec<_> = images.iter().map(AsFd::as_fd).collect();
    message::send(&ground.link, &message::Order::Setup(Box::new(setup)), &images)
        .map_err(failed("telling the pod's first process"))?;
    let status = first_status(&spec, &ground);
    folder::write_json(&folder.status(), &status).map_err(failed("writing the status"))?;
    let listener = folder.listen().map_err(failed("listening"))?;
    match ground::hear(&ground.link)? {
        (message::Event::Ready, _) => {}
        _ => return Err(ground::confused()),
    }
    Ok(Born { folder: folder.clone(), spec, ground, status, listener })
}

fn first_status(spec: &PodSpec, ground: &Ground) -> PodStatus {
    let waiting = |container: &ContainerSpec| ContainerStatus {
        name: container.name.clone(),
        state: ContainerState::Waiting {
            reason: "PodInitializing".to_owned(),
            message: String::new(),
        },
        started: false,
        ready: false,
        restarts: 0,
        last: None,
    };
    if let (Network::User, Some(why)) = (spec.network, &ground.no_network) {
        eprintln!("the pod has no network: {why}");
    }
    PodStatus {
        started_at: clock::now(),
        ip: ground.address(),
        network: if ground.network.is_some() { Network::User } else { Network::None },
        limits_not_enforced: ground.cgroups.not_enforced(),
        init_containers: spec.init_containers.iter().map(waiting).collect(),
        containers: spec.containers.iter().map(waiting).collect(),
        reason: None,
        over: Some(false),
        notes: Vec::new(),
    }
}

/// Starts the threads, lives, and says goodbye.
fn live(born: Born) -> io::Result<()> {
    let Born { folder, spec, ground, status, listener } = born;
    let Ground { zygote, link, network, cgroups, claim: _kept, .. } = ground;
    let (happenings, inbox) = channel();
    let shared =
        Arc::new(Shared::new(folder.clone(), Link::new(link), happenings, (status, zygote)));
    let listening = shared.clone();
    threads::spawn("zygote", move || listening.link.listen())?;
    let serving = shared.clone();
    threads::spawn("server", move || server::serve(&listener, &serving))?;
    let network = network.map(|(port, tun)| net::serve(port, tun)).transpose()?;
    // Whoever started us may have died: the next one takes over.
    StartReport::Ready.tell().ok();
    Life::new(shared.clone(), spec, folder, cgroups, inbox).run();
    // The final status is on disk. Only now may anyone see our end: taking the network down takes
    // long and is nobody's concern.
    shared.close();
    drop(network);
    Ok(())
}
