//! A shim with namespaces and no pod: the next pod takes it and need not wait for its own.
//!
//! It holds nothing of any pod. Without its runtime it ends by itself and takes along what it made.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock;
use crate::error::{Doing, Error};
use crate::folder::{self, Folder};
use crate::pod::Pod;
use crate::runtime::{SHIM_VERB, spawn_patiently};
use crate::shim::StartReport;
use crate::spec::{Mould, PodSpec};

/// How long one that nobody wants may take to leave.
const PATIENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// A waiting shim.
#[derive(Debug)]
pub(crate) struct Spare {
    mould: Mould,
    folder: Folder,
    /// Takes the name of the folder as a pod's; its end without one ends the spare.
    claim: ChildStdin,
    report: ChildStdout,
}

impl Spare {
    /// Starts one in a folder of its own in `spares`; it is ready some time later.
    pub(crate) fn start(spares: &Path, binary: &Path, mould: &Mould) -> Result<Self, Error> {
        let name = format!("spare-{}-{}", std::process::id(), clock::uptime().as_nanos());
        let folder = Folder::new(spares.join(name));
        folder.create().doing("making the spare's folder")?;
        let log = File::create(folder.shim_log()).doing("making the spare's log")?;
        let mut command = Command::new(binary);
        command.arg0("loom").args([SHIM_VERB, "spare"]).arg(folder.path()).arg(binary);
        command.arg(serde_json::to_string(mould).map_err(Error::Protocol)?);
        command.current_dir(folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = spawn_patiently(&mut command).doing("starting a spare shim")?;
        let ends = child.stdin.take().zip(child.stdout.take());
        child.wait().doing("waiting for the spare shim")?;
        let (claim, report) = ends.ok_or_else(|| Error::Setup("pipes are missing".to_owned()))?;
        Ok(Self { mould: mould.clone(), folder, claim, report })
    }

    pub(crate) fn fits(&self, spec: &PodSpec) -> bool {
        self.mould.fits(spec)
    }

    /// Gives it a pod's folder, which must not be there. Else it leaves.
    pub(crate) fn move_to(self, spec: &PodSpec, folder: &Folder) -> Option<Self> {
        let moved = folder::write_json(&self.folder.spec(), spec)
            .and_then(|()| fs::rename(self.folder.path(), folder.path()));
        if moved.is_err() {
            self.leave();
            return None;
        }
        Some(self)
    }

    /// Becomes the pod whose folder it has. Else nothing is left.
    pub(crate) fn become_pod(mut self, spec: &PodSpec, folder: &Folder) -> Option<Pod> {
        let told = self.claim.write_all(folder.path().as_os_str().as_bytes());
        drop(self.claim);
        let mut report = String::new();
        let heard = self.report.read_to_string(&mut report);
        let pod = Pod::new(&spec.id, folder.clone());
        match (told, heard, serde_json::from_str(&report)) {
            (Ok(()), Ok(_), Ok(StartReport::Ready)) => Some(pod),
            _ => {
                // What cannot be removed makes the start that follows fail, with the reason.
                pod.remove().ok();
                None
            }
        }
    }

    /// Sends it away and waits until it has left.
    pub(crate) fn leave(self) {
        drop(self.claim);
        // Out of patience we go: it ends without us.
        poll(&mut [PollFd::new(&self.report, PollFlags::HUP)], Some(&PATIENCE)).ok();
    }
}

/// Removes spares of a runtime that was killed together with them.
pub(crate) fn sweep(spares: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(spares).doing("listing spares")?.flatten() {
        Pod::new("", Folder::new(entry.path())).remove()?;
    }
    Ok(())
}
