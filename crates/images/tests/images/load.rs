//! Images come from files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use images::unpack::Ownership;
use images::{Config, Error, Image, Images, InProcess};
use serde_json::{Value, json};

use crate::layer::Layer;
use crate::registry::digest;

struct Bench {
    dir: tempfile::TempDir,
    images: Images,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let unpack = Arc::new(InProcess(Ownership::Flat));
        let images = Images::open(Config::new(dir.path().join("images"), unpack)).unwrap();
        Self { dir, images }
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join("file.tar");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn error(&self, bytes: &[u8]) -> String {
        let error = self.images.load(&self.file(bytes), None).unwrap_err();
        assert!(self.images.list().is_empty());
        error.to_string()
    }
}

fn config() -> Vec<u8> {
    serde_json::to_vec(&json!({"os": "linux", "config": {"Cmd": ["/bin/x"]}})).unwrap()
}

fn text(image: &Image, path: &str) -> String {
    fs::read_to_string(image.rootfs.join(path)).unwrap()
}

fn json_of(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

/// As docker wrote it before version 25: a layer that is there already is a link to it.
fn old_docker() -> Vec<u8> {
    let (one, two) = (Layer::new().file("a", b"1").bytes(), Layer::new().file("b", b"2").bytes());
    let manifest = json!([{"Config": "cfg.json", "RepoTags": ["app:1", "r.example/app:2"],
        "Layers": ["one/layer.tar", "two/layer.tar", "three/layer.tar"]}]);
    Layer::new()
        .file("one/layer.tar", &one)
        .file("two/layer.tar", &two)
        .symlink("three/layer.tar", "../one/layer.tar")
        .file("cfg.json", &config())
        .file("manifest.json", &json_of(&manifest))
        .bytes()
}

/// An OCI layout as an archive.
fn layout(annotations: &Value, layer: &[u8], called: &str) -> Vec<u8> {
    let (config, place) = (config(), |digest: &str| digest.replace("sha256:", "blobs/sha256/"));
    let manifest = json_of(&json!({"schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": called, "size": layer.len()}]}));
    let index = json!({"schemaVersion": 2, "manifests": [{"digest": digest(&manifest),
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": manifest.len(),
        "annotations": annotations}]});
    Layer::new()
        .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
        .file("index.json", &json_of(&index))
        .file(&place(&digest(&manifest)), &manifest)
        .file(&place(&digest(&config)), &config)
        .file(&place(called), layer)
        .bytes()
}

#[test]
fn docker_save_archives_are_taken() {
    let bench = Bench::new();
    let images = bench.images.load(&bench.file(&old_docker()), None).unwrap();
    let names: Vec<_> = images.iter().map(|image| image.name.as_str()).collect();
    assert_eq!(names, ["docker.io/library/app:1", "r.example/app:2"]);
    let found = bench.images.find("app:1").unwrap();
    assert_eq!((text(&found, "a"), text(&found, "b")), ("1".to_owned(), "2".to_owned()));
    assert_eq!(found.config.cmd, ["/bin/x"]);
    let left = fs::read_dir(bench.dir.path().join("images")).unwrap().count();
    assert_eq!(left, 3, "nothing of the archive is left beside blobs, images and names");
}

#[test]
fn oci_layouts_are_taken_as_archives_and_as_folders() {
    let layer = Layer::new().file("a", b"oci").gzip();
    let named = json!({"io.containerd.image.name": "docker.io/team/app:3"});
    let archive = layout(&named, &layer, &digest(&layer));
    let bench = Bench::new();
    let from_file = bench.images.load(&bench.file(&archive), None).unwrap().remove(0);
    assert_eq!(
        (from_file.name.as_str(), text(&from_file, "a")),
        ("docker.io/team/app:3", "oci".into())
    );
    let other = Bench::new();
    let folder = other.dir.path().join("layout");
    tar::Archive::new(archive.as_slice()).unpack(&folder).unwrap();
    let from_folder = other.images.load(&folder, Some("mine")).unwrap().remove(0);
    assert_eq!(from_folder.digest, from_file.digest);
    assert_eq!(from_folder.name, "docker.io/library/mine:latest");
    // No more than a tag is no name.
    let tagged = json!({"org.opencontainers.image.ref.name": "latest"});
    let nameless = Bench::new().error(&layout(&tagged, &layer, &digest(&layer)));
    assert!(nameless.contains("does not say how it is called"), "{nameless}");
}

#[test]
fn abuse_archives_that_lie_or_lack() {
    let layer = Layer::new().file("a", b"1").gzip();
    let lie = digest(b"something else");
    let named = json!({"io.containerd.image.name": "app"});
    let error = Bench::new().error(&layout(&named, &layer, &lie));
    assert!(error.contains("another digest"), "{error}");
    let lacks = json!([{"Config": "cfg.json", "RepoTags": ["app"], "Layers": ["gone"]}]);
    let secret = tempfile::NamedTempFile::new().unwrap();
    let outside = |path: &Path| path.display().to_string();
    for (layer, says) in [
        (Layer::new().file("manifest.json", &json_of(&lacks)), "cfg.json"),
        (Layer::new().file("manifest.json", b"{"), "manifest.json"),
        (Layer::new().file("other", b""), "neither a `docker save` archive nor an OCI layout"),
        (Layer::new().file("index.json", br#"{"manifests":[]}"#), "holds no image"),
        (Layer::new().file("../manifest.json", b"[]"), "reaches out"),
        // A link of the archive does not lead to files of this machine.
        (Layer::new().symlink("manifest.json", &outside(secret.path())), "neither"),
    ] {
        let error = Bench::new().error(&layer.bytes());
        assert!(error.contains(says), "{says}: {error}");
    }
    let nothing = Bench::new().images.load(Path::new("/no/such/file"), None);
    assert!(matches!(nothing, Err(Error::Disk { .. })));
}
