//! Pods that take more than they may.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::pods::{create, in_phase, pod, pods};
use crate::support::daemon::Daemon;
use crate::support::{Needs, block_on, client, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_pod_that_fills_its_disk_is_evicted", Needs::Pods, disk),
        trial("a_full_disk_ends_the_largest_pod_and_no_other", Needs::Root, full),
        trial("a_container_that_takes_too_much_memory_comes_back", Needs::Limits, memory),
    ]
}

/// Returns how the condition is that a pod has which goes for others' sake.
fn disrupted(pod: &Pod) -> Option<(&str, &str)> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let found = conditions.find(|condition| condition.type_ == "DisruptionTarget")?;
    Some((&found.status, found.reason.as_deref()?))
}

fn why(pod: &Pod) -> (&str, &str) {
    let status = pod.status.as_ref().unwrap();
    let text = |field: &'static str| match field {
        "reason" => status.reason.as_deref().unwrap_or_default(),
        _ => status.message.as_deref().unwrap_or_default(),
    };
    (text("reason"), text("message"))
}

fn disk() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        let writes = |name: &str, place: &str, change: Value| {
            let script = format!("head -c 3M /dev/zero >{place}; exec sleep 999");
            let mut spec = pod(name, &script);
            spec["spec"]["containers"][0]["resources"] = change["resources"].clone();
            if change["resources"].is_null() {
                spec["spec"]["containers"][0].as_object_mut().unwrap().remove("resources");
            }
            spec["spec"]["volumes"] =
                json!([{"name": "v", "emptyDir": change.get("emptyDir").unwrap_or(&json!({}))}]);
            let mounts = json!([{"name": "v", "mountPath": "/v"}]);
            spec["spec"]["containers"][0]["volumeMounts"] = mounts;
            spec
        };
        let limit = json!({"resources": {"limits": {"ephemeral-storage": "2Mi"}}});
        let small = json!({"emptyDir": {"sizeLimit": "1Mi"}});
        let enough = json!({"resources": {"limits": {"ephemeral-storage": "1Gi"}}});
        create(&pods, writes("layer", "/tmp/x", limit.clone())).await;
        create(&pods, writes("volume", "/v/x", small)).await;
        create(&pods, writes("fine", "/v/x", enough)).await;
        let layer = in_phase(&pods, "layer", &["Failed"]).await;
        let total = "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ";
        assert_eq!(why(&layer), ("Evicted", total));
        assert_eq!(disrupted(&layer), None, "it is its own limit");
        let volume = in_phase(&pods, "volume", &["Failed"]).await;
        let limit = "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ";
        assert_eq!(why(&volume), ("Evicted", limit));
        in_phase(&pods, "fine", &["Running"]).await;
        let events: Api<Event> = Api::namespaced(client(&daemon.kubeconfig()).await, "default");
        let all = events.list(&ListParams::default()).await.unwrap();
        let told = all.iter().find(|event| event.message.as_deref() == Some(limit)).unwrap();
        assert_eq!(
            (told.reason.as_deref(), told.type_.as_deref()),
            (Some("Evicted"), Some("Warning"))
        );
    });
}

fn full() {
    let daemon = Daemon::start_all_on_disk_of(256);
    block_on(async {
        let pods = pods(&daemon).await;
        create(&pods, pod("small", "head -c 20M /dev/zero >/tmp/x; exec sleep 999")).await;
        // It takes the last byte: even then it is told why it had to go.
        create(&pods, pod("large", "head -c 300M /dev/zero >/tmp/x; exec sleep 999")).await;
        let large = in_phase(&pods, "large", &["Failed"]).await;
        let (reason, message) = why(&large);
        assert_eq!(reason, "Evicted");
        assert_eq!(disrupted(&large), Some(("True", "TerminationByKubelet")));
        let low = "The node was low on resource: ephemeral-storage. Threshold quantity: ";
        assert!(message.starts_with(low) && message.contains("Container main was using "));
        create(&pods, pod("later", "exit 0")).await;
        // Once what it had is given back pods start again.
        in_phase(&pods, "later", &["Succeeded"]).await;
        in_phase(&pods, "small", &["Running"]).await;
        for name in ["small", "large", "later"] {
            pods.delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
            until(|| async { pods.get_opt(name).await.unwrap().is_none().then_some(()) }).await;
        }
    });
}

fn memory() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        // A shell that doubles a text until it is killed.
        let mut spec = pod("p", "sleep 0.2; x=xxxxxxxx; while :; do x=$x$x; done");
        spec["spec"]["restartPolicy"] = json!("OnFailure");
        spec["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "32Mi"}});
        create(&pods, spec).await;
        let again = until(|| async {
            let pod = pods.get("p").await.unwrap();
            let all = pod.status.as_ref()?.container_statuses.clone()?;
            let last = all[0].last_state.clone()?.terminated?;
            (all[0].restart_count == 1).then_some(last)
        })
        .await;
        assert_eq!((again.exit_code, again.reason.as_deref()), (137, Some("OOMKilled")));
    });
}
