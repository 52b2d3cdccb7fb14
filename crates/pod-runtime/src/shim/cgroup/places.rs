//! Where control groups are on this machine, of either version, and where pods' may be made.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::{Controller, LEAF, Version};

/// Where control groups are on this machine and where we are in them.
pub(super) struct Places {
    /// Mount point and root of each version 1 hierarchy by controller, and of version 2 as "".
    mounts: BTreeMap<String, (PathBuf, String)>,
    /// Our path in each.
    own: BTreeMap<String, String>,
}

impl Places {
    pub(super) fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            mounts: parse_mounts(&text("/proc/self/mountinfo")),
            own: parse_own(&text("/proc/self/cgroup")),
        }
    }

    /// Makes the pod's folder for a controller.
    pub(super) fn pod_folder(
        &self,
        controller: Controller,
        pod: &str,
    ) -> io::Result<(Version, PathBuf)> {
        let name = format!("loom-{pod}");
        if self.mounts.contains_key(controller.name()) {
            return Ok((Version::One, self.version_one(controller, &name)?));
        }
        Ok((Version::Two, self.version_two(controller, &name)?))
    }

    pub(super) fn place(&self, hierarchy: &str) -> Option<(&Path, PathBuf)> {
        let (mount, root) = self.mounts.get(hierarchy)?;
        let own = self.own.get(hierarchy)?;
        let below = own.strip_prefix(root.trim_end_matches('/')).unwrap_or(own);
        Some((mount, mount.join(below.trim_start_matches('/'))))
    }

    /// Returns where a pod's folder may be, given that this process could have made it.
    pub(super) fn candidates(&self, controller: Controller) -> Vec<PathBuf> {
        let one = self.place(controller.name());
        let one = one.map(|(mount, own)| [own, mount.join("loom")]);
        let two = self.place("").map(|(mount, own)| {
            let above = own.parent().unwrap_or(mount).to_owned();
            [mount.to_owned(), own, above]
        });
        one.into_iter().flatten().chain(two.into_iter().flatten()).collect()
    }

    /// Beneath our own group, so that what limits us limits our pods, else beside all others.
    fn version_one(&self, controller: Controller, name: &str) -> io::Result<PathBuf> {
        let (mount, own) = self.place(controller.name()).ok_or(io::ErrorKind::NotFound)?;
        match make(&own.join(name)) {
            Ok(path) => Ok(path),
            Err(_) => make(&mount.join("loom")).and_then(|folder| make(&folder.join(name))),
        }
    }

    /// Root: beside all others, as container engines do without systemd. A user: beneath the
    /// scope that was delegated, whose processes move into a leaf of their own.
    fn version_two(&self, controller: Controller, name: &str) -> io::Result<PathBuf> {
        let (mount, own) = self.place("").ok_or(io::ErrorKind::NotFound)?;
        let own = if own.ends_with(LEAF) { own.parent().unwrap_or(mount).to_owned() } else { own };
        let root = geteuid().is_root().then(|| mount.to_owned());
        let mut result = Err(io::Error::from(io::ErrorKind::NotFound));
        for base in root.into_iter().chain([own]) {
            result = enable(&base, controller).and_then(|()| make(&base.join(name)));
            if let Ok(pod) = &result {
                enable(pod, controller)?;
                break;
            }
        }
        result
    }
}

fn make(path: &Path) -> io::Result<PathBuf> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(path.to_owned()),
    }
}

/// Lets children of a version 2 group be limited.
fn enable(base: &Path, controller: Controller) -> io::Result<()> {
    let here = fs::read_to_string(base.join("cgroup.controllers"))?;
    if !here.split_whitespace().any(|name| name == controller.name()) {
        return Err(io::Error::other("this machine's control groups do not offer it"));
    }
    let control = base.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&control)?;
    if enabled.split_whitespace().any(|name| name == controller.name()) {
        return Ok(());
    }
    let turn_on = || fs::write(&control, format!("+{}", controller.name()));
    match turn_on() {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            let leaf = make(&base.join(LEAF))?;
            for pid in fs::read_to_string(base.join("cgroup.procs"))?.lines() {
                // It may have ended meanwhile.
                fs::write(leaf.join("cgroup.procs"), pid).ok();
            }
            turn_on()
        }
        result => result,
    }
}

/// Reads `/proc/self/mountinfo`, see proc_pid_mountinfo(5).
fn parse_mounts(text: &str) -> BTreeMap<String, (PathBuf, String)> {
    let mut mounts = BTreeMap::new();
    for line in text.lines() {
        let Some((front, back)) = line.split_once(" - ") else { continue };
        let front: Vec<&str> = front.split(' ').collect();
        let back: Vec<&str> = back.split(' ').collect();
        let ([_, _, _, root, at, ..], [kind, _, options]) = (&front[..], &back[..]) else {
            continue;
        };
        let place = || (PathBuf::from(at), (*root).to_owned());
        match *kind {
            "cgroup2" => drop(mounts.entry(String::new()).or_insert_with(place)),
            "cgroup" => {
                for option in options.split(',') {
                    mounts.entry(option.to_owned()).or_insert_with(place);
                }
            }
            _ => {}
        }
    }
    mounts
}

/// Reads `/proc/self/cgroup`, see cgroups(7).
fn parse_own(text: &str) -> BTreeMap<String, String> {
    let mut own = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (fields.next(), fields.next()) {
            for controller in controllers.split(',') {
                own.insert(controller.to_owned(), path.to_owned());
            }
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let mounts = parse_mounts(
            "25 24 0:22 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
             26 24 0:23 /docker/x /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(mounts["cpu"].0, Path::new("/sys/fs/cgroup/cpu"));
        assert_eq!(mounts[""].1, "/docker/x");
        let places = Places { mounts, own: parse_own("5:cpu,cpuacct:/a/b\n0::/docker/x/y\n") };
        let own = |hierarchy| places.place(hierarchy).unwrap().1;
        assert_eq!(own("cpu"), Path::new("/sys/fs/cgroup/cpu/a/b"));
        assert_eq!(own(""), Path::new("/sys/fs/cgroup/unified/y"));
    }
}
