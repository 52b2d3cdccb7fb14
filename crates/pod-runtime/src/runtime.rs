//! Starts pods and finds those that were started before.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Doing, Error};
use crate::folder::{self, Folder, ShimIdentity, check_name};
use crate::pod::{self, Pod};
use crate::shim::StartReport;
use crate::spare::{self, Spare};
use crate::spec::{Mould, PodSpec};

/// The first argument of the binary when it is to be a shim.
pub(crate) const SHIM_VERB: &str = "pod-shim";

/// Where pods live and which program runs their shims.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Made if missing, 0700.
    pub state_dir: PathBuf,
    /// Run as `BINARY pod-shim …`, which must call [`crate::shim_main`]; also what
    /// [`crate::spec::Image::Tools`] shows. It is copied into the state folder once, so that
    /// replacing it does not touch pods that run.
    pub binary: PathBuf,
}

/// All pods of one state folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime(Arc<Paths>);

#[derive(Debug)]
struct Paths {
    pods: PathBuf,
    spares: PathBuf,
    binary: PathBuf,
    /// At most one, for the next pod that it fits.
    spare: Mutex<Option<Spare>>,
}

impl Runtime {
    /// Opens the state folder and keeps a copy of the binary there.
    ///
    /// # Errors
    /// When the folder cannot be made or the binary cannot be copied.
    pub fn open(config: RuntimeConfig) -> Result<Self, Error> {
        let state = std::path::absolute(&config.state_dir).doing("finding the state folder")?;
        let (pods, spares) = (state.join("pods"), state.join("spares"));
        for path in [&state, &pods, &spares, &state.join("bin"), &state.join("net")] {
            private_dir(path).doing("making the state folder")?;
        }
        let binary = keep_binary(&config.binary, &state.join("bin")).doing("keeping the binary")?;
        let runtime = Self(Arc::new(Paths { pods, spares, binary, spare: Mutex::default() }));
        runtime.drop_old_binaries();
        Ok(runtime)
    }

    /// Starts a pod: returns when its namespaces stand and its shim answers.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when this machine does not allow it, [`Error::Exists`],
    /// [`Error::Name`], [`Error::Setup`]. Nothing is left behind then.
    pub fn start(&self, spec: &PodSpec) -> Result<Pod, Error> {
        let folder = self.folder(&spec.id)?;
        for container in spec.init_containers.iter().chain(&spec.containers) {
            check_name(&container.name)?;
        }
        spec.volumes.keys().try_for_each(|name| check_name(name))?;
        if let Some(pod) = self.start_spare(spec, &folder) {
            return Ok(pod);
        }
        let lock = folder.create_held().map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists(spec.id.clone()),
            _ => Error::Io { doing: "making the pod's folder", source },
        })?;
        let pod = Pod::new(&spec.id, folder.clone());
        let started = folder::write_json(&folder.spec(), spec)
            .doing("writing the pod's spec")
            .and_then(|()| self.spawn(&folder, lock));
        match started {
            Ok(()) => Ok(pod),
            Err(cause) => {
                pod.remove()?;
                Err(cause)
            }
        }
    }

    /// Makes one sandbox ahead, unless there is one: the next pod that fits the mould is started
    /// in it, and much sooner. Returns before it is ready. It holds nothing of any pod; it ends
    /// with the last clone of this runtime, however that ends.
    ///
    /// # Errors
    /// When its shim cannot be started. That it cannot do its work shows nowhere: pods are then
    /// started as without it.
    pub fn prepare(&self, mould: &Mould) -> Result<(), Error> {
        let mut spare = self.spare();
        if spare.is_none() {
            spare::sweep(&self.0.spares)?;
            *spare = Some(Spare::start(&self.0.spares, &self.0.binary, mould)?);
        }
        Ok(())
    }

    /// Sends the sandbox that was made ahead away, and waits until it has left.
    pub fn release(&self) {
        let mut spare = self.spare();
        if let Some(spare) = spare.take() {
            spare.leave();
        }
    }

    /// Removes sandboxes whose runtime has ended, where they did not leave by themselves. No
    /// other runtime of this state folder may be alive.
    ///
    /// # Errors
    /// When a file or cgroup cannot be removed.
    pub fn sweep(&self) -> Result<(), Error> {
        let spare = self.spare();
        if spare.is_some() { Ok(()) } else { spare::sweep(&self.0.spares) }
    }

    fn spare(&self) -> MutexGuard<'_, Option<Spare>> {
        self.0.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_spare(&self, spec: &PodSpec, folder: &Folder) -> Option<Pod> {
        if folder.path().exists() {
            return None;
        }
        let moved = {
            // Held until the folder has left `spares`: what is found there may be swept.
            let mut spare = self.spare();
            spare.take_if(|spare| spare.fits(spec))?.move_to(spec, folder)?
        };
        moved.become_pod(spec, folder)
    }

    /// Takes a pod over that another process (or an earlier self) started.
    ///
    /// # Errors
    /// [`Error::Gone`] when its shim no longer lives, [`Error::NotFound`] without a folder,
    /// [`Error::Beginning`] when it is being started and takes long.
    pub fn adopt(&self, id: &str) -> Result<Pod, Error> {
        let folder = self.folder(id)?;
        if !folder.path().is_dir() {
            return Err(Error::NotFound(id.to_owned()));
        }
        let identity = || folder::read_json::<ShimIdentity>(&folder.identity()).ok();
        for _ in 0..pod::TRIES {
            let held = folder.is_held();
            if identity().is_some_and(|shim| shim.is_alive() && folder.connect().is_ok()) {
                return Ok(Pod::new(id, folder));
            }
            if !held {
                return Err(pod::gone(&folder));
            }
            std::thread::sleep(pod::PAUSE);
        }
        match identity() {
            Some(_) => Err(pod::gone(&folder)),
            None => Err(Error::Beginning(id.to_owned())),
        }
    }

    /// Removes what is left of a pod, whether its shim lives or not.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Beginning`], or when a file or cgroup cannot be removed.
    pub fn remove(&self, id: &str) -> Result<(), Error> {
        let folder = self.folder(id)?;
        if !folder.path().is_dir() {
            return Err(Error::NotFound(id.to_owned()));
        }
        Pod::new(id, folder).remove()
    }

    /// Removes the files of a pod that has ended, but for its logs and its last status.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Beginning`], or when a file cannot be removed.
    pub fn forget_files(&self, id: &str) -> Result<(), Error> {
        let folder = self.folder(id)?;
        if !folder.path().is_dir() {
            return Err(Error::NotFound(id.to_owned()));
        }
        Pod::new(id, folder).forget_files()
    }

    /// Returns the ids of all pods that have a folder, in order.
    ///
    /// # Errors
    /// When the state folder cannot be read.
    pub fn list(&self) -> Result<Vec<String>, Error> {
        let entries = fs::read_dir(&self.0.pods).doing("listing pods")?;
        let mut ids: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| check_name(name).is_ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// Returns the folders of unpacked images that pods were started with, whether they live or
    /// have only not been removed yet: what they show must not change.
    ///
    /// # Errors
    /// When the state folder cannot be read.
    pub fn rootfs_in_use(&self) -> Result<BTreeSet<PathBuf>, Error> {
        let ids = self.list()?;
        let specs = ids.iter().filter_map(|id| {
            // One that is being removed has none any more.
            folder::read_json::<PodSpec>(&self.folder(id).ok()?.spec()).ok()
        });
        Ok(specs.flat_map(|spec| spec.rootfs_paths()).collect())
    }

    fn folder(&self, id: &str) -> Result<Folder, Error> {
        check_name(id)?;
        Ok(Folder::new(self.0.pods.join(id)))
    }

    /// Runs the shim and waits for its word. It forks away from the process that is waited for.
    fn spawn(&self, folder: &Folder, lock: File) -> Result<(), Error> {
        let log = File::create(folder.shim_log()).doing("making the shim's log")?;
        let mut command = Command::new(&self.0.binary);
        command.arg0("loom").args([SHIM_VERB, "run"]).arg(folder.path()).arg(&self.0.binary);
        command.current_dir(folder.path());
        command.stdin(lock).stdout(Stdio::piped()).stderr(log);
        let mut child = spawn_patiently(&mut command).doing("starting the pod's shim")?;
        // The lock is the shim's alone.
        drop(command);
        let mut report = String::new();
        if let Some(mut pipe) = child.stdout.take() {
            pipe.read_to_string(&mut report).doing("waiting for the pod's shim")?;
        }
        child.wait().doing("waiting for the pod's shim")?;
        match serde_json::from_str(&report) {
            Ok(StartReport::Ready) => Ok(()),
            Ok(StartReport::Unsupported { cause, fix }) => Err(Error::Unsupported { cause, fix }),
            Ok(StartReport::Failed(message)) => Err(Error::Setup(message)),
            Err(_) => Err(Error::Setup(silent_end(folder))),
        }
    }

    /// Removes copies of earlier binaries that no pod runs.
    fn drop_old_binaries(&self) {
        let Ok(ids) = self.list() else { return };
        let binary = |id: &String| {
            let folder = self.folder(id).ok()?;
            Some(folder::read_json::<ShimIdentity>(&folder.identity()).ok()?.binary)
        };
        // A pod without identity is just being started, by a daemon that we do not know.
        let Some(used) = ids.iter().map(binary).collect::<Option<Vec<_>>>() else { return };
        let Some(kept) = self.0.binary.parent() else { return };
        for entry in fs::read_dir(kept).into_iter().flatten().flatten() {
            let path = entry.path();
            let unfinished = entry.file_name().as_encoded_bytes().starts_with(b".");
            if path != self.0.binary && !used.contains(&path) && !unfinished {
                // Failing to remove it costs only space.
                drop(fs::remove_file(path));
            }
        }
    }
}

/// A copy just made may still be open for writing: in a child that another thread has forked and
/// that has not executed its own program yet.
pub(crate) fn spawn_patiently(command: &mut Command) -> io::Result<Child> {
    for _ in 0..100 {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
    command.spawn()
}

fn silent_end(folder: &Folder) -> String {
    let log = fs::read_to_string(folder.shim_log()).unwrap_or_default();
    match log.trim() {
        "" => "its shim ended without a word".to_owned(),
        words => words.lines().last().unwrap_or_default().to_owned(),
    }
}

fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Copies the binary under a name made of what identifies its content here.
fn keep_binary(binary: &Path, into: &Path) -> io::Result<PathBuf> {
    let meta = fs::metadata(binary)?;
    let (dev, ino, size) = (meta.dev(), meta.ino(), meta.size());
    let time = (meta.mtime(), meta.mtime_nsec());
    let kept = into.join(format!("loom-{dev:x}-{ino:x}-{size:x}-{:x}.{:x}", time.0, time.1));
    if kept.exists() {
        return Ok(kept);
    }
    let thread = std::thread::current().id();
    let fresh = into.join(format!(".new-{}-{thread:?}", std::process::id()));
    fs::copy(binary, &fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    fs::rename(&fresh, &kept)?;
    Ok(kept)
}
