//! Pods that run: phases, exec, logs, deletion, and what outlives the daemon.

use futures::AsyncBufReadExt;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerState, Event, Pod, Secret};
use kube::Client;
use kube::api::{
    Api, AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams,
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::daemon::Daemon;
use crate::support::{Needs, block_on, client, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name, test| trial(name, Needs::Pods, test);
    vec![
        test("a_pod_runs_to_its_end_with_log_and_code", to_its_end),
        test("exec_carries_every_byte_and_the_code", exec),
        test("a_deleted_pod_gets_its_grace", grace),
        test("a_finalizer_keeps_an_ended_pod", finalizer),
        test("init_containers_run_first", init_containers),
        test("env_and_volumes_come_from_where_they_should", sources),
        test("a_missing_secret_is_waited_for", missing_secret),
        test("an_image_that_is_not_here_says_so", image),
        test("the_deadline_ends_a_pod", deadline),
        test("a_log_is_followed_to_its_end", follow),
        test("pods_live_on_over_kill_9_of_the_daemon", live_on),
        test("pods_live_on_over_every_stop_of_the_daemon", stops),
        test("a_pod_whose_shim_died_has_failed", shim_died),
        test("after_a_reboot_a_pod_has_failed_and_says_so", rebooted),
        test("a_pod_without_an_object_is_removed", orphan),
        test("events_tell_a_pods_story_in_order", story),
        test("capacity_is_given_back", capacity),
    ]
}

pub(crate) const POST: PostParams = PostParams { dry_run: false, field_manager: None };

/// A pod of one container that runs a shell command.
pub(crate) fn pod(name: &str, script: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "main", "image": "loom.local/host",
                            "command": ["bash", "-c", script]}],
        },
    })
}

pub(crate) async fn create(pods: &Api<Pod>, pod: Value) -> Pod {
    pods.create(&POST, &serde_json::from_value(pod).unwrap()).await.unwrap()
}

pub(crate) async fn pods(daemon: &Daemon) -> Api<Pod> {
    Api::namespaced(client(&daemon.kubeconfig()).await, "default")
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(crate) async fn in_phase(pods: &Api<Pod>, name: &str, wanted: &[&str]) -> Pod {
    until(|| async {
        let pod = pods.get(name).await.unwrap();
        wanted.contains(&phase(&pod)).then_some(pod)
    })
    .await
}

fn state(pod: &Pod) -> ContainerState {
    pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].state.clone().unwrap()
}

async fn gone(pods: &Api<Pod>, name: &str) {
    until(|| async { pods.get_opt(name).await.unwrap().is_none().then_some(()) }).await;
}

pub(crate) async fn run(pods: &Api<Pod>, name: &str, argv: &[&str]) -> (String, i32) {
    let params = AttachParams::default().stderr(true).max_stdout_buf_size(1 << 22);
    let mut process = pods.exec(name, argv.to_vec(), &params).await.unwrap();
    let mut text = String::new();
    process.stdout().unwrap().read_to_string(&mut text).await.unwrap();
    let status = process.take_status().unwrap().await.unwrap();
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let exit = causes.into_iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = exit.and_then(|cause| cause.message?.parse().ok());
    (text, code.unwrap_or(if status.status.as_deref() == Some("Success") { 0 } else { -1 }))
}

fn to_its_end() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        create(&pods, pod("good", "echo out; echo err >&2; echo -n end")).await;
        create(&pods, pod("bad", "exit 7")).await;
        let good = in_phase(&pods, "good", &["Succeeded"]).await;
        let ended = state(&good).terminated.unwrap();
        assert_eq!((ended.exit_code, ended.reason.as_deref()), (0, Some("Completed")));
        let mut log: Vec<_> = pods
            .logs("good", &LogParams::default())
            .await
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        log.sort();
        assert_eq!(log, ["end", "err", "out"]);
        let ended = state(&in_phase(&pods, "bad", &["Failed"]).await).terminated.unwrap();
        assert_eq!((ended.exit_code, ended.reason.as_deref()), (7, Some("Error")));
        // As a kubelet that has no such container.
        let refused = pods.exec("good", ["true"], &AttachParams::default()).await.err().unwrap();
        assert!(refused.to_string().contains("500"), "{refused}");
        // Nothing runs any more: a deletion needs no grace.
        pods.delete("bad", &DeleteParams::default()).await.unwrap();
        assert!(pods.get_opt("bad").await.unwrap().is_none());
    });
}

fn exec() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        create(&pods, pod("p", "sleep 1000")).await;
        in_phase(&pods, "p", &["Running"]).await;
        assert_eq!(run(&pods, "p", &["sh", "-c", "echo a; exit 42"]).await, ("a\n".into(), 42));
        assert_eq!(run(&pods, "p", &["true"]).await, (String::new(), 0));
        assert_eq!(run(&pods, "p", &["no-such-program"]).await.1, -1);
        let long = run(&pods, "p", &["seq", "300000"]).await;
        assert_eq!((long.0.lines().count(), long.1), (300_000, 0));
        // A program left behind does not hold the stream open.
        assert_eq!(run(&pods, "p", &["sh", "-c", "sleep 1000 & echo x"]).await, ("x\n".into(), 0));
        let params = AttachParams::default().stdin(true).stderr(false);
        let mut process = pods.exec("p", ["sha256sum"], &params).await.unwrap();
        let (mut stdin, mut stdout) = (process.stdin().unwrap(), process.stdout().unwrap());
        let bytes: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
        stdin.write_all(&bytes).await.unwrap();
        stdin.shutdown().await.unwrap();
        drop(stdin);
        let mut text = String::new();
        stdout.read_to_string(&mut text).await.unwrap();
        let expected: String = sha2::Digest::finalize(sha2::Digest::chain_update(
            <sha2::Sha256 as sha2::Digest>::new(),
            &bytes,
        ))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
        assert_eq!(text.split_whitespace().next(), Some(expected.as_str()));
    });
}

fn grace() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        create(
            &pods,
            pod("kind", "trap 'echo term; exit 0' TERM; echo up; while :; do sleep 0.05; done"),
        )
        .await;
        create(&pods, pod("deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done")).await;
        for name in ["kind", "deaf"] {
            until(|| async {
                pods.logs(name, &LogParams::default())
                    .await
                    .is_ok_and(|log| log == "up\n")
                    .then_some(())
            })
            .await;
        }
        let going = pods.delete("kind", &DeleteParams::default()).await.unwrap().left().unwrap();
        assert_eq!(going.metadata.deletion_grace_period_seconds, Some(5));
        assert!(going.metadata.deletion_timestamp.is_some());
        gone(&pods, "kind").await;
        pods.delete("deaf", &DeleteParams::default()).await.unwrap();
        let now = DeleteParams::default().grace_period(0);
        pods.delete("deaf", &now).await.unwrap();
        assert!(pods.get_opt("deaf").await.unwrap().is_none());
        until(|| async { daemon.runtime().list().unwrap().is_empty().then_some(()) }).await;
    });
}

fn finalizer() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        let mut held = pod("held", "sleep 1000");
        held["metadata"]["finalizers"] = json!(["loom.dev/lifecycle"]);
        create(&pods, held).await;
        in_phase(&pods, "held", &["Running"]).await;
        pods.delete("held", &DeleteParams::default().grace_period(1)).await.unwrap();
        let ended = in_phase(&pods, "held", &["Failed"]).await;
        // The first process of a container is deaf to signals it does not handle.
        assert_eq!(state(&ended).terminated.unwrap().exit_code, 137);
        until(|| async {
            let pod = pods.get("held").await.unwrap();
            (pod.metadata.deletion_grace_period_seconds == Some(0)).then_some(())
        })
        .await;
        let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        pods.patch("held", &PatchParams::default(), &release).await.unwrap();
        assert!(pods.get_opt("held").await.unwrap().is_none());
    });
}

fn init_containers() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        let mut both = pod("both", "cat /data/word");
        let mount = json!([{"name": "data", "mountPath": "/data"}]);
        both["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
        both["spec"]["containers"][0]["volumeMounts"] = mount.clone();
        both["spec"]["initContainers"] = json!([{"name": "first", "image": "loom.local/host",
            "command": ["sh", "-c", "echo made > /data/word; echo init"], "volumeMounts": mount}]);
        create(&pods, both).await;
        in_phase(&pods, "both", &["Succeeded"]).await;
        let log = |container: &str| LogParams {
            container: Some(container.into()),
            ..LogParams::default()
        };
        assert_eq!(pods.logs("both", &log("main")).await.unwrap(), "made\n");
        assert_eq!(pods.logs("both", &log("first")).await.unwrap(), "init\n");
        let mut fails = pod("fails", "echo never");
        fails["spec"]["initContainers"] =
            json!([{"name": "first", "image": "loom.local/host", "command": ["false"]}]);
        create(&pods, fails).await;
        let failed = in_phase(&pods, "fails", &["Failed"]).await;
        assert_eq!(state(&failed).waiting.unwrap().reason.as_deref(), Some("PodInitializing"));
    });
}

async fn make_sources(client: &Client) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"key": "hidden"}});
    secrets.create(&POST, &serde_json::from_value(secret).unwrap()).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map = json!({"metadata": {"name": "c"}, "data": {"ONE": "1", "file": "text"}});
    maps.create(&POST, &serde_json::from_value(map).unwrap()).await.unwrap();
}

fn sources() {
    let daemon = Daemon::start();
    block_on(async {
        let client = client(&daemon.kubeconfig()).await;
        make_sources(&client).await;
        let pods: Api<Pod> = Api::namespaced(client, "default");
        let script = "echo $SECRET $NAME $ONE $EXPANDED; cat /s/renamed /c/file; id -u; pwd; \
                      ls /run/tools; touch /c/x 2>/dev/null || echo read-only";
        let mut pod = pod("p", script);
        pod["spec"]["volumes"] = json!([
            {"name": "s", "secret": {"secretName": "s", "items": [{"key": "key", "path": "renamed"}]}},
            {"name": "c", "configMap": {"name": "c"}},
            {"name": "tools", "image": {"reference": "loom.local/tools"}},
        ]);
        let main = &mut pod["spec"]["containers"][0];
        main["volumeMounts"] = json!([
            {"name": "s", "mountPath": "/s"}, {"name": "c", "mountPath": "/c"},
            {"name": "tools", "mountPath": "/run/tools", "readOnly": true},
        ]);
        main["envFrom"] = json!([{"configMapRef": {"name": "c"}}]);
        main["env"] = json!([
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "EXPANDED", "value": "<$(NAME)>"},
        ]);
        create(&pods, pod).await;
        in_phase(&pods, "p", &["Succeeded", "Failed"]).await;
        let log = pods.logs("p", &LogParams::default()).await.unwrap();
        let expected = "hidden p 1 <p>\nhiddentext1000\n/home/loom\nloom-host\nread-only\n";
        assert_eq!(log, expected);
    });
}

fn missing_secret() {
    let mut daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        let mut pod = pod("p", "echo $A");
        pod["spec"]["containers"][0]["env"] =
            json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}}]);
        create(&pods, pod).await;
        let waiting = until(|| async {
            let pod = pods.get("p").await.unwrap();
            pod.status.as_ref()?.container_statuses.as_ref()?;
            state(&pod).waiting.filter(|w| w.message.is_some())
        })
        .await;
        assert_eq!(waiting.reason.as_deref(), Some("CreateContainerConfigError"));
        assert!(waiting.message.unwrap().contains("secret \"s\" not found"));
    });
    // What was created but not started is started by the next daemon.
    daemon.restart();
    block_on(async {
        let client = client(&daemon.kubeconfig()).await;
        make_sources(&client).await;
        let pods: Api<Pod> = Api::namespaced(client, "default");
        in_phase(&pods, "p", &["Succeeded"]).await;
        assert_eq!(pods.logs("p", &LogParams::default()).await.unwrap(), "hidden\n");
    });
}

fn image() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        for (name, image, reason, says) in [
            ("a", "loom.local/other", "ErrImageNeverPull", "it has loom.local/host"),
            ("b", "a@sha256:bad", "InvalidImageName", "invalid reference format"),
        ] {
            let mut pod = pod(name, "true");
            pod["spec"]["containers"][0]["image"] = image.into();
            create(&pods, pod).await;
            let waiting = until(|| async {
                let pod = pods.get(name).await.unwrap();
                pod.status.as_ref()?.container_statuses.as_ref()?;
                state(&pod).waiting.filter(|w| w.reason.as_deref() == Some(reason))
            })
            .await;
            assert!(waiting.message.is_some_and(|said| said.contains(says)));
            assert_eq!(phase(&pods.get(name).await.unwrap()), "Pending");
        }
        pods.delete("a", &DeleteParams::default()).await.unwrap();
        gone(&pods, "a").await;
    });
}

fn deadline() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        for (name, image) in [("runs", "loom.local/host"), ("waits", "loom.local/other")] {
            let mut pod = pod(name, "sleep 1000");
            pod["spec"]["activeDeadlineSeconds"] = 1.into();
            pod["spec"]["containers"][0]["image"] = image.into();
            create(&pods, pod).await;
            let failed = in_phase(&pods, name, &["Failed"]).await;
            assert_eq!(
                failed.status.unwrap().reason.as_deref(),
                Some("DeadlineExceeded"),
                "{name}"
            );
        }
    });
}

fn follow() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        create(
            &pods,
            pod("p", "for i in $(seq 2000); do echo line $i; done; read -t 0.3 <> <(:); echo last"),
        )
        .await;
        until(|| async {
            pods.logs("p", &LogParams::default())
                .await
                .is_ok_and(|log| !log.is_empty())
                .then_some(())
        })
        .await;
        let params = LogParams { follow: true, ..LogParams::default() };
        let lines: Vec<_> = pods
            .log_stream("p", &params)
            .await
            .unwrap()
            .lines()
            .map(Result::unwrap)
            .collect()
            .await;
        assert_eq!(
            (lines.len(), lines[1999].as_str(), lines[2000].as_str()),
            (2001, "line 2000", "last")
        );
        let tail = LogParams { tail_lines: Some(2), timestamps: true, ..LogParams::default() };
        let text = pods.logs("p", &tail).await.unwrap();
        let words: Vec<Vec<&str>> =
            text.lines().map(|line| line.splitn(2, ' ').collect()).collect();
        assert_eq!((words.len(), words[0][1], words[1][1]), (2, "line 2000", "last"));
        assert!(words[0][0].ends_with('Z'));
        let few = LogParams { limit_bytes: Some(10), ..LogParams::default() };
        assert_eq!(pods.logs("p", &few).await.unwrap(), "line 1\nlin");
    });
}

fn live_on() {
    let mut daemon = Daemon::start();
    let begun = block_on(async {
        let pods = pods(&daemon).await;
        create(
            &pods,
            // A pod's end would take along what it is told by.
            pod(
                "p",
                "echo $$; while [ ! -s ~/stop ] || kill -0 $(cat ~/stop) 2>/dev/null; \
                 do sleep 0.05; done; echo over; exit 3",
            ),
        )
        .await;
        create(&pods, pod("short", "while [ ! -e ~/stop ]; do sleep 0.05; done")).await;
        in_phase(&pods, "short", &["Running"]).await;
        state(&in_phase(&pods, "p", &["Running"]).await).running.unwrap().started_at
    });
    daemon.restart();
    block_on(async {
        let pods = pods(&daemon).await;
        let still = state(&pods.get("p").await.unwrap()).running.unwrap().started_at;
        assert_eq!(still, begun);
        assert_eq!(run(&pods, "p", &["sh", "-c", "echo $$ > ~/stop"]).await.1, 0);
        let ended = state(&in_phase(&pods, "p", &["Failed"]).await).terminated.unwrap();
        assert_eq!(ended.exit_code, 3);
        assert!(pods.logs("p", &LogParams::default()).await.unwrap().ends_with("over\n"));
    });
    // One that ends while nobody looks.
    let runtime = daemon.runtime();
    daemon.kill();
    let ids = runtime.list().unwrap();
    let alive = ids.iter().find_map(|id| runtime.adopt(id).ok()).unwrap();
    alive.stop(std::time::Duration::ZERO).unwrap();
    while runtime.adopt(alive.id()).is_ok() {
        std::thread::yield_now();
    }
    daemon.start_again();
    block_on(async {
        let pods = pods(&daemon).await;
        let ended = state(&in_phase(&pods, "short", &["Failed"]).await).terminated.unwrap();
        assert_eq!(ended.exit_code, 137);
    });
}

/// A stop that ends pods now and then did so in one of three.
fn stops() {
    let mut daemon = Daemon::start();
    let begun = block_on(async {
        let pods = pods(&daemon).await;
        create(&pods, pod("p", "sleep 1000")).await;
        state(&in_phase(&pods, "p", &["Running"]).await).running.unwrap().started_at
    });
    for _ in 0..20 {
        daemon.stop_and_start();
        block_on(async {
            let pods = pods(&daemon).await;
            let same = state(&in_phase(&pods, "p", &["Running", "Failed"]).await).running;
            assert_eq!(same.expect("it runs on").started_at, begun);
            assert_eq!(run(&pods, "p", &["true"]).await.1, 0);
        });
    }
}

/// Kills the shim of a pod with -9 and returns the file that tells which one it was.
fn kill_shim(daemon: &Daemon, pod: Pod) -> std::path::PathBuf {
    let file = daemon.dir().join("pods").join(pod.metadata.uid.unwrap()).join("shim.json");
    let identity = std::fs::read(&file).unwrap();
    let pid = serde_json::from_slice::<Value>(&identity).unwrap()["pid"].to_string();
    std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
    file
}

fn rebooted() {
    let mut daemon = Daemon::start();
    let pod = block_on(async {
        let pods = pods(&daemon).await;
        create(&pods, pod("p", "sleep 1000")).await;
        in_phase(&pods, "p", &["Running"]).await
    });
    daemon.kill();
    let file = kill_shim(&daemon, pod);
    let text = std::fs::read(&file).unwrap();
    let mut identity: Value = serde_json::from_slice(&text).unwrap();
    identity["boot_id"] = "another".into();
    std::fs::write(&file, identity.to_string()).unwrap();
    daemon.start_again();
    block_on(async {
        let failed = in_phase(&pods(&daemon).await, "p", &["Failed"]).await;
        assert_eq!(state(&failed).terminated.unwrap().exit_code, 137);
        assert_eq!(failed.status.unwrap().reason.as_deref(), Some("NodeRebooted"));
    });
}

fn shim_died() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        create(&pods, pod("p", "sleep 1000")).await;
        let pod = in_phase(&pods, "p", &["Running"]).await;
        kill_shim(&daemon, pod);
        let failed = in_phase(&pods, "p", &["Failed"]).await;
        let ended = state(&failed).terminated.unwrap();
        assert_eq!(
            (ended.exit_code, ended.reason.as_deref()),
            (137, Some("ContainerStatusUnknown"))
        );
        pods.delete("p", &DeleteParams::default()).await.unwrap();
        gone(&pods, "p").await;
    });
}

fn orphan() {
    let mut daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        create(&pods, pod("p", "sleep 1000")).await;
        in_phase(&pods, "p", &["Running"]).await;
    });
    daemon.kill();
    std::fs::remove_file(daemon.dir().join("store/objects.log")).unwrap();
    let runtime = daemon.runtime();
    let id = runtime.list().unwrap().remove(0);
    assert!(runtime.adopt(&id).is_ok());
    daemon.start_again();
    assert!(matches!(runtime.adopt(&id), Err(pod_runtime::Error::NotFound(_))));
}

fn story() {
    let daemon = Daemon::start();
    block_on(async {
        let client = client(&daemon.kubeconfig()).await;
        let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
        let events: Api<Event> = Api::namespaced(client, "default");
        create(&pods, pod("p", "sleep 1000")).await;
        let about = ListParams::default().fields("involvedObject.name=p,involvedObject.kind=Pod");
        let reasons = || async {
            let items = events.list(&about).await.unwrap().items;
            items.into_iter().map(|event| event.reason.unwrap()).collect::<Vec<_>>()
        };
        let expected = ["Scheduled", "Pulled", "Created", "Started", "Killing"];
        until(|| async { (reasons().await == expected[..4]).then_some(()) }).await;
        pods.delete("p", &DeleteParams::default().grace_period(1)).await.unwrap();
        gone(&pods, "p").await;
        assert_eq!(reasons().await, expected);
    });
}

fn capacity() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        // Processors are shared: they may be requested ten times over.
        let cpus = 10 * std::thread::available_parallelism().unwrap().get();
        for name in ["first", "second"] {
            let mut pod = pod(name, "sleep 1000");
            pod["spec"]["containers"][0]["resources"] =
                json!({"requests": {"cpu": cpus.to_string()}});
            create(&pods, pod).await;
        }
        in_phase(&pods, "first", &["Running"]).await;
        until(|| async {
            let status = pods.get("second").await.unwrap().status?;
            let scheduled = status.conditions?.into_iter().find(|c| c.type_ == "PodScheduled")?;
            scheduled.message.filter(|message| message.contains("Insufficient cpu"))
        })
        .await;
        pods.delete("first", &DeleteParams::default().grace_period(0)).await.unwrap();
        in_phase(&pods, "second", &["Running"]).await;
    });
}
