//! Pods that run from the unpacked files of an image, which may be anything.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;
use pod_runtime::spec::{ContainerSpec, ContainerState, Image, PodSpec, Volume};

use super::fixture::{Bench, code, container, eventually, inside, mount, pod, sh};
use super::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("unpacked_files_keep_their_owners", Needs::Nothing, owners),
    ("changes_to_an_image_stay_in_the_container", Needs::Nothing, changes),
    ("an_images_own_etc_stays", Needs::Nothing, own_etc),
    ("an_image_may_have_nothing_at_all", Needs::Nothing, nothing_at_all),
    ("an_image_with_set_user_id_gains_nothing", Needs::Nothing, set_user_id),
    ("an_images_root_may_be_read_only", Needs::Nothing, read_only_root),
    ("an_unpacked_image_is_a_read_only_volume", Needs::Nothing, image_volume),
    ("abuse_links_of_an_image_lead_nowhere_else", Needs::Nothing, links),
    ("abuse_an_image_cannot_replace_proc", Needs::Nothing, no_proc),
    ("abuse_nothing_is_mounted_over_proc", Needs::Nothing, over_proc),
];

/// Not in spares: what it makes is removed by itself.
pub(crate) const COLD: &[Test] = &[
    ("an_image_is_copied_where_ids_cannot_be_shown", Needs::Root, copied),
    ("an_image_is_copied_where_nothing_can_be_overlaid", Needs::Root, copied_twice),
    ("a_users_image_may_have_owners_of_its_own", Needs::Ranges, subordinate),
];

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A tree with this machine's programs behind links; [`unpacked`] mounts what they lead to.
fn tree(bench: &Bench, name: &str) -> PathBuf {
    let root = bench.state.join(name);
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["bin", "lib", "lib32", "lib64"] {
        symlink(format!("host/usr/{name}"), root.join(name)).unwrap();
    }
    write(&root, "file", "from the image\n");
    root
}

fn write(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    if is_root() {
        chown(path, Some(1000), Some(1000)).unwrap();
    }
}

fn unpacked(root: &Path, mut main: ContainerSpec) -> PodSpec {
    main.image = Image::Rootfs { path: root.to_owned() };
    main.mounts.push(mount("host", "/host"));
    let mut spec = pod(main);
    spec.volumes.insert("host".to_owned(), Volume::Image(Image::Host));
    spec
}

/// Runs a script in an image; returns its code and output.
fn script(bench: &Bench, root: &Path, script: &str) -> (i32, String) {
    let spec = unpacked(root, sh(script));
    let status = bench.finish(&spec);
    (code(&status), bench.output(&spec.id, "main"))
}

/// Why a pod's container did not start.
fn refused(bench: &Bench, spec: &PodSpec) -> String {
    match &bench.finish(spec).containers[0].state {
        ContainerState::Terminated { reason, message, .. } if reason == "StartError" => {
            message.clone()
        }
        other => panic!("{other:?}"),
    }
}

fn owners() -> Result<(), Failed> {
    let bench = Bench::new();
    let root = tree(&bench, "image");
    write(&root, "secret", "x");
    fs::set_permissions(root.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    if is_root() {
        chown(root.join("secret"), Some(0), Some(42)).unwrap();
    }
    let (_, output) =
        script(&bench, &root, "stat -c %u:%g:%a /file /secret; cat /secret 2>/dev/null || echo no");
    let expected =
        if is_root() { "1000:1000:644\n0:42:600\nno" } else { "1000:1000:644\n1000:1000:600\nx" };
    assert_eq!(output, expected);
    Ok(())
}

fn changes() -> Result<(), Failed> {
    let bench = Bench::new();
    let root = tree(&bench, "image");
    write(&root, "old", "old");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o1777)).unwrap();
    let change = "echo more >>/file; rm /old; mkdir /new; ls -d /old /new 2>/dev/null; cat /file";
    let other = "until [ -e /shared/done ]; do sleep 0.01; done; cat /file /old; ls -d /new 2>/dev/null || echo none";
    let mut spec = unpacked(&root, sh(&format!("{change}; touch /shared/done")));
    let mut second = sh(other);
    second.name = "second".to_owned();
    second.image = spec.containers[0].image.clone();
    second.mounts.push(mount("host", "/host"));
    spec.containers.push(second);
    for container in &mut spec.containers {
        container.mounts.push(mount("shared", "/shared"));
    }
    let shared = Volume::EmptyDir { memory: false, size_limit: None };
    spec.volumes.insert("shared".to_owned(), shared);
    bench.finish(&spec);
    assert_eq!(bench.output(&spec.id, "main"), "/new\nfrom the image\nmore");
    assert_eq!(bench.output(&spec.id, "second"), "from the image\noldnone");
    assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "from the image\n");
    assert!(root.join("old").exists() && !root.join("new").exists());
    assert!(!root.join("workspace").exists() && !root.join("run").exists(), "not in the image");
    Ok(())
}

fn own_etc() -> Result<(), Failed> {
    let bench = Bench::new();
    let root = tree(&bench, "image");
    write(&root, "etc/passwd", "ada:x:1000:1000::/:/bin/sh\n");
    write(&root, "etc/hosts", "1.2.3.4 evil\n");
    symlink("../run/none/stub", root.join("etc/resolv.conf")).unwrap();
    let look = "cat /etc/passwd /etc/hostname; grep -c evil /etc/hosts; wc -l </etc/resolv.conf; \
                ls -A /etc | tr '\\n' ' '; stat -c %a /dev /dev/null; test -e /proc/self/exe";
    let (code, output) = script(&bench, &root, look);
    let expected = "ada:x:1000:1000::/:/bin/sh\nweaver-test\n0\n0\n\
                    hostname hosts passwd resolv.conf 755\n666";
    assert_eq!((code, output.as_str()), (0, expected));
    Ok(())
}

fn nothing_at_all() -> Result<(), Failed> {
    let bench = Bench::new();
    let root = bench.state.join("image");
    fs::create_dir(&root).unwrap();
    let mut main = inside(&["uid"]);
    main.image = Image::Rootfs { path: root };
    let spec = pod(main);
    let status = bench.finish(&spec);
    assert_eq!((code(&status), bench.output(&spec.id, "main").as_str()), (0, "1000 1000\ndone"));
    Ok(())
}

fn set_user_id() -> Result<(), Failed> {
    let bench = Bench::new();
    let root = tree(&bench, "image");
    let installed = Command::new("install")
        .args(["-m", "6755"])
        .arg(std::env::current_exe().unwrap())
        .arg(root.join("raise"))
        .status();
    assert!(installed.unwrap().success());
    assert_eq!(fs::metadata(root.join("raise")).unwrap().mode() & 0o6000, 0o6000);
    let (_, output) = script(&bench, &root, "stat -c %a /raise; /raise inside uid");
    assert_eq!(output, "6755\n1000 1000\ndone");
    Ok(())
}

fn read_only_root() -> Result<(), Failed> {
    let bench = Bench::new();
    let root = tree(&bench, "image");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o1777)).unwrap();
    let look = "for f in /file /new /etc/hosts; do (echo x >>$f) 2>/dev/null || echo no; done; \
                echo yes >/dev/shm/x; cat /dev/shm/x";
    let mut main = sh(look);
    main.read_only_root = true;
    let spec = unpacked(&root, main);
    bench.finish(&spec);
    assert_eq!(bench.output(&spec.id, "main"), "no\nno\nno\nyes");
    Ok(())
}

fn image_volume() -> Result<(), Failed> {
    let bench = Bench::new();
    let root = tree(&bench, "image");
    write(&root, "deep/file", "deep\n");
    let look = "cat /vol/file /sub/file; (echo x >>/vol/file) 2>/dev/null || echo no";
    let mut main = sh(look);
    main.mounts.push(mount("vol", "/vol"));
    let mut sub = mount("vol", "/sub");
    sub.sub_path = Some("deep".to_owned());
    main.mounts.push(sub);
    let mut spec = pod(main);
    spec.volumes.insert("vol".to_owned(), Volume::Image(Image::Rootfs { path: root }));
    bench.finish_cold(&spec);
    assert_eq!(bench.output(&spec.id, "main"), "from the image\ndeep\nno");
    Ok(())
}

/// Every place that something is put on leads out of the image, by its own links.
fn links() -> Result<(), Failed> {
    let bench = Bench::new();
    let root = tree(&bench, "image");
    let outside = bench.state.join("outside");
    fs::create_dir(&outside).unwrap();
    symlink("../../../../../..", root.join("etc")).unwrap();
    symlink(&outside, root.join("workspace")).unwrap();
    symlink("/proc/self/root/tmp", root.join("vol")).unwrap();
    symlink("../..", root.join("run")).unwrap();
    let mut main = sh("cat /hostname; ls /loom/tools; pwd -P; ls -A /");
    main.mounts.push(mount("tools", "/etc/put/here"));
    let spec = unpacked(&root, main);
    bench.finish(&spec);
    let output = bench.output(&spec.id, "main");
    // What leads nowhere inside makes way.
    let expected = "weaver-test\nloom-host\n/workspace\n";
    assert!(output.starts_with(expected), "{output}");
    assert!(output.contains("\nput\n") || output.ends_with("\nput"), "{output}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!Path::new("/put").exists() && !root.join("hostname").exists());
    let mut main = sh("true");
    main.mounts.push(mount("tools", "/vol"));
    let said = refused(&bench, &unpacked(&root, main));
    assert!(said.contains("/vol"), "{said}");
    Ok(())
}

fn no_proc() -> Result<(), Failed> {
    let bench = Bench::new();
    let root = tree(&bench, "image");
    for (name, to) in [("proc", "/etc"), ("dev", "../../dev"), ("sys", "file")] {
        symlink(to, root.join(name)).unwrap();
        let said = refused(&bench, &unpacked(&root, sh("true")));
        assert!(said.contains("something else than a folder"), "{said}");
        fs::remove_file(root.join(name)).unwrap();
    }
    Ok(())
}

fn over_proc() -> Result<(), Failed> {
    let bench = Bench::new();
    let root = tree(&bench, "image");
    symlink("/proc/sys", root.join("work")).unwrap();
    for path in ["/work", "/proc/self/attr", "/proc"] {
        let mut main = sh("true");
        main.mounts.push(mount("tools", path));
        let said = refused(&bench, &unpacked(&root, main));
        assert!(said.contains("inside /proc"), "{path}: {said}");
    }
    Ok(())
}

/// A mount that is gone with it.
struct Mounted(PathBuf);

impl Mounted {
    fn new(kind: &str, path: PathBuf, data: &str) -> Self {
        fs::create_dir(&path).unwrap();
        let data = std::ffi::CString::new(data).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("none", &path, kind, flags, Some(data.as_c_str())).unwrap();
        Self(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

/// A file system whose mounts show no other ids.
fn copied() -> Result<(), Failed> {
    let bench = Bench::new();
    let ram = Mounted::new("ramfs", bench.state.join("ram"), "");
    let inner = ram.0.join("image");
    fs::rename(tree(&bench, "image"), &inner).or_else(|_| {
        Command::new("cp").arg("-a").arg(bench.state.join("image")).arg(&inner).status().map(drop)
    })?;
    let spec = unpacked(
        &inner,
        container("main", &["/bin/sh", "-c", "stat -c %u /file /; echo x >>/file; cat /file"]),
    );
    bench.finish(&spec);
    assert_eq!(bench.output(&spec.id, "main"), "1000\n0\nfrom the image\nx");
    let copies = bench.state.join("pods").join(&spec.id).join("fs/copies");
    assert!(copies.join("0/file").is_file(), "the kernel shows ids of ramfs by now");
    assert_eq!(fs::read_to_string(inner.join("file")).unwrap(), "from the image\n");
    Ok(())
}

/// As root in a container, whose own files are an overlay: no other ids, no overlay above it.
fn copied_twice() -> Result<(), Failed> {
    let dir = Bench::cold();
    let place = |name: &str| dir.state.join(name).display().to_string();
    for name in ["lower", "upper", "work"] {
        fs::create_dir(place(name))?;
    }
    let (lower, upper, work) = (place("lower"), place("upper"), place("work"));
    let data = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let over = Mounted::new("overlay", dir.state.join("over"), &data);
    let bench = Bench::at(over.0.join("state"));
    let root = tree(&bench, "image");
    write(&root, "secret", "x");
    chown(root.join("secret"), Some(0), Some(42))?;
    let look = "stat -c %u:%g /file /secret; echo more >>/file; tail -n 1 /file; cat /etc/hostname";
    let output = script(&bench, &root, look).1;
    assert_eq!(output, "1000:1000\n0:42\nmore\nweaver-test");
    assert_eq!(fs::read_to_string(root.join("file"))?, "from the image\n");
    // A root of the host's files is then all on disk, and counted there.
    let spec = pod(sh("head -c 1M /dev/zero | tr '\\0' y >/tmp/x; echo up; exec sleep 999"));
    let pod = bench.running(&spec);
    eventually("it has written", || bench.log(&spec.id, "main").contains("up"));
    let usage = pod.usage().unwrap();
    assert_eq!(usage.containers["main"] >> 20, 1, "{usage:?}");
    let files = bench.state.join("pods").join(&spec.id).join("fs");
    assert!(files.join("root-main/home").is_dir() && !files.join("upper-main").exists());
    Ok(())
}

/// As an ordinary user with ranges unpacks an image: its files have owners of their own.
fn subordinate() -> Result<(), Failed> {
    let bench = Bench::cold();
    let root = tree(&bench, "image");
    let binary = std::env::current_exe().unwrap();
    let run = |script: &str| {
        let mut command = pod_runtime::as_subordinate(&binary).expect("ranges");
        let done = command.args(["/bin/sh", "-ec", script, "sh"]).arg(&root).status();
        assert!(done.unwrap().success(), "{script}");
    };
    run("chown -R 0:0 \"$1\"; chown 1000:1000 \"$1/file\"; echo x >\"$1/other\"; \
         chown 7:8 \"$1/other\"; chmod 600 \"$1/other\"");
    let look = "stat -c %u:%g / /file /other; cat /other 2>/dev/null || echo no; \
                echo more >>/file; tail -n 1 /file";
    assert_eq!(script(&bench, &root, look).1, "0:0\n1000:1000\n7:8\nno\nmore");
    run("rm -r \"$1\"");
    assert!(!root.exists());
    Ok(())
}
