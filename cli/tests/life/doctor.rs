//! `loom doctor --cluster`: what it says is so.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use cluster::rights::{Right, Service};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::Role;
use serde_json::{Value, json};

use crate::stage::Stage;
use crate::stage::admin::Admin;
use crate::support::{Case, World, code, show, text, until};

/// On the local cluster.
pub(crate) const LOCAL: &[Case] =
    &[("doctor::the_local_cluster", local), ("doctor::an_api_server_that_is_not_there", nobody)];

/// On any cluster.
pub(crate) const CASES: &[Case] = &[
    ("doctor::a_namespace_missing_or_terminating", namespaces),
    ("doctor::images_that_are_there_or_not", images),
    ("doctor::a_web_socket_is_kept_open", web_socket),
    ("doctor::interrupted_it_removes_its_pods", interrupted),
];

/// Where there are RBAC, pod security and NetworkPolicies.
pub(crate) const REAL: &[Case] = &[
    ("doctor::rights_enough_and_not_too_much", rights),
    ("doctor::who_may_not_ask_is_told_so", may_not_ask),
    ("doctor::network_policies_are_tried", network),
    ("doctor::privileged_pods_are_kept_out_or_not", pod_security),
];

/// Runs the doctor and returns its exit code and findings.
fn examine(stage: &Stage, flags: &str) -> (i32, Vec<Value>) {
    let output = stage_command(stage, &format!("{flags} --json")).output().unwrap();
    (code(&output), findings(&output))
}

fn stage_command(stage: &Stage, flags: &str) -> Command {
    let (kubeconfig, namespace) = (stage.kubeconfig(), &stage.kube.namespace);
    let line = format!("doctor --cluster --weaver-namespace {namespace} {flags} --kubeconfig");
    stage.command(&line, &[&kubeconfig.display().to_string()])
}

fn findings(output: &Output) -> Vec<Value> {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", show(output));
    });
    let found = report["checks"].as_array().unwrap().clone();
    let failed = found.iter().any(|check| check["state"] == "failed");
    assert_eq!(report["ok"], !failed);
    assert_eq!(code(output), i32::from(failed), "{}", show(output));
    // Whatever is not well says what to do.
    for check in &found {
        assert_eq!(check["state"] == "ok", check["fix"].is_null(), "{check}");
    }
    found
}

/// Returns the state of the finding whose details hold these words.
fn state<'a>(found: &'a [Value], words: &str) -> &'a str {
    let with_words = |check: &&Value| check["detail"].as_str().unwrap().contains(words);
    let check = found.iter().find(with_words);
    check.unwrap_or_else(|| panic!("nothing says {words:?}: {found:#?}"))["state"].as_str().unwrap()
}

/// What is not looked at by a case that looks at one thing.
fn only(topic: &str) -> String {
    let all = ["namespaces", "rights", "images", "network", "websocket"];
    let rest: Vec<_> = all.into_iter().filter(|one| *one != topic).collect();
    format!("--skip {}", rest.join(","))
}

fn local() {
    let world = World::new();
    let output = world.run("doctor --cluster --local --websocket-seconds 2 --json");
    let found = findings(&output);
    assert_eq!(code(&output), 0, "{}", show(&output));
    for words in [
        "the API server answers",
        "loom-local is supported",
        "agree",
        "namespace loom-weavers is there",
        "a privileged pod is refused",
        "loom.local/host on node",
        "loom.local/tools on node",
        "open for 2 s",
    ] {
        assert_eq!(state(&found, words), "ok", "{words}");
    }
    for words in ["loom-system does not exist", "no service account", "has no NetworkPolicies"] {
        assert_eq!(state(&found, words), "warning", "{words}");
    }
    world.is_empty();
    // The same by its kubeconfig, which is all that others are given; for people.
    let kubeconfig = world.status()["kubeconfig"].as_str().unwrap().to_owned();
    let line = format!("doctor --cluster {} --kubeconfig {kubeconfig}", only(""));
    let said = world.ok(&line);
    assert!(said.starts_with("ok       api              the API server answers\n"), "{said}");
    assert!(said.ends_with("the cluster is fit for weavers\n"), "{said}");
    let wrong = world.run(&format!("{line} --context nosuch"));
    assert_eq!(code(&wrong), 1, "{}", show(&wrong));
    assert!(text(&wrong.stderr).contains("nosuch"), "{}", show(&wrong));
}

fn nobody() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}]});
    let path = world.path("kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    let output = world.run(&format!("doctor --cluster --json --kubeconfig {}", path.display()));
    let found = findings(&output);
    assert_eq!(found.len(), 1, "the rest is not tried: {found:?}");
    assert_eq!(state(&found, "Connection refused"), "failed");
    let missing = world.run("doctor --cluster --kubeconfig /no/such/file");
    assert_eq!(code(&missing), 1, "{}", show(&missing));
    assert!(text(&missing.stderr).contains("/no/such/file"), "{}", show(&missing));
}

fn namespaces() {
    let stage = Stage::new();
    let mut admin = stage.admin();
    let other = admin.new_namespace();
    let flags = |system: &str| format!("{} --system-namespace {system}", only("namespaces"));
    let (_, found) = examine(&stage, &flags(&other));
    assert_eq!(state(&found, &format!("namespace {other} is there")), "ok");
    admin.hold_and_delete(&other);
    let (_, found) = examine(&stage, &flags(&other));
    assert_eq!(state(&found, &format!("{other} is being deleted")), "warning");
    let going = format!("{} --weaver-namespace {other}", only("namespaces"));
    let command = |flags: &str| {
        let kubeconfig = stage.kubeconfig().display().to_string();
        let line = format!("doctor --cluster --json {flags} --kubeconfig");
        findings(&stage.command(&line, &[&kubeconfig]).output().unwrap())
    };
    assert_eq!(state(&command(&going), &format!("{other} is being deleted")), "failed");
    admin.release(&other);
    until("it is missing", || {
        let found = command(&going);
        found.iter().any(|check| {
            check["detail"] == format!("namespace {other} does not exist")
                && check["state"] == "failed"
        })
    });
}

fn images() {
    let stage = Stage::new();
    let (image, tools) = (&stage.image, stage.variable("LOOM_SERVER_TOOLS_IMAGE"));
    let flags = format!("{} --weaver-image {image} --tools-image {tools}", only("images"));
    let (code, found) = examine(&stage, &flags);
    assert_eq!(code, 0, "{found:?}");
    assert_eq!(state(&found, &format!("{image} on node")), "ok");
    assert_eq!(state(&found, &format!("{tools} on node")), "ok");
    let (code, found) =
        examine(&stage, &format!("{} --weaver-image 127.0.0.1:1/no/such:1", only("images")));
    assert_eq!(code, 1, "{found:?}");
    assert_eq!(state(&found, "127.0.0.1:1/no/such:1"), "failed");
    let (_, found) = examine(&stage, &only("images"));
    assert_eq!(state(&found, "no image was tried"), "warning");
    nothing_is_left(&stage);
}

fn nothing_is_left(stage: &Stage) {
    until("its pods are gone", || stage.kube.pods().is_empty());
}

fn web_socket() {
    let stage = Stage::new();
    let (code, found) = examine(&stage, &format!("{} --websocket-seconds 3", only("websocket")));
    assert_eq!(code, 0, "{found:?}");
    assert_eq!(state(&found, "open for 3 s"), "ok");
    nothing_is_left(&stage);
    // Where handlers answer and nobody carries terminals, no WebSocket passes.
    let url = format!("http://{}", stage.handlers.address);
    let mut alone = stage.launch("loom-handlers", &[("LOOM_SERVER_RELAY_URL", &url)]);
    alone.until_ready();
    let kubeconfig = stage.kubeconfig().display().to_string();
    let line = format!(
        "doctor --cluster --json {} --server-url http://{} --kubeconfig {kubeconfig}",
        only("websocket"),
        alone.address
    );
    let output = stage.plain(&line).output().unwrap();
    assert_eq!(state(&findings(&output), "there is no such path"), "failed", "{}", show(&output));
    nothing_is_left(&stage);
    let none = stage
        .plain(&format!("doctor --cluster --json {} --kubeconfig {kubeconfig}", only("websocket")));
    assert_eq!(state(&findings(&{ none }.output().unwrap()), "no server is given"), "warning");
}

fn interrupted() {
    let stage = Stage::new();
    // An image that never comes: the doctor waits for it.
    let flags = format!("{} --weaver-image 127.0.0.1:1/no/such:1", only("images"));
    let mut command = stage_command(&stage, &flags);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What takes longer than a second is told.
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "loom: waiting until a node has the images\n");
    until("its pod is there", || stage.kube.pods().len() == 1);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    said.read_to_string(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 1, "{line}");
    assert!(line.ends_with("loom: interrupted\n"), "{line}");
    nothing_is_left(&stage);
}

/// Makes the accounts of a deployment as the registry has them.
fn accounts(admin: &mut Admin, stage: &Stage) -> String {
    let system = admin.new_namespace();
    for service in Service::ALL {
        admin.account(service, &system, &stage.kube.namespace, service.rights());
    }
    system
}

fn rights() {
    let stage = Stage::new();
    let mut admin = stage.admin();
    let system = accounts(&mut admin, &stage);
    let flags = format!("{} --system-namespace {system}", only("rights"));
    let weavers = &stage.kube.namespace;
    let (code, found) = examine(&stage, &flags);
    assert_eq!(code, 0, "{found:?}");
    for service in Service::ALL {
        assert_eq!(state(&found, &format!("{} has the", service.name())), "ok");
    }
    let relay = Service::Relay.rights();
    let less: Vec<_> = relay
        .iter()
        .copied()
        .filter(|right| (right.verb, right.resource) != ("create", "pods/exec"))
        .collect();
    admin.grant(Service::Relay, weavers, &less);
    let extra =
        Right { verb: "get", resource: "secrets", optional: false, why: "it is not needed" };
    admin.grant(Service::Janitor, weavers, &[Service::Janitor.rights(), &[extra]].concat());
    let only_events = |right: &Right| right.resource != "events";
    let silent: Vec<_> = Service::Handlers.rights().iter().copied().filter(only_events).collect();
    admin.grant(Service::Handlers, weavers, &silent);
    let (code, found) = examine(&stage, &flags);
    assert_eq!(code, 1, "{found:?}");
    let lacks = format!("loom-relay may not create pods/exec in namespace {weavers}");
    assert_eq!(state(&found, &lacks), "failed");
    let has = format!("loom-janitor may get secrets in namespace {weavers}, and needs none of it");
    assert_eq!(state(&found, &has), "failed");
    assert_eq!(state(&found, "loom-handlers does without the right to list events"), "warning");
    let all = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    admin.patch::<Role>(weavers, Service::Relay.name(), all);
    let (_, found) = examine(&stage, &flags);
    assert_eq!(state(&found, &format!("* * in namespace {weavers}")), "failed");
}

fn may_not_ask() {
    let stage = Stage::new();
    let mut admin = stage.admin();
    let system = accounts(&mut admin, &stage);
    let rights = Service::Handlers.rights();
    let other = admin.new_namespace();
    let kubeconfig = admin.account(Service::Handlers, &other, &other, rights);
    let line = format!(
        "doctor --cluster --json {} --system-namespace {system} --kubeconfig",
        only("rights")
    );
    let asked = stage.command(&line, &[&kubeconfig.display().to_string()]).output().unwrap();
    let found = findings(&asked);
    assert_eq!(state(&found, "what loom-handlers may do is not known"), "warning");
}

/// Tells what the cluster does, whichever that is: a rig's bridge enforces nothing, and others do.
fn network() {
    let stage = Stage::new();
    let (_, found) = examine(&stage, &format!("{} --probe-image {}", only("network"), stage.image));
    let checks: Vec<_> = found.iter().filter(|check| check["name"] == "network-policy").collect();
    assert_eq!(checks.len(), 1, "{found:#?}");
    let enforces = std::env::var("LOOM_TEST_ENFORCES_POLICIES").is_ok();
    let (state_seen, words) = match enforces {
        true => ("ok", "enforced, in and out"),
        false => ("failed", "not enforced: a denied connection went through, in and out"),
    };
    assert_eq!(checks[0]["state"], state_seen, "{found:#?}");
    assert!(checks[0]["detail"].as_str().unwrap().starts_with(words), "{found:#?}");
    assert_eq!(state(&found, "0 for what comes in, 0 for what goes out"), "warning");
    nothing_is_left(&stage);
    // What cannot be tried is said as such.
    let flags = format!("{} --probe-image 127.0.0.1:1/no/such:1", only("network"));
    let (code, found) = examine(&stage, &flags);
    assert_eq!(code, 0, "{found:#?}");
    assert_eq!(state(&found, "it could not be found out whether they are enforced"), "warning");
    nothing_is_left(&stage);
}

fn pod_security() {
    let stage = Stage::new();
    let admin = stage.admin();
    let look = || {
        let (_, found) = examine(&stage, &only("namespaces"));
        found.into_iter().find(|check| check["name"] == "pod-security").unwrap()
    };
    assert_eq!(look()["state"], "ok", "{}", look());
    for (level, state) in [("baseline", "warning"), ("privileged", "failed")] {
        let labels = json!({"metadata": {"labels": {
            "pod-security.kubernetes.io/enforce": level}}});
        admin.patch_for_all::<Namespace>(&stage.kube.namespace, labels);
        until(&format!("{level} is {state}"), || look()["state"] == state);
    }
}
