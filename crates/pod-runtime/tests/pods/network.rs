//! Pods that talk to each other.

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;
use pod_runtime::Pod;
use pod_runtime::spec::{Network, PodSpec};

use super::fixture::{Bench, eventually, exec, inside, pod, sh, told};
use super::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("pods_reach_each_other", Needs::Tun, pods_reach_each_other),
    ("who_has_ended_is_not_reached", Needs::Tun, who_has_ended_is_not_reached),
    ("ipv6_is_there_where_the_host_has_it", Needs::Root, ipv6_is_there_where_the_host_has_it),
    ("pods_of_another_state_folder_are_not_reached", Needs::Tun, strangers_are_not_reached),
];

/// A pod that answers on port 7000, when it does.
fn server(bench: &Bench) -> (PodSpec, Pod, IpAddr) {
    let mut spec = pod(inside(&["echo", "7000"]));
    spec.network = Network::User;
    let pod = bench.running(&spec);
    eventually("it listens", || bench.output(&spec.id, "main").contains("ready"));
    let address = pod.status().unwrap().ip.unwrap();
    (spec, pod, address)
}

fn client(bench: &Bench) -> Pod {
    let mut spec = pod(sh("exec sleep 999"));
    spec.network = Network::User;
    bench.running(&spec)
}

fn says(pod: &Pod, args: &[&str]) -> String {
    let argv = inside(args).argv;
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    told(pod.exec(&exec(&argv)).unwrap(), b"").1
}

const REFUSED: &str = "\"ECONNREFUSED: Connection refused\"\n";

fn pods_reach_each_other() -> Result<(), Failed> {
    let bench = Bench::new();
    let ((_, one, first), (_, two, second)) = (server(&bench), server(&bench));
    assert_ne!(first, second);
    std::thread::scope(|scope| {
        for (pod, there) in [(&one, second), (&two, first), (&one, first)] {
            let address = format!("{there}:7000");
            scope.spawn(move || assert_eq!(says(pod, &["exchange", &address, "32"]), "done\n"));
        }
    });
    assert_eq!(says(&one, &["datagram", &format!("{second}:7000")]), "done\n");
    assert_eq!(says(&one, &["connect", &format!("{second}:7001")]), REFUSED);
    Ok(())
}

fn who_has_ended_is_not_reached() -> Result<(), Failed> {
    let bench = Bench::new();
    let client = client(&bench);
    let (_, ended, first) = server(&bench);
    let (_, killed, second) = server(&bench);
    ended.stop(Duration::ZERO).unwrap();
    killed.remove().unwrap();
    let port = bench.state.join("net").join(first.to_string());
    eventually("its address is given back", || !port.exists());
    for address in [first, second] {
        assert_eq!(says(&client, &["exchange", &format!("{address}:7000"), "1"]), REFUSED);
    }
    Ok(())
}

fn strangers_are_not_reached() -> Result<(), Failed> {
    let (bench, other) = (Bench::new(), Bench::new());
    let (_, _kept, address) = server(&bench);
    let client = client(&other);
    assert_eq!(says(&client, &["exchange", &format!("{address}:7000"), "1"]), REFUSED);
    Ok(())
}

/// A host with a way to the world by IPv6, of which nothing is there but the beginning.
const HOST_WITH_IPV6: &str = "ip link set lo up
    ip link add lan0 type veth peer name lan1
    ip addr add 2001:2::1/64 dev lan0 nodad
    ip link set lan0 up
    ip link set lan1 up
    ip route add default via 2001:2::2";
const HOST_WITHOUT: &str = "ip link set lo up";

fn ipv6_is_there_where_the_host_has_it() -> Result<(), Failed> {
    let unreachable = "\"ENETUNREACH: Network is unreachable\"\n";
    for (host, expected) in [(HOST_WITH_IPV6, REFUSED), (HOST_WITHOUT, unreachable)] {
        let bench = Bench::new();
        let mut spec = pod(sh("exec sleep 999"));
        spec.network = Network::User;
        start_on(host, &bench.state, &serde_json::to_vec(&spec)?)?;
        let pod = bench.runtime.adopt(&spec.id)?;
        eventually("it runs", || pod.exec(&exec(&["/bin/true"])).is_ok());
        // The host's own address: who asks the host hears of its policy.
        assert_eq!(says(&pod, &["connect", "[2001:2::1]:80"]), expected);
        pod.remove()?;
    }
    Ok(())
}

/// Has a process start a pod that is in a network made by `commands`.
fn start_on(commands: &str, state: &Path, spec: &[u8]) -> Result<(), Failed> {
    let mut caller = Command::new("unshare");
    let script = format!("set -e; {commands}; exec \"$@\"");
    caller.args(["--net", "sh", "-c", &script, "sh"]);
    caller.arg(std::env::current_exe()?).arg("start").arg(state).stdin(Stdio::piped());
    let mut caller = caller.spawn()?;
    caller.stdin.take().ok_or("no input")?.write_all(spec)?;
    assert!(caller.wait()?.success());
    Ok(())
}
