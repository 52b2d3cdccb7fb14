//! What registries and archives hold, as a fuzzer writes it.

mod script;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use oci_client::manifest::OciManifest;

use crate::image::ImageConfig;
use crate::login::Login;
use crate::unpack::{Bounds, Ownership, flatten};
use crate::{Config, Images, InProcess, parse, pull};

/// A name, and what takes a fuzzer's bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[
    ("archive", archive),
    ("config", config),
    ("entries", entries),
    ("layer", layer),
    ("logins", logins),
    ("manifest", manifest),
    ("reference", reference),
];

const BOUNDS: Bounds = Bounds { entries: 64, bytes: 64 << 10, reserve: 0 };

/// Bytes of a layer, compressed or not; sums of headers are made right, for no fuzzer guesses one.
fn layer(bytes: &[u8]) {
    unpacked(&[script::summed(bytes)]);
}

/// Layers whose entries are written as lines.
fn entries(bytes: &[u8]) {
    unpacked(&script::layers(bytes));
}

/// A `docker save` archive or an OCI layout, written as such lines.
fn archive(bytes: &[u8]) {
    let room = Room::new();
    let file = room.path("archive.tar");
    let archive = script::layers(bytes).into_iter().next().unwrap_or_default();
    fs::write(&file, archive).expect("there is room for it");
    let unpack = Arc::new(InProcess(ownership()));
    let config = Config { bounds: BOUNDS, ..Config::new(room.path("work"), unpack) };
    let images = Images::open(config).expect("the folder is there");
    let loaded = images.load(&file, None).unwrap_or_default();
    for image in &loaded {
        assert!(image.rootfs.starts_with(room.path("work/images")) && image.rootfs.is_dir());
        assert_eq!(images.find(&image.name).map(|found| found.id), Some(image.id.clone()));
    }
    images.prune(&BTreeSet::new()).expect("all of it can be removed");
    assert!(images.list().is_empty());
    room.unharmed();
}

/// Nothing outside is written, the bounds are kept, and all of it can be removed again.
fn unpacked(layers: &[Vec<u8>]) {
    let room = Room::new();
    let root = room.path("work/root");
    fs::create_dir(&root).expect("it is new");
    let paths: Vec<_> = (0..layers.len()).map(|n| room.path(&format!("work/layer{n}"))).collect();
    for (path, layer) in paths.iter().zip(layers) {
        fs::write(path, layer).expect("there is room for it");
    }
    flatten(&paths, &root, ownership(), BOUNDS).ok();
    let (files, bytes) = measure(&root);
    assert!(bytes <= BOUNDS.bytes && files <= 200 * BOUNDS.entries, "{files} files, {bytes} bytes");
    fs::remove_dir_all(&root).expect("all of it can be removed");
    room.unharmed();
}

fn ownership() -> Ownership {
    match rustix::process::geteuid().is_root() {
        true => Ownership::Real,
        false => Ownership::Flat,
    }
}

/// Counts files and their bytes, each once.
fn measure(folder: &Path) -> (u64, u64) {
    let (mut files, mut bytes, mut seen) = (0, 0, BTreeSet::new());
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(found) = entry.path().symlink_metadata() else { continue };
            files += 1;
            if found.is_dir() {
                left.push(entry.path());
            } else if found.is_file() && seen.insert(found.ino()) {
                bytes += found.len();
            }
        }
    }
    (files, bytes)
}

/// A folder to work in, with something beside it that nobody may touch.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("there is room for a folder");
        for folder in ["work", "canary"] {
            fs::create_dir(dir.path().join(folder)).expect("it is new");
        }
        fs::write(dir.path().join("canary/bird"), "sings").expect("it is new");
        Self(dir)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn unharmed(&self) {
        let names = |path: &Path| -> BTreeSet<_> {
            fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.file_name()).collect()
        };
        let expected = ["archive.tar", "canary", "work"].map(Into::into);
        assert!(names(self.0.path()).is_subset(&BTreeSet::from(expected)));
        assert_eq!(names(&self.path("canary")), BTreeSet::from(["bird".into()]));
        let bird = self.path("canary/bird");
        assert_eq!(fs::read(&bird).ok().as_deref(), Some(&b"sings"[..]));
        let bird = bird.symlink_metadata().expect("it was read");
        assert_eq!((bird.nlink(), bird.mode() & 0o7777 & !0o022), (1, 0o644));
    }
}

/// A manifest's layers keep the bounds, and are called as blobs are.
fn manifest(bytes: &[u8]) {
    let bounds = Bounds::default();
    let Ok(OciManifest::Image(manifest)) = serde_json::from_slice(bytes) else { return };
    let Ok(layers) = pull::layers(&manifest, bounds) else { return };
    assert!(layers.len() <= pull::MOST_LAYERS);
    assert!(layers.iter().map(|layer| u128::from(layer.size)).sum::<u128>() <= bounds.bytes.into());
    for layer in layers {
        let hex = layer.digest.hex();
        assert!(hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit()));
    }
}

/// What is remembered of a configuration is what it said.
fn config(bytes: &[u8]) {
    let Ok(Some(config)) = ImageConfig::read(bytes) else { return };
    let kept = serde_json::to_vec(&config).expect("what was read is written");
    assert_eq!(serde_json::from_slice::<ImageConfig>(&kept).ok(), Some(config));
}

/// Passwords are not shown, whatever stands in the file.
fn logins(bytes: &[u8]) {
    for login in [Login::of_docker_config(bytes), Login::of_docker_cfg(bytes)].concat() {
        assert!(!login.host.contains('/'), "{:?} is no host", login.host);
        let hidden = Login { password: "hidden password".to_owned(), ..login };
        assert!(!format!("{hidden:?}").contains("hidden password"));
    }
}

/// The whole name of an image names the same image.
fn reference(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(reference) = parse(text) else { return };
    let again = parse(&reference.whole()).map(|again| again.whole());
    assert_eq!(again.ok(), Some(reference.whole()));
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
