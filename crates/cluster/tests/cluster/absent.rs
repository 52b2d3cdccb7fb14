//! What the local cluster does not do: the table of ARCHITECTURE.md, row by row, tried on the
//! cluster at hand. There the local one must say what the table says, and a real one must do it.

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::client::Body;
use serde_json::{Value, json};

use crate::setup::{Bench, Case};

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    vec![("what_the_local_cluster_does_not_do_is_as_its_table_says", table)]
}

/// One row: its two cells, and what is asked to see that it is so.
struct Row {
    what: &'static str,
    here: &'static str,
    /// The code here, for each of the questions.
    code: u16,
    asked: Asked,
}

/// What is asked; a real cluster answers with success.
enum Asked {
    /// Paths that are read.
    Paths(&'static [&'static str]),
    /// Changes of a plain pod that is made in namespace `default`, as a dry run.
    Pods(fn() -> Vec<Value>),
    /// A change of a pod that is there, as a dry run.
    Change(fn() -> Value),
}

const ROWS: &[Row] = &[
    Row {
        what: "services, deployments, jobs, volume claims, ingresses, network policies",
        here: "404",
        code: 404,
        asked: Asked::Paths(&[
            "/api/v1/services",
            "/apis/apps/v1/deployments",
            "/apis/batch/v1/jobs",
            "/api/v1/persistentvolumeclaims",
            "/apis/networking.k8s.io/v1/ingresses",
            "/apis/networking.k8s.io/v1/networkpolicies",
        ]),
    },
    Row {
        what: "quotas, limit ranges, priority and runtime classes",
        here: "404",
        code: 404,
        asked: Asked::Paths(&[
            "/api/v1/resourcequotas",
            "/api/v1/limitranges",
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            "/apis/node.k8s.io/v1/runtimeclasses",
        ]),
    },
    Row {
        what: "roles: the kubeconfig may do all, a service account only ask who it is",
        here: "404",
        code: 404,
        asked: Asked::Paths(&[
            "/apis/rbac.authorization.k8s.io/v1/roles",
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        ]),
    },
    Row {
        what: "custom resources, admission webhooks, aggregated APIs",
        here: "404",
        code: 404,
        asked: Asked::Paths(&[
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            "/apis/apiregistration.k8s.io/v1/apiservices",
        ]),
    },
    Row {
        what: "subresources `ephemeralcontainers` and `resize` of pods",
        here: "404",
        code: 404,
        asked: Asked::Paths(&["{pod}/ephemeralcontainers", "{pod}/resize"]),
    },
    Row {
        what: "`hostNetwork`, `hostPID`, `hostIPC`, `hostPath`, `privileged`, added capabilities",
        here: "422",
        code: 422,
        asked: Asked::Pods(of_the_host),
    },
    Row {
        what: "`nodeSelector`, affinity, volume claims of pods",
        here: "422",
        code: 422,
        asked: Asked::Pods(placed),
    },
    Row {
        what: "`resourceFieldRef`, `fieldRef: status.podIP`",
        here: "422",
        code: 422,
        asked: Asked::Pods(downward),
    },
    Row {
        what: "probes with `host`",
        here: "422",
        code: 422,
        asked: Asked::Pods(|| {
            vec![container(
                json!({"livenessProbe": {"tcpSocket": {"host": "example.org", "port": 80}}}),
            )]
        }),
    },
    Row {
        what: "`automountServiceAccountToken: true`",
        here: "422",
        code: 422,
        asked: Asked::Pods(|| vec![json!({"automountServiceAccountToken": true})]),
    },
    Row {
        what: "a change of a pod's spec",
        here: "422",
        code: 422,
        asked: Asked::Change(|| json!({"spec": {"activeDeadlineSeconds": 60}})),
    },
];

/// A change of the plain pod's container.
fn container(more: Value) -> Value {
    json!({"containers": [more]})
}

fn of_the_host() -> Vec<Value> {
    let path = json!({"name": "host", "hostPath": {"path": "/etc"}});
    vec![
        json!({"hostNetwork": true}),
        json!({"hostPID": true}),
        json!({"hostIPC": true}),
        json!({"volumes": [path]}),
        container(
            json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": true}}),
        ),
        container(json!({"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}})),
    ]
}

fn placed() -> Vec<Value> {
    let term = json!({"key": "a", "operator": "Exists"});
    let terms = json!({"nodeSelectorTerms": [{"matchExpressions": [term]}]});
    let claim = json!({"name": "data", "persistentVolumeClaim": {"claimName": "data"}});
    vec![
        json!({"nodeSelector": {"a": "b"}}),
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}),
        json!({"volumes": [claim]}),
    ]
}

fn downward() -> Vec<Value> {
    let from = |source: Value| container(json!({"env": [{"name": "A", "valueFrom": source}]}));
    vec![
        from(json!({"resourceFieldRef": {"resource": "limits.memory"}})),
        from(json!({"fieldRef": {"fieldPath": "status.podIP"}})),
    ]
}

/// Sets a change into a pod; lists are merged item by item.
fn merge(target: &mut Value, change: Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (key, value) in change {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(target), Value::Array(change)) if target.len() == change.len() => {
            target.iter_mut().zip(change).for_each(|(target, change)| merge(target, change));
        }
        (target, change) => *target = change,
    }
}

/// Returns the code of an answer.
async fn code(client: &kube::Client, method: &str, path: &str, body: Option<Value>) -> u16 {
    let kind = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
    let request = http::Request::builder().method(method).uri(path).header("Content-Type", kind);
    let answer = client.send(request.body(Body::from(body)).unwrap()).await.unwrap();
    answer.status().as_u16()
}

async fn codes(bench: &Bench, client: &kube::Client, pod: &str, row: &Row) -> Vec<u16> {
    let mut codes = Vec::new();
    match &row.asked {
        Asked::Paths(paths) => {
            for path in *paths {
                codes.push(code(client, "GET", &path.replace("{pod}", pod), None).await);
            }
        }
        Asked::Pods(changes) => {
            for change in changes() {
                let mut asked = bench.plain_pod("absent", "true");
                merge(&mut asked["spec"], change);
                let path = "/api/v1/namespaces/default/pods?dryRun=All";
                codes.push(code(client, "POST", path, Some(asked)).await);
            }
        }
        Asked::Change(change) => {
            let path = format!("{pod}?dryRun=All");
            codes.push(code(client, "PATCH", &path, Some(change())).await);
        }
    }
    codes
}

fn table(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let written: Vec<_> = rows_of(include_str!("../../../../ARCHITECTURE.md"));
        let known: Vec<_> =
            ROWS.iter().map(|row| (row.what.to_owned(), row.here.to_owned())).collect();
        assert_eq!(written, known, "the table of ARCHITECTURE.md");
        let client = bench.site.client().await;
        let is_local =
            client.apiserver_version().await.unwrap().git_version.contains("+loom-local");
        let found = bench.create(bench.spec(&[])).await;
        let namespace = bench.site.settings().namespace;
        let pod = format!("/api/v1/namespaces/{namespace}/pods/{}", found.pod.name);
        for row in ROWS {
            let codes = codes(bench, &client, &pod, row).await;
            let right = |code: &u16| if is_local { *code == row.code } else { *code < 300 };
            assert!(codes.iter().all(right), "{}: {codes:?}", row.what);
        }
    }
    .boxed()
}

/// Returns the rows of the table under the heading about the local cluster.
fn rows_of(text: &str) -> Vec<(String, String)> {
    let (_, rest) = text.split_once("\n## What the local cluster does not do\n").unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let lines = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells = |line: &str| {
        let mut cells = line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned());
        (cells.next().unwrap(), cells.next().unwrap())
    };
    lines.map(cells).collect()
}
