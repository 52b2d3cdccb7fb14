//! Volumes: shared, limited, read-only, and never a way out.

use std::collections::BTreeMap;
use std::time::Duration;

use libtest_mimic::Failed;
use pod_runtime::spec::{FileContent, Mount, Volume};

use super::fixture::{
    Bench, code, container, end_of, eventually, exec, mount, pod, reason, sh, told,
};
use super::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("memory_volumes_are_limited", Needs::Nothing, memory_volumes_are_limited),
    ("files_have_content_and_mode", Needs::Nothing, files_have_content_and_mode),
    ("files_are_replaced_but_not_by_sub_path", Needs::Nothing, files_are_replaced),
    ("what_is_written_is_counted", Needs::Nothing, what_is_written_is_counted),
    ("a_root_of_the_hosts_files_is_made_in_memory", Needs::Nothing, made_in_memory),
    ("tools_are_the_running_binary", Needs::Nothing, tools_are_the_running_binary),
    ("read_only_mounts_refuse_writes", Needs::Nothing, read_only_mounts_refuse_writes),
    ("a_sub_path_is_made_and_shared", Needs::Nothing, a_sub_path_is_made_and_shared),
    ("a_sub_path_cannot_leave_its_volume", Needs::Nothing, a_sub_path_cannot_leave_its_volume),
    ("a_mount_path_cannot_leave_the_root", Needs::Nothing, a_mount_path_cannot_leave_the_root),
];

const DISK: Volume = Volume::EmptyDir { memory: false, size_limit: None };

fn memory_volumes_are_limited() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main =
        sh("stat -f -c %T /mem; head -c 2M /dev/zero >/mem/x 2>/dev/null; stat -c %s /mem/x");
    main.mounts.push(mount("mem", "/mem"));
    let mut spec = pod(main);
    let volume = Volume::EmptyDir { memory: true, size_limit: Some(1 << 20) };
    spec.volumes.insert("mem".into(), volume);
    bench.finish(&spec);
    let output = bench.output(&spec.id, "main");
    assert!(output.starts_with("tmpfs\n") && output.ends_with("\n1048576"), "{output}");
    Ok(())
}

fn files_have_content_and_mode() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh(
        "cat /conf/a /conf/sub/b; stat -L -c %a /conf/a; (echo x >>/conf/a) 2>/dev/null || echo no",
    );
    main.mounts.push(mount("conf", "/conf"));
    let mut spec = pod(main);
    let file = |text: &str, mode| FileContent { data: text.as_bytes().to_vec(), mode };
    let files = BTreeMap::from([
        ("a".to_owned(), file("one\n", 0o444)),
        ("sub/b".to_owned(), file("two\n", 0o644)),
    ]);
    spec.volumes.insert("conf".into(), Volume::Files(files));
    bench.finish(&spec);
    let output = bench.output(&spec.id, "main");
    assert!(output.starts_with("one\ntwo\n444\n") && output.ends_with("no"), "{output}");
    Ok(())
}

fn files_are_replaced() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("exec sleep 999");
    main.mounts.push(mount("conf", "/conf"));
    main.mounts.push(Mount { sub_path: Some("a".into()), ..mount("conf", "/etc/a") });
    let mut spec = pod(main);
    let files = |text: &str| {
        let file = FileContent { data: text.as_bytes().to_vec(), mode: 0o444 };
        BTreeMap::from([("a".to_owned(), file)])
    };
    spec.volumes.insert("conf".into(), Volume::Files(files("one")));
    let pod = bench.running(&spec);
    let cat = |path: &str| told(pod.exec(&exec(&["cat", path])).unwrap(), b"").1;
    assert_eq!([cat("/conf/a"), cat("/etc/a")], ["one", "one"]);
    pod.replace_files("conf", &files(&"two".repeat(1 << 20))).unwrap();
    assert_eq!(cat("/conf/a"), "two".repeat(1 << 20));
    assert_eq!(cat("/etc/a"), "one");
    assert!(pod.replace_files("tools", &files("x")).is_err());
    assert!(!bench.state.join("pods").join(&spec.id).join("fresh-conf").exists());
    Ok(())
}

fn what_is_written_is_counted() -> Result<(), Failed> {
    let bench = Bench::new();
    let script = "umask 077; mkdir /data/a; head -c 3M /dev/zero >/data/a/x; \
                  head -c 2M /dev/zero >/tmp/x; head -c 1M /dev/zero | tr '\\0' y; echo up >&2; \
                  exec sleep 999";
    let mut main = sh(script);
    main.mounts.push(mount("data", "/data"));
    let mut spec = pod(main);
    spec.volumes.insert("data".into(), DISK);
    let pod = bench.running(&spec);
    eventually("it has written", || bench.log(&spec.id, "main").contains("stderr F up"));
    let usage = pod.usage().unwrap();
    let mib = |bytes: u64| bytes >> 20;
    assert_eq!(mib(usage.volumes["data"]), 3, "{usage:?}");
    assert_eq!(mib(usage.containers["main"]), 3, "{usage:?}");
    pod.end("Evicted", "too much", Duration::ZERO).unwrap();
    let status = end_of(&pod);
    assert_eq!(status.reason, Some(("Evicted".to_owned(), "too much".to_owned())));
    assert_eq!(code(&status), 137);
    bench.runtime.forget_files(&spec.id).unwrap();
    let folder = bench.state.join("pods").join(&spec.id);
    assert!(!folder.join("fs").exists() && bench.log(&spec.id, "main").contains("up"));
    Ok(())
}

fn made_in_memory() -> Result<(), Failed> {
    let bench = Bench::new();
    let script = "stat -f -c %T /; cd; stat -c %u .; mkdir /tmp/a; mv .bashrc /tmp/a; mv /tmp/a b; ls -A; \
                  rm b/.bashrc; rmdir b; echo up; exec sleep 999";
    let spec = pod(sh(script));
    bench.running(&spec);
    eventually("it has written", || bench.log(&spec.id, "main").contains("F up"));
    assert_eq!(bench.output(&spec.id, "main"), "overlayfs\n1000\n.bash_logout\n.profile\nb\nup");
    let files = bench.state.join("pods").join(&spec.id).join("fs");
    if files.read_dir().is_err() {
        return Ok(()); // It belongs to the pod's own ids, and we are not root.
    }
    let upper = ["upper-main", "upper-root"].map(|name| files.join(name));
    assert!(upper.iter().any(|upper| upper.is_dir()), "all of it is on disk");
    assert!(!upper.iter().any(|upper| upper.join("opt").exists()), "more than what changed");
    assert!(!files.join("root/home").exists() && !files.join("root-main/home").exists());
    Ok(())
}

fn tools_are_the_running_binary() -> Result<(), Failed> {
    let bench = Bench::new();
    let (code, output) =
        bench.script("cd /run/loom/tools; ls; [ -x loom-host ]; echo x >loom-host");
    assert_ne!(code, 0);
    assert!(output.starts_with("loom-host\n"), "{output}");
    Ok(())
}

fn read_only_mounts_refuse_writes() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("touch /data/x");
    main.mounts.push(Mount { read_only: true, ..mount("data", "/data") });
    let mut spec = pod(main);
    spec.volumes.insert("data".into(), DISK);
    assert_ne!(code(&bench.finish(&spec)), 0);
    assert!(
        bench.output(&spec.id, "main").contains("Read-only"),
        "{:?}",
        bench.log(&spec.id, "main")
    );
    Ok(())
}

fn a_sub_path_is_made_and_shared() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut first = container("first", &["/bin/sh", "-c", "echo deep >/d/file"]);
    first.mounts.push(Mount { sub_path: Some("a/b".to_owned()), ..mount("data", "/d") });
    let mut main = sh("cat /data/a/b/file");
    main.mounts.push(mount("data", "/data"));
    let mut spec = pod(main);
    spec.volumes.insert("data".into(), DISK);
    spec.init_containers = vec![first];
    assert_eq!(code(&bench.finish(&spec)), 0);
    assert_eq!(bench.output(&spec.id, "main"), "deep");
    Ok(())
}

fn a_sub_path_cannot_leave_its_volume() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut evil = container("evil", &["/bin/sh", "-c", "ln -s / /data/out; ln -s .. /data/up"]);
    evil.mounts.push(mount("data", "/data"));
    for sub_path in ["out", "up", "../..", "/etc", "out/etc"] {
        let mut main = sh("ls -a /leak");
        let sub_path = Some(sub_path.to_owned());
        main.mounts.push(Mount { sub_path, ..mount("data", "/leak") });
        let mut spec = pod(main);
        spec.volumes.insert("data".into(), DISK);
        spec.init_containers = vec![evil.clone()];
        let status = bench.finish(&spec);
        assert_eq!(reason(&status.containers[0].state), "StartError 128");
    }
    Ok(())
}

fn a_mount_path_cannot_leave_the_root() -> Result<(), Failed> {
    let bench = Bench::new();
    let target = bench.state.join("outside");
    let script = format!("ln -s {} /data/link", target.display());
    let mut evil = container("evil", &["/bin/sh", "-c", &script]);
    evil.mounts.push(mount("data", "/data"));
    let mut main = sh("true");
    main.mounts.extend([mount("data", "/data"), mount("more", "/data/link/x")]);
    let mut spec = pod(main);
    spec.volumes.extend([("data".to_owned(), DISK), ("more".to_owned(), DISK)]);
    spec.init_containers = vec![evil];
    bench.finish(&spec);
    assert!(!target.exists());
    Ok(())
}
