//! Images come from registries, whatever these do.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use images::unpack::Ownership;
use images::{Config, Error, Image, Images, InProcess, Login, Progress};
use serde_json::json;
use tokio::task::JoinSet;

use crate::layer::Layer;
use crate::registry::{Registry, Trick, digest};

struct Bench {
    dir: tempfile::TempDir,
    registry: Registry,
    images: Images,
}

impl Bench {
    async fn new() -> Self {
        // Another test may have been faster.
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let images = Images::open(config(&dir)).unwrap();
        Self { dir, registry: Registry::start().await, images }
    }

    async fn pull(&self, reference: &str) -> Result<Image, Error> {
        self.images.pull(reference, &[], |_| {}).await
    }

    async fn error(&self, reference: &str) -> Error {
        self.pull(reference).await.unwrap_err()
    }

    /// Nothing of an image that did not come is taken for one.
    fn is_empty(&self) -> bool {
        self.images.list().is_empty()
            && fs::read_dir(self.dir.path().join("images")).unwrap().next().is_none()
    }
}

fn config(dir: &tempfile::TempDir) -> Config {
    let ownership =
        if rustix::process::geteuid().is_root() { Ownership::Real } else { Ownership::Flat };
    let mut config = Config::new(dir.path().to_owned(), Arc::new(InProcess(ownership)));
    config.silence = Duration::from_secs(2);
    config
}

async fn until(is: impl Fn() -> bool) {
    while !is() {
        tokio::task::yield_now().await;
    }
}

fn layers() -> Vec<Vec<u8>> {
    let noise: Vec<u8> =
        (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    vec![Layer::new().file("one", &noise).gzip(), Layer::new().file("two", b"2").gzip()]
}

#[tokio::test]
async fn an_image_comes_once() {
    let bench = Bench::new().await;
    let (name, digests) = bench.registry.push("team/app", &layers());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let saw = seen.clone();
    let progress = move |progress: Progress| saw.lock().unwrap().push(progress);
    let image = bench.images.pull(&name, &[], progress).await.unwrap();
    assert_eq!(fs::read_to_string(image.rootfs.join("two")).unwrap(), "2");
    assert_eq!(
        (image.config.user.as_str(), image.config.cmd.as_slice()),
        ("7", &["/bin/x".to_owned()][..])
    );
    assert_eq!(image.name, name);
    let repository = name.strip_suffix(":1").unwrap();
    assert_eq!(image.id, format!("{repository}@{}", image.digest));
    let total = layers().iter().map(|layer| layer.len() as u64).sum();
    assert_eq!(image.size, total);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.first(), Some(&Progress { done: 0, total }));
    assert_eq!(seen.last(), Some(&Progress { done: total, total }));
    assert_eq!(bench.images.find(&name), Some(image.clone()));
    // The newest is asked for, and is the same.
    assert_eq!(bench.pull(&name).await.unwrap(), image);
    for digest in digests {
        assert_eq!(bench.registry.asked(&digest).len(), 1);
    }
    let again = Images::open(config(&bench.dir)).unwrap();
    assert_eq!(again.list(), std::slice::from_ref(&image));
    assert!(again.prune(&BTreeSet::from([image.rootfs.clone()])).unwrap() > 0, "its configuration");
    assert_eq!(again.list().len(), 1);
    assert!(again.prune(&BTreeSet::new()).unwrap() >= total);
    assert!(again.list().is_empty() && !image.rootfs.exists());
}

#[tokio::test]
async fn sixty_layers_and_what_they_share() {
    let bench = Bench::new().await;
    let many: Vec<_> = (0..60)
        .map(|n| Layer::new().file(&format!("f{n}"), &[n]).file("last", &[n]).gzip())
        .collect();
    let (name, digests) = bench.registry.push("many", &many);
    let image = bench.pull(&name).await.unwrap();
    assert_eq!(fs::read_dir(&image.rootfs).unwrap().count(), 61);
    assert_eq!(fs::read(image.rootfs.join("last")).unwrap(), [59]);
    let (other, _) = bench.registry.push("other", &many[..59]);
    let other = bench.pull(&other).await.unwrap();
    assert_eq!(fs::read(other.rootfs.join("last")).unwrap(), [58]);
    assert_eq!(bench.registry.asked(&digests[0]).len(), 1);
}

#[tokio::test]
async fn two_who_want_the_same_do_not_harm_each_other() {
    let bench = Bench::new().await;
    let (name, digests) = bench.registry.push("app", &layers());
    bench.registry.trick(&digests[0], Trick::Hang(1000));
    let (one, two) = (bench.images.clone(), bench.images.clone());
    let (for_one, for_two) = (name.clone(), name.clone());
    let (mut first, mut second) = (JoinSet::new(), JoinSet::new());
    first.spawn(async move { one.pull(&for_one, &[], |_| {}).await });
    until(|| !bench.registry.asked(&digests[0]).is_empty()).await;
    second.spawn(async move { two.pull(&for_two, &[], |_| {}).await });
    until(|| bench.registry.asked("manifests").len() == 2).await;
    // In the middle of a layer that the second waits for.
    first.shutdown().await;
    let second = second.join_next().await.unwrap().unwrap();
    assert_eq!(fs::read_to_string(second.unwrap().rootfs.join("two")).unwrap(), "2");
    let (one, two) = tokio::join!(bench.pull(&name), bench.pull(&name));
    assert_eq!(one.unwrap(), two.unwrap());
}

#[tokio::test]
async fn what_was_cut_goes_on() {
    let bench = Bench::new().await;
    let (name, digests) = bench.registry.push("app", &layers());
    for _ in 0..6 {
        // Each brings something, so it goes on.
        bench.registry.trick(&digests[0], Trick::Cut(1000));
    }
    let image = bench.pull(&name).await;
    let ranges: Vec<_> = bench.registry.asked(&digests[0]);
    assert!(image.is_ok(), "{image:?} {ranges:?}");
    assert_eq!(ranges[1].range.as_deref(), Some("bytes=1000-"));
}

#[tokio::test]
async fn a_registry_that_knows_no_parts_is_asked_for_all() {
    let bench = Bench::new().await;
    let (name, digests) = bench.registry.push("app", &layers());
    bench.registry.trick(&digests[0], Trick::Cut(1000));
    bench.registry.trick(&digests[0], Trick::Whole);
    assert!(bench.pull(&name).await.is_ok());
}

#[tokio::test]
async fn logins_are_tried_and_passwords_stay_where_they_belong() {
    let bench = Bench::new().await;
    let (name, digests) = bench.registry.push("app", &layers());
    bench.registry.lock("ada", "secret");
    assert!(matches!(bench.error(&name).await, Error::Unauthorized(_)));
    let login = |host: &str, password: &str| Login {
        host: host.to_owned(),
        username: "ada".to_owned(),
        password: password.to_owned(),
    };
    let elsewhere = Registry::start().await;
    let layer = &layers()[0];
    elsewhere.put("/layer", "application/octet-stream", layer.clone());
    bench.registry.trick(&digests[0], Trick::Redirect(format!("http://{}/layer", elsewhere.host)));
    let logins = [
        login("registry.example", "no"),
        login(&bench.registry.host, "wrong"),
        login(&bench.registry.host, "secret"),
    ];
    let image = bench.images.pull(&name, &logins, |_| {}).await.unwrap();
    assert!(image.rootfs.join("one").exists());
    let asked = elsewhere.asked("");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].authorization, None, "a password went to another host");
}

#[tokio::test]
async fn an_index_has_one_for_this_machine() {
    let bench = Bench::new().await;
    let (name, _) = bench.registry.push("app", &layers());
    let plain = bench.pull(&name).await.unwrap();
    let index = "application/vnd.oci.image.index.v1+json";
    let of = |arch: &str| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": plain.digest, "size": 1, "platform": {"os": "linux", "architecture": arch}})
    };
    let ours = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let list =
        json!({"schemaVersion": 2, "mediaType": index, "manifests": [of("s390x"), of(ours)]});
    bench.registry.manifest("app", "all", &list);
    let name = name.replace(":1", ":all");
    assert_eq!(bench.pull(&name).await.unwrap().digest, plain.digest);
    let none = json!({"schemaVersion": 2, "mediaType": index, "manifests": [of("s390x")]});
    bench.registry.manifest("app", "none", &none);
    let error = bench.error(&name.replace(":all", ":none")).await;
    assert!(matches!(error, Error::NoPlatform(_)), "{error}");
}

#[tokio::test]
async fn a_mirror_is_asked_first() {
    let bench = Bench::new().await;
    let (name, _) = bench.registry.push("library/app", &layers());
    let mut config = config(&bench.dir);
    config.mirrors.insert("docker.io".to_owned(), bench.registry.host.clone());
    let images = Images::open(config).unwrap();
    let image = images.pull("app:1", &[], |_| {}).await.unwrap();
    assert_eq!(image.name, "docker.io/library/app:1");
    assert_eq!(images.find("app:1"), Some(image));
    assert_eq!(images.find(&name), None);
}

#[tokio::test]
async fn abuse_registries_that_refuse() {
    let bench = Bench::new().await;
    let (name, digests) = bench.registry.push("app", &layers());
    let refused = |error: &Error| (error.is_final(), error.to_string());
    let missing = bench.error(&name.replace(":1", ":2")).await;
    assert_eq!(refused(&missing), (true, format!("{}: not found", name.replace(":1", ":2"))));
    for (code, is_final, says) in [
        (429, false, "asked too often (429)"),
        (403, true, "not authorized"),
        (500, false, "it answers 500"),
    ] {
        bench.registry.trick("manifests", Trick::Status(code));
        let (last, text) = refused(&bench.error(&name).await);
        assert!(last == is_final && text.contains(says), "{code}: {text}");
        bench.registry.trick(&digests[1], Trick::Status(code));
    }
    let nobody = bench.error("127.0.0.1:1/app:1").await;
    assert!(nobody.to_string().contains("refused") && !nobody.is_final(), "{nobody}");
    for name in ["", "UPPER", "UPPER/x", "a b", "x:y:z", "/x", "a@sha256:12"] {
        assert!(matches!(bench.error(name).await, Error::Name { .. }), "{name:?}");
    }
}

#[tokio::test]
async fn abuse_registries_that_hang_or_cut() {
    let bench = Bench::new().await;
    let (name, digests) = bench.registry.push("app", &layers());
    bench.registry.trick("manifests", Trick::Hang(3));
    let error = bench.error(&name).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    for _ in 0..4 {
        bench.registry.trick(&digests[0], Trick::Cut(0));
    }
    let error = bench.error(&name).await;
    assert!(matches!(error, Error::Unreachable { .. }) && bench.is_empty(), "{error}");
    bench.registry.trick(&digests[0], Trick::Hang(1000));
    assert!(bench.pull(&name).await.is_ok(), "it goes on after the silence");
}

#[tokio::test]
async fn abuse_registries_that_lie() {
    let bench = Bench::new().await;
    let (name, digests) = bench.registry.push("app", &layers());
    let right = layers()[0].clone();
    let mut other = right.clone();
    other[500] ^= 1;
    let longer = [right.as_slice(), b"more"].concat();
    for lie in [other, longer] {
        bench.registry.trick(&digests[0], Trick::Instead(lie));
        let error = bench.error(&name).await;
        assert!(matches!(error, Error::Lies { .. } | Error::Unreachable { .. }), "{error}");
        assert!(bench.is_empty());
    }
    bench.registry.trick("manifests", Trick::Instead(b"{}".to_vec()));
    assert!(bench.pull(&name).await.is_err());
    // And the truth is still taken.
    assert!(bench.pull(&name).await.is_ok());
}

#[tokio::test]
async fn abuse_manifests_that_cannot_be() {
    let bench = Bench::new().await;
    let (name, digests) = bench.registry.push("app", &layers());
    let config = json!({"mediaType": "c", "digest": digest(b"{}"), "size": 2});
    bench.registry.put(&format!("/v2/app/blobs/{}", digest(b"{}")), "c", "{}");
    let layer = |kind: &str, digest: &str, size: i64| json!({"mediaType": kind, "digest": digest, "size": size});
    let tar = "application/vnd.oci.image.layer.v1.tar";
    for (layers, says) in [
        (vec![layer("application/x-evil", &digests[0], 1)], "of type"),
        (vec![layer(tar, &digests[0], -1)], "less than no bytes"),
        (vec![layer(tar, &digests[0], i64::MAX)], "too many bytes"),
        (vec![layer(tar, "sha256:../../../../etc/passwd", 1)], "no SHA-256 digest"),
        (vec![layer(tar, "md5:abc", 1)], "no SHA-256 digest"),
        (vec![layer(tar, &digests[0], 1); 1001], "1001 layers"),
    ] {
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers,
            "mediaType": "application/vnd.oci.image.manifest.v1+json"});
        bench.registry.manifest("app", "odd", &manifest);
        let error = bench.error(&name.replace(":1", ":odd")).await;
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert!(bench.is_empty());
    }
}
