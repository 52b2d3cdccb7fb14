//! Lets this binary make user namespaces where AppArmor keeps that from ordinary programs (Ubuntu).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Doing, Failure};
use crate::out;

const FOLDER: &str = "/etc/apparmor.d";
/// Says whether AppArmor restricts user namespaces; absent where it does not know how to.
const RESTRICTED: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// Installs the profile as root; else prints it and what to do with it.
pub(crate) fn allow() -> Result<u8, Failure> {
    let binary = std::env::current_exe().doing("cannot find this program")?;
    let profile = profile(&binary)?;
    if !rustix::process::geteuid().is_root() {
        out::print(&profile)?;
        eprintln!(
            "nothing was changed; install this profile with: sudo {} dev allow-userns",
            crate::printable(&binary.display().to_string())
        );
        return Ok(0);
    }
    if !Path::new(FOLDER).is_dir() || !Path::new("/sys/module/apparmor").exists() {
        let restricted = fs::read_to_string(RESTRICTED).is_ok_and(|text| text.trim() == "1");
        if !restricted {
            out::print("AppArmor restricts nothing here; there is nothing to do\n")?;
            return Ok(0);
        }
    }
    install(&profile, &binary)?;
    Ok(0)
}

fn install(profile: &str, binary: &Path) -> Result<(), Failure> {
    let path = file(binary);
    fs::write(&path, profile).doing(path.display())?;
    let loaded = Command::new("apparmor_parser").arg("-r").arg(&path).status();
    let next = format!("load it with: apparmor_parser -r {}", path.display());
    if !loaded.is_ok_and(|status| status.success()) {
        return Err(Failure::new("the profile is installed but was not loaded").next(next));
    }
    out::print(&format!("installed and loaded {}\n", path.display()))
}

/// One file a binary, so that several can be allowed.
fn file(binary: &Path) -> PathBuf {
    let name = binary.display().to_string();
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '.' };
    Path::new(FOLDER).join(format!("loom{}", name.chars().map(safe).collect::<String>()))
}

fn profile(binary: &Path) -> Result<String, Failure> {
    let path = binary.to_str().unwrap_or_default();
    // What AppArmor's language would take for a pattern or a quote would allow other programs.
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+ ".contains(c);
    if path.is_empty() || !path.chars().all(plain) {
        return Err(Failure::new(format!("no profile can name {path:?}"))
            .next("move loom to a path of plain letters"));
    }
    Ok(format!(
        "# Lets loom make user namespaces for local weavers. Written by: loom dev allow-userns\n\
         abi <abi/4.0>,\n\
         include <tunables/global>\n\
         profile \"loom:{path}\" \"{path}\" flags=(unconfined) {{\n  userns,\n}}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_names_this_binary_only() {
        let text = profile(Path::new("/home/a b/loom")).unwrap();
        assert!(text.contains("\"/home/a b/loom\" flags=(unconfined)"), "{text}");
        for path in ["", "/x/{a,b}", "/x/*", "/x/\"", "/x/\n", "/x/\u{1b}", "/x/@{HOME}"] {
            assert!(profile(Path::new(path)).is_err(), "{path}");
        }
        assert_eq!(file(Path::new("/a b/loom")), Path::new("/etc/apparmor.d/loom.a.b.loom"));
    }
}
