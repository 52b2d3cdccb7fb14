//! A made-up /etc: who the user is, how names resolve, and what programs need of the host's.
//!
//! Nothing comes from the host but what is named here: no shadow, ssh, sudoers, tokens.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::mount::MountFlags;

use super::container::Context;
use super::failure::{Failure, Step};
use super::message::Setup;
use super::mounts::{self, HARMLESS, READ_ONLY};
use super::volumes::Detached;
use crate::spec::Image;

/// The user's name and home.
pub(crate) const USER: &str = "loom";
pub(crate) const HOME: &str = "/home/loom";

/// Copied (or linked, if they are links) when the host has them.
const FILES: &[&str] = &[
    "bash.bashrc",
    "bashrc",
    "debian_version",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "localtime",
    "locale.alias",
    "locale.conf",
    "magic",
    "mime.types",
    "os-release",
    "protocols",
    "services",
    "ssl/openssl.cnf",
    "timezone",
];

/// Shown read-only when the host has them.
const FOLDERS: &[&str] = &[
    "alternatives",
    "bash_completion.d",
    "crypto-policies",
    "fonts",
    "ld.so.conf.d",
    "perl",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "ssl/certs",
    "terminfo",
    "vim",
];

/// Shown read-only when their name begins so: the number is a version's.
const VERSIONED: [&str; 2] = ["java-", "python"];

/// Fills etc.
pub(crate) fn fill(setup: &Setup, image: &Image, uid: u32, gid: u32) -> Result<(), Failure> {
    mounts::folder("etc", 0o755)?;
    // Some twenty small files: in memory they cost next to nothing, on disk milliseconds.
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mounts::fresh("tmpfs", "etc", flags, "mode=755,size=16m")?;
    for (name, content) in made_up(setup, uid, gid) {
        fs::write(format!("etc/{name}"), content).step(&format!("writing /etc/{name}"))?;
    }
    symlink("/proc/self/mounts", "etc/mtab").step("linking /etc/mtab")?;
    match image {
        Image::Host => from_host(),
        Image::Tools | Image::Rootfs { .. } => Ok(()),
    }
}

/// What Kubernetes puts over an image's own /etc.
const PUT_OVER: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

/// Makes the files that are put over an image's own; the current folder is the pod's `fs`.
pub(crate) fn detach(context: &Context<'_>) -> Result<Vec<Detached>, Failure> {
    let container = context.container;
    let folder = format!("etc-{}", container.name);
    mounts::folder(&folder, 0o755)?;
    let mut detached = Vec::new();
    for (name, content) in made_up(context.setup, 0, 0) {
        let path = format!("/etc/{name}");
        let taken = container.mounts.iter().any(|mount| mount.path == "/etc" || mount.path == path);
        if taken || !PUT_OVER.contains(&name) {
            continue;
        }
        let source = format!("{folder}/{name}");
        fs::write(&source, content).step(&format!("writing {path}"))?;
        let file = fs::File::open(&source).step(&format!("opening {path}"))?;
        let fixed = if container.read_only_root { READ_ONLY } else { 0 };
        let tree = mounts::detach(file, fixed | HARMLESS).step(&format!("mounting {path}"))?;
        detached.push(Detached { tree, path });
    }
    Ok(detached)
}

fn made_up(setup: &Setup, uid: u32, gid: u32) -> Vec<(&'static str, String)> {
    let name = |id| if id == 0 { "root" } else { USER };
    let (user, group) = (name(uid), name(gid));
    let home = if uid == 0 { "/root" } else { HOME };
    let user = format!("{user}:x:{uid}:{gid}:{user}:{home}:/bin/bash\n");
    let group = format!("{group}:x:{gid}:\n");
    let hostname = &setup.hostname;
    let ip = setup.ip.map(|ip| format!("{ip}\t{hostname}\n")).unwrap_or_default();
    let dns = setup.dns.map(|dns| format!("nameserver {dns}\n")).unwrap_or_default();
    let nobody = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    let groups = "tty:x:5:\nnogroup:x:65534:\n";
    let own_host = if ip.is_empty() { format!("127.0.0.1\t{hostname}\n") } else { ip };
    vec![
        (
            "passwd",
            [if uid == 0 { "" } else { "root:x:0:0:root:/root:/bin/bash\n" }, &user, nobody]
                .concat(),
        ),
        ("group", [if gid == 0 { "" } else { "root:x:0:\n" }, &group, groups].concat()),
        ("hostname", format!("{hostname}\n")),
        ("hosts", format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n{own_host}")),
        ("resolv.conf", dns),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n".into(),
        ),
        ("profile", PROFILE.into()),
        ("shells", "/bin/sh\n/bin/bash\n".into()),
        ("login.defs", "UMASK 022\n".into()),
    ]
}

/// For login shells: a PATH only if there is none, then what bash reads otherwise.
const PROFILE: &str = "\
: \"${PATH:=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}\"
export PATH
if [ -n \"$BASH_VERSION\" ] && [ -n \"$PS1\" ] && [ -r /etc/bash.bashrc ]; then
  . /etc/bash.bashrc
fi
";

fn from_host() -> Result<(), Failure> {
    for parent in ["etc/ssl", "etc/pki"] {
        if Path::new("/").join(parent).is_dir() {
            mounts::folder(parent, 0o755)?;
        }
    }
    for name in FILES {
        copy(name).step(&format!("copying /etc/{name}"))?;
    }
    let names = fs::read_dir("/etc").step("reading /etc")?;
    let names = names.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let versioned = names.filter(|name| VERSIONED.iter().any(|start| name.starts_with(start)));
    let folders = FOLDERS.iter().map(|name| (*name).to_owned()).chain(versioned);
    for name in folders.filter(|name| Path::new("/etc").join(name).is_dir()) {
        let (source, target) = (format!("/etc/{name}"), format!("etc/{name}"));
        mounts::bind_folder(&source, &target, READ_ONLY | HARMLESS)?;
    }
    Ok(())
}

/// Copies a file that anyone may read. A link stays one: where it leads is in /usr, or nowhere.
fn copy(name: &str) -> std::io::Result<()> {
    let (source, target) = (Path::new("/etc").join(name), Path::new("etc").join(name));
    let Ok(meta) = fs::symlink_metadata(&source) else { return Ok(()) };
    if meta.is_symlink() {
        return symlink(fs::read_link(&source)?, target);
    }
    match fs::read(&source) {
        Ok(content) if meta.is_file() => fs::write(target, content),
        _ => Ok(()),
    }
}

/// Copies the files that a new user of the host gets into a home.
pub(crate) fn skeleton(home: &str) -> std::io::Result<()> {
    const LARGEST: u64 = 64 << 10;
    for entry in fs::read_dir("/etc/skel").into_iter().flatten().flatten() {
        let small = entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST);
        if let (true, Ok(content)) = (small, fs::read(entry.path())) {
            fs::write(Path::new(home).join(entry.file_name()), content)?;
        }
    }
    Ok(())
}
