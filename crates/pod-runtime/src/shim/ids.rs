//! Which ids of this machine a pod's ids are.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{getegid, geteuid};
use serde::{Deserialize, Serialize};

/// Ids in a range, 0 to 65535 inside.
pub(crate) const RANGE: u32 = 65536;
/// Where root's ranges begin: above what distributions and directories hand out.
const FIRST: u32 = 0x2000_0000;
/// How many ranges root has, up to what a signed 32-bit number holds.
const SLOTS: u32 = (0x7fff_0000 - FIRST) / RANGE;

/// How ids inside a pod map to ids of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum IdMap {
    /// A range of its own, written by root.
    Range { uid: u32, gid: u32 },
    /// A part of the caller's subordinate ids, written by newuidmap and newgidmap. The caller is
    /// 65536 inside, which no process of the pod can become, so that the zygote may use its files.
    Subordinate { uid: u32, gid: u32 },
    /// One id is the caller's own, and there is no other.
    Single { uid: u32, gid: u32 },
}

/// A map together with what keeps other pods from choosing the same.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) map: IdMap,
    /// An abstract socket: unique on the machine, and gone with the process.
    _lock: Option<UnixDatagram>,
}

impl IdMap {
    /// Returns the uid a program really gets inside.
    pub(crate) fn uid(&self, wanted: u32) -> u32 {
        match *self {
            Self::Range { .. } | Self::Subordinate { .. } => wanted.min(RANGE - 2),
            Self::Single { uid, .. } => uid,
        }
    }

    /// Returns the gid a program really gets inside.
    pub(crate) fn gid(&self, wanted: u32) -> u32 {
        match *self {
            Self::Range { .. } | Self::Subordinate { .. } => wanted.min(RANGE - 2),
            Self::Single { gid, .. } => gid,
        }
    }

    /// Whether there is more than one id, so that owners differ and groups can be set.
    pub(crate) fn is_range(&self) -> bool {
        !matches!(self, Self::Single { .. })
    }

    /// Gives the process's new user namespace its ids. Falls back to the single id where
    /// newuidmap refuses; `single` is the user and group inside then.
    pub(crate) fn write(self, pid: i32, single: (u32, u32)) -> io::Result<Self> {
        match self {
            Self::Range { uid, gid } => {
                fs::write(format!("/proc/{pid}/uid_map"), format!("0 {uid} {RANGE}"))?;
                fs::write(format!("/proc/{pid}/gid_map"), format!("0 {gid} {RANGE}"))?;
                Ok(self)
            }
            Self::Subordinate { uid, gid } => {
                let users = helper("newuidmap", pid, uid, geteuid().as_raw());
                if users && helper("newgidmap", pid, gid, getegid().as_raw()) {
                    return Ok(self);
                }
                if users {
                    // Half a map cannot be taken back.
                    return Err(io::Error::other("newuidmap works but newgidmap does not"));
                }
                Self::Single { uid: single.0, gid: single.1 }.write(pid, single)
            }
            Self::Single { uid, gid } => {
                fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
                let (own_uid, own_gid) = (geteuid().as_raw(), getegid().as_raw());
                fs::write(format!("/proc/{pid}/uid_map"), format!("{uid} {own_uid} 1"))?;
                fs::write(format!("/proc/{pid}/gid_map"), format!("{gid} {own_gid} 1"))?;
                Ok(self)
            }
        }
    }
}

fn helper(name: &str, pid: i32, first: u32, own: u32) -> bool {
    let numbers = [pid.cast_unsigned(), 0, first, RANGE, RANGE, own, 1];
    Command::new(name)
        .args(numbers.map(|number| number.to_string()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whose the unpacked images are that a pod shows; that decides which ids it can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpacked {
    /// It shows none.
    Nobodys,
    /// An ordinary user's: all files are the user's own.
    Users,
    /// An ordinary user's subordinate ids', the first ones: see [`crate::as_subordinate`].
    Subordinates,
}

impl Unpacked {
    /// Looks at the images' folders.
    pub(crate) fn by(paths: &[PathBuf]) -> Self {
        let own = geteuid().as_raw();
        let owner = |path: &PathBuf| fs::metadata(path).map_or(own, |meta| meta.uid());
        match paths {
            [] => Self::Nobodys,
            // With a single id every file of an image is at least readable.
            paths if paths.iter().any(|path| owner(path) == own) => Self::Users,
            _ => Self::Subordinates,
        }
    }
}

/// Chooses ids for a pod that no other living pod of this machine has, where there are enough.
pub(crate) fn claim(pod: &str, single: (u32, u32), unpacked: Unpacked) -> Claim {
    let single = IdMap::Single { uid: single.0, gid: single.1 };
    if geteuid().is_root() && covers("/proc/self/uid_map") && covers("/proc/self/gid_map") {
        return claim_slot(pod, SLOTS, |slot| {
            let first = FIRST + slot * RANGE;
            IdMap::Range { uid: first, gid: first }
        })
        .unwrap_or(Claim { map: single, _lock: None });
    }
    let shared = |uid, gid| Claim { map: IdMap::Subordinate { uid, gid }, _lock: None };
    match (subordinate(), unpacked) {
        (None, _) | (_, Unpacked::Users) => Claim { map: single, _lock: None },
        // One range is shared by all pods of its user that show images, or by all.
        (Some((uid, gid, _)), Unpacked::Subordinates) | (Some((uid, gid, 1)), _) => {
            shared(uid, gid)
        }
        // Several are dealt out, but for the first.
        (Some((uid, gid, slots)), Unpacked::Nobodys) => claim_slot(pod, slots - 1, |slot| {
            IdMap::Subordinate { uid: uid + (slot + 1) * RANGE, gid: gid + (slot + 1) * RANGE }
        })
        .unwrap_or(Claim { map: single, _lock: None }),
    }
}

/// Takes the first free slot, beginning at one that depends on the pod.
fn claim_slot(pod: &str, slots: u32, map: impl Fn(u32) -> IdMap) -> Option<Claim> {
    let hash = pod
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (0..slots).find_map(|step| {
        let map = map((hash % slots + step) % slots);
        let (IdMap::Range { uid, .. }
        | IdMap::Subordinate { uid, .. }
        | IdMap::Single { uid, .. }) = map;
        let name = SocketAddr::from_abstract_name(format!("loom-pod-ids-{uid}")).ok()?;
        let lock = UnixDatagram::bind_addr(&name).ok()?;
        Some(Claim { map, _lock: Some(lock) })
    })
}

/// Whether root's ranges exist where we are, which may itself be a user namespace.
fn covers(map: &str) -> bool {
    let text = fs::read_to_string(map).unwrap_or_default();
    text.lines().any(|line| {
        let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        let (Some(inside), _, Some(count)) = (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        inside <= u64::from(FIRST) && inside + count >= u64::from(FIRST + SLOTS * RANGE)
    })
}

/// Returns the ids in which an ordinary user unpacks images, where there are any.
pub(crate) fn of_images() -> Option<IdMap> {
    if geteuid().is_root() {
        return None;
    }
    subordinate().map(|(uid, gid, _)| IdMap::Subordinate { uid, gid })
}

/// Returns the first subordinate uid and gid of the caller and how many ranges there are.
fn subordinate() -> Option<(u32, u32, u32)> {
    let uid = geteuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = user_name(&passwd, uid);
    let users = fs::read_to_string("/etc/subuid").ok()?;
    let groups = fs::read_to_string("/etc/subgid").ok()?;
    let (first_uid, uids) = first_range(&users, name, uid)?;
    let (first_gid, gids) = first_range(&groups, name, uid)?;
    Some((first_uid, first_gid, uids.min(gids) / RANGE))
}

fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// Reads subuid(5): `NAME-OR-UID:FIRST:COUNT`.
fn first_range(text: &str, name: Option<&str>, uid: u32) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let ours = Some(owner) == name || owner.parse() == Ok(uid);
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (ours && count >= RANGE).then_some((first, count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ranges_are_found_by_name_or_number_and_must_be_whole() {
        let text = "ada:100000:65536\n1001:300000:131072\nbob:1:10\n";
        assert_eq!(first_range(text, Some("ada"), 7), Some((100_000, 65536)));
        assert_eq!(first_range(text, None, 1001), Some((300_000, 131_072)));
        assert_eq!(first_range(text, Some("bob"), 8), None);
        assert_eq!(user_name("root:x:0:0::/:\nada:x:7:7::/h:/bin/sh\n", 7), Some("ada"));
    }

    #[test]
    fn two_pods_never_share_a_slot() {
        let map = |slot| IdMap::Subordinate { uid: 0xfff0_0000 + slot, gid: 0 };
        let first = claim_slot("same", 2, map);
        let second = claim_slot("same", 2, map);
        assert_ne!(first.as_ref().map(|claim| claim.map), second.as_ref().map(|claim| claim.map));
        assert!(first.is_some() && second.is_some() && claim_slot("same", 2, map).is_none());
    }
}
