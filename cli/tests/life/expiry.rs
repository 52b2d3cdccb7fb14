//! The janitor deletes what has expired, and nothing else.

use serde_json::{Value, json};

use crate::stage::Stage;
use crate::support::{Case, until};

pub(crate) const CASES: &[Case] = &[
    ("expiry::exactly_what_has_expired_is_deleted", exactly),
    ("expiry::an_extension_saves_it", extension),
    ("expiry::abuse_extend_racing_with_the_sweep", race),
];

fn exactly() {
    let stage = Stage::new();
    let expired = stage.weaver("--ttl 1", "sleep 1000");
    let fresh = stage.weaver("--ttl 1", "sleep 1000");
    let broken = stage.weaver("", "sleep 1000");
    let bare = stage.weaver("", "sleep 1000");
    stage.kube.age(&expired, 1);
    stage.kube.annotate(&broken, json!({"loom.dev/expires-at": "yesterday"}));
    stage.kube.annotate(&bare, json!({"loom.dev/expires-at": null}));
    stage.kube.create(foreign(&stage));
    let report = stage.sweep();
    for (what, many) in
        [("listed", 4), ("expired", 1), ("deleted", 1), ("kept", 1), ("skipped", 2), ("failed", 0)]
    {
        assert_eq!(report[what], many, "{what} in {report}");
    }
    until("the expired one is gone", || stage.kube.pod(&expired).is_none());
    let left = stage.kube.pods();
    assert_eq!(left.len(), 4);
    assert!(left.iter().all(|pod| pod.metadata.deletion_timestamp.is_none()));
    let listed: Vec<Value> = stage.weavers();
    assert_eq!(listed.len(), 1, "only what can be read is listed: {listed:?}");
    assert_eq!(listed[0]["id"], fresh);
    let again = stage.sweep();
    assert_eq!((&again["expired"], &again["skipped"]), (&0.into(), &2.into()), "{again}");
}

fn extension() {
    let stage = Stage::new();
    let id = stage.weaver("--ttl 1", "sleep 1000");
    stage.kube.age(&id, 2);
    stage.ok(&format!("extend {id} 4"), &[]);
    assert_eq!(stage.sweep()["kept"], 1);
    assert_eq!(stage.find(&id).unwrap()["status"], "Running");
}

/// The extension wins or the weaver is gone, never both answers.
fn race() {
    // No node has that much: the pods cost nothing.
    let stage = Stage::with(&[
        ("LOOM_SERVER_WEAVER_CPU_REQUEST", "4000"),
        ("LOOM_SERVER_WEAVER_CPU_LIMIT", "4000"),
    ]);
    let maker = stage.maker();
    let make = |nth: usize| maker.idle(&format!("key-{nth}")).unwrap();
    let ids: Vec<_> = (0..40).map(make).collect();
    ids.iter().for_each(|id| stage.kube.age(id, 4));
    let extended: Vec<_> = std::thread::scope(|scope| {
        let extend = |half: &[String]| {
            let (half, maker) = (half.to_vec(), maker.clone());
            scope.spawn(move || half.into_iter().filter(|id| maker.extend(id, 8)).collect())
        };
        let threads: Vec<_> = ids.chunks(20).map(extend).collect();
        let report = stage.sweep();
        assert_eq!(report["failed"], 0, "{report}");
        let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<String>>| thread.join().unwrap();
        threads.into_iter().flat_map(join).collect()
    });
    until("only those that were extended are left", || stage.kube.pods().len() <= extended.len());
    for id in &extended {
        let pod = stage.kube.pod(id).unwrap_or_else(|| panic!("{id} was extended and is gone"));
        assert!(pod.metadata.deletion_timestamp.is_none(), "{id} was extended and ends");
        assert_eq!(stage.find(id).unwrap()["lifetime_hours"], 8);
    }
}

/// A pod of somebody else, older than any weaver may be.
fn foreign(stage: &Stage) -> Value {
    json!({
        "metadata": {
            "name": "foreign",
            "labels": {"app": "something-else"},
            "annotations": {"loom.dev/expires-at": "2001-01-01T00:00:00Z"},
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "main",
                "image": stage.image,
                "command": ["sleep", "1000"],
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                    "runAsNonRoot": true,
                    "runAsUser": 1000,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
            }],
        },
    })
}
