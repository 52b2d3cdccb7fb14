//! Layers become a folder, and nothing outside it is touched.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use images::Error;
use images::unpack::{Bounds, Ownership, flatten};
use proptest::prelude::*;
use tar::EntryType;
use tempfile::TempDir;

use crate::layer::Layer;

/// A folder to unpack to, with something beside it that nobody may touch.
struct Bench {
    dir: TempDir,
    bounds: Bounds,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("work/root")).unwrap();
        fs::create_dir(dir.path().join("canary")).unwrap();
        fs::write(dir.path().join("canary/bird"), "sings").unwrap();
        symlink("canary/bird", dir.path().join("perch")).unwrap();
        Self { dir, bounds: Bounds { reserve: 0, ..Bounds::default() } }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("work/root")
    }

    fn canary(&self) -> String {
        self.dir.path().join("canary").display().to_string()
    }

    fn unpack(&self, layers: Vec<Vec<u8>>) -> Result<(), Error> {
        let paths: Vec<_> = layers
            .iter()
            .enumerate()
            .map(|(number, bytes)| {
                let path = self.dir.path().join(format!("work/layer{number}"));
                fs::write(&path, bytes).unwrap();
                path
            })
            .collect();
        let ownership =
            if rustix::process::geteuid().is_root() { Ownership::Real } else { Ownership::Flat };
        let result = flatten(&paths, &self.root(), ownership, self.bounds);
        self.unharmed();
        result
    }

    fn unharmed(&self) {
        let outside = |path: &str| self.dir.path().join(path);
        assert_eq!(fs::read_to_string(outside("canary/bird")).unwrap(), "sings");
        assert_eq!(fs::read_dir(outside("canary")).unwrap().count(), 1);
        let meta = fs::metadata(outside("canary/bird")).unwrap();
        assert_eq!((meta.nlink(), meta.uid()), (1, rustix::process::geteuid().as_raw()));
        assert_ne!(meta.mtime(), 1_000_000_000);
        assert_eq!(fs::read_link(outside("perch")).unwrap(), Path::new("canary/bird"));
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["canary", "perch", "work"]);
    }

    /// What was replaced is gone from the disk, too.
    fn nothing_else(&self) {
        let work = fs::read_dir(self.dir.path().join("work")).unwrap();
        let mut left: Vec<_> = work.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["layer0", "layer1", "root"]);
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.root().join(path)).is_ok()
    }
}

#[test]
fn later_layers_replace_and_hide() {
    let bench = Bench::new();
    let base = Layer::new()
        .folder("etc/")
        .file("etc/kept", b"1")
        .file("etc/gone", b"1")
        .file("etc/changed", b"1")
        .folder("opt/all/")
        .file("opt/all/old", b"1")
        .file("was-file", b"1")
        .folder("was-folder/")
        .file("was-folder/inside", b"1")
        .symlink("was-link", "etc");
    let next = Layer::new()
        .file("etc/.wh.gone", b"")
        .file("etc/changed", b"2")
        .file("opt/all/new", b"2")
        .file("opt/all/.wh..wh..opq", b"")
        .folder("was-file/")
        .file("was-file/inside", b"2")
        .file("was-folder", b"2")
        .folder("was-link/")
        .file("was-link/own", b"2")
        .file("brought", b"2")
        .file(".wh.brought", b"");
    bench.unpack(vec![base.bytes(), next.gzip()]).unwrap();
    for (path, text) in [
        ("etc/kept", "1"),
        ("etc/changed", "2"),
        ("opt/all/new", "2"),
        ("was-file/inside", "2"),
        ("was-folder", "2"),
        ("was-link/own", "2"),
        ("brought", "2"),
    ] {
        assert_eq!(bench.text(path), text, "{path}");
    }
    for path in ["etc/gone", "opt/all/old", "etc/own", "etc/.wh.gone", ".wh.brought"] {
        assert!(!bench.has(path), "{path}");
    }
    bench.nothing_else();
}

#[test]
fn files_are_as_the_layer_says() {
    let bench = Bench::new();
    let layer = Layer::new()
        .entry(EntryType::Directory, b"./bin/", b"", 0o1775, b"")
        .entry(EntryType::Regular, b"./bin/su", b"", 0o4755, b"program")
        .hardlink("bin/su2", "./bin/su")
        .symlink("bin/su3", "/bin/su")
        .entry(EntryType::Fifo, b"bin/pipe", b"", 0o600, b"")
        .entry(EntryType::Char, b"bin/null", b"", 0o666, b"")
        .file("deep/er/than/said", b"x");
    bench.unpack(vec![layer.gzip()]).unwrap();
    let meta = |path: &str| fs::symlink_metadata(bench.root().join(path)).unwrap();
    assert_eq!(meta("bin/su").permissions().mode() & 0o7777, 0o4755);
    assert_eq!(meta("bin").permissions().mode() & 0o7777, 0o1775);
    assert_eq!((meta("bin/su").mtime(), meta("bin").mtime()), (1_000_000_000, 1_000_000_000));
    assert_eq!(meta("bin/su").ino(), meta("bin/su2").ino());
    assert_eq!(fs::read_link(bench.root().join("bin/su3")).unwrap(), Path::new("/bin/su"));
    assert!(!bench.has("bin/null"));
    assert_eq!(bench.text("deep/er/than/said"), "x");
    if rustix::process::geteuid().is_root() {
        for path in ["bin", "bin/su", "bin/su3", "bin/pipe"] {
            assert_eq!((meta(path).uid(), meta(path).gid()), (1234, 2345), "{path}");
        }
    }
}

#[test]
fn one_owner_can_read_and_remove_all() {
    let bench = Bench::new();
    let layer = Layer::new().entry(EntryType::Directory, b"closed/", b"", 0, b"").entry(
        EntryType::Regular,
        b"closed/file",
        b"",
        0,
        b"x",
    );
    let path = bench.dir.path().join("work/layer");
    fs::write(&path, layer.bytes()).unwrap();
    flatten(&[path], &bench.root(), Ownership::Flat, bench.bounds).unwrap();
    let meta = |path: &str| fs::metadata(bench.root().join(path)).unwrap();
    assert_eq!(meta("closed").permissions().mode() & 0o777, 0o700);
    assert_eq!(meta("closed/file").permissions().mode() & 0o777, 0o600);
    assert_eq!(meta("closed").uid(), rustix::process::geteuid().as_raw());
}

#[test]
fn zstd_is_read() {
    let bench = Bench::new();
    let tar = Layer::new().file("z", b"standard").bytes();
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    bench.unpack(vec![ruzstd::encoding::compress_to_vec(tar.as_slice(), level)]).unwrap();
    assert_eq!(bench.text("z"), "standard");
}

/// `pzstd` and zstd:chunked write several, and some that hold nothing.
#[test]
fn zstd_of_several_frames_is_read_whole() {
    let bench = Bench::new();
    let tar = Layer::new().file("one", b"1").file("two", b"2").bytes();
    let level = || ruzstd::encoding::CompressionLevel::Fastest;
    let (first, second) = tar.split_at(1024);
    let skipped = [&0x184D_2A50_u32.to_le_bytes()[..], &5_u32.to_le_bytes(), b"aside"].concat();
    let frames = [
        ruzstd::encoding::compress_to_vec(first, level()),
        skipped,
        ruzstd::encoding::compress_to_vec(second, level()),
    ];
    bench.unpack(vec![frames.concat()]).unwrap();
    assert_eq!((bench.text("one"), bench.text("two")), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn what_describes_all_files_is_none() {
    let bench = Bench::new();
    let global = Layer::new()
        .entry(EntryType::XGlobalHeader, b"pax_global_header", b"", 0o644, b"14 comment=x\n\n")
        .file("a", b"1");
    bench.unpack(vec![global.bytes()]).unwrap();
    assert!(bench.has("a") && !bench.has("pax_global_header"));
}

#[test]
fn abuse_names_that_lead_out_are_refused() {
    for name in ["../canary/bird", "a/../../../canary/bird", "..", "/../../canary/new"] {
        let bench = Bench::new();
        let refused = bench.unpack(vec![Layer::new().file(name, b"!").bytes()]).unwrap_err();
        assert!(refused.to_string().contains("layer 1 reaches out of the image"), "{refused}");
    }
}

#[test]
fn abuse_absolute_names_are_beneath() {
    let bench = Bench::new();
    let name = format!("{}/bird", bench.canary());
    bench.unpack(vec![Layer::new().file(&name, b"!").bytes()]).unwrap();
    assert_eq!(bench.text(name.trim_start_matches('/')), "!");
}

#[test]
fn abuse_links_lead_nowhere_outside() {
    let bench = Bench::new();
    let canary = bench.canary();
    for to in [canary.as_str(), "../../canary", "../../../../../../../../../../", "/"] {
        for layers in [
            vec![Layer::new().symlink("out", to).file("out/bird", b"!").file("out/new", b"!")],
            vec![Layer::new().symlink("out", to), Layer::new().file("out/.wh.bird", b"")],
            vec![Layer::new().symlink("out", to), Layer::new().file("out/.wh..wh..opq", b"")],
            vec![Layer::new().symlink("out", to).hardlink("mine", "out/bird")],
            vec![Layer::new().symlink("out", to).folder("out/deeper/").file("out/deeper/x", b"!")],
            vec![Layer::new().symlink("x", &format!("{to}/bird")).file("x", b"!")],
        ] {
            let bench = Bench::new();
            // Refused or beneath the root: `unpack` looks at what is outside.
            drop(bench.unpack(layers.into_iter().map(Layer::bytes).collect()));
        }
    }
    let bench = Bench::new();
    let bird = format!("{}/bird", bench.canary());
    let hardlink = Layer::new().hardlink("mine", &bird);
    assert!(bench.unpack(vec![hardlink.bytes()]).is_err());
    assert!(!bench.has("mine"));
    assert!(bench.unpack(vec![Layer::new().hardlink("mine", "../canary/bird").bytes()]).is_err());
}

#[test]
fn abuse_whiteouts_of_the_parent_are_refused() {
    for name in [".wh...", "a/.wh...", ".wh..", ".wh."] {
        let bench = Bench::new();
        let layers = vec![Layer::new().folder("a/").bytes(), Layer::new().file(name, b"").bytes()];
        let refused = bench.unpack(layers).unwrap_err();
        assert!(refused.to_string().contains("hides"), "{name}: {refused}");
    }
}

#[test]
fn abuse_what_is_too_much_is_told() {
    let mut bench = Bench::new();
    bench.bounds.entries = 10;
    let many = (0..11).fold(Layer::new(), |layer, n| layer.file(&n.to_string(), b""));
    assert!(matches!(bench.unpack(vec![many.bytes()]), Err(Error::TooLarge(_))));
    let mut bench = Bench::new();
    bench.bounds.bytes = 1 << 20;
    // About 1:1000.
    let bomb = Layer::new().file("zeros", &vec![0; 16 << 20]).gzip();
    assert!(bomb.len() < 128 << 10);
    let refused = bench.unpack(vec![bomb]).unwrap_err();
    assert!(matches!(refused, Error::TooLarge(_)), "{refused}");
    let mut bench = Bench::new();
    bench.bounds.reserve = u64::MAX;
    let some = Layer::new().file("some", &vec![0; 65 << 20]).gzip();
    let full = bench.unpack(vec![some]).unwrap_err();
    assert!(matches!(full, Error::Disk { .. }), "{full}");
}

#[test]
fn abuse_long_descriptions_are_not_read_into_memory() {
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        let bench = Bench::new();
        let long = Layer::new().entry(kind, b"././@LongLink", b"", 0, &vec![b'a'; 2 << 20]);
        let refused = bench.unpack(vec![long.gzip()]).unwrap_err();
        assert!(refused.to_string().contains("describes a file with"), "{refused}");
    }
}

#[test]
fn abuse_links_into_links_do_not_make_it_endlessly_deep() {
    let bench = Bench::new();
    let mut layer = Layer::new();
    for round in 0..20 {
        let below = "d/".repeat(30);
        let at = if round == 0 { String::new() } else { format!("l{}/", round - 1) };
        layer = layer.folder(&format!("{at}{below}"));
        layer = layer.symlink(&format!("l{round}"), &format!("{at}{below}"));
    }
    assert!(matches!(bench.unpack(vec![layer.bytes()]), Err(Error::TooLarge(_))));
    fs::remove_dir_all(bench.root()).unwrap();
}

#[test]
fn abuse_what_is_no_archive_is_told() {
    let cut = Layer::new().file("a", &[1; 5000]).bytes()[..3000].to_vec();
    let not_gzip = [&[0x1f, 0x8b][..], &[7; 4000]].concat();
    let not_zstd = [&[0x28, 0xb5, 0x2f, 0xfd][..], &[7; 4000]].concat();
    for bytes in [cut, not_gzip, not_zstd, vec![b'x'; 5000]] {
        let refused = Bench::new().unpack(vec![bytes]).unwrap_err();
        assert!(matches!(refused, Error::Unsupported(_)), "{refused}");
    }
}

fn part() -> impl Strategy<Value = String> {
    let parts = ["a", "b", "..", ".", "", ".wh.a", ".wh..wh..opq", ".wh...", "canary", "bird"];
    prop::collection::vec(prop::sample::select(parts.to_vec()), 1..5)
        .prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn abuse_no_sequence_of_entries_gets_out(
        entries in prop::collection::vec((0_u8..7, part(), part(), any::<bool>()), 1..12)
    ) {
        let bench = Bench::new();
        let up = format!("../../{}", "canary");
        let mut layers = vec![Layer::new()];
        for (kind, name, to, next) in entries {
            let to = to.replace("canary", &up);
            let kind = match kind {
                0 => EntryType::Regular,
                1 => EntryType::Directory,
                2 | 3 => EntryType::Symlink,
                4 => EntryType::Link,
                5 => EntryType::Fifo,
                _ => EntryType::Block,
            };
            if next {
                layers.push(Layer::new());
            }
            let layer = layers.pop().unwrap();
            layers.push(layer.entry(kind, name.as_bytes(), to.as_bytes(), 0o777, b""));
        }
        drop(bench.unpack(layers.into_iter().map(Layer::bytes).collect()));
        // And all of it can be removed again.
        fs::remove_dir_all(bench.root()).unwrap();
    }
}
