//! The process that owns one pod: it makes the pod's namespaces and lives as long as the pod.

pub(crate) mod cgroup;
pub(crate) mod clean;
pub(crate) mod ids;
mod life;
mod link;
mod logs;
mod net;
mod server;
mod startup;
mod state;
mod threads;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::folder::{self, Folder, ShimIdentity};
use crate::probe;
use crate::spec::{ContainerSpec, ContainerState, ContainerStatus, Network, PodSpec, PodStatus};
use crate::sys;
use crate::zygote::{self, message};
use cgroup::Cgroups;
use ids::{Claim, IdMap};
use life::Life;
use link::Link;
use state::Shared;

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
            sys::close_inherited();
            detach(&Folder::new(folder.into()), Path::new(binary))
        }
        [verb, folder] if verb == "clean" => clean::main(&Folder::new(folder.into())),
        _ => {
            eprintln!("pod-shim is started by the runtime only");
            ExitCode::from(2)
        }
    }
}

/// Leaves the process that the caller waits for, and its session.
fn detach(folder: &Folder, binary: &Path) -> ExitCode {
    match sys::fork_into(nix::sched::CloneFlags::empty()) {
        Ok(Some(_)) => ExitCode::SUCCESS,
        Ok(None) => {
            // It cannot fail: a forked process leads no group.
            rustix::process::setsid().ok();
            sys::exit_now(i32::from(!run(folder, binary)))
        }
        Err(error) => {
            eprintln!("cannot fork: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the pod to its end.
fn run(folder: &Folder, binary: &Path) -> bool {
    rustix::thread::set_name(c"loom-shim").ok();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sys::map_large_allocations();
    let born = match set_up(folder, binary) {
        Ok(born) => born,
        Err(report) => {
            // Its end without a word would say less.
            report.tell().ok();
            return false;
        }
    };
    live(folder, born).is_ok()
}

/// A pod whose namespaces stand.
struct Born {
    spec: PodSpec,
    zygote: i32,
    link: UnixStream,
    tun: Option<std::os::fd::OwnedFd>,
    status: PodStatus,
    cgroups: Cgroups,
    listener: std::os::unix::net::UnixListener,
    /// Kept until the end.
    _ids: Claim,
}

fn set_up(folder: &Folder, binary: &Path) -> Result<Born, StartReport> {
    let failed = StartReport::failed;
    let spec: PodSpec =
        folder::read_json(&folder.spec()).map_err(failed("reading the pod's spec"))?;
    std::env::set_current_dir(folder.files()).map_err(failed("entering the pod's folder"))?;
    let single = spec.containers.first().map_or((0, 0), |first| (first.uid, first.gid));
    let claim = ids::claim(&spec.id, single);
    if let IdMap::Range { uid, gid } = claim.map {
        std::os::unix::fs::chown(".", Some(uid), Some(gid))
            .map_err(failed("giving the pod its folder"))?;
    }
    let (ours, theirs) = UnixStream::pair().map_err(failed("making a socket pair"))?;
    let inside = Path::new("../../../bin").join(binary.file_name().unwrap_or_default());
    let pid = match sys::fork_into(zygote::POD_NAMESPACES) {
        Ok(Some(pid)) => pid.as_raw(),
        Ok(None) => {
            drop(ours);
            zygote::main(theirs, &inside, spec.network == Network::User)
        }
        Err(error) => return Err(no_namespaces(&error)),
    };
    drop(theirs);
    threads::spawn("warm-up", cgroup::warm_up).map_err(failed("starting a thread"))?;
    let ids = claim.map.write(pid, single).map_err(failed("writing the pod's id maps"))?;
    let cgroups = Cgroups::make(&spec);
    identify(folder, binary, pid, ids, &cgroups).map_err(failed("writing the shim's identity"))?;
    let (tun, no_network) = greet(&ours, &spec, ids)?;
    let status = first_status(&spec, tun.is_some(), no_network, &cgroups);
    folder::write_json(&folder.status(), &status).map_err(failed("writing the status"))?;
    let listener = folder.listen().map_err(failed("listening"))?;
    Ok(Born { spec, zygote: pid, link: ours, tun, status, cgroups, listener, _ids: claim })
}

fn no_namespaces(error: &io::Error) -> StartReport {
    let (cause, fix) = probe::why_no_user_namespaces(error);
    StartReport::Unsupported { cause, fix }
}

fn identify(
    folder: &Folder,
    binary: &Path,
    zygote: i32,
    ids: IdMap,
    cgroups: &Cgroups,
) -> io::Result<()> {
    let pid = std::process::id().cast_signed();
    let start_time = |pid| folder::start_time(pid).ok_or(io::ErrorKind::NotFound);
    let identity = ShimIdentity {
        pid,
        start_time: start_time(pid)?,
        zygote: (zygote, start_time(zygote)?),
        boot_id: folder::boot_id(),
        binary: PathBuf::from(binary),
        cgroups: cgroups.paths(),
        ids,
    };
    folder::write_json(&folder.identity(), &identity)
}

type Tun = (Option<std::os::fd::OwnedFd>, Option<String>);

/// Hears of the zygote's birth, tells it what it needs, and waits until it takes orders.
fn greet(link: &UnixStream, spec: &PodSpec, ids: IdMap) -> Result<Tun, StartReport> {
    let (no_network, mut fds) = match hear(link)? {
        (message::Event::Born { no_network }, fds) => (no_network, fds),
        _ => return Err(StartReport::Failed("the pod's first process is confused".to_owned())),
    };
    let tun = fds.pop();
    let setup = message::Setup {
        ids,
        hostname: spec.hostname.clone(),
        volumes: spec.volumes.clone(),
        ip: tun.is_some().then_some(IpAddr::V4(netstack::POD_IP)),
        dns: tun.is_some().then_some(IpAddr::V4(netstack::DNS)),
    };
    message::send(link, &message::Order::Setup(Box::new(setup)), &[])
        .map_err(StartReport::failed("telling the pod's first process"))?;
    match hear(link)? {
        (message::Event::Ready, _) => Ok((tun, no_network)),
        _ => Err(StartReport::Failed("the pod's first process is confused".to_owned())),
    }
}

fn hear(link: &UnixStream) -> Result<(message::Event, Vec<std::os::fd::OwnedFd>), StartReport> {
    match message::recv(link).map_err(StartReport::failed("hearing of the pod's first process"))? {
        Some((message::Event::Failed(message), _)) => Err(probe::explain(message)),
        Some(heard) => Ok(heard),
        None => Err(StartReport::Failed("the pod's first process has died".to_owned())),
    }
}

fn first_status(
    spec: &PodSpec,
    network: bool,
    no_network: Option<String>,
    cgroups: &Cgroups,
) -> PodStatus {
    let waiting = |container: &ContainerSpec| ContainerStatus {
        name: container.name.clone(),
        state: ContainerState::Waiting {
            reason: "PodInitializing".to_owned(),
            message: String::new(),
        },
        started: false,
    };
    if let (Network::User, Some(why)) = (spec.network, no_network) {
        eprintln!("the pod has no network: {why}");
    }
    PodStatus {
        started_at: clock::now(),
        ip: network.then_some(IpAddr::V4(netstack::POD_IP)),
        network: if network { Network::User } else { Network::None },
        limits_not_enforced: cgroups.not_enforced(),
        init_containers: spec.init_containers.iter().map(waiting).collect(),
        containers: spec.containers.iter().map(waiting).collect(),
        reason: None,
    }
}

/// Starts the threads, lives, and says goodbye.
fn live(folder: &Folder, born: Born) -> io::Result<()> {
    let (happenings, inbox) = channel();
    let link = Link::new(born.link);
    let shared =
        Arc::new(Shared::new(folder.clone(), link, happenings, (born.status, born.zygote)));
    let listening = shared.clone();
    threads::spawn("zygote", move || listening.link.listen())?;
    let serving = shared.clone();
    let listener = born.listener;
    threads::spawn("server", move || server::serve(&listener, &serving))?;
    let network = born.tun.map(net::serve).transpose()?;
    StartReport::Ready.tell()?;
    Life::new(shared.clone(), born.spec, folder.clone(), born.cgroups, inbox).run();
    // The final status is on disk. Only now may anyone see our end: taking the network down takes
    // long and is nobody's concern.
    shared.close();
    drop(network);
    Ok(())
}
