//! What services may do in the cluster, and what they say when it is too little or the namespace is
//! not there.

use cluster::rights::{Right, Service};
use wire::problem::Code;

use crate::stage::admin::new_name;
use crate::stage::server::Server;
use crate::stage::{Maker, Stage, TOKEN};
use crate::support::{Case, code, show, text};

/// For every cluster.
pub(crate) const CASES: &[Case] =
    &[("rights::abuse_a_namespace_missing_or_terminating", a_namespace_away)];

/// For those with RBAC.
pub(crate) const REAL: &[Case] = &[
    ("rights::abuse_a_role_without_one_of_the_verbs", a_role_without_one),
    ("rights::abuse_a_relay_without_one_of_the_verbs", a_relay_without_one),
    ("rights::what_the_registry_names_is_enough", enough),
];

fn maker(server: &Server) -> Maker {
    Maker::new(&format!("http://{}", server.address), TOKEN)
}

/// Asks for a weaver, and returns why there is none.
fn refusal(server: &Server) -> String {
    let refused = maker(server).idle("key").expect_err("it cannot be made");
    assert_eq!(refused.code(), Some(Code::Unavailable), "{refused}");
    refused.to_string()
}

fn a_namespace_away() {
    let stage = Stage::new();
    let mut admin = stage.admin();
    let name = new_name();
    let mut server = stage.launch("loom-handlers", &[("LOOM_SERVER_WEAVER_NAMESPACE", &name)]);
    let mut relay = stage.launch("loom-relay", &[("LOOM_SERVER_WEAVER_NAMESPACE", &name)]);
    let missing = format!("namespace {name} does not exist");
    server.until_waiting(&missing);
    relay.until_waiting(&missing);
    assert!(refusal(&server).contains(&missing), "{}", refusal(&server));
    admin.make_namespace(&name);
    server.until_ready();
    relay.until_ready();
    admin.hold_and_delete(&name);
    let going = format!("namespace {name} is being deleted");
    server.until_waiting(&going);
    assert!(refusal(&server).contains(&going), "{}", refusal(&server));
    admin.release(&name);
    server.until_waiting(&missing);
    admin.make_namespace(&name);
    server.until_ready();
    relay.until_ready();
}

/// Takes each verb away in turn; the same process says which, and is ready again in the end.
fn one_after_the_other(service: Service, tries: impl Fn(&Server, &Right)) {
    let stage = Stage::new();
    let mut admin = stage.admin();
    let (system, weavers) = (admin.new_namespace(), stage.kube.namespace.clone());
    let all = service.rights();
    let kubeconfig = admin.account(service, &system, &weavers, &[]);
    let kubeconfig = kubeconfig.display().to_string();
    let mut server: Option<Server> = None;
    for missing in all.iter().filter(|right| !right.optional) {
        let rest: Vec<_> = all.iter().copied().filter(|right| right != missing).collect();
        admin.grant(service, &weavers, &rest);
        let settings = [("LOOM_SERVER_KUBECONFIG", &*kubeconfig)];
        let server = server.get_or_insert_with(|| stage.launch(service.name(), &settings));
        let Right { verb, resource, .. } = missing;
        server.until_waiting(&format!("{verb} {resource} in namespace {weavers}: add the verb"));
        tries(server, missing);
    }
    admin.grant(service, &weavers, all);
    let mut server = server.unwrap();
    server.until_ready();
    // What only makes it better is not asked for.
    let needed: Vec<_> = all.iter().copied().filter(|right| !right.optional).collect();
    admin.grant(service, &weavers, &needed);
    server.restart();
}

fn a_role_without_one() {
    one_after_the_other(Service::Handlers, |server, missing| {
        if (missing.verb, missing.resource) == ("create", "pods") {
            let said = refusal(server);
            assert!(said.contains("create pods in namespace loom-life-"), "{said}");
        }
    });
}

fn a_relay_without_one() {
    one_after_the_other(Service::Relay, |_, _| {});
}

/// The whole life of weavers, with no other rights than those of the registry.
fn enough() {
    let mut stage = Stage::new();
    let mut admin = stage.admin();
    let (system, weavers) = (admin.new_namespace(), stage.kube.namespace.clone());
    let [handlers, relay, janitor] = Service::ALL.map(|service| {
        let path = admin.account(service, &system, &weavers, service.rights());
        path.display().to_string()
    });
    stage.relay = stage.launch("loom-relay", &[("LOOM_SERVER_KUBECONFIG", &relay)]);
    stage.relay.until_ready();
    let url = format!("ws://{}", stage.relay.address);
    let settings = [("LOOM_SERVER_KUBECONFIG", &*handlers), ("LOOM_SERVER_RELAY_URL", &url)];
    stage.handlers = stage.launch("loom-handlers", &settings);
    stage.handlers.until_ready();

    let said = stage.ok("new --rm -- sh -c", &["echo attached"]);
    assert!(said.contains("attached"), "{said}");
    let id = stage.weaver("", "echo logged; sleep 1000");
    assert!(stage.ok(&format!("exec {id} -- echo inside"), &[]).contains("inside"));
    assert!(stage.ok(&format!("logs {id}"), &[]).contains("logged"));
    stage.ok(&format!("extend {id} 8"), &[]);
    let image = stage.entry_image();
    let entry = stage.feed(&format!("new --keep-entrypoint --image {image}"), &[], b"exit 3\n");
    assert_eq!(code(&entry), 3, "{}", show(&entry));
    stage.kube.age(&id, 10);
    let swept = stage.janitor().env("LOOM_SERVER_KUBECONFIG", janitor).output().unwrap();
    assert_eq!(code(&swept), 0, "{}", show(&swept));
    assert!(text(&swept.stdout).contains("\"deleted\":1"), "{}", show(&swept));
    let forbidden = |server: &Server| server.said().contains("Kubernetes does not let this server");
    assert!(!forbidden(&stage.handlers) && !forbidden(&stage.relay));
}
