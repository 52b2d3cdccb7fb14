//! Objects over the API: what is stored, refused, paged, deleted.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use libtest_mimic::Trial;
use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::{Needs, block_on, client, code, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name, test| trial(name, Needs::Nothing, test);
    vec![
        test("no_token_is_401_and_a_wrong_one_too", no_token),
        test("unknown_things_are_404_with_a_status", unknown_things),
        test("unknown_fields_and_kinds_are_refused", unknown_fields),
        test("pages_show_one_moment", pages),
        test("a_stale_update_is_a_conflict", stale_update),
        test("deletes_keep_their_preconditions", preconditions),
        test("finalizers_hold_a_deleted_object", finalizers),
        test("a_namespace_takes_its_content_along", namespaces),
        test("patches_of_three_kinds", patches),
        test("a_status_is_applied_by_itself", applied_status),
        test("generated_names_dry_runs_and_collections", names_and_collections),
        test("a_pod_that_does_not_fit_says_what_is_lacking", unschedulable),
        test("secrets_are_exact_and_their_strings_encoded", secrets),
        test("one_folder_has_one_daemon", one_daemon),
        test("bodies_too_large_or_of_another_kind_are_refused", bodies),
        test("pods_that_cannot_be_run_here_are_refused", refused_pods),
        test("there_are_no_runtime_classes", runtime_class),
        test("what_client_go_found_is_refused_in_kubernetes_words", in_kubernetes_words),
    ]
}

pub(crate) fn config_map(name: &str, value: &str) -> ConfigMap {
    let data = Some([("key".to_owned(), value.to_owned())].into());
    let mut map = ConfigMap { data, ..ConfigMap::default() };
    map.metadata.name = Some(name.into());
    map
}

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

fn get(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).unwrap()
}

fn request(
    verb: &str,
    path: &str,
    media_type: &str,
    body: impl Into<Vec<u8>>,
) -> http::Request<Vec<u8>> {
    let request = http::Request::builder().method(verb).uri(path);
    request.header("content-type", media_type).body(body.into()).unwrap()
}

const POST: PostParams = PostParams { dry_run: false, field_manager: None };

fn no_token() {
    let daemon = Daemon::start();
    block_on(async {
        let text = std::fs::read_to_string(daemon.kubeconfig()).unwrap();
        for (path, change) in [("wrong", "\"token\": \"0"), ("none", "\"username\": \"")] {
            let path = daemon.dir().join(path);
            std::fs::write(&path, text.replace("\"token\": \"", change)).unwrap();
            let stranger = client(&path).await;
            assert_eq!(code(stranger.request::<serde_json::Value>(get("/api/v1/pods")).await), 401);
            assert_eq!(stranger.request_text(get("/healthz")).await.unwrap(), "ok");
        }
        let mode = std::fs::metadata(daemon.kubeconfig()).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    });
}

fn unknown_things() {
    let daemon = Daemon::start();
    block_on(async {
        let client = client(&daemon.kubeconfig()).await;
        for path in [
            "/api/v1/services",
            "/apis/apps/v1/deployments",
            "/api/v1/namespaces/default/pods/x/attach",
            "/api/v1/namespaces/default/pods/x",
            "/nonsense",
        ] {
            assert_eq!(code(client.request::<serde_json::Value>(get(path)).await), 404, "{path}");
        }
        let put = request("PUT", "/api/v1/pods", "application/json", "{}");
        assert_eq!(code(client.request::<serde_json::Value>(put).await), 405);
    });
}

fn unknown_fields() {
    let daemon = Daemon::start();
    block_on(async {
        let client = client(&daemon.kubeconfig()).await;
        let post = |query: &str, body: serde_json::Value| {
            let path = format!("/api/v1/namespaces/default/configmaps{query}");
            client.request::<serde_json::Value>(request(
                "POST",
                &path,
                "application/json",
                body.to_string(),
            ))
        };
        let body = json!({"metadata": {"name": "x", "colour": 1}, "datum": {}});
        let Err(kube::Error::Api(status)) = post("", body.clone()).await else { panic!() };
        assert_eq!(status.code, 400);
        for part in ["strict decoding error", "metadata.colour", "datum"] {
            assert!(status.message.contains(part), "{part} in {}", status.message);
        }
        let stored = post("?fieldValidation=Ignore", body).await.unwrap();
        assert_eq!(stored.get("datum"), None);
        assert_eq!(code(post("", json!({"kind": "Pod", "metadata": {"name": "y"}})).await), 400);
        assert_eq!(code(post("", json!({"metadata": {"name": "A_"}})).await), 422);
        assert_eq!(code(post("", json!({"metadata": {"name": "x"}})).await), 409);
    });
}

fn pages() {
    let daemon = Daemon::start();
    block_on(async {
        let client = client(&daemon.kubeconfig()).await;
        let maps = maps(&client);
        for at in 0..10 {
            maps.create(&POST, &config_map(&format!("m{at}"), "x")).await.unwrap();
        }
        let page = maps.list(&ListParams::default().limit(4)).await.unwrap();
        assert_eq!((page.items.len(), page.metadata.remaining_item_count), (4, Some(6)));
        maps.delete("m5", &DeleteParams::default()).await.unwrap();
        maps.create(&POST, &config_map("m45", "new")).await.unwrap();
        maps.replace("m6", &POST, &config_map("m6", "changed")).await.unwrap();
        let next = page.metadata.continue_.unwrap();
        let rest = maps.list(&ListParams::default().limit(40).continue_token(&next)).await.unwrap();
        let names: Vec<_> =
            rest.items.iter().map(|map| map.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["m4", "m5", "m6", "m7", "m8", "m9"]);
        assert_eq!(rest.items[2].data.as_ref().unwrap()["key"], "x");
        assert_eq!(rest.metadata.resource_version, page.metadata.resource_version);
        // Once the moment is forgotten the page is gone.
        let many = (0..9000).map(|at| {
            let maps = maps.clone();
            async move { maps.replace("m6", &POST, &config_map("m6", &at.to_string())).await }
        });
        let mut many =
            futures::stream::StreamExt::buffer_unordered(futures::stream::iter(many), 16);
        while let Some(done) = futures::StreamExt::next(&mut many).await {
            done.unwrap();
        }
        let late = maps.list(&ListParams::default().limit(40).continue_token(&next)).await;
        assert_eq!(code(late), 410);
    });
}

fn stale_update() {
    let daemon = Daemon::start();
    block_on(async {
        let maps = maps(&client(&daemon.kubeconfig()).await);
        let first = maps.create(&POST, &config_map("m", "1")).await.unwrap();
        let mut second = first.clone();
        second.data = config_map("m", "2").data;
        maps.replace("m", &POST, &second).await.unwrap();
        assert_eq!(code(maps.replace("m", &POST, &second).await), 409);
        let stale =
            Patch::Merge(json!({"metadata": {"resourceVersion": first.metadata.resource_version}}));
        assert_eq!(code(maps.patch("m", &PatchParams::default(), &stale).await), 409);
        second.metadata.resource_version = None;
        second.metadata.uid = Some("other".into());
        assert_eq!(code(maps.replace("m", &POST, &second).await), 409);
    });
}

fn preconditions() {
    let daemon = Daemon::start();
    block_on(async {
        let maps = maps(&client(&daemon.kubeconfig()).await);
        let map = maps.create(&POST, &config_map("m", "1")).await.unwrap();
        let delete = |uid: Option<String>, resource_version: Option<String>| {
            DeleteParams::default().preconditions(Preconditions { uid, resource_version })
        };
        let (uid, version) = (map.metadata.uid, map.metadata.resource_version);
        assert_eq!(code(maps.delete("m", &delete(Some("other".into()), None)).await), 409);
        assert_eq!(code(maps.delete("m", &delete(uid.clone(), Some("1".into()))).await), 409);
        maps.delete("m", &delete(uid, version)).await.unwrap();
        assert_eq!(code(maps.delete("m", &DeleteParams::default()).await), 404);
    });
}

fn finalizers() {
    let daemon = Daemon::start();
    block_on(async {
        let maps = maps(&client(&daemon.kubeconfig()).await);
        let mut map = config_map("m", "1");
        map.metadata.finalizers = Some(vec!["loom.dev/lifecycle".into()]);
        maps.create(&POST, &map).await.unwrap();
        maps.delete("m", &DeleteParams::default()).await.unwrap();
        let held = maps.get("m").await.unwrap();
        assert!(held.metadata.deletion_timestamp.is_some());
        let more =
            Patch::Merge(json!({"metadata": {"finalizers": ["loom.dev/a", "loom.dev/lifecycle"]}}));
        assert_eq!(code(maps.patch("m", &PatchParams::default(), &more).await), 422);
        let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        maps.patch("m", &PatchParams::default(), &release).await.unwrap();
        assert_eq!(code(maps.get("m").await), 404);
    });
}

fn namespaces() {
    let daemon = Daemon::start();
    block_on(async {
        let client = client(&daemon.kubeconfig()).await;
        let all: Api<Namespace> = Api::all(client.clone());
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("work".into());
        all.create(&POST, &namespace).await.unwrap();
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "work");
        let mut held = config_map("held", "1");
        held.metadata.finalizers = Some(vec!["loom.dev/x".into()]);
        maps.create(&POST, &held).await.unwrap();
        maps.create(&POST, &config_map("free", "1")).await.unwrap();
        all.delete("work", &DeleteParams::default()).await.unwrap();
        until(|| async { maps.get_opt("free").await.unwrap().is_none().then_some(()) }).await;
        assert_eq!(code(maps.create(&POST, &config_map("late", "1")).await), 403);
        let phase = all.get("work").await.unwrap().status.unwrap().phase;
        assert_eq!(phase.as_deref(), Some("Terminating"));
        let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        maps.patch("held", &PatchParams::default(), &release).await.unwrap();
        until(|| async { all.get_opt("work").await.unwrap().is_none().then_some(()) }).await;
        assert_eq!(code(maps.create(&POST, &config_map("late", "1")).await), 404);
        assert_eq!(code(all.delete("default", &DeleteParams::default()).await), 403);
    });
}

fn patches() {
    let daemon = Daemon::start();
    block_on(async {
        let maps = maps(&client(&daemon.kubeconfig()).await);
        maps.create(&POST, &config_map("m", "1")).await.unwrap();
        let params = PatchParams::default();
        let merge = Patch::Merge(json!({"data": {"a": "b"}}));
        maps.patch("m", &params, &merge).await.unwrap();
        let strategic = Patch::Strategic(json!({"metadata": {"labels": {"x": "y"}}}));
        maps.patch("m", &params, &strategic).await.unwrap();
        let json_patch = request(
            "PATCH",
            "/api/v1/namespaces/default/configmaps/m",
            "application/json-patch+json",
            json!([{"op": "remove", "path": "/data/key"}]).to_string(),
        );
        let client = client(&daemon.kubeconfig()).await;
        let map: ConfigMap = client.request(json_patch).await.unwrap();
        assert_eq!(map.data.unwrap(), [("a".to_owned(), "b".to_owned())].into());
        assert_eq!(map.metadata.labels.unwrap()["x"], "y");
        let before = maps.get("m").await.unwrap().metadata.resource_version;
        let same = maps.patch("m", &params, &merge).await.unwrap();
        assert_eq!(same.metadata.resource_version, before, "a change of nothing is no change");
        let mut config = config_map("m", "2");
        config.data = Some([("a".to_owned(), "2".to_owned())].into());
        let apply = Patch::Apply(config);
        let refused = maps.patch("m", &PatchParams::apply("test"), &apply).await;
        assert_eq!(code(refused), 409);
        let nobody = PatchParams { force: true, ..PatchParams::default() };
        assert_eq!(code(maps.patch("m", &nobody, &apply).await), 422);
        let applied = maps.patch("m", &PatchParams::apply("test").force(), &apply).await.unwrap();
        assert_eq!(applied.data.unwrap()["a"], "2");
        let nonsense = Patch::Merge(json!({"nonsense": 1}));
        assert_eq!(code(maps.patch("m", &params, &nonsense).await), 400);
    });
}

fn applied_status() {
    block_on(async {
        let daemon = Daemon::start();
        let spaces: Api<Namespace> = Api::all(client(&daemon.kubeconfig()).await);
        let condition = |status: &str| {
            Patch::Apply(json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"labels": {"a": "b"}},
                "status": {"conditions": [{"type": "Fine", "status": status}]},
            }))
        };
        let one = PatchParams::apply("one");
        let applied = spaces.patch_status("default", &one, &condition("True")).await.unwrap();
        assert!(!applied.metadata.labels.unwrap_or_default().contains_key("a"));
        let managers = applied.metadata.managed_fields.unwrap();
        assert_eq!(managers[0].subresource.as_deref(), Some("status"));
        let status = applied.status.unwrap();
        assert_eq!(
            (status.phase.as_deref(), status.conditions.unwrap().len()),
            (Some("Active"), 1)
        );
        // What another wants otherwise is a conflict, and what nobody wants any more goes.
        let two = PatchParams::apply("two");
        assert_eq!(code(spaces.patch_status("default", &two, &condition("False")).await), 409);
        assert_eq!(code(spaces.patch_status("none", &two, &condition("True")).await), 404);
        let nothing = Patch::Apply(json!({"apiVersion": "v1", "kind": "Namespace"}));
        let applied = spaces.patch_status("default", &one, &nothing).await.unwrap();
        assert!(applied.status.unwrap().conditions.is_none_or(|conditions| conditions.is_empty()));
    });
}

fn names_and_collections() {
    let daemon = Daemon::start();
    block_on(async {
        let maps = maps(&client(&daemon.kubeconfig()).await);
        let mut map = config_map("", "1");
        map.metadata.name = None;
        map.metadata.generate_name = Some("made-".into());
        map.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        let dry = PostParams { dry_run: true, field_manager: None };
        let unmade = maps.create(&dry, &map).await.unwrap().metadata.name.unwrap();
        assert_eq!(code(maps.get(&unmade).await), 404);
        for _ in 0..3 {
            let name = maps.create(&POST, &map).await.unwrap().metadata.name.unwrap();
            assert!(name.starts_with("made-") && name.len() == 10, "{name}");
        }
        maps.create(&POST, &config_map("other", "1")).await.unwrap();
        let selected = ListParams::default().labels("a=b");
        maps.delete_collection(&DeleteParams::default(), &selected).await.unwrap();
        let left = maps.list(&ListParams::default()).await.unwrap().items;
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].metadata.name.as_deref(), Some("other"));
        let fields = ListParams::default().fields("metadata.name=nothing");
        assert!(maps.list(&fields).await.unwrap().items.is_empty());
    });
}

fn unschedulable() {
    let daemon = Daemon::start();
    block_on(async {
        let pods: Api<Pod> = Api::namespaced(client(&daemon.kubeconfig()).await, "default");
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "big"},
            "spec": {"restartPolicy": "Never", "containers": [{
                "name": "c", "image": "loom.local/host", "command": ["true"],
                "resources": {"requests": {"memory": "900Ti"}}}]},
        }));
        pods.create(&POST, &pod.unwrap()).await.unwrap();
        let condition = until(|| async {
            let status = pods.get("big").await.unwrap().status.unwrap();
            status.conditions?.into_iter().find(|c| c.type_ == "PodScheduled")
        })
        .await;
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_deref()),
            ("False", Some("Unschedulable"))
        );
        assert!(condition.message.unwrap().contains("Insufficient memory"));
        pods.delete("big", &DeleteParams::default()).await.unwrap();
        assert_eq!(code(pods.get("big").await), 404);
    });
}

fn secrets() {
    let daemon = Daemon::start();
    block_on(async {
        let secrets: Api<Secret> = Api::namespaced(client(&daemon.kubeconfig()).await, "default");
        let bytes: Vec<u8> = (0..=255).cycle().take(512 << 10).collect();
        let mut secret = Secret::default();
        secret.metadata.name = Some("s".into());
        secret.data = Some([("b".to_owned(), k8s_openapi::ByteString(bytes.clone()))].into());
        secret.string_data = Some([("t".to_owned(), "ü".to_owned())].into());
        secrets.create(&POST, &secret).await.unwrap();
        let stored = secrets.get("s").await.unwrap();
        let data = stored.data.unwrap();
        assert_eq!((&data["b"].0, data["t"].0.as_slice()), (&bytes, "ü".as_bytes()));
        assert_eq!((stored.type_.as_deref(), stored.string_data), (Some("Opaque"), None));
    });
}

fn one_daemon() {
    let daemon = Daemon::start();
    let second = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .arg(daemon.dir())
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stdout).contains("another process owns"));
}

fn bodies() {
    let daemon = Daemon::start();
    block_on(async {
        let client = client(&daemon.kubeconfig()).await;
        let post = |media_type: &str, body: Vec<u8>| {
            let path = "/api/v1/namespaces/default/configmaps";
            client.request::<serde_json::Value>(request("POST", path, media_type, body))
        };
        assert_eq!(code(post("application/vnd.kubernetes.protobuf", b"k8s".to_vec()).await), 400);
        assert_eq!(code(post("application/cbor", b"k8s".to_vec()).await), 415);
        assert_eq!(code(post("application/json", b"{".to_vec()).await), 400);
        assert_eq!(code(post("application/json", "[".repeat(10_000).into_bytes()).await), 400);
        assert_eq!(code(post("application/json", vec![b' '; 4 << 20]).await), 413);
        let huge = config_map("m", &"x".repeat(2 << 20));
        assert_eq!(code(post("application/json", serde_json::to_vec(&huge).unwrap()).await), 422);
        let yaml = b"{metadata: {name: y}, data: {a: b}}".to_vec();
        post("application/yaml", yaml).await.unwrap();
    });
}

fn refused_pods() {
    let daemon = Daemon::start();
    block_on(async {
        let client = client(&daemon.kubeconfig()).await;
        for (field, part) in [
            ("spec.hostNetwork", json!({"hostNetwork": true})),
            ("spec.hostPID", json!({"hostPID": true})),
            (
                "spec.volumes[0].hostPath",
                json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            ),
            ("spec.restartPolicy", json!({"restartPolicy": "Sometimes"})),
            ("spec.nodeSelector", json!({"nodeSelector": {"a": "b"}})),
        ] {
            let mut pod = json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never",
                "containers": [{"name": "c", "image": "loom.local/host"}]}});
            pod["spec"].as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
            let path = "/api/v1/namespaces/default/pods";
            let post = request("POST", path, "application/json", pod.to_string());
            let Err(kube::Error::Api(status)) = client.request::<Pod>(post).await else {
                panic!("{field} was taken")
            };
            let causes = status.details.clone().unwrap().causes;
            assert_eq!((status.code, causes[0].field.as_str()), (422, field));
        }
    });
}

fn runtime_class() {
    let daemon = Daemon::start();
    block_on(async {
        let pods: Api<Pod> = Api::namespaced(client(&daemon.kubeconfig()).await, "default");
        for class in ["gvisor", "Not A Name"] {
            let pod = json!({"metadata": {"name": "p"}, "spec": {"runtimeClassName": class,
                "restartPolicy": "Never",
                "containers": [{"name": "c", "image": "loom.local/host"}]}});
            let refused = pods.create(&POST, &serde_json::from_value(pod).unwrap()).await;
            let Err(kube::Error::Api(status)) = refused else { panic!("{refused:?}") };
            let words =
                format!("pods \"p\" is forbidden: pod rejected: RuntimeClass {class:?} not found");
            assert_eq!((status.code, status.message), (403, words));
        }
    });
}

const IN_KUBERNETES_WORDS: &[(&str, &str, &str, u16, &str)] = &[
    (
        "POST",
        "/apis/coordination.k8s.io/v1/namespaces/default/leases",
        r#"{"metadata": {"name": "l"}, "spec": {"leaseDurationSeconds": 0}}"#,
        422,
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
    ),
    (
        "POST",
        "/apis/authentication.k8s.io/v1/tokenreviews",
        r#"{"spec": {}}"#,
        400,
        "token is required for TokenReview in authentication",
    ),
    (
        "POST",
        "/api/v1/namespaces/default/configmaps",
        r#"{"metadata": {"name": "m", "finalizers": ["nodomain"]}}"#,
        422,
        "metadata.finalizers[0]: Invalid value: \"nodomain\": name is neither a standard finalizer \
         name nor is it fully qualified",
    ),
    (
        "POST",
        "/api/v1/namespaces/default/configmaps",
        r#"{"metadata": {"name": "m", "labels": {"a b": "c d"}}}"#,
        422,
        "metadata.labels: Invalid value: \"c d\": a valid label must be",
    ),
    (
        "POST",
        "/api/v1/namespaces/default/configmaps?fieldValidation=Nope",
        r#"{"metadata": {"name": "m"}}"#,
        422,
        "supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
    ),
    ("DELETE", "/api/v1/namespaces", "", 405, "does not allow this method"),
    (
        "GET",
        "/api/v1/configmaps?watch=true&sendInitialEvents=true",
        "",
        422,
        "resourceVersionMatch: Forbidden: sendInitialEvents requires setting",
    ),
];

fn in_kubernetes_words() {
    let daemon = Daemon::start();
    block_on(async {
        let client = client(&daemon.kubeconfig()).await;
        for (verb, path, body, code, words) in IN_KUBERNETES_WORDS {
            let asked = client.request_text(request(verb, path, "application/json", *body)).await;
            let Err(kube::Error::Api(status)) = asked else { panic!("{path}: {asked:?}") };
            assert_eq!(status.code, *code, "{path}: {status:?}");
            assert!(status.message.contains(words), "{path}: {status:?}");
        }
        let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
        let pod = json!({"metadata": {"name": "p", "generation": 7, "finalizers": ["loom.dev/x"]},
            "spec": {"containers": [{"name": "c", "image": "loom.local/nope"}]}});
        let made = pods.create(&POST, &serde_json::from_value(pod).unwrap()).await.unwrap();
        assert_eq!(made.metadata.generation, Some(1));
        let deleted = pods.delete("p", &DeleteParams::default()).await.unwrap();
        assert_eq!(deleted.left().unwrap().metadata.generation, Some(2));
    });
}
