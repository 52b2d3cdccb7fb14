//! Pods whose images come from a registry.

use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, LogParams};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::pods::{POST, create, in_phase};
use crate::support::daemon::Daemon;
use crate::support::registry::Registry;
use crate::support::{Needs, block_on, client, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name, test| trial(name, Needs::Pods, test);
    vec![
        test("an_image_is_pulled_and_its_config_counts", pulled),
        test("an_image_that_is_here_is_not_pulled_again", present),
        test("a_private_image_is_had_with_a_pull_secret", private),
        test("a_registry_that_fails_is_asked_again", back_off),
        test("an_image_that_no_registry_has_says_so", not_found),
        test("a_pull_ends_with_its_pod", unwanted),
        test("an_image_of_root_is_refused_where_root_is_not_allowed", not_root),
        test("an_image_is_a_volume", volume),
        test("names_of_images_outlive_the_daemon", restart),
    ]
}

/// What `inside` in `main.rs` is called in a pod.
const PROGRAM: &str = "/tools/loom-host";
const FILES: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0::/root:/bin/sh\nada:x:1000:1001::/home/ada:/bin/sh\n"),
    ("marker", "from the registry\n"),
];

fn config() -> Value {
    json!({"Env": ["PATH=/image/bin:/bin", "OF=image"], "User": "ada", "WorkingDir": "/src",
           "Entrypoint": [PROGRAM, "inside"], "Cmd": ["one", "two"]})
}

/// A pod that runs what its image says.
fn pod(name: &str, image: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "tools", "image": {"reference": "loom.local/tools"}}],
        "containers": [{"name": "main", "image": image,
                        "volumeMounts": [{"name": "tools", "mountPath": "/tools"}]}]}})
}

struct Bench {
    daemon: Daemon,
    registry: Registry,
    client: Client,
    pods: Api<Pod>,
}

impl Bench {
    async fn new() -> Self {
        let daemon = Daemon::start();
        let registry = Registry::of(daemon.dir());
        let client = client(&daemon.kubeconfig()).await;
        Self { daemon, registry, pods: Api::namespaced(client.clone(), "default"), client }
    }

    /// Runs a pod to its end; returns what its program saw.
    async fn run(&self, pod: Value) -> Value {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        create(&self.pods, pod).await;
        in_phase(&self.pods, &name, &["Succeeded"]).await;
        let log = self.pods.logs(&name, &LogParams::default()).await.unwrap();
        serde_json::from_str(&log).unwrap()
    }

    async fn waiting(&self, name: &str, reason: &str) -> String {
        until(|| async {
            let pod = self.pods.get(name).await.unwrap();
            let state = pod.status?.container_statuses?.first()?.state.clone()?;
            let waiting = state.waiting.filter(|w| w.reason.as_deref() == Some(reason))?;
            Some(waiting.message.unwrap_or_default())
        })
        .await
    }

    /// Returns reasons and messages of what was told of a pod's container.
    async fn told(&self, name: &str) -> Vec<(String, String)> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let of = format!("involvedObject.name={name}");
        let all = events.list(&ListParams::default().fields(&of)).await.unwrap();
        let text = |text: Option<String>| text.unwrap_or_default();
        all.into_iter().map(|event| (text(event.reason), text(event.message))).collect()
    }

    async fn was_told(&self, name: &str, reason: &str, words: &str) {
        let told = self.told(name).await;
        let found = told.iter().any(|(r, message)| r == reason && message.contains(words));
        assert!(found, "{reason} {words}: {told:?}");
    }
}

fn pulled() {
    block_on(async {
        let bench = Bench::new().await;
        let image = bench.registry.push("team/app:1", &config(), FILES);
        let saw = bench.run(pod("p", &image)).await;
        assert_eq!(saw["args"], json!(["one", "two"]));
        assert_eq!((&saw["uid"], &saw["cwd"]), (&json!(1000), &json!("/src")));
        assert_eq!(saw["marker"], "from the registry\n");
        assert_eq!(saw["env"]["PATH"], "/image/bin:/bin");
        assert_eq!(
            (&saw["env"]["OF"], &saw["env"]["HOME"]),
            (&json!("image"), &json!("/home/ada"))
        );
        bench.was_told("p", "Pulling", &format!("Pulling image \"{image}\"")).await;
        bench.was_told("p", "Pulled", "Successfully pulled image").await;
        bench.was_told("p", "Pulled", "including waiting). Image size: ").await;
        let status = bench.pods.get("p").await.unwrap().status.unwrap();
        let container = &status.container_statuses.unwrap()[0];
        assert_eq!(container.image, image);
        assert!(container.image_id.contains("@sha256:"), "{}", container.image_id);
        let mut other = pod("q", &image);
        other["spec"]["containers"][0]["args"] = json!(["inside", "$(MINE)"]);
        other["spec"]["containers"][0]["command"] = json!([PROGRAM]);
        other["spec"]["containers"][0]["env"] =
            json!([{"name": "OF", "value": "pod"}, {"name": "MINE", "value": "x"}]);
        other["spec"]["securityContext"] = json!({"runAsUser": 7, "runAsGroup": 8});
        let saw = bench.run(other).await;
        assert_eq!((&saw["args"], &saw["env"]["OF"]), (&json!(["x"]), &json!("pod")));
        assert_eq!((&saw["uid"], &saw["gid"]), (&json!(7), &json!(8)));
    });
}

fn present() {
    block_on(async {
        let bench = Bench::new().await;
        let image = bench.registry.push("app:1", &config(), FILES);
        bench.run(pod("p", &image)).await;
        let asked = bench.registry.asked();
        bench.run(pod("q", &image)).await;
        assert_eq!(bench.registry.asked(), asked);
        let said = format!("Container image \"{image}\" already present on machine");
        bench.was_told("q", "Pulled", &said).await;
        let mut always = pod("r", &image);
        always["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
        bench.run(always).await;
        assert!(bench.registry.asked() > asked);
        let mut never = pod("s", &image.replace(":1", ":2"));
        never["spec"]["containers"][0]["imagePullPolicy"] = "Never".into();
        create(&bench.pods, never).await;
        let said = bench.waiting("s", "ErrImageNeverPull").await;
        assert!(said.contains("is not present with pull policy of Never"), "{said}");
    });
}

fn private() {
    block_on(async {
        let bench = Bench::new().await;
        let image = bench.registry.push("app:1", &config(), FILES);
        bench.registry.lock("ada", "secret word");
        create(&bench.pods, pod("p", &image)).await;
        let said = bench.waiting("p", "ErrImagePull").await.to_lowercase();
        assert!(said.contains("unauthorized") || said.contains("not authorized"), "{said}");
        let secrets: Api<Secret> = Api::namespaced(bench.client.clone(), "default");
        let auths = json!({"registry.test": {"username": "ada", "password": "secret word"}});
        let whole = json!({"auths": auths});
        for (name, kind, key, data) in [
            ("new", "kubernetes.io/dockerconfigjson", ".dockerconfigjson", whole),
            ("old", "kubernetes.io/dockercfg", ".dockercfg", auths),
        ] {
            let secret = json!({"metadata": {"name": name}, "type": kind,
                                "stringData": {key: data.to_string()}});
            secrets.create(&POST, &serde_json::from_value(secret).unwrap()).await.unwrap();
            let mut pod = pod(name, &image);
            pod["spec"]["imagePullSecrets"] = json!([{"name": "none"}, {"name": name}]);
            pod["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
            bench.run(pod).await;
            bench.was_told(name, "FailedToRetrieveImagePullSecret", "(none)").await;
        }
        let said = format!("{:?}", bench.told("p").await);
        assert!(!said.contains("secret word"), "{said}");
    });
}

fn back_off() {
    block_on(async {
        let bench = Bench::new().await;
        let image = bench.registry.push("app:1", &config(), FILES);
        bench.registry.set_broken(true);
        create(&bench.pods, pod("p", &image)).await;
        let first = bench.waiting("p", "ErrImagePull").await;
        let said = bench.waiting("p", "ImagePullBackOff").await;
        assert_eq!(said, format!("Back-off pulling image \"{image}\": ErrImagePull: {first}"));
        bench.registry.set_broken(false);
        in_phase(&bench.pods, "p", &["Succeeded"]).await;
        bench.was_told("p", "Failed", &format!("Failed to pull image \"{image}\": ")).await;
        bench.was_told("p", "Failed", "Error: ErrImagePull").await;
        bench.was_told("p", "BackOff", &format!("Back-off pulling image \"{image}\"")).await;
        bench.was_told("p", "Failed", "Error: ImagePullBackOff").await;
        bench.was_told("p", "Pulled", "Successfully pulled").await;
    });
}

fn not_found() {
    block_on(async {
        let bench = Bench::new().await;
        let image = bench.registry.push("app:1", &config(), FILES);
        create(&bench.pods, pod("p", &image.replace(":1", ":2").replace("app", "none"))).await;
        let said = bench.waiting("p", "ErrImagePull").await;
        assert!(said.contains("not found"), "{said}");
        create(&bench.pods, pod("q", "127.0.0.1:1/app:1")).await;
        let said = bench.waiting("q", "ErrImagePull").await;
        assert!(said.to_lowercase().contains("connection refused"), "{said}");
    });
}

fn unwanted() {
    block_on(async {
        let bench = Bench::new().await;
        for (name, image, told) in
            [("p", "127.0.0.1:1/app:1", "BackOff"), ("s", "registry.test/slow:1", "PullProgress")]
        {
            create(&bench.pods, pod(name, image)).await;
            let is_told = async || {
                bench.told(name).await.iter().any(|(reason, _)| reason == told).then_some(())
            };
            until(is_told).await;
            if told == "PullProgress" {
                bench.was_told(name, told, "34 of 120 MiB").await;
            }
            bench.pods.delete(name, &DeleteParams::default()).await.unwrap();
            let is_gone = async || bench.pods.get_opt(name).await.unwrap().is_none().then_some(());
            until(is_gone).await;
        }
        let mut late = pod("q", "registry.test/slow:1");
        late["spec"]["activeDeadlineSeconds"] = 1.into();
        create(&bench.pods, late).await;
        let failed = in_phase(&bench.pods, "q", &["Failed"]).await;
        assert_eq!(failed.status.unwrap().reason.as_deref(), Some("DeadlineExceeded"));
    });
}

fn not_root() {
    block_on(async {
        let bench = Bench::new().await;
        let mut config = config();
        config["User"] = "".into();
        let image = bench.registry.push("app:1", &config, FILES);
        let mut pod = pod("p", &image);
        pod["spec"]["securityContext"] = json!({"runAsNonRoot": true});
        create(&bench.pods, pod).await;
        let said = bench.waiting("p", "CreateContainerConfigError").await;
        let words = "container has runAsNonRoot and image will run as root (pod: \"p_default(";
        assert!(said.starts_with(words), "{said}");
    });
}

fn volume() {
    block_on(async {
        let bench = Bench::new().await;
        let image = bench.registry.push("data:1", &json!({}), FILES);
        let mut pod = crate::pods::pod(
            "p",
            "cat /data/marker; (echo x >/data/marker) 2>/dev/null || echo no",
        );
        pod["spec"]["volumes"] = json!([{"name": "data", "image": {"reference": image}}]);
        pod["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "data", "mountPath": "/data"}]);
        create(&bench.pods, pod).await;
        in_phase(&bench.pods, "p", &["Succeeded"]).await;
        let log = bench.pods.logs("p", &LogParams::default()).await.unwrap();
        assert!(log.starts_with("from the registry\n") && log.ends_with("no\n"), "{log}");
    });
}

fn restart() {
    let mut daemon = None;
    block_on(async {
        let bench = Bench::new().await;
        let image = bench.registry.push("app:1", &config(), FILES);
        let mut pod = pod("p", &image);
        pod["spec"]["containers"][0]["args"] = json!(["wait"]);
        create(&bench.pods, pod).await;
        in_phase(&bench.pods, "p", &["Running"]).await;
        daemon = Some(bench.daemon);
    });
    let mut daemon = daemon.unwrap();
    daemon.restart();
    block_on(async {
        let pods: Api<Pod> = Api::namespaced(client(&daemon.kubeconfig()).await, "default");
        pods.delete("p", &DeleteParams::default().grace_period(5)).await.unwrap();
        let mut last = None;
        while let Some(pod) = pods.get_opt("p").await.unwrap() {
            last = pod.status.and_then(|status| status.container_statuses);
        }
        assert!(last.unwrap()[0].image_id.contains("@sha256:"));
    });
}
