//! Pods that are asked how they are, that come back, and that have company.

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::{Api, DeleteParams, ListParams, LogParams};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::pods::{create, in_phase, pod, pods, run};
use crate::support::daemon::Daemon;
use crate::support::{Needs, block_on, client, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name: &str, test: fn()| trial(name, Needs::Pods, test);
    vec![
        test("a_failed_liveness_probe_restarts_the_container", liveness),
        test("readiness_drives_the_conditions", readiness),
        test("a_container_that_keeps_failing_backs_off", back_off),
        test("a_pod_goes_on_restarting_without_its_daemon", without_daemon),
        test("a_sidecar_starts_first_and_ends_last", sidecar),
    ]
}

fn exec_probe(script: &str) -> Value {
    json!({"exec": {"command": ["sh", "-c", script]}, "periodSeconds": 1, "failureThreshold": 1})
}

fn status(pod: &Pod, list: &str, index: usize) -> ContainerStatus {
    let status = pod.status.as_ref().unwrap();
    let list = match list {
        "init" => &status.init_container_statuses,
        _ => &status.container_statuses,
    };
    list.as_ref().unwrap()[index].clone()
}

async fn when(pods: &Api<Pod>, name: &str, wanted: impl Fn(&Pod) -> bool) -> Pod {
    until(|| async { Some(pods.get(name).await.unwrap()).filter(&wanted) }).await
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> &'a str {
    let all = pod.status.as_ref().unwrap().conditions.as_ref().unwrap();
    all.iter().find(|condition| condition.type_ == kind).map_or("", |found| &found.status)
}

/// Waits for an event of a pod that says this.
async fn told(daemon: &Daemon, reason: &str, message: &str) -> Event {
    let events: Api<Event> = Api::namespaced(client(&daemon.kubeconfig()).await, "default");
    until(|| async {
        let all = events.list(&ListParams::default()).await.unwrap();
        all.into_iter().find(|event| {
            event.reason.as_deref() == Some(reason) && event.message.as_deref() == Some(message)
        })
    })
    .await
}

fn liveness() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        let mut spec = pod("p", "trap 'exit 3' TERM; echo run; while :; do sleep 0.1; done");
        spec["spec"]["restartPolicy"] = json!("Always");
        spec["spec"]["containers"][0]["livenessProbe"] =
            exec_probe("test ! -e /tmp/bad || { echo bad; exit 1; }");
        create(&pods, spec).await;
        in_phase(&pods, "p", &["Running"]).await;
        // Its trap is set once it speaks.
        until(|| async {
            (pods.logs("p", &LogParams::default()).await.ok()? == "run\n").then_some(())
        })
        .await;
        run(&pods, "p", &["touch", "/tmp/bad"]).await;
        let again = when(&pods, "p", |pod| status(pod, "", 0).restart_count == 1).await;
        let last = status(&again, "", 0).last_state.unwrap().terminated.unwrap();
        assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
        told(&daemon, "Unhealthy", "Liveness probe failed: bad\n").await;
        let killing = "Container main failed liveness probe, will be restarted";
        let killing = told(&daemon, "Killing", killing).await;
        let place = killing.involved_object.field_path;
        assert_eq!(place.as_deref(), Some("spec.containers{main}"));
        let started = told(&daemon, "Started", "Started container main").await;
        assert!(started.count >= Some(1));
        in_phase(&pods, "p", &["Running"]).await;
        let previous = LogParams { previous: true, ..LogParams::default() };
        assert_eq!(pods.logs("p", &previous).await.unwrap(), "run\n");
        assert_eq!(run(&pods, "p", &["ls", "/tmp"]).await, (String::new(), 0));
        pods.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
        until(|| async { pods.get_opt("p").await.unwrap().is_none().then_some(()) }).await;
    });
}

fn readiness() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        let mut spec = pod("p", "exec sleep 999");
        spec["spec"]["containers"][0]["readinessProbe"] = exec_probe("test -e /tmp/ready");
        create(&pods, spec).await;
        let running = in_phase(&pods, "p", &["Running"]).await;
        assert_eq!(
            [condition(&running, "Ready"), condition(&running, "Initialized")],
            ["False", "True"]
        );
        told(&daemon, "Unhealthy", "Readiness probe failed: ").await;
        run(&pods, "p", &["touch", "/tmp/ready"]).await;
        let ready = when(&pods, "p", |pod| condition(pod, "Ready") == "True").await;
        assert_eq!(condition(&ready, "ContainersReady"), "True");
        assert!(status(&ready, "", 0).ready);
        run(&pods, "p", &["rm", "/tmp/ready"]).await;
        let lost = when(&pods, "p", |pod| condition(pod, "Ready") == "False").await;
        assert_eq!(status(&lost, "", 0).restart_count, 0);
    });
}

fn back_off() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        let mut spec = pod("p", "exit 4");
        spec["spec"]["restartPolicy"] = json!("OnFailure");
        let made = create(&pods, spec).await;
        let reason = |pod: &Pod| {
            let waiting = status(pod, "", 0).state.and_then(|state| state.waiting);
            waiting.and_then(|waiting| waiting.reason).unwrap_or_default()
        };
        let waits = when(&pods, "p", |pod| {
            pod.status.as_ref().unwrap().container_statuses.is_some()
                && reason(pod) == "CrashLoopBackOff"
        })
        .await;
        let now = status(&waits, "", 0);
        let whole = format!("p_default({})", made.metadata.uid.unwrap());
        let message = now.state.unwrap().waiting.unwrap().message.unwrap();
        assert_eq!(message, format!("back-off 10s restarting failed container=main pod={whole}"));
        assert_eq!(now.last_state.unwrap().terminated.unwrap().exit_code, 4);
        assert_eq!(waits.status.as_ref().unwrap().phase.as_deref(), Some("Running"));
        let event = format!("Back-off restarting failed container main in pod {whole}");
        told(&daemon, "BackOff", &event).await;
    });
}

fn without_daemon() {
    let mut daemon = Daemon::start();
    let dir = daemon.dir().to_owned();
    block_on(async {
        let mut spec = pod("p", "while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 1");
        spec["spec"]["restartPolicy"] = json!("Always");
        let pods = pods(&daemon).await;
        create(&pods, spec).await;
        in_phase(&pods, "p", &["Running"]).await;
        // It ends once the daemon is gone.
        let script = "(sleep 1; touch /tmp/end) >/dev/null 2>&1 & echo";
        run(&pods, "p", &["sh", "-c", script]).await;
        daemon.kill();
        let log = || {
            let pods = std::fs::read_dir(dir.join("pods")).ok()?;
            let logs = pods.flatten().map(|pod| pod.path().join("logs/main.log.previous"));
            logs.into_iter().find(|log| log.exists())
        };
        until(|| async { log() }).await;
        daemon.start_again();
        let pods = crate::pods::pods(&daemon).await;
        when(&pods, "p", |pod| status(pod, "", 0).restart_count == 1).await;
    });
}

fn sidecar() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        let mut spec = pod("p", "ls /run/s; while [ ! -e /run/s/end ]; do sleep 0.05; done");
        let mounts = json!([{"name": "s", "mountPath": "/run/s"}]);
        spec["spec"]["volumes"] = json!([{"name": "s", "emptyDir": {}}]);
        spec["spec"]["containers"][0]["volumeMounts"] = mounts.clone();
        let script = "trap 'echo bye; exit 7' TERM; touch /run/s/up; while :; do sleep 0.05; done";
        spec["spec"]["initContainers"] = json!([{
            "name": "side", "image": "loom.local/host", "command": ["sh", "-c", script],
            "restartPolicy": "Always", "startupProbe": exec_probe("test -e /run/s/up"),
            "readinessProbe": exec_probe("test -e /run/s/ready"), "volumeMounts": mounts,
        }]);
        create(&pods, spec).await;
        let running = in_phase(&pods, "p", &["Running"]).await;
        assert_eq!(condition(&running, "Initialized"), "True");
        assert_eq!(condition(&running, "Ready"), "False");
        let side = status(&running, "init", 0);
        assert_eq!((side.started, side.ready), (Some(true), false));
        let log = async || pods.logs("p", &LogParams::default()).await.unwrap();
        // It runs before its program has looked.
        until(async || Some(log().await).filter(|log| log == "up\n")).await;
        run(&pods, "p", &["touch", "/run/s/ready"]).await;
        when(&pods, "p", |pod| condition(pod, "Ready") == "True").await;
        run(&pods, "p", &["touch", "/run/s/end"]).await;
        let over = in_phase(&pods, "p", &["Succeeded"]).await;
        let ended = status(&over, "init", 0).state.unwrap().terminated.unwrap();
        assert_eq!(ended.exit_code, 7);
        let of_side = LogParams { container: Some("side".into()), ..LogParams::default() };
        assert_eq!(pods.logs("p", &of_side).await.unwrap(), "bye\n");
    });
}
