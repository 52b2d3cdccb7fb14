//! Puts a copy of the running program into a folder, for clusters that cannot mount its image.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

const NAME: &str = "loom-host";
const UNFINISHED: &str = ".loom-host.part";

/// Makes `FOLDER/loom-host`, mode 0755. Whoever finds it finds it whole.
pub(crate) fn install(folder: &Path) -> ExitCode {
    match copy(Path::new("/proc/self/exe"), folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loom-host: cannot install into {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn copy(program: &Path, folder: &Path) -> io::Result<()> {
    let unfinished = folder.join(UNFINISHED);
    let copied = write(program, &unfinished);
    let installed = copied.and_then(|()| fs::rename(&unfinished, folder.join(NAME)));
    if installed.is_err() {
        // What stopped the copy is worth more than what stops this.
        let _ = fs::remove_file(&unfinished);
    }
    installed
}

fn write(program: &Path, to: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o700).open(to)?;
    io::copy(&mut File::open(program)?, &mut file)?;
    // Whatever the umask is.
    file.set_permissions(fs::Permissions::from_mode(0o755))
}
