//! Commands that the user gave: exit codes, pipes, repositories, signals, orphans, floods.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Weaver, command, until};
use rustix::process::{Pid, Signal, kill_process};
use wire::frame::Frame;
use wire::link::Open;

fn from_start() -> Open {
    Open { client: "a".into(), from_start: true, ..Open::default() }
}

fn pid(weaver: &Weaver) -> Pid {
    Pid::from_child(&weaver.host)
}

#[test]
fn a_commands_exit_code_is_the_weavers() {
    let weaver = Weaver::run(&["--", "sh", "-c", "echo ready; exit 7"]);
    let mut viewer = weaver.open(from_start());
    assert_eq!(viewer.wait_for_end(), Frame::Exit { code: 7 });
    assert_eq!(viewer.text(), "ready\r\n");
    assert_eq!(weaver.finish(), (7, "ready\r\n".into()));
}

#[test]
fn without_a_viewer_it_ends_too_and_the_log_has_the_output() {
    let weaver = Weaver::run(&["--", "sh", "-c", "seq 30000; kill -KILL $$"]);
    let (code, log) = weaver.finish();
    let all: String = (1..=30_000).map(|line| format!("{line}\r\n")).collect();
    assert!(log == all, "{} of {} bytes", log.len(), all.len());
    assert_eq!(code, 128 + 9);
}

#[test]
fn a_command_that_is_not_there_is_127() {
    let weaver = Weaver::run(&["--", "no-such-program"]);
    let mut viewer = weaver.open(from_start());
    assert_eq!(viewer.wait_for_end(), Frame::Exit { code: 127 });
    assert_eq!(viewer.text(), "loom: no-such-program: command not found\r\n");
    assert_eq!(weaver.finish().0, 127);
    assert_eq!(Weaver::run(&["--", "/etc/passwd"]).finish().0, 126);
}

#[test]
fn a_command_gets_ctrl_d_even_if_it_is_a_shell() {
    let weaver = Weaver::run(&["--", "sh"]);
    let mut viewer = weaver.attach("a");
    viewer.type_in("echo st''art\r");
    viewer.wait_for("start\r\n");
    viewer.ask_leave();
    assert_eq!(viewer.wait_for_end(), Frame::Exit { code: 0 });
}

#[test]
fn the_tools_are_at_the_end_of_path_and_workdir_is_made() {
    let weaver = Weaver::run(&["--workdir", "a/b", "--", "sh", "-c", "echo $PATH; pwd"]);
    let tools = Path::new(env!("CARGO_BIN_EXE_loom-host")).parent().unwrap();
    let folder = weaver.folder.path().display().to_string();
    let (code, log) = weaver.finish();
    assert!(log.ends_with(&format!(":{}\r\n{folder}/workspace/a/b\r\n", tools.display())), "{log}");
    assert_eq!(code, 0);
}

#[test]
fn an_image_without_a_shell_says_so() {
    // A user of whom passwd says nothing.
    let stranger = ["unshare", "--user", "--map-user=54321"];
    let folder = tempfile::tempdir().unwrap();
    let mut host = command(&folder, &stranger, &["run"]);
    host.env("SHELL", "/nowhere");
    let unshare = Command::new("sh").args(["-c", "command -v unshare"]).output().unwrap().stdout;
    let tools = folder.path().join("tools");
    fs::create_dir(&tools).unwrap();
    let unshare = String::from_utf8(unshare).unwrap();
    std::os::unix::fs::symlink(unshare.trim(), tools.join("unshare")).unwrap();
    host.env("PATH", &tools);
    let output = host.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("this image has no shell"));
    assert_eq!(output.status.code(), Some(127));
}

#[test]
fn it_installs_itself_for_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let tools = folder.path().join("tools");
    let into = tools.display().to_string();
    let missing = command(&folder, &[], &["install", &into]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    let said = String::from_utf8(missing.stderr).unwrap();
    assert!(said.starts_with(&format!("loom-host: cannot install into {into}: ")), "{said}");
    fs::create_dir(&tools).unwrap();
    let under = ["sh", "-c", "umask 077; exec \"$0\" \"$@\""];
    // Again over a copy that is there: a container may be started twice.
    for _ in 0..2 {
        assert!(command(&folder, &under, &["install", &into]).status().unwrap().success());
        let names: Vec<_> = fs::read_dir(&tools).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["loom-host"]);
        let installed = tools.join("loom-host");
        let mode = fs::metadata(&installed).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        let output = Command::new(installed).arg("version").output().unwrap();
        assert!(output.stdout.starts_with(b"loom-host "), "{output:?}");
    }
}

#[test]
fn pipes_keep_stdout_stderr_and_stdin_apart() {
    let script = "echo out; echo err >&2; cat; echo end";
    let weaver = Weaver::run(&["--no-tty", "--", "sh", "-c", script]);
    let mut viewer = weaver.open(Open::default());
    assert!(!viewer.hello.tty);
    viewer.type_in("typed\n");
    viewer.wait_for("typed\n");
    let offset = viewer.typed;
    viewer.send(Frame::Eof { offset });
    assert_eq!(viewer.wait_for_end(), Frame::Exit { code: 0 });
    assert_eq!(viewer.text(), "end\n");
    assert_eq!(viewer.stderr, b"err\n");
    assert_eq!(weaver.finish(), (0, "out\ntyped\nend\n".into()));
}

#[test]
fn much_stdin_goes_through_a_slow_reader() {
    let script = "sleep 0.3; sha256sum";
    let weaver = Weaver::run(&["--no-tty", "--", "sh", "-c", script]);
    let mut viewer = weaver.open(Open::default());
    let block = "0123456789abcdef".repeat(4096);
    for _ in 0..64 {
        viewer.type_in(&block);
        viewer.wait_until(|viewer| viewer.typed - viewer.confirmed <= 192 * 1024);
    }
    let offset = viewer.typed;
    viewer.send(Frame::Eof { offset });
    assert_eq!(viewer.wait_for_end(), Frame::Exit { code: 0 });
    let mut sum =
        Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(block.repeat(64).as_bytes()).unwrap();
    let mut expected = String::new();
    sum.stdout.take().unwrap().read_to_string(&mut expected).unwrap();
    sum.wait().unwrap();
    assert_eq!(viewer.text(), expected);
}

fn git(folder: &Path, args: &[&str]) {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"];
    let status =
        Command::new("git").args(identity).args(args).current_dir(folder).status().unwrap();
    assert!(status.success(), "git {args:?}");
}

fn repository(folder: &Path) -> String {
    let origin = folder.join("project.git");
    fs::create_dir(&origin).unwrap();
    git(&origin, &["init", "-q"]);
    for (name, branch) in [("one", None), ("two", Some("other"))] {
        if let Some(branch) = branch {
            git(&origin, &["checkout", "-q", "-b", branch]);
        }
        fs::write(origin.join(name), name).unwrap();
        git(&origin, &["add", "."]);
        git(&origin, &["commit", "-q", "-m", name]);
    }
    git(&origin, &["tag", "v1"]);
    git(&origin, &["checkout", "-q", "main"]);
    format!("file://{}", origin.display())
}

#[test]
fn a_repository_is_cloned_and_the_session_starts_in_it() {
    for (branch, files) in [("main", "one"), ("other", "one two"), ("v1", "one two")] {
        let folder = tempfile::tempdir().unwrap();
        let url = repository(folder.path());
        let args = ["--repo", &url, "--branch", branch, "--", "sh", "-c", "pwd; echo files: *"];
        let (code, log) = Weaver::run_in(folder, &[], &args).finish();
        assert!(log.contains("Cloning into"), "{log}");
        assert!(log.ends_with(&format!("/workspace/project\r\nfiles: {files}\r\n")), "{log}");
        assert_eq!(code, 0);
    }
}

#[test]
fn when_git_fails_the_shell_starts_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none").display().to_string();
    let weaver = Weaver::run_in(folder, &[], &["--repo", &missing, "--branch", "x"]);
    let mut viewer = weaver.open(from_start());
    viewer.wait_for("loom: git failed with exit code 128\r\n");
    viewer.type_in("echo al''ive; pwd\r");
    viewer.wait_for("alive");
    viewer.wait_for("/workspace\r\n");
    // Once for a weaver, not for each shell.
    viewer.type_in("exit\r");
    viewer.wait_for_end();
    let mut next = weaver.open(from_start());
    next.wait_for("$ ");
    assert!(!next.text().contains("loom: git"));
}

#[test]
fn a_wrong_branch_leaves_the_clone() {
    let folder = tempfile::tempdir().unwrap();
    let url = repository(folder.path());
    let args = ["--repo", &url, "--branch", "--orphan", "--", "sh", "-c", "echo files: *"];
    let (code, log) = Weaver::run_in(folder, &[], &args).finish();
    assert!(log.contains("loom: --orphan is no branch") && log.contains("files: one\r\n"), "{log}");
    assert_eq!(code, 0);
}

/// Who tells a weaver to end knows why, and tells its viewers: they only see the stream's end.
#[test]
fn sigterm_ends_a_shell_and_a_stubborn_command() {
    let stubborn = ["--", "sh", "-c", "trap '' TERM HUP; echo up; while :; do sleep 60; done"];
    for (args, shown, code) in [(&[][..], "$ ", 143), (&stubborn[..], "up", 137)] {
        let weaver = Weaver::run(args);
        let mut viewer = weaver.open(from_start());
        viewer.wait_for(shown);
        kill_process(pid(&weaver), Signal::TERM).unwrap();
        assert_eq!(viewer.wait_for_close(), None);
        assert_eq!(weaver.finish().0, code);
    }
}

#[test]
fn a_command_may_end_by_itself_on_sigterm() {
    let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done";
    let weaver = Weaver::run(&["--", "sh", "-c", script]);
    let mut viewer = weaver.open(from_start());
    viewer.wait_for("up\r\n");
    kill_process(pid(&weaver), Signal::TERM).unwrap();
    viewer.wait_for("bye\r\n");
    assert_eq!(viewer.wait_for_close(), None);
    assert_eq!(weaver.finish().0, 3);
}

#[test]
fn other_signals_are_passed_on() {
    let script = "trap 'echo got usr1' USR1; echo up; while :; do sleep 0.05; done";
    let weaver = Weaver::run(&["--", "sh", "-c", script]);
    let mut viewer = weaver.open(from_start());
    viewer.wait_for("up\r\n");
    kill_process(pid(&weaver), Signal::USR1).unwrap();
    viewer.wait_for("got usr1\r\n");
}

#[test]
fn ignored_signals_have_their_default_in_programs() {
    let script = "grep SigIgn /proc/self/status; grep SigBlk /proc/self/status";
    let prefix = ["sh", "-c", "trap '' INT QUIT TERM; exec \"$0\" \"$@\""];
    let folder = tempfile::tempdir().unwrap();
    let (_, log) = Weaver::run_in(folder, &prefix, &["--", "sh", "-c", script]).finish();
    let sets = log.lines().map(|line| u64::from_str_radix(line.split_at(8).1, 16).unwrap());
    // Of 32 and 33 the C library keeps everybody's hands.
    let sets: Vec<u64> = sets.map(|set| set & !(3 << 31)).collect();
    assert_eq!(sets, [0, 0], "{log}");
}

#[test]
fn orphans_are_reaped_by_the_first_process() {
    // 50 orphans that end at once, and then a look at what is left in this pid namespace.
    let script = "for i in $(seq 50); do (sh -c 'exit 0' &) ; done; \
        while grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | grep -q .; do sleep 0.05; done; \
        cat /proc/1/comm; echo none";
    let prefix = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    let (code, log) = Weaver::run_under(&prefix, &["--", "sh", "-c", script]).finish();
    assert_eq!((code, log.as_str()), (0, "loom-host\r\nnone\r\n"));
}

/// Kilobytes of memory that the host holds.
fn memory(weaver: &Weaver) -> u64 {
    let path = format!("/proc/{}/status", weaver.host.id());
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_flood_with_a_slow_viewer_is_bounded_and_has_a_marked_gap() {
    let script = "read go; seq 12000000; echo en''d; read stay";
    let mut weaver = Weaver::run(&["--", "sh", "-c", script]);
    let mut slow = weaver.attach("slow");
    let mut fast = weaver.attach("fast");
    fast.type_in("\r");
    // Nobody reads the log either.
    fast.wait_until(|viewer| viewer.at >= 100_000_000);
    fast.wait_for("end\r\n");
    assert_eq!(fast.lost, 0);
    slow.wait_for("end");
    assert!(slow.lost > 50_000_000, "{}", slow.lost);
    assert!(memory(&weaver) < 40_000, "{} kB", memory(&weaver));
    let mut some = [0; 16];
    weaver.host.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
}

#[test]
fn connect_pumps_and_ready_tells() {
    let folder = tempfile::tempdir().unwrap();
    let status = command(&folder, &[], &["ready"]).output().unwrap();
    assert_eq!(status.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&status.stderr).lines().count(), 1);
    // A relay may come before the host.
    let mut early = command(&folder, &[], &["connect"]);
    let mut early = early.stdin(Stdio::piped()).spawn().unwrap();
    let weaver = Weaver::run_in(folder, &[], &["--", "sh", "-c", "read x; echo got $x; read y"]);
    until("ready", || {
        command(&weaver.folder, &[], &["ready"]).status().unwrap().success().then_some(())
    });
    let mut bytes = bytes::BytesMut::new();
    wire::link::Record::Open(1, from_start()).put(&mut bytes);
    let typed = Frame::Input { offset: 0, data: "hello\r".into() };
    wire::link::Record::Frame(1, typed).put(&mut bytes);
    let (mut stdin, mut stdout) = (early.stdin.take().unwrap(), early.stdout.take().unwrap());
    stdin.write_all(&bytes).unwrap();
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("got hello") {
        let mut some = [0; 4096];
        let read = stdout.read(&mut some).unwrap();
        assert!(read > 0);
        got.extend_from_slice(&some[..read]);
    }
    drop(stdin);
    assert!(early.wait().unwrap().success());
}
