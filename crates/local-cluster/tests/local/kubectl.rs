//! The real `kubectl` against the local cluster.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use libtest_mimic::Trial;

use crate::support::daemon::Daemon;
use crate::support::{Needs, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name, test| trial(name, Needs::Kubectl, test);
    vec![
        test("kubectl_get_describe_events_delete", get_describe_delete),
        test("kubectl_get_w_and_logs_f", watch_and_follow),
        test("kubectl_exec_with_and_without_a_terminal", exec),
        test("kubectl_names_what_is_not_there", unknown),
        test("kubectl_apply_patch_label_annotate", apply),
        test("kubectl_creates_what_it_sends_as_protobuf", protobuf),
        test("kubectl_asks_who_it_is_and_what_it_may", auth),
        test("kubectl_explains_and_lists_what_is_served", discovery),
        test("kubectl_applies_on_the_server_side", server_side_apply),
        test("kubectl_applies_over_what_it_applied_before", apply_over_client_side),
        test("kubectl_deletes_by_selector_and_at_once", deletes),
        test("kubectl_drains_the_node", drain),
    ]
}

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: one, labels: {app: loom-weaver}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: weaver
    image: loom.local/host
    command: [bash, -c, 'echo hello; while [ ! -s ~/stop ] || kill -0 $(cat ~/stop) 2>/dev/null; do sleep 0.05; done; echo over']
"#;

pub(crate) fn command(daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(daemon.kubeconfig()).arg("--request-timeout=60s").args(args);
    // Its discovery cache belongs to the cluster.
    command.env("KUBECACHEDIR", daemon.dir().join("cache"));
    command
}

pub(crate) fn run(daemon: &Daemon, args: &[&str], input: &str) -> Output {
    let mut command = command(daemon, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub(crate) fn ok(daemon: &Daemon, args: &[&str], input: &str) -> String {
    let output = run(daemon, args, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn fails(daemon: &Daemon, args: &[&str], input: &str) -> String {
    let output = run(daemon, args, input);
    assert!(!output.status.success(), "{args:?} went well");
    String::from_utf8(output.stderr).unwrap()
}

fn start_pod(daemon: &Daemon) {
    assert_eq!(ok(daemon, &["create", "-f", "-"], POD), "pod/one created\n");
    ok(daemon, &["wait", "pod/one", "--for=condition=Ready", "--timeout=60s"], "");
}

fn get_describe_delete() {
    let daemon = Daemon::start();
    start_pod(&daemon);
    let table = ok(&daemon, &["get", "pods"], "");
    let words: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(words[1][..4], ["one", "1/1", "Running", "0"]);
    assert!(
        ok(&daemon, &["get", "po", "-A", "-o", "wide", "-l", "app"], "").contains("loom-local")
    );
    for what in ["ns", "nodes", "secrets", "cm", "sa", "events"] {
        ok(&daemon, &["get", what], "");
    }
    let described = ok(&daemon, &["describe", "pod", "one"], "");
    for part in ["Status:           Running", "Started container weaver", "Successfully assigned"] {
        assert!(described.contains(part), "{part} in {described}");
    }
    ok(&daemon, &["describe", "node", "loom-local"], "");
    let events = ok(&daemon, &["events", "--for", "pod/one"], "");
    assert!(events.contains("Scheduled") && events.contains("Started"), "{events}");
    assert_eq!(ok(&daemon, &["delete", "pod", "one"], ""), "pod \"one\" deleted\n");
    assert_eq!(ok(&daemon, &["get", "pods", "-o", "name"], ""), "");
}

fn watch_and_follow() {
    let daemon = Daemon::start();
    start_pod(&daemon);
    let mut watch =
        command(&daemon, &["get", "pods", "-w"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("NAME"));
    assert!(lines.next().unwrap().contains("Running"));
    let follow = command(&daemon, &["logs", "-f", "one"]).stdout(Stdio::piped()).spawn().unwrap();
    // It goes on until this is over: a pod's end would take it along.
    ok(&daemon, &["exec", "one", "--", "sh", "-c", "echo $$ > ~/stop"], "");
    let output = follow.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "hello\nover\n");
    assert!(lines.any(|line| line.contains("Completed")));
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert_eq!(ok(&daemon, &["logs", "one", "--tail=1"], ""), "over\n");
}

fn exec() {
    let daemon = Daemon::start();
    start_pod(&daemon);
    let output = run(&daemon, &["exec", "-i", "one", "--", "sh", "-c", "cat; exit 7"], "input");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), &b"input"[..]));
    assert!(
        fails(&daemon, &["exec", "one", "--", "nope"], "").contains("executable file not found")
    );
    assert!(
        fails(&daemon, &["exec", "one", "-c", "x", "--", "ls"], "").contains("not valid for pod")
    );
    let line = format!(
        "stty rows 33 cols 99; kubectl --kubeconfig {} exec -it one -- \
         sh -c 'test -t 0 && tty; until stty size | grep -v ^0; do sleep 0.02; done'",
        daemon.kubeconfig().display()
    );
    // `script` gives it a terminal.
    let output = Command::new("script").args(["-qec", &line, "/dev/null"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert!(output.status.success(), "{text}");
    assert!(text.contains("/dev/pts/0\n") && text.contains("33 99\n"), "{text}");
}

fn unknown() {
    let daemon = Daemon::start();
    let words = fails(&daemon, &["get", "deployments"], "");
    assert!(words.contains("doesn't have a resource type \"deployments\""), "{words}");
    assert!(fails(&daemon, &["get", "pod", "x"], "").contains("pods \"x\" not found"));
    assert!(fails(&daemon, &["logs", "x"], "").contains("not found"));
    let bad = POD.replace("restartPolicy", "hostNetwork: true\n  restartPolicy");
    assert!(fails(&daemon, &["create", "-f", "-"], &bad).contains("spec.hostNetwork: Forbidden"));
    let bad = POD.replace("command", "comand");
    let words = fails(&daemon, &["create", "-f", "-"], &bad);
    assert!(words.contains("unknown field \"spec.containers[0].comand\""), "{words}");
    for what in ["deploy/x", "ds/x"] {
        let words = fails(&daemon, &["rollout", "status", what], "");
        assert!(words.contains("the server doesn't have a resource type"), "{words}");
    }
}

fn apply() {
    let daemon = Daemon::start();
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {a: '1'}}";
    assert_eq!(ok(&daemon, &["apply", "-f", "-"], map), "configmap/m created\n");
    assert_eq!(ok(&daemon, &["apply", "-f", "-"], map), "configmap/m unchanged\n");
    let map = map.replace("a: '1'", "b: '2'");
    assert_eq!(ok(&daemon, &["apply", "-f", "-"], &map), "configmap/m configured\n");
    assert_eq!(ok(&daemon, &["get", "cm", "m", "-o", "jsonpath={.data}"], ""), "{\"b\":\"2\"}");
    ok(&daemon, &["label", "cm", "m", "x=y"], "");
    ok(&daemon, &["annotate", "cm", "m", "x=y"], "");
    ok(&daemon, &["patch", "cm", "m", "-p", "{\"data\":{\"c\":\"3\"}}"], "");
    assert_eq!(ok(&daemon, &["diff", "-f", "-"], &map).len(), 0);
    let mut edit = command(&daemon, &["edit", "cm", "m"]);
    edit.env("EDITOR", "sed -i s/c:.*/c:\\ edited/");
    assert!(edit.output().unwrap().status.success());
    assert_eq!(ok(&daemon, &["get", "cm", "m", "-o", "jsonpath={.data.c}"], ""), "edited");
    let test = r#"[{"op":"test","path":"/data/c","value":"x"},{"op":"remove","path":"/data/c"}]"#;
    fails(&daemon, &["patch", "cm", "m", "--type=json", "-p", test], "");
    let drop = r#"{"data":{"c":null}}"#;
    ok(&daemon, &["patch", "cm", "m", "--type=merge", "-p", drop], "");
    assert_eq!(ok(&daemon, &["get", "cm", "m", "-o", "jsonpath={.data}"], ""), "{\"b\":\"2\"}");
    ok(&daemon, &["delete", "cm", "m"], "");
}

fn protobuf() {
    let daemon = Daemon::start();
    let made = |args: &[&str], words: &str| {
        let args = [&["create"], args].concat();
        assert_eq!(ok(&daemon, &args, ""), format!("{words} created\n"));
    };
    made(&["namespace", "x"], "namespace/x");
    made(&["configmap", "m", "-n", "x", "--from-literal=a=1"], "configmap/m");
    made(&["secret", "generic", "s", "--from-literal=k=v\u{e9}"], "secret/s");
    made(&["serviceaccount", "robot"], "serviceaccount/robot");
    let server = ["secret", "docker-registry", "d", "--docker-server=localhost:1"];
    made(&[&server[..], &["--docker-username=u", "--docker-password=p"]].concat(), "secret/d");
    let read = |what: &[&str]| ok(&daemon, &[&["get"], what].concat(), "");
    assert_eq!(read(&["cm", "m", "-n", "x", "-o", "jsonpath={.data}"]), "{\"a\":\"1\"}");
    assert_eq!(read(&["secret", "s", "-o", "jsonpath={.data.k}"]), "dsOp");
    let words = fails(&daemon, &["create", "namespace", "x"], "");
    assert!(words.contains("namespaces \"x\" already exists"), "{words}");
    let words = fails(&daemon, &["create", "cm", "B_"], "");
    assert!(words.contains("ConfigMap \"B_\" is invalid: metadata.name"), "{words}");
    let token = ok(&daemon, &["create", "token", "robot", "--duration=20m"], "");
    let token = token.trim();
    assert_eq!(token.split('.').count(), 3, "{token}");
    let words = fails(&daemon, &["create", "token", "robot", "--duration=1m"], "");
    assert!(words.contains("may not specify a duration less than 10 minutes"), "{words}");
    // A service account is somebody, but may nothing.
    let whoami = ok(&daemon, &["auth", "whoami", "--token", token], "");
    assert!(whoami.contains("system:serviceaccount:default:robot"), "{whoami}");
    let words = fails(&daemon, &["get", "pods", "--token", token], "");
    let expected = "pods is forbidden: User \"system:serviceaccount:default:robot\" cannot list \
                    resource \"pods\" in API group \"\" in the namespace \"default\"";
    assert!(words.contains(expected), "{words}");
    ok(&daemon, &["delete", "sa", "robot"], "");
    assert!(fails(&daemon, &["get", "pods", "--token", token], "").contains("Unauthorized"));
}

fn auth() {
    let daemon = Daemon::start();
    assert_eq!(ok(&daemon, &["auth", "can-i", "create", "pods"], ""), "yes\n");
    assert_eq!(ok(&daemon, &["auth", "can-i", "get", "pods", "--subresource=log"], ""), "yes\n");
    assert!(ok(&daemon, &["auth", "can-i", "--list"], "").contains("*.*"));
    let no = run(&daemon, &["auth", "can-i", "create", "deployments.apps"], "");
    assert!(!no.status.success());
    assert!(String::from_utf8_lossy(&no.stdout).starts_with("no"));
    assert!(ok(&daemon, &["auth", "whoami"], "").contains("loom-local"));
}

fn discovery() {
    let daemon = Daemon::start();
    let served = ok(&daemon, &["api-resources"], "");
    for line in ["coordination.k8s.io/v1", "TokenReview", "ConfigMap"] {
        assert!(served.contains(line), "{line} in {served}");
    }
    assert!(ok(&daemon, &["api-versions"], "").contains("coordination.k8s.io/v1\n"));
    let explained = ok(&daemon, &["explain", "pod.spec.containers"], "");
    for line in ["KIND:       Pod", "imagePullPolicy\t<string>", "ports\t<[]ContainerPort>"] {
        assert!(explained.contains(line), "{line} in {explained}");
    }
    assert!(ok(&daemon, &["explain", "leases"], "").contains("coordination.k8s.io"));
    let lease = "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l}, \
                 spec: {holderIdentity: me, renewTime: '2026-01-02T03:04:05.000006Z'}}";
    assert!(ok(&daemon, &["create", "-f", "-"], lease).contains("lease.coordination.k8s.io/l"));
    let table = ok(&daemon, &["get", "leases"], "");
    assert!(table.contains("HOLDER") && table.contains("me"), "{table}");
    ok(&daemon, &["apply", "-f", "-"], &lease.replace("me,", "you,"));
    let words = fails(&daemon, &["get", "lease", "x"], "");
    assert!(words.contains("leases.coordination.k8s.io \"x\" not found"), "{words}");
}

fn deletes() {
    let daemon = Daemon::start();
    for (name, label) in [("a", "x=1"), ("b", "x=2"), ("c", "x=3")] {
        ok(&daemon, &["create", "cm", name], "");
        ok(&daemon, &["label", "cm", name, label], "");
    }
    let names = |selector: &str| ok(&daemon, &["get", "cm", "-o", "name", "-l", selector], "");
    assert_eq!(names("x in (1,2)"), "configmap/a\nconfigmap/b\n");
    assert_eq!(names("x,x notin (1)"), "configmap/b\nconfigmap/c\n");
    assert_eq!(names("x>1,x<3"), "configmap/b\n");
    ok(&daemon, &["delete", "cm", "-l", "x!=3"], "");
    assert_eq!(names(""), "configmap/c\n");
    ok(&daemon, &["delete", "cm", "c", "--cascade=foreground"], "");
    start_pod(&daemon);
    let node = ok(&daemon, &["describe", "node", "loom-local"], "");
    assert!(node.contains("Allocated resources") && node.contains("default  "), "{node}");
    ok(&daemon, &["delete", "pod", "one", "--grace-period=0", "--force"], "");
}

fn server_side_apply() {
    let daemon = Daemon::start();
    let apply = |manager: &str, more: &[&str], text: &str| {
        let manager = format!("--field-manager={manager}");
        let args = ["apply", "--server-side", &manager, "-f", "-"];
        run(&daemon, &[&args[..], more].concat(), text)
    };
    let said = |output: Output| String::from_utf8(output.stdout).unwrap();
    let data = || ok(&daemon, &["get", "cm", "m", "-o", "jsonpath={.data}"], "");
    let map = |data: &str| {
        format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: m}}, data: {data}}}")
    };
    let dry = said(apply("one", &["--dry-run=server"], &map("{a: '1'}")));
    assert_eq!(dry, "configmap/m serverside-applied (server dry run)\n");
    assert!(fails(&daemon, &["get", "cm", "m"], "").contains("not found"));
    assert_eq!(
        said(apply("one", &[], &map("{a: '1', b: '1'}"))),
        "configmap/m serverside-applied\n"
    );
    let fields =
        ["get", "cm", "m", "--show-managed-fields", "-o", "jsonpath={.metadata.managedFields}"];
    let owned = ok(&daemon, &fields, "");
    assert!(owned.contains(r#""fieldsV1":{"f:data":{"f:a":{},"f:b":{}}}"#), "{owned}");
    assert!(owned.contains(r#""manager":"one","operation":"Apply""#), "{owned}");
    // Who sets the same value shares it, who sets another is in conflict.
    assert!(apply("two", &[], &map("{a: '1', c: '3'}")).status.success());
    let refused = apply("two", &[], &map("{a: '2', c: '3'}"));
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(
        words.contains("Apply failed with 1 conflict: conflict with \"one\": .data.a"),
        "{words}"
    );
    assert_eq!(data(), r#"{"a":"1","b":"1","c":"3"}"#);
    assert!(apply("two", &["--force-conflicts"], &map("{a: '2', c: '3'}")).status.success());
    // What its last manager leaves out goes; what another wants stays.
    assert!(apply("one", &[], &map("{}")).status.success());
    assert_eq!(data(), r#"{"a":"2","c":"3"}"#);
    // Other writes take what they change.
    ok(&daemon, &["patch", "cm", "m", "-p", r#"{"data":{"c":"9"}}"#], "");
    let words = String::from_utf8(apply("two", &[], &map("{a: '2', c: '3'}")).stderr).unwrap();
    assert!(words.contains("conflict with \"kubectl-patch\" using v1"), "{words}");
    assert_eq!(ok(&daemon, &["diff", "-f", "-"], &map("{a: '2', c: '9'}")).len(), 0);
}

fn apply_over_client_side() {
    let daemon = Daemon::start();
    ok(&daemon, &["apply", "-f", "-"], POD);
    let labelled = POD.replace("app: loom-weaver", "app: loom-weaver, more: yes-it-is");
    let applied = ok(&daemon, &["apply", "--server-side", "-f", "-"], &labelled);
    assert_eq!(applied, "pod/one serverside-applied\n");
    let fields = ok(&daemon, &["get", "pod", "one", "-o", "json", "--show-managed-fields"], "");
    assert!(fields.contains(r#""k:{\"name\":\"weaver\"}""#), "{fields}");
    assert!(fields.contains(r#""f:more""#), "{fields}");
    let status = r#"{"status":{"conditions":[{"type":"example.com/seen","status":"True"}]}}"#;
    ok(&daemon, &["patch", "pod", "one", "--subresource=status", "-p", status], "");
    let wait = ["wait", "pod/one", "--for=condition=example.com/seen", "--timeout=60s"];
    ok(&daemon, &wait, "");
    let bad = labelled.replace("loom.local/host", "other");
    let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    assert!(fails(&daemon, &args, &bad).contains("pod updates may not change"));
}

fn drain() {
    let daemon = Daemon::start();
    let ready = ["wait", "pod/one", "--for=condition=Ready", "--timeout=60s"];
    ok(&daemon, &["create", "-f", "-"], POD);
    ok(&daemon, &ready, "");
    let words = ["drain", "loom-local", "--force", "--grace-period=1", "--timeout=60s"];
    let said = ok(&daemon, &[&words[..], &["--delete-emptydir-data"]].concat(), "");
    assert!(said.contains("node/loom-local drained"), "{said}");
    assert!(ok(&daemon, &["get", "nodes"], "").contains(" Ready,SchedulingDisabled "));
    assert!(fails(&daemon, &["get", "pod", "one"], "").contains("NotFound"));
    ok(&daemon, &["create", "-f", "-"], POD);
    let why = "jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].message}";
    let waits = format!("{why}=0/1 nodes are available: 1 node(s) were unschedulable.");
    ok(&daemon, &["wait", "pod/one", "--timeout=60s", &format!("--for={waits}")], "");
    ok(&daemon, &["uncordon", "loom-local"], "");
    ok(&daemon, &ready, "");
}
