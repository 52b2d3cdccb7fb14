//! Whom a container runs as: what the pod says, else its image, by the image's own passwd.

use std::io::Read;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use serde_json::Value;

use super::about::text;
use super::image::Found;
use super::refused::Blocked;
use super::render::USER;

/// The largest passwd or group file that is read.
const LARGEST: u64 = 1 << 20;

/// A user as its program sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// By the image's passwd.
    pub(super) home: Option<String>,
}

/// Finds the user of a container.
pub(super) fn of(pod: &Value, container: &Value, found: &Found) -> Result<User, Blocked> {
    let id = |field| {
        let id = setting(pod, container, field).as_u64();
        id.and_then(|id| u32::try_from(id).ok())
    };
    let mut user = match (id("runAsUser"), found) {
        (Some(uid), Found::Unpacked(image)) => by_uid(&image.rootfs, uid),
        (None, Found::Unpacked(image)) => {
            not_by_image(pod, container, &image.user)?;
            by_image(&image.rootfs, &image.user).map_err(|why| config(container, why))?
        }
        (wanted, Found::Host | Found::Tools) => {
            let uid = wanted.unwrap_or(USER);
            User { uid, gid: if uid == USER { USER } else { 0 }, home: None }
        }
    };
    user.gid = id("runAsGroup").unwrap_or(user.gid);
    if user.uid == 0 && must_not_be_root(pod, container) {
        let message = if id("runAsUser").is_some() {
            "container's runAsUser breaks non-root policy"
        } else {
            "container has runAsNonRoot and image will run as root"
        };
        return Err(config(container, format!("{message} {}", place(pod, container))));
    }
    Ok(user)
}

fn setting<'a>(pod: &'a Value, container: &'a Value, field: &str) -> &'a Value {
    match container["securityContext"].get(field) {
        Some(own) => own,
        None => &pod["spec"]["securityContext"][field],
    }
}

fn must_not_be_root(pod: &Value, container: &Value) -> bool {
    setting(pod, container, "runAsNonRoot") == true
}

/// A name may be root's: Kubernetes does not look it up.
fn not_by_image(pod: &Value, container: &Value, user: &str) -> Result<(), Blocked> {
    let (name, _) = split(user);
    if name.is_empty() || name.parse::<u32>().is_ok() || !must_not_be_root(pod, container) {
        return Ok(());
    }
    let message = format!(
        "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user \
         is non-root {}",
        place(pod, container)
    );
    Err(config(container, message))
}

/// As the kubelet names a container.
fn place(pod: &Value, container: &Value) -> String {
    let meta = &pod["metadata"];
    let (name, namespace) = (text(&meta["name"]), text(&meta["namespace"]));
    let pod = format!("{name}_{namespace}({})", text(&meta["uid"]));
    format!("(pod: {pod:?}, container: {})", text(&container["name"]))
}

fn config(container: &Value, message: String) -> Blocked {
    Blocked::Config { container: text(&container["name"]).to_owned(), message }
}

fn split(user: &str) -> (&str, Option<&str>) {
    match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    }
}

fn by_uid(rootfs: &Path, uid: u32) -> User {
    let passwd = read(rootfs, "etc/passwd");
    let entry = passwd.lines().find_map(|line| entry(line).filter(|entry| entry.uid == uid));
    match entry {
        Some(entry) => User { uid, gid: entry.gid, home: entry.home() },
        None => User { uid, gid: 0, home: None },
    }
}

/// `USER[:GROUP]`, each a name or a number; nothing is root.
fn by_image(rootfs: &Path, user: &str) -> Result<User, String> {
    let (name, group) = split(user);
    let mut user = match name.parse() {
        Ok(uid) => by_uid(rootfs, uid),
        Err(_) if name.is_empty() => by_uid(rootfs, 0),
        Err(_) => {
            let passwd = read(rootfs, "etc/passwd");
            let entry = passwd.lines().find_map(|l| entry(l).filter(|entry| entry.name == name));
            let entry = entry.ok_or_else(|| {
                format!("unable to find user {name}: no matching entries in passwd file")
            })?;
            User { uid: entry.uid, gid: entry.gid, home: entry.home() }
        }
    };
    if let Some(group) = group {
        user.gid = match group.parse() {
            Ok(gid) => gid,
            Err(_) => gid_of(&read(rootfs, "etc/group"), group).ok_or_else(|| {
                format!("unable to find group {group}: no matching entries in group file")
            })?,
        };
    }
    Ok(user)
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl Entry<'_> {
    fn home(&self) -> Option<String> {
        self.home.starts_with('/').then(|| self.home.to_owned())
    }
}

/// Reads a line of passwd(5).
fn entry(line: &str) -> Option<Entry<'_>> {
    let mut fields = line.split(':');
    let (name, _) = (fields.next()?, fields.next()?);
    let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Entry { name, uid, gid, home: fields.nth(1)? })
}

/// Finds a group in group(5).
fn gid_of(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// Reads a file of an image, wherever its links would lead: only a plain one below its root, of
/// decent size. What cannot be read is empty.
fn read(rootfs: &Path, name: &str) -> String {
    let open = || -> Option<Vec<u8>> {
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, rootfs, folder, Mode::empty()).ok()?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = openat2(&root, name, flags, Mode::empty(), resolve).ok()?;
        let kind = FileType::from_raw_mode(fstat(&file).ok()?.st_mode);
        let mut content = Vec::new();
        let file = std::fs::File::from(file);
        kind.is_file().then(|| file.take(LARGEST).read_to_end(&mut content).ok())??;
        Some(content)
    };
    String::from_utf8_lossy(&open().unwrap_or_default()).into_owned()
}

/// Files of an image as a fuzzer writes them.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let name = text.lines().next().unwrap_or_default();
    for line in text.lines() {
        if let Some(home) = entry(line).and_then(|entry| entry.home()) {
            assert!(home.starts_with('/'));
        }
    }
    gid_of(&text, name);
    split(name);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::images::UnpackedImage;

    fn rootfs() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nada:x:7:8:,:/home/ada:/bin/sh\n";
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(dir.path().join("etc/group"), "staff:x:50:ada\n").unwrap();
        dir
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let dir = rootfs();
        let ids = |user: &str| {
            by_image(dir.path(), user)
                .map(|user| (user.uid, user.gid, user.home.unwrap_or_default()))
        };
        assert_eq!(ids(""), Ok((0, 0, "/root".into())));
        assert_eq!(ids("ada"), Ok((7, 8, "/home/ada".into())));
        assert_eq!(ids("7"), Ok((7, 8, "/home/ada".into())));
        assert_eq!(ids("ada:staff"), Ok((7, 50, "/home/ada".into())));
        assert_eq!(ids("1000:1001"), Ok((1000, 1001, String::new())));
        assert!(ids("bob").unwrap_err().contains("no matching entries in passwd"));
        assert!(ids("ada:none").unwrap_err().contains("no matching entries in group"));
    }

    #[test]
    fn passwd_is_read_in_the_image_only() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc", dir.path().join("etc")).unwrap();
        assert_eq!(read(dir.path(), "etc/passwd"), "");
        std::fs::remove_file(dir.path().join("etc")).unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        symlink("/proc/self/environ", dir.path().join("etc/passwd")).unwrap();
        assert_eq!(read(dir.path(), "etc/passwd"), "");
        symlink("../../../real", dir.path().join("etc/group")).unwrap();
        std::fs::write(dir.path().join("real"), "x").unwrap();
        assert_eq!(read(dir.path(), "etc/group"), "x");
    }

    #[test]
    fn root_is_refused_in_the_kubelets_words() {
        let dir = rootfs();
        let said = |context: Value, user: &str| {
            let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
                             "spec": {"securityContext": context}});
            let image = UnpackedImage {
                rootfs: dir.path().to_owned(),
                user: user.to_owned(),
                ..UnpackedImage::default()
            };
            of(&pod, &json!({"name": "c"}), &Found::Unpacked(Arc::new(image)))
                .map(|user| user.uid)
                .map_err(|blocked| blocked.to_string())
        };
        let not_root = || json!({"runAsNonRoot": true});
        assert_eq!(
            said(not_root(), ""),
            Err("container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", \
                 container: c)"
                .into())
        );
        assert!(said(not_root(), "ada").unwrap_err().contains("non-numeric user (ada)"));
        assert_eq!(said(not_root(), "7"), Ok(7));
        let both = json!({"runAsNonRoot": true, "runAsUser": 0});
        assert!(said(both, "7").unwrap_err().starts_with("container's runAsUser breaks"));
        assert_eq!(said(json!({"runAsUser": 1000}), "root"), Ok(1000));
        assert_eq!(said(json!({}), ""), Ok(0));
    }
}
