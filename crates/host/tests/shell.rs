//! The user's shell on its terminal, as viewers see it.

mod common;

use common::{Weaver, until};
use wire::frame::{Frame, Size};
use wire::link::{Open, Record, Resume};

#[test]
fn typing_is_echoed_and_the_environment_is_there() {
    let weaver = Weaver::run(&[]);
    let mut viewer = weaver.attach("a");
    viewer.type_in("echo id=$LOOM_WEAVER_ID home=$HOME shell=$SHELL\r");
    viewer.wait_for("home=$HOME");
    let home = weaver.folder.path().display();
    viewer.wait_for(&format!("id=W-test home={home} shell=/bin/bash"));
    viewer.type_in("pwd; tty; env | grep -c LOOM_HOST\r");
    viewer.wait_for("/workspace\r\n/dev/pts/");
    viewer.wait_for("\r\n0\r\n");
    viewer.wait_until(|viewer| viewer.confirmed == viewer.typed);
}

/// Whatever this machine's /etc/profile does with it: Debian's sets it anew.
#[test]
fn a_login_shell_has_its_files_read_and_the_images_path() {
    let tools = std::path::Path::new(env!("CARGO_BIN_EXE_loom-host")).parent().unwrap();
    for (shell, profile) in [("/bin/bash", ".bash_profile"), ("/bin/sh", ".profile")] {
        let folder = tempfile::tempdir().unwrap();
        let text = "export FROM_PROFILE=read PATH=\"$HOME/bin:$PATH\"\n";
        std::fs::write(folder.path().join(profile), text).unwrap();
        let shell = format!("SHELL={shell}");
        let mut weaver = Weaver::run_in(folder, &["env", &shell], &[]);
        let mut viewer = weaver.attach("a");
        viewer.type_in("echo $FROM_PROFILE; case $- in *i*) echo inter''active;; esac\r");
        viewer.wait_for("read\r\ninteractive");
        viewer.type_in("echo \"$PATH\" | tr : '\\n' | grep -nE 'of-the-image|debug|^/usr/bin$'\r");
        viewer.wait_for("/of-the-image/bin\r\n");
        viewer.wait_for("/usr/bin\r\n");
        viewer.wait_for(&format!("{}\r\n", tools.display()));
        viewer.type_in("exit\r");
        weaver.host.kill().unwrap();
    }
}

#[test]
fn the_size_is_the_smallest_writers() {
    let weaver = Weaver::run(&[]);
    let mut first = weaver.open(Open { size: Some((50, 132)), ..Open::default() });
    first.type_in("stty size\r");
    first.wait_for("50 132");
    let mut second = weaver.open(Open { size: Some((30, 200)), ..Open::default() });
    first.wait_until(|viewer| viewer.size == Some(Size { rows: 30, cols: 132 }));
    second.send(Frame::Resize(Size { rows: 20, cols: 90 }));
    first.wait_until(|viewer| viewer.size == Some(Size { rows: 20, cols: 90 }));
    first.type_in("stty size\r");
    first.wait_for("20 90");
    drop(second);
    first.wait_until(|viewer| viewer.size == Some(Size { rows: 50, cols: 132 }));
}

#[test]
fn two_viewers_see_the_same_and_a_newcomer_the_present_screen() {
    let weaver = Weaver::run(&[]);
    let (mut first, mut second) = (weaver.attach("a"), weaver.attach("b"));
    first.type_in("printf '\\033[31m%s\\033[0m\\n' 'one''two'\r");
    for viewer in [&mut first, &mut second] {
        viewer.wait_for("onetwo");
    }
    second.type_in("echo three''four\r");
    for viewer in [&mut first, &mut second] {
        viewer.wait_for("threefour");
    }
    let mut newcomer = weaver.attach("c");
    newcomer.wait_for("onetwo");
    newcomer.wait_for("threefour");
}

#[test]
fn ctrl_c_reaches_the_program() {
    let weaver = Weaver::run(&[]);
    let mut viewer = weaver.attach("a");
    viewer.type_in("echo st''art; cat\r");
    viewer.wait_for("start\r\n");
    viewer.type_in("x\r");
    viewer.wait_for("x\r\nx\r\n");
    viewer.type_in("\x03");
    viewer.wait_for("$ ");
    viewer.type_in("echo after=$?\r");
    viewer.wait_for("after=130");
}

#[test]
fn exit_detaches_and_the_next_viewer_gets_a_fresh_shell() {
    let mut weaver = Weaver::run(&[]);
    let mut first = weaver.attach("a");
    first.type_in("old=1; exit\r");
    assert_eq!(first.wait_for_end(), Frame::Left { why: "exit".into() });
    let mut second = weaver.attach("a");
    assert_ne!(second.hello.session, first.hello.session);
    assert_eq!(second.hello.input, 0);
    second.type_in("echo old=$old.\r");
    second.wait_for("old=.");
    let session = hex(&first.hello.session);
    let resume = Some(Resume { session, offset: 3 });
    let mut stale = weaver.open(Open { resume, ..Open::default() });
    stale.wait_for("old=.");
    assert_eq!(stale.hello.session, second.hello.session);
    assert!(weaver.host.try_wait().unwrap().is_none());
}

#[test]
fn leave_detaches_from_the_shell_only() {
    let weaver = Weaver::run(&[]);
    let (mut viewer, mut other) = (weaver.attach("a"), weaver.attach("b"));
    viewer.type_in("echo st''art; cat; echo cat en''ded\r");
    viewer.wait_for("start\r\n");
    viewer.type_in("seen\r");
    viewer.wait_for("seen\r\nseen\r\n");
    viewer.ask_leave();
    viewer.wait_for("cat ended\r\n");
    viewer.wait_for("$ ");
    viewer.type_in("half");
    viewer.wait_for("half");
    viewer.ask_leave();
    viewer.type_in("\x15echo still''here\r");
    viewer.wait_for("stillhere");
    viewer.ask_leave();
    assert_eq!(viewer.wait_for_end(), Frame::Left { why: "leave".into() });
    other.wait_for("stillhere");
    other.type_in("echo on''going\r");
    other.wait_for("ongoing");
}

#[test]
fn a_client_resumes_without_gap_or_duplicate() {
    let weaver = Weaver::run(&[]);
    let mut viewer = weaver.attach("a");
    viewer.type_in("echo be''fore\r");
    viewer.wait_for("before");
    let (session, offset, typed) = (hex(&viewer.hello.session), viewer.at, viewer.typed);
    drop(viewer);
    let mut other = weaver.attach("b");
    other.type_in("echo mean''while\r");
    other.wait_for("meanwhile");
    let resume = Some(Resume { session, offset });
    let mut viewer = weaver.open(Open { client: "a".into(), resume, ..Open::default() });
    assert_eq!((viewer.at, viewer.hello.input), (offset, typed));
    // Sent again, as if the acknowledgement had been lost, and then something new.
    let data = "echo be''fore\recho new''er\r".into();
    viewer.send(Frame::Input { offset: 0, data });
    viewer.wait_for("newer");
    assert_eq!(viewer.lost, 0);
    assert_eq!(viewer.text().matches("before").count(), 0);
}

#[test]
fn many_viewers_share_a_connection() {
    let weaver = Weaver::run(&[]);
    let mut link = weaver.link();
    for id in 0..20 {
        link.send(&Record::Open(id, Open::default()));
    }
    let typed = Frame::Input { offset: 0, data: "echo all''ofus\r".into() };
    link.send(&Record::Frame(7, typed));
    let mut seen = [const { Vec::new() }; 20];
    while !seen.iter().all(|shown| String::from_utf8_lossy(shown).contains("allofus")) {
        if let Some(Record::Frame(id, Frame::Output { data, .. })) = link.next() {
            seen[id as usize].extend_from_slice(&data);
        }
    }
}

#[test]
fn garbage_closes_only_its_connection() {
    let weaver = Weaver::run(&[]);
    let mut good = weaver.attach("a");
    for bytes in [
        &[0xff_u8; 64][..],
        &[0, 0, 0, 0],
        &[0, 0, 0, 5, 9, 0, 0, 0, 1],
        b"\0\0\0\x07\x01\0\0\0\x01{]",
        b"\0\0\0\x07\x02\0\0\0\x01ab",
    ] {
        let mut bad = weaver.link();
        bad.send_raw(bytes);
        assert_eq!(bad.next(), None, "{bytes:?}");
    }
    let mut twice = weaver.link();
    twice.send(&Record::Open(1, Open::default()));
    twice.send(&Record::Open(1, Open::default()));
    while twice.next().is_some() {}
    good.type_in("echo al''ive\r");
    good.wait_for("alive");
}

#[test]
fn the_socket_belongs_to_its_user() {
    use std::os::unix::fs::PermissionsExt;
    let weaver = Weaver::run(&[]);
    drop(weaver.link());
    let mode = || Some(std::fs::metadata(weaver.socket()).ok()?.permissions().mode() & 0o777);
    until("the mode", || mode().filter(|mode| *mode == 0o600));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn ctrl_c_overtakes_what_nobody_reads() {
    let weaver = Weaver::run(&[]);
    let mut viewer = weaver.attach("a");
    viewer.type_in("sh -c 'stty -echo; echo st\"\"uck; exec sleep 1000'\r");
    viewer.wait_for("stuck\r\n");
    let line = "pasted 01234567890123456789\r";
    viewer.type_in(&line.repeat(200_000 / line.len()));
    viewer.type_in("\x03");
    viewer.wait_for("$ ");
    viewer.wait_until(|viewer| viewer.confirmed == viewer.typed);
    viewer.type_in("echo co''de=$?\r");
    viewer.wait_for("code=130\r\n");
    assert!(!viewer.text().contains("pasted"), "{}", viewer.text());
}

#[test]
fn ctrl_c_is_a_byte_like_others_for_a_program_that_wants_it() {
    let weaver = Weaver::run(&[]);
    let mut viewer = weaver.attach("a");
    let script = "stty raw -echo; echo st''uck; sleep 0.5; head -c 200001 | tail -c 1 | od -c\r";
    viewer.type_in(script);
    viewer.wait_for("stuck");
    viewer.type_in(&"x".repeat(200_000));
    viewer.type_in("\x03");
    viewer.wait_for("003");
}
