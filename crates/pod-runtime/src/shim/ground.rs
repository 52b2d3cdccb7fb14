//! What a pod stands on: its ids, control groups, namespaces, and the first process in them.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use netstack::SwitchPort;

use super::cgroup::{self, Cgroups};
use super::ids::{self, Claim, IdMap, Unpacked};
use super::{StartReport, clean, threads};
use crate::folder::{self, Folder, ShimIdentity};
use crate::probe;
use crate::spec::{Mould, Network, PodSpec};
use crate::sys;
use crate::zygote::{self, message, tun::Addresses, watches::Share};

/// Where pods of a state folder have their ports, seen from `fs` in a pod's folder.
const PORTS: &str = "../../../net";

/// What has to be known to begin.
pub(crate) struct Plan {
    /// Names the control groups and decides which ids are tried first.
    name: String,
    /// User and group inside where there is only one id.
    single: (u32, u32),
    unpacked: Unpacked,
    network: bool,
    containers: Vec<String>,
    /// Of a spare: its root is laid out and its zygote already where its container will be.
    mould: Option<Mould>,
}

impl Plan {
    /// For a pod that is known.
    pub(crate) fn of(spec: &PodSpec) -> Self {
        let all = spec.init_containers.iter().chain(&spec.containers);
        Self {
            name: spec.id.clone(),
            single: spec.containers.first().map_or((0, 0), |first| (first.uid, first.gid)),
            unpacked: Unpacked::by(&spec.rootfs_paths()),
            network: spec.network == Network::User,
            containers: all.map(|container| container.name.clone()).collect(),
            mould: None,
        }
    }

    /// For a pod that is not known yet.
    pub(crate) fn spare(name: String, mould: Mould) -> Self {
        let single = (mould.uid, mould.gid);
        let containers = vec![cgroup::ONLY.to_owned()];
        let network = mould.network == Network::User;
        let unpacked =
            Unpacked::by(&mould.image.rootfs_path().cloned().into_iter().collect::<Vec<_>>());
        Self { name, single, unpacked, network, containers, mould: Some(mould) }
    }
}

/// Namespaces stand; which pod they are for may be unknown.
pub(crate) struct Ground {
    pub(crate) zygote: i32,
    pub(crate) link: UnixStream,
    pub(crate) network: Option<(SwitchPort, OwnedFd)>,
    pub(crate) no_network: Option<String>,
    pub(crate) cgroups: Cgroups,
    pub(crate) ids: IdMap,
    /// Kept until the end.
    pub(crate) claim: Claim,
}

impl Ground {
    /// Makes everything that does not depend on what the pod runs.
    pub(crate) fn lay(folder: &Folder, binary: &Path, plan: Plan) -> Result<Self, StartReport> {
        let failed = StartReport::failed;
        std::env::set_current_dir(folder.files()).map_err(failed("entering the pod's folder"))?;
        let port = plan.network.then(|| SwitchPort::take(Path::new(PORTS))).transpose();
        let port = port.map_err(failed("taking an address for the pod"))?;
        // Its path changes when a pod takes it.
        let folder = &Folder::new(PathBuf::from(".."));
        let claim = ids::claim(&plan.name, plan.single, plan.unpacked);
        if let IdMap::Range { uid, gid } = claim.map {
            std::os::unix::fs::chown(".", Some(uid), Some(gid))
                .map_err(failed("giving the pod its folder"))?;
        }
        let (zygote, link) = fork_zygote(binary, &plan, port.as_ref().map(addresses))?;
        if plan.mould.is_none() {
            threads::spawn("warm-up", cgroup::warm_up).map_err(failed("starting a thread"))?;
        }
        let ids =
            claim.map.write(zygote, plan.single).map_err(failed("writing the pod's id maps"))?;
        let mut cgroups = Cgroups::make(&plan.name, plan.containers);
        if let Err(error) = identify(folder, binary, zygote, ids, &cgroups) {
            // Nobody else would know of them.
            cgroup::remove(&cgroups.paths());
            return Err(failed("writing the shim's identity")(error));
        }
        let (no_network, tun) = match hear(&link)? {
            (message::Event::Born { no_network }, mut fds) => (no_network, fds.pop()),
            _ => return Err(confused()),
        };
        message::send(&link, &message::Order::Ids(ids), &[])
            .map_err(failed("telling the pod's first process"))?;
        if plan.mould.is_some() {
            cgroups.take_in(zygote);
        }
        let network = port.zip(tun);
        Ok(Self { zygote, link, network, no_network, cgroups, ids, claim })
    }

    /// Returns the pod's address, if it has a network.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.network.as_ref().map(|(port, _)| port.address().into())
    }

    /// Takes everything away again: nobody wants it.
    pub(crate) fn remove(self, folder: &Folder) -> io::Result<()> {
        drop(self.link);
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(self.zygote), None)?;
        cgroup::remove(&self.cgroups.paths());
        // Somebody may have been quicker with the folder.
        let identity: Option<ShimIdentity> = folder::read_json(&folder.identity()).ok();
        clean::remove_folder(folder, identity.as_ref())
    }
}

/// A pod has IPv6 if this machine reaches the world by it when the pod's ground is laid.
fn addresses(port: &SwitchPort) -> Addresses {
    let four = port.address();
    Addresses { four, six: netstack::reaches_ipv6().then(|| netstack::pod_ip6(four)) }
}

fn fork_zygote(
    binary: &Path,
    plan: &Plan,
    addresses: Option<Addresses>,
) -> Result<(i32, UnixStream), StartReport> {
    let (ours, theirs) = UnixStream::pair().map_err(StartReport::failed("making a socket pair"))?;
    let inside = Path::new("../../../bin").join(binary.file_name().unwrap_or_default());
    let watches = Share::of_the_caller();
    match sys::fork_into(zygote::POD_NAMESPACES) {
        Ok(Some(pid)) => Ok((pid.as_raw(), ours)),
        Ok(None) => {
            drop(ours);
            zygote::main(theirs, &inside, addresses, plan.mould.as_ref(), &watches)
        }
        Err(error) => {
            let (cause, fix) = probe::why_no_user_namespaces(&error);
            Err(StartReport::Unsupported { cause, fix })
        }
    }
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

/// Hears of the zygote; what it cannot do is the pod's failure.
pub(crate) fn hear(link: &UnixStream) -> Result<(message::Event, Vec<OwnedFd>), StartReport> {
    match message::recv(link).map_err(StartReport::failed("hearing of the pod's first process"))? {
        Some((message::Event::Failed(message), _)) => Err(probe::explain(message)),
        Some(heard) => Ok(heard),
        None => Err(StartReport::Failed("the pod's first process has died".to_owned())),
    }
}

pub(crate) fn confused() -> StartReport {
    StartReport::Failed("the pod's first process is confused".to_owned())
}
