//! Makes the namespaces and starts the roles.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Makes the TUN inside the pod's namespace, then becomes the host role outside of it.
const OPEN_TUN: &str = r#"
use strict; use warnings;
my ($program, $host) = @ARGV;
open(my $tun, '+<', '/dev/net/tun') or die "/dev/net/tun: $!\n";
my $request = pack('a16 s x22', 'tun0', 0x5001);            # IFF_TUN | IFF_NO_PI | IFF_VNET_HDR
ioctl($tun, 0x400454ca, $request) or die "TUNSETIFF: $!\n";
ioctl($tun, 0x400454d0, 1) or die "TUNSETOFFLOAD: $!\n";    # TUN_F_CSUM
for my $words ('link set lo up', 'addr add 10.117.0.2/24 dev tun0',
               'link set tun0 addrgenmode none', 'link set tun0 mtu 65520 up',
               'route add default via 10.117.0.1',
               'addr add fd00:10:117::a75:2/64 dev tun0',
               'route add default via fd00:10:117::1') {
    system('ip', split(' ', $words)) == 0 or die "ip $words\n";
}
open(STDIN, '+<&', $tun) or die "dup: $!\n";
exec('nsenter', '-t', $host, '-n', $program) or die "nsenter: $!\n";
"#;

/// Addresses of "the host", all its own, so that whatever is sent to them stays inside. The
/// link-local ones and the one of the pod's subnet are there to be refused.
const HOST_ADDRESSES: [&str; 5] =
    ["192.0.2.1/32", "169.254.169.254/32", "169.254.1.1/32", "10.117.0.77/32", "240.0.0.1/32"];

/// The same of IPv6. The first one and a mapped one lead to services; the others are refused.
pub(crate) const HOST_ADDRESSES_6: [&str; 10] = [
    "2001:2::1",
    "fd00:10:117::77",
    "fd12::1",
    "fd00:ec2::254",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::1",
    "2001:0:c000:201::80ff:fffe",
    "2001:db8::1",
    "fec0::1",
];

/// After this time a case has certainly failed, on however busy a machine.
const CASE_SECONDS: &str = "180";

/// Runs one case in fresh namespaces; the error says what went wrong in words.
pub(crate) fn run(case: &str) -> Result<(), String> {
    // A hanging case fails with all of its processes.
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", CASE_SECONDS, "unshare", "-U", "-r", "-n"]).arg(program());
    command.env("NETSTACK_ROLE", "namespace").env("NETSTACK_CASE", case);
    // As the crate's documentation asks of its callers.
    command.env("MALLOC_MMAP_THRESHOLD_", "65536");
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("unshare: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{}\n{said}", output.status)) }
}

/// The role inside the new user and network namespace.
pub(crate) fn in_namespace() -> ExitCode {
    ip(&["link", "set", "lo", "up"]);
    for address in HOST_ADDRESSES {
        ip(&["addr", "add", address, "dev", "lo"]);
    }
    for address in HOST_ADDRESSES_6 {
        ip(&["addr", "add", &format!("{address}/128"), "dev", "lo"]);
    }
    let mut pod = PodNamespace::new();
    let own = std::process::id().to_string();
    let mut command = Command::new("nsenter");
    command.args(["-t", &pod.id(), "-n", "perl", "-e", OPEN_TUN]).arg(program()).arg(own);
    command.env("NETSTACK_ROLE", "host").env("NETSTACK_POD", pod.id());
    let status = command.status().expect("nsenter is there");
    pod.end();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ip(words: &[&str]) {
    let status = Command::new("ip").args(words).status().expect("ip is there");
    assert!(status.success(), "ip {}", words.join(" "));
}

/// Holds the pod's namespace open by a process that waits on a pipe.
struct PodNamespace(Child);

impl PodNamespace {
    fn new() -> Self {
        let child = Command::new("unshare").args(["-n", "cat"]).stdin(Stdio::piped()).spawn();
        let pod = Self(child.expect("unshare is there"));
        let deadline = deadline();
        while namespace(&pod.id()) == namespace("self") {
            assert!(!passed(deadline), "the pod's namespace does not appear");
            std::thread::yield_now();
        }
        pod
    }

    fn id(&self) -> String {
        self.0.id().to_string()
    }

    fn end(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("the child is ours");
    }
}

impl Drop for PodNamespace {
    fn drop(&mut self) {
        self.end();
    }
}

/// Another machine on a network of the host: a namespace at the other end of a veth.
pub(crate) struct Neighbour(PodNamespace);

impl Neighbour {
    pub(crate) const HOST_SIDE: &'static str = "198.51.100.1";
    pub(crate) const BROADCAST: &'static str = "198.51.100.255";
    pub(crate) const LOCAL_RANGE: &'static str = "203.0.113.77";
    pub(crate) const ADDRESS: &'static str = "198.51.100.2";
    pub(crate) const SERVER: &'static str = "198.51.100.2:7000";
    pub(crate) const HOST_SIDE_6: &'static str = "2001:2:0:1::1";
    pub(crate) const ADDRESS_6: &'static str = "2001:2:0:1::2";
    pub(crate) const SERVER_6: &'static str = "[2001:2:0:1::2]:7000";

    pub(crate) fn new() -> Self {
        let other = PodNamespace::new();
        let id = other.id();
        ip(&["link", "add", "lan0", "type", "veth", "peer", "name", "lan1", "netns", &id]);
        ip(&["addr", "add", "198.51.100.1/24", "broadcast", "198.51.100.255", "dev", "lan0"]);
        ip(&["addr", "add", "2001:2:0:1::1/64", "dev", "lan0", "nodad"]);
        ip(&["link", "set", "lan0", "up"]);
        ip(&["route", "add", "local", "203.0.113.0/24", "dev", "lo"]);
        for words in [
            ["addr", "add", "198.51.100.2/24", "dev", "lan1"].as_slice(),
            &["addr", "add", "2001:2:0:1::2/64", "dev", "lan1", "nodad"],
            &["link", "set", "lan1", "up"],
        ] {
            let mut command = Command::new("nsenter");
            let status = command.args(["-t", &id, "-n", "ip"]).args(words).status();
            assert!(status.expect("nsenter is there").success(), "ip {words:?}");
        }
        Self(other)
    }

    /// Gives the host a way to the world, and it to the host.
    pub(crate) fn routes_ipv6(&self) {
        ip(&["-6", "route", "add", "default", "via", Self::ADDRESS_6]);
    }

    /// Answers one connection at [`Neighbour::SERVER`], or the other one.
    pub(crate) fn serve(&self, address: &str) -> Server {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id(), "-n"]).arg(program());
        command.args(["answer-once", address]).env("NETSTACK_ROLE", "pod");
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut server = Server(child.expect("nsenter is there"));
        let mut line = String::new();
        let said = server.0.stdout.as_mut().expect("it is piped");
        BufReader::new(said).read_line(&mut line).expect("it speaks");
        assert_eq!(line, "listening\n");
        server
    }
}

/// A server of the neighbour.
pub(crate) struct Server(Child);

impl Server {
    /// Waits for its one connection to end.
    pub(crate) fn end(mut self) {
        assert!(self.0.wait().expect("the child is ours").success());
    }
}

fn namespace(process: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/net")).ok()
}

/// Runs the pod role with `words` in the pod's namespace and returns what it prints.
pub(crate) fn in_pod(words: &[&str]) -> String {
    let pod = std::env::var("NETSTACK_POD").expect("the host role is told its pod");
    let mut command = Command::new("nsenter");
    command.args(["-t", &pod, "-n"]).arg(program()).args(words);
    let output = command.env("NETSTACK_ROLE", "pod").stdin(Stdio::null()).output();
    let output = output.expect("nsenter is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the pod failed at {words:?}: {said}");
    String::from_utf8(output.stdout).expect("the pod prints text").trim().to_owned()
}

/// Runs any program in the pod's namespace and returns what it prints, however it ends.
pub(crate) fn run_in_pod(words: &[&str]) -> String {
    let pod = std::env::var("NETSTACK_POD").expect("the host role is told its pod");
    let mut command = Command::new("nsenter");
    let output = command.args(["-t", &pod, "-n"]).args(words).stdin(Stdio::null()).output();
    let output = output.expect("nsenter is there");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8(said).expect("programs print text")
}

/// Lets the user of these namespaces open ping sockets in the calling one.
pub(crate) fn allow_ping() {
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").expect("the namespace is ours");
}

/// Lets this process open as many files as it ever may: a usual soft limit is 1,024.
pub(crate) fn more_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, limit).expect("the soft limit may be raised");
}

pub(crate) fn program() -> PathBuf {
    std::env::current_exe().expect("this program has a path")
}

/// A point in time after which something has certainly failed.
#[expect(clippy::disallowed_methods, reason = "a test's deadline")]
pub(crate) fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[expect(clippy::disallowed_methods, reason = "a test's deadline")]
pub(crate) fn passed(deadline: Instant) -> bool {
    Instant::now() > deadline
}
