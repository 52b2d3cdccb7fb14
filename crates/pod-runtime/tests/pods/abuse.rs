//! What a pod must not see or do: the row "from inside a pod" of the list of abuses.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;

use libtest_mimic::Failed;
use pod_runtime::spec::Network;

use super::fixture::{Bench, code, exec, inside, marker, pod, sh, told};
use super::{Needs, Test};

macro_rules! refused_calls {
    ($($test:ident $call:literal $errno:literal,)*) => {
        $(fn $test() -> Result<(), Failed> { refused($call, $errno) })*
        const REFUSED: &[Test] = &[$((stringify!($test), Needs::Nothing, $test),)*];
    };
}

refused_calls! {
    mount_is_refused "mount" "EPERM",
    umount_is_refused "umount" "EPERM",
    fsopen_is_refused "fsopen" "EPERM",
    pivot_root_is_refused "pivot_root" "EPERM",
    unshare_is_refused "unshare" "EPERM",
    clone_into_a_namespace_is_refused "clone" "EPERM",
    clone3_is_not_there "clone3" "ENOSYS",
    setns_is_refused "setns" "EPERM",
    ptrace_is_refused "ptrace" "EPERM",
    process_vm_readv_is_refused "process_vm_readv" "EPERM",
    keyctl_is_refused "keyctl" "EPERM",
    add_key_is_refused "add_key" "EPERM",
    bpf_is_refused "bpf" "EPERM",
    perf_event_open_is_refused "perf_event_open" "EPERM",
    io_uring_is_refused "io_uring" "EPERM",
    userfaultfd_is_refused "userfaultfd" "EPERM",
    open_by_handle_at_is_refused "open_by_handle_at" "EPERM",
    reboot_is_refused "reboot" "EPERM",
    syslog_is_refused "syslog" "EPERM",
    vsock_is_refused "vsock" "EPERM",
    alg_sockets_are_refused "alg" "EPERM",
    packet_sockets_are_refused "packet" "EPERM",
    typing_into_a_terminal_is_refused "tiocsti" "EPERM",
    x32_calls_are_not_there "x32" "ENOSYS",
}

const SEEN: &[Test] = &[
    ("host_processes_are_not_there", Needs::Nothing, host_processes_are_not_there),
    ("root_home_is_not_there", Needs::Nothing, root_home_is_not_there),
    ("host_homes_are_not_there", Needs::Nothing, host_homes_are_not_there),
    ("shadow_and_keys_are_not_there", Needs::Nothing, shadow_and_keys_are_not_there),
    ("other_folders_of_the_host_are_not_there", Needs::Nothing, other_folders_are_not_there),
    ("abstract_sockets_are_not_there", Needs::Nothing, abstract_sockets_are_not_there),
    ("loopback_services_are_not_there", Needs::Nothing, loopback_services_are_not_there),
    ("loopback_services_are_not_behind_the_network", Needs::Tun, loopback_not_behind_the_network),
    ("services_on_all_addresses_are_not_behind_it", Needs::Tun, services_on_all_addresses_are_not),
    ("metadata_is_refused", Needs::Tun, metadata_is_refused),
    ("other_pods_files_are_not_there", Needs::Nothing, other_pods_files_are_not_there),
    ("no_capability_is_left", Needs::Nothing, no_capability_is_left),
    ("root_inside_has_no_capability", Needs::Nothing, root_inside_has_no_capability),
    ("root_with_capabilities_stays_inside", Needs::Nothing, root_with_capabilities_stays_inside),
    ("proc_is_masked", Needs::Nothing, proc_is_masked),
    ("signals_stay_inside", Needs::Nothing, signals_stay_inside),
    ("set_user_id_programs_do_nothing", Needs::Nothing, set_user_id_programs_do_nothing),
    ("ids_outside_are_nobody_elses", Needs::Nothing, ids_outside_are_nobody_elses),
];

pub(crate) const TESTS: &[Test] = &{
    let mut all = [SEEN[0]; SEEN.len() + REFUSED.len()];
    let mut index = 0;
    while index < all.len() {
        all[index] = if index < SEEN.len() { SEEN[index] } else { REFUSED[index - SEEN.len()] };
        index += 1;
    }
    all
};

/// The first process and an exec are both refused.
fn refused(call: &str, errno: &str) -> Result<(), Failed> {
    let bench = Bench::new();
    let said = bench.inside(&["call", call]);
    assert!(said.starts_with(&format!("0: \"{errno}")), "{said}");
    let pod = bench.running(&pod(sh("exec sleep 999")));
    let argv = ["/run/loom/tools/loom-host", "inside", "call", call];
    let (_, said, _) = told(pod.exec(&exec(&argv)).unwrap(), b"");
    assert!(said.starts_with(&format!("\"{errno}")), "{said}");
    Ok(())
}

fn script_says(script: &str, expected: &str) -> Result<(), Failed> {
    let (code, output) = Bench::new().script(script);
    assert_eq!((code, output.as_str()), (0, expected));
    Ok(())
}

fn host_processes_are_not_there() -> Result<(), Failed> {
    // The shell, and nothing else that is not its child.
    script_says("for p in /proc/[0-9]*; do echo ${p#/proc/}; done", "1")
}

fn root_home_is_not_there() -> Result<(), Failed> {
    script_says("ls -A /root 2>/dev/null | wc -l", "0")
}

fn host_homes_are_not_there() -> Result<(), Failed> {
    script_says("ls -A /home", "loom")
}

fn shadow_and_keys_are_not_there() -> Result<(), Failed> {
    script_says(
        "for f in shadow shadow- gshadow sudoers sudoers.d ssh ssl/private machine-id npmrc; do \
         [ -e /etc/$f ] && echo $f; done; true",
        "",
    )
}

fn other_folders_are_not_there() -> Result<(), Failed> {
    script_says(
        "for f in /boot /srv /media /var/lib/loom /var/mail /var/run/docker.sock /run/user \
         /dev/net /dev/kvm /dev/vda /dev/sda /dev/mem /sys/fs /sys/kernel /sys/class; do \
         [ -e $f ] && echo $f; done; true",
        "",
    )
}

fn abstract_sockets_are_not_there() -> Result<(), Failed> {
    let name = format!("loom-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let said = Bench::new().inside(&["abstract", &name]);
    assert_eq!(said, r#"0: "ECONNREFUSED: Connection refused""#);
    Ok(())
}

fn loopback_services_are_not_there() -> Result<(), Failed> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let said = Bench::new().inside(&["connect", &listener.local_addr().unwrap().to_string()]);
    assert_eq!(said, r#"0: "ECONNREFUSED: Connection refused""#);
    Ok(())
}

fn connect_with_network(bench: &Bench, address: &str) -> String {
    let mut spec = pod(inside(&["connect", address]));
    spec.network = Network::User;
    let status = bench.finish(&spec);
    assert_eq!((status.network, code(&status)), (Network::User, 0));
    bench.output(&spec.id, "main")
}

/// Neither as 127.0.0.1 nor through the gateway.
fn loopback_not_behind_the_network() -> Result<(), Failed> {
    let bench = Bench::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for ip in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 117, 0, 1)] {
        let said = connect_with_network(&bench, &SocketAddr::from((ip, port)).to_string());
        assert_eq!(said, r#""ECONNREFUSED: Connection refused""#);
    }
    assert!(listener.accept().is_err());
    Ok(())
}

/// A service on all addresses of the machine is not reached by any of them; the question never
/// leaves the machine, because it is asked of one of its own addresses.
fn services_on_all_addresses_are_not() -> Result<(), Failed> {
    // Nothing is sent: the kernel only picks the address that it would send from.
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let picked = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
    let Ok(SocketAddr::V4(own)) = picked else {
        eprintln!("this machine has no address but loopback: nothing to refuse");
        return Ok(());
    };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let said = connect_with_network(&Bench::new(), &format!("{}:{port}", own.ip()));
    assert_eq!(said, r#""ECONNREFUSED: Connection refused""#);
    assert!(listener.accept().is_err());
    Ok(())
}

fn metadata_is_refused() -> Result<(), Failed> {
    let said = connect_with_network(&Bench::new(), "169.254.169.254:80");
    assert_eq!(said, r#""ECONNREFUSED: Connection refused""#);
    Ok(())
}

fn other_pods_files_are_not_there() -> Result<(), Failed> {
    let bench = Bench::new();
    let other = pod(sh("echo secret >/workspace/secret-of-another; exec sleep 999"));
    let other = bench.running(&other);
    let path = bench.state.display();
    let script = format!(
        "ls -d {path} 2>/dev/null; find / -xdev -name 'secret-of-another' 2>/dev/null; \
         grep -o secret-of-another -r /proc/self/mountinfo; true"
    );
    let (_, output) = bench.script(&script);
    assert_eq!(output, "");
    other.status().unwrap();
    Ok(())
}

const PRIVILEGES: &str = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status";
const NONE: &str = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
                    CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n\
                    CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2";

fn no_capability_is_left() -> Result<(), Failed> {
    script_says(PRIVILEGES, NONE)?;
    let bench = Bench::new();
    let pod = bench.running(&pod(sh("exec sleep 999")));
    let (_, said, _) = told(pod.exec(&exec(&["/bin/sh", "-c", PRIVILEGES])).unwrap(), b"");
    assert_eq!(said.trim(), NONE);
    Ok(())
}

fn root_inside_has_no_capability() -> Result<(), Failed> {
    let bench = Bench::new();
    let script = format!("id -u; {PRIVILEGES}; hostname x || mknod /tmp/x b 1 1 || chroot / true");
    let mut main = sh(&script);
    (main.uid, main.gid) = (0, 0);
    let spec = pod(main);
    assert_ne!(code(&bench.finish(&spec)), 0);
    let output = bench.output(&spec.id, "main");
    assert!(output.starts_with("0\n") && output.contains(NONE), "{output}");
    Ok(())
}

/// As who installs packages: more than nobody, and still nothing outside.
fn root_with_capabilities_stays_inside() -> Result<(), Failed> {
    let bench = Bench::new();
    let attempts = "exec 2>/dev/null; grep CapEff /proc/self/status; touch /f; read _ _ ids </proc/self/uid_map
        chown 7:7 /f || [ $ids = 1 ] && echo owned
        hostname x && echo named; mknod /tmp/x b 1 1 && echo device; chroot / true && echo rooted
        mount -t tmpfs x /mnt && echo mounted; umount /proc && echo bare; unshare -U true && echo apart
        nsenter -t 1 -m true && echo entered; head -c 10 /proc/kcore
        setpriv --reuid 65536 --clear-groups cat /proc/1/environ; setpriv --reuid 65536 ls /proc/1/fd
        for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/sys/net/ipv4/ip_forward; do
            (echo 1 >$f) && echo $f
        done; id -un; id -gn; echo done";
    let mut main = sh(attempts);
    (main.uid, main.gid) = (0, 0);
    // One that there is not is nobody's.
    main.capabilities = ["CHOWN", "SETUID", "SETGID", "NO_SUCH"].map(str::to_owned).to_vec();
    let spec = pod(main);
    assert_eq!(code(&bench.finish(&spec)), 0);
    let output = bench.output(&spec.id, "main");
    let lines: Vec<_> = output.lines().filter(|line| *line != "/proc/sysrq-trigger").collect();
    assert_eq!(lines, ["CapEff:\t00000000000000c1", "owned", "root", "root", "done"], "{output}");
    Ok(())
}

fn proc_is_masked() -> Result<(), Failed> {
    script_says(
        "cat /proc/kcore /proc/keys /proc/timer_list /proc/sysrq-trigger 2>/dev/null | wc -c; \
         for f in /proc/sys/kernel/hostname /proc/sys/vm/drop_caches /proc/sysrq-trigger \
         /proc/sys/net/ipv4/ip_forward; do \
         [ $f -ef /dev/null ] || { (echo 1 >$f) 2>/dev/null && echo $f; }; done; \
         cat /proc/self/cgroup | cut -d: -f3 | sort -u",
        "0\n/",
    )
}

/// To kill everything one may kill, kills only what is inside.
fn signals_stay_inside() -> Result<(), Failed> {
    let bench = Bench::new();
    let witness = bench.running(&pod(sh("exec sleep 999")));
    let (_, output) = bench.script("sleep 999 & kill -9 -1; wait; echo alone");
    assert_eq!(output, "alone");
    witness.status().unwrap();
    Ok(())
}

fn set_user_id_programs_do_nothing() -> Result<(), Failed> {
    let bench = Bench::new();
    let (_, output) = bench.script(
        "cp /usr/bin/id /tmp/id; chmod 4755 /tmp/id; /tmp/id -u; \
         awk '$5 == \"/\" || $5 == \"/usr\" {print $6}' /proc/self/mountinfo | grep -vc nosuid",
    );
    assert_eq!(output, "1000\n0");
    Ok(())
}

/// Processes of a pod have ids that nobody else on this machine uses; with a single id, ours.
fn ids_outside_are_nobody_elses() -> Result<(), Failed> {
    let bench = Bench::new();
    let marker = marker();
    let spec = pod(sh(&format!("exec sleep {marker}")));
    let pod = bench.running(&spec);
    super::fixture::eventually("it runs", || {
        !super::fixture::pids_with(&format!("sleep {marker}")).is_empty()
    });
    let pid = super::fixture::pids_with(&format!("sleep {marker}"))[0];
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    let uid: u32 = uid.split_whitespace().next().unwrap().parse().unwrap();
    let own = nix::unistd::geteuid().as_raw();
    if own == 0 {
        assert!(uid >= 0x2000_0000, "{uid}");
    } else {
        assert!(uid == own || uid >= 65536, "{uid}");
    }
    pod.status().unwrap();
    Ok(())
}
