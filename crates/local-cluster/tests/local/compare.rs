//! The same `kubectl` commands on the local cluster and on the one of `LOOM_TEST_KUBECONFIG`, with
//! `LOOM_TEST_IMAGE` there and, if that is set, the program `LOOM_TEST_KUBECTL`: what they print and how they end is the same, but for [`DIFFERENT`].

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;

use crate::support::daemon::Daemon;
use crate::support::{Needs, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let compare = trial("kubectl_says_the_same_on_a_real_cluster", Needs::Kubectl, compare);
    match std::env::var_os("LOOM_TEST_KUBECONFIG") {
        Some(_) => vec![compare],
        None => vec![compare.with_ignored_flag(true)],
    }
}

/// Commands whose output differs, and why; docs/LOCAL-CLUSTER.md has the same in a table.
const DIFFERENT: &[(&str, &str)] = &[
    (
        "get pod one -o jsonpath={.spec.tolerations}",
        "nothing adds tolerations of an unreachable node",
    ),
    ("get pod one -o jsonpath={.spec.volumes}", "no token is mounted unasked"),
    ("get pod one -o jsonpath={.status.conditions[*].type}", "another order"),
    ("exec one -- nope", "containerd's own words and ids are around it"),
    (
        r#"patch pod one -p {"spec":{"containers":[{"name":"main","command":["x"]}]}}"#,
        "nothing of a spec can be changed, and the words say so",
    ),
    ("apply --server-side --field-manager=x -f -", "managers are kept from the first apply on"),
    ("explain pod.spec.containers.image", "without descriptions"),
    ("rollout status deploy/x", "there are no deployments"),
    ("delete cm --all", "no namespace has `kube-root-ca.crt`"),
];

const POD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "labels": {"app": "a"}},
    "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers":
    [{"name": "main", "image": "IMAGE", "stdin": true, "stdinOnce": true, "command": ["sh", "-c",
    "while read w; do echo got $w; [ $w != end ] || exit 3; done; sleep 999"]}]}}"#;
const MAP: &str =
    r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1"}}"#;
const OTHER_MAP: &str =
    r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "2"}}"#;
const BAD_POD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "B_"}, "spec": {"containers":
    []}}"#;
const ODD_POD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "odd"}, "spec": {"nope": 1,
    "containers": [{"name": "main", "image": "IMAGE", "comand": ["x"]}]}}"#;
const STATUS: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "status": {"message":
    "hello"}}"#;

/// What is typed, and what the command reads. A first word `!` is left out: it only tells that the
/// output is of no interest.
const SCRIPT: &[(&str, &str)] = &[
    ("create namespace compare", ""),
    ("create namespace compare", ""),
    ("! create serviceaccount default", ""),
    ("create -f - --dry-run=server", POD),
    ("get pod one", ""),
    ("create -f -", POD),
    ("create -f -", POD),
    ("wait pod/one --for=condition=Ready --timeout=60s", ""),
    (
        "get pods --no-headers -o custom-columns=N:.metadata.name,P:.status.phase,Q:.status.qosClass",
        "",
    ),
    ("get pod one -o jsonpath={.spec.containers[0].command}{.spec.containers[0].resources}", ""),
    (
        "get pod one -o jsonpath={.spec.restartPolicy}/{.spec.dnsPolicy}/{.spec.enableServiceLinks}/{.spec.priority}",
        "",
    ),
    ("get pod one -o jsonpath={.spec.tolerations}", ""),
    ("get pod one -o jsonpath={.spec.volumes}", ""),
    ("get pod one -o jsonpath={.status.conditions[*].type}", ""),
    ("get pods -l app=a -o name", ""),
    ("get pods -l app!=a -o name", ""),
    ("get pods -l app=a,,b", ""),
    ("get pods --field-selector status.phase=Running -o name", ""),
    ("get pods --field-selector spec.nope=1 -o name", ""),
    ("get pods,cm,nope", ""),
    ("exec one -- sh -c exit${IFS}7", ""),
    ("exec -i one -- cat", "through\n"),
    ("exec one -- nope", ""),
    ("exec one -c nope -- ls", ""),
    ("exec two -- ls", ""),
    ("attach two", ""),
    ("attach one -c nope", ""),
    ("port-forward two :80", ""),
    ("logs two", ""),
    ("logs one -c nope", ""),
    ("logs one --previous", ""),
    ("label pod one x=y", ""),
    ("label pod one x=z", ""),
    ("label pod one x=z --overwrite", ""),
    ("label pod one x-", ""),
    ("annotate pod one k=v", ""),
    ("patch pod one -p {\"spec\":{\"containers\":[{\"name\":\"main\",\"command\":[\"x\"]}]}}", ""),
    (
        "patch pod one --type=json -p [{\"op\":\"test\",\"path\":\"/metadata/name\",\"value\":\"x\"}]",
        "",
    ),
    ("patch pod one --type=merge -p {\"metadata\":{\"labels\":{\"m\":\"1\"}}}", ""),
    ("attach -q -i one", "a\nend\n"),
    ("wait pod/one --for=jsonpath={.status.phase}=Failed --timeout=60s", ""),
    ("logs one", ""),
    ("logs one --tail=1", ""),
    ("get pod one -o jsonpath={.status.containerStatuses[0].state.terminated.exitCode}", ""),
    ("exec one -- ls", ""),
    ("attach one", ""),
    ("port-forward one :80", ""),
    (
        "run gone -i --rm --restart=Never --quiet --image=IMAGE --command -- sh -c cat;exit${IFS}5",
        "in\n",
    ),
    ("get pod gone", ""),
    ("create -f -", BAD_POD),
    ("create -f -", ODD_POD),
    ("create -f - --validate=false --dry-run=server", ODD_POD),
    ("apply -f -", MAP),
    ("apply -f -", MAP),
    ("apply -f -", OTHER_MAP),
    ("diff -f -", OTHER_MAP),
    ("apply --server-side --field-manager=x -f -", MAP),
    ("apply --server-side --field-manager=x --force-conflicts -f -", MAP),
    ("apply --server-side --subresource=status --field-manager=x -f -", STATUS),
    ("replace -f -", OTHER_MAP),
    ("get cm m -o jsonpath={.data}", ""),
    ("create secret generic s --from-literal=a=b", ""),
    ("get secret s -o jsonpath={.type}{.data}", ""),
    ("patch secret s -p {\"immutable\":true}", ""),
    ("patch secret s -p {\"data\":{\"a\":\"eA==\"}}", ""),
    ("create token nobody", ""),
    ("create token default --duration=1m", ""),
    ("auth can-i create pods", ""),
    ("auth can-i create pods --subresource=exec", ""),
    ("get lease nope", ""),
    ("explain pod.spec.containers.image", ""),
    ("explain pod.nope", ""),
    ("rollout status deploy/x", ""),
    ("top pod one", ""),
    ("get --raw /nope", ""),
    ("get --raw /healthz", ""),
    ("scale pod one --replicas=2", ""),
    ("delete pod one", ""),
    ("delete pod one", ""),
    ("delete pod one --ignore-not-found", ""),
    ("delete cm --all", ""),
    ("delete ns compare --timeout=90s", ""),
    ("get ns compare", ""),
];

/// One cluster to be asked.
struct Cluster<'a> {
    kubeconfig: &'a Path,
    cache: &'a Path,
    image: &'a str,
}

impl Cluster<'_> {
    fn ask(&self, line: &str, input: &str) -> String {
        let words = line.trim_start_matches("! ").replace("IMAGE", self.image);
        let words = words.split(' ').map(|word| word.replace("${IFS}", " "));
        let program = std::env::var_os("LOOM_TEST_KUBECTL").unwrap_or("kubectl".into());
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(self.kubeconfig).args(["-n", "compare"]);
        command.arg("--request-timeout=60s").args(words).env("KUBECACHEDIR", self.cache);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = input.replace("IMAGE", self.image);
        // Some do not read.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(self.image, "IMAGE");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        format!("{:?}\n{out}{err}", output.status.code())
    }
}

fn compare() {
    let daemon = Daemon::start();
    let real = std::env::var("LOOM_TEST_KUBECONFIG").unwrap();
    let image = std::env::var("LOOM_TEST_IMAGE").unwrap();
    let caches = ["here", "there"].map(|name| daemon.dir().join(name));
    let here = daemon.kubeconfig();
    let here = Cluster { kubeconfig: &here, cache: &caches[0], image: "loom.local/host" };
    let there = Cluster { kubeconfig: Path::new(&real), cache: &caches[1], image: &image };
    let mut differ = BTreeSet::new();
    for (line, input) in SCRIPT {
        let (here, there) = std::thread::scope(|scope| {
            let there = scope.spawn(|| there.ask(line, input));
            (here.ask(line, input), there.join().unwrap())
        });
        if here != there && !line.starts_with('!') {
            println!("== {line}\n-- here {here}\n-- there {there}");
            differ.insert(*line);
        }
    }
    let known: BTreeSet<&str> = DIFFERENT.iter().map(|(line, _)| *line).collect();
    assert_eq!(differ, known);
}
