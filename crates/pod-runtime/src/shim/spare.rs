//! A shim that was started before its pod: it waits until it is given one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::ground::{Ground, Plan};
use super::{Born, StartReport, read_spec, settle};
use crate::folder::Folder;
use crate::spec::Mould;

/// Makes what every pod of the mould needs, then waits. Nothing when nobody wants it: then it is
/// taken away again.
pub(super) fn become_pod(
    folder: &Folder,
    binary: &Path,
    mould: &OsStr,
) -> Result<Option<Born>, StartReport> {
    let mould: Mould = serde_json::from_slice(mould.as_bytes())
        .map_err(|error| StartReport::Failed(error.to_string()))?;
    let name = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    // We are in it, wherever it is by now.
    let here = Folder::new(PathBuf::from("."));
    let ground = Ground::lay(&here, binary, Plan::spare(name, mould))?;
    let Some(pod) = claimed().map_err(StartReport::failed("waiting for a pod"))? else {
        if let Err(error) = ground.remove(folder) {
            eprintln!("the spare is not removed: {error}");
        }
        return Ok(None);
    };
    let folder = Folder::new(pod);
    let spec = read_spec(&folder)?;
    settle(ground, &folder, spec).map(Some)
}

/// Waits for the name that our folder has as a pod's: all of standard input.
fn claimed() -> io::Result<Option<PathBuf>> {
    let mut path = Vec::new();
    io::stdin().read_to_end(&mut path)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    Ok((!path.as_os_str().is_empty()).then_some(path))
}
