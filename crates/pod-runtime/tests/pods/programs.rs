//! Programs started in a running container, and what they find there.

use std::io::{Read, Write};

use libtest_mimic::Failed;
use pod_runtime::Error;
use pod_runtime::spec::{Image, Network};

use super::fixture::{
    Bench, code, container, eventually, exec, inside, marker, pids_with, pod, sh, told,
};
use super::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("exec_gives_streams_and_code", Needs::Nothing, exec_gives_streams_and_code),
    ("exec_of_a_missing_program_says_so", Needs::Nothing, exec_of_a_missing_program_says_so),
    ("exec_runs_as_the_container", Needs::Nothing, exec_runs_as_the_container),
    ("exec_with_a_terminal_has_a_name_and_a_size", Needs::Nothing, exec_with_a_terminal),
    ("ctrl_c_reaches_the_foreground", Needs::Nothing, ctrl_c_reaches_the_foreground),
    ("a_container_may_have_a_terminal", Needs::Nothing, a_container_may_have_a_terminal),
    ("leaving_an_exec_ends_its_program", Needs::Nothing, leaving_an_exec_ends_its_program),
    ("the_user_is_somebody", Needs::Nothing, the_user_is_somebody),
    ("the_program_is_the_first_process", Needs::Nothing, the_program_is_the_first_process),
    ("only_three_descriptors_are_open", Needs::Nothing, only_three_descriptors_are_open),
    ("a_tools_image_runs_alone", Needs::Nothing, a_tools_image_runs_alone),
    ("homes_and_tmp_are_writable", Needs::Nothing, homes_and_tmp_are_writable),
    ("a_read_only_root_refuses_writes", Needs::Nothing, a_read_only_root_refuses_writes),
    ("an_ordinary_program_may_ping", Needs::Tun, an_ordinary_program_may_ping),
    ("the_network_has_an_address_and_a_resolver", Needs::Tun, the_network_has_an_address),
];

fn exec_gives_streams_and_code() -> Result<(), Failed> {
    let bench = Bench::new();
    let pod = bench.running(&pod(sh("exec sleep 999")));
    let mut spec = exec(&["/bin/sh", "-c", "cat; echo err >&2; exit 5"]);
    spec.stdin = true;
    let end = told(pod.exec(&spec).unwrap(), b"from outside");
    assert_eq!(end, (5, "from outside".to_owned(), "err\n".to_owned()));
    Ok(())
}

fn exec_of_a_missing_program_says_so() -> Result<(), Failed> {
    let bench = Bench::new();
    let pod = bench.running(&pod(sh("exec sleep 999")));
    // Often: that it cannot be started and that its process has ended come by two threads.
    for _ in 0..500 {
        let error = pod.exec(&exec(&["nope"])).unwrap_err();
        assert_eq!(error.to_string(), r#"exec: "nope": executable file not found in $PATH"#);
    }
    let mut other = exec(&["true"]);
    other.container = "other".to_owned();
    assert!(matches!(pod.exec(&other), Err(Error::NotRunning(name)) if name == "other"));
    Ok(())
}

fn exec_runs_as_the_container() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("exec sleep 999");
    main.env.push(("COLOUR".to_owned(), "blue".to_owned()));
    let pod = bench.running(&pod(main));
    let script = "echo $COLOUR; pwd; id -u; umask; hostname";
    let (_, out, err) = told(pod.exec(&exec(&["/bin/sh", "-c", script])).unwrap(), b"");
    assert_eq!((out.as_str(), err.as_str()), ("blue\n/workspace\n1000\n0022\nweaver-test\n", ""));
    Ok(())
}

/// Reads a terminal until the text has come.
fn read_until(terminal: &mut std::fs::File, text: &str) -> String {
    let (mut seen, mut buffer) = (String::new(), [0; 1024]);
    while !seen.contains(text) {
        let count = terminal.read(&mut buffer).unwrap_or_else(|error| panic!("{seen:?}: {error}"));
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    seen
}

fn exec_with_a_terminal() -> Result<(), Failed> {
    let bench = Bench::new();
    let pod = bench.running(&pod(sh("exec sleep 999")));
    let mut spec = exec(&["/bin/sh", "-c", "tty; read line; stty size; echo =$line="]);
    (spec.tty, spec.stdin) = (true, true);
    let exec = pod.exec(&spec).unwrap();
    let mut terminal = std::fs::File::from(exec.stdout.try_clone().unwrap());
    assert!(read_until(&mut terminal, "\n").starts_with("/dev/pts/"));
    exec.resize(33, 101).unwrap();
    let input = exec.stdin.as_ref().unwrap().try_clone().unwrap();
    eventually("the size has arrived", || {
        rustix::termios::tcgetwinsize(&input).unwrap().ws_col == 101
    });
    std::fs::File::from(input).write_all(b"word\n").unwrap();
    assert!(read_until(&mut terminal, "=word=").contains("33 101"));
    assert_eq!(exec.wait().unwrap(), 0);
    Ok(())
}

fn ctrl_c_reaches_the_foreground() -> Result<(), Failed> {
    let bench = Bench::new();
    let pod = bench.running(&pod(sh("exec sleep 999")));
    let mut spec = exec(&["/bin/sh", "-c", "echo go; exec sleep 999"]);
    (spec.tty, spec.stdin) = (true, true);
    let exec = pod.exec(&spec).unwrap();
    let mut terminal = std::fs::File::from(exec.stdout.try_clone().unwrap());
    read_until(&mut terminal, "go");
    terminal.write_all(b"\x03").unwrap();
    assert_eq!(exec.wait().unwrap(), 130);
    Ok(())
}

fn a_container_may_have_a_terminal() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("tty; [ -t 0 ] && [ -t 2 ] && echo all");
    (main.tty, main.stdin) = (true, true);
    let spec = pod(main);
    assert_eq!(code(&bench.finish(&spec)), 0);
    let output = bench.output(&spec.id, "main").replace('\r', "");
    assert!(output.starts_with("/dev/pts/") && output.ends_with("\nall"), "{output:?}");
    Ok(())
}

fn leaving_an_exec_ends_its_program() -> Result<(), Failed> {
    let bench = Bench::new();
    let pod = bench.running(&pod(sh("exec sleep 999")));
    let marker = marker();
    let left = pod.exec(&exec(&["sleep", &marker])).unwrap();
    let stubborn = format!("trap '' HUP; sleep 8{marker}; sleep 9{marker}");
    let stubborn = pod.exec(&exec(&["/bin/sh", "-c", &stubborn])).unwrap();
    eventually("both run", || pids_with(&format!("sleep {marker}")).len() == 1);
    drop(left);
    drop(stubborn);
    eventually("both are gone", || pids_with(&marker).is_empty());
    pod.status().unwrap();
    Ok(())
}

fn the_user_is_somebody() -> Result<(), Failed> {
    let bench = Bench::new();
    let (code, output) = bench.script("id -un; id -gn; cd; pwd; getent hosts weaver-test | wc -l");
    assert_eq!((code, output.as_str()), (0, "loom\nloom\n/home/loom\n1"));
    Ok(())
}

fn the_program_is_the_first_process() -> Result<(), Failed> {
    let bench = Bench::new();
    let (code, output) = bench.script("echo $$; ls -d /proc/[0-9]* | wc -l");
    assert_eq!(code, 0);
    assert!(output.starts_with("1\n"), "{output}");
    Ok(())
}

fn only_three_descriptors_are_open() -> Result<(), Failed> {
    let bench = Bench::new();
    let spec = pod(sh("exec sleep 999"));
    let pod = bench.running(&spec);
    let list = ["/bin/ls", "/proc/1/fd", "/proc/self/fd"];
    let (_, out, err) = told(pod.exec(&exec(&list)).unwrap(), b"");
    // The fourth is the folder that is being listed.
    let both = "/proc/1/fd:\n0\n1\n2\n\n/proc/self/fd:\n0\n1\n2\n3\n";
    assert_eq!((out.as_str(), err.as_str()), (both, ""));
    Ok(())
}

fn a_tools_image_runs_alone() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = container("main", &["/loom-host", "inside", "allocate", "1"]);
    (main.image, main.mounts) = (Image::Tools, Vec::new());
    let spec = pod(main);
    assert_eq!(code(&bench.finish(&spec)), 0);
    assert_eq!(bench.output(&spec.id, "main"), "1\ndone");
    Ok(())
}

fn homes_and_tmp_are_writable() -> Result<(), Failed> {
    let bench = Bench::new();
    let (code, output) = bench.script(
        "set -e; for d in /home/loom /workspace /tmp /var/tmp /dev/shm; do echo x >$d/x; done; \
         stat -c %a /tmp; test ! -w /usr; (echo x >/usr/x) 2>/dev/null || echo refused",
    );
    assert_eq!(code, 0, "{output}");
    assert!(output.starts_with("1777\n") && output.ends_with("refused"), "{output}");
    Ok(())
}

fn a_read_only_root_refuses_writes() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("touch /tmp/x /workspace/x 2>/dev/null && exit 9; touch /dev/shm/x");
    main.read_only_root = true;
    assert_eq!(code(&bench.finish(&pod(main))), 0);
    Ok(())
}

fn an_ordinary_program_may_ping() -> Result<(), Failed> {
    let bench = Bench::new();
    // Not busybox' ping, which asks for a raw socket and no other.
    let ping = r#"
        cat /proc/sys/net/ipv4/ping_group_range /proc/self/gid_map
        exec perl -MSocket -e '
            socket(S, AF_INET, SOCK_DGRAM, 1) or die "socket: $!\n";
            send(S, pack("CCnnn", 8, 0, 0, 0, 7) . "hello", 0, pack_sockaddr_in(0, inet_aton("10.117.0.1")));
            alarm 20; recv(S, my $answer, 100, 0); print substr($answer, 8), " answered\n";'"#;
    let mut spec = pod(sh(ping));
    spec.network = Network::User;
    let code = code(&bench.finish(&spec));
    let output = bench.output(&spec.id, "main");
    assert!(code == 0 && output.contains("hello answered"), "{output}");
    Ok(())
}

fn the_network_has_an_address() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("cat /etc/resolv.conf /etc/hosts; cat /proc/net/route /proc/net/dev");
    main.mounts.clear();
    let mut spec = pod(main);
    spec.network = Network::User;
    let status = bench.finish(&spec);
    assert_eq!(status.network, Network::User);
    let ip = status.ip.unwrap().to_string();
    let output = bench.output(&spec.id, "main");
    assert!(output.contains("nameserver 10.") && output.contains(&ip), "{output}");
    assert!(output.contains("eth0\t00000000"), "{output}");
    // The gateway answers, and refuses.
    let mut refused = pod(inside(&["connect", "10.117.0.1:80"]));
    refused.network = Network::User;
    bench.finish(&refused);
    assert_eq!(bench.output(&refused.id, "main"), r#""ECONNREFUSED: Connection refused""#);
    Ok(())
}
