//! Volumes of files that change while their pod runs.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::pods::{POST, create, in_phase, pod, pods, run};
use crate::support::daemon::Daemon;
use crate::support::{Needs, block_on, client, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name: &str, test: fn()| trial(name, Needs::Pods, test);
    vec![
        test("files_follow_their_objects", follow),
        test("an_optional_object_may_come_later", optional),
        test("a_projected_token_is_good_and_made_anew", token),
    ]
}

/// How often a volume is looked at; far longer than anything takes.
const LOOKS: u32 = 4500;

async fn map(client: &Client, name: &str, data: Value) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
                     "metadata": {"name": name}, "data": data});
    let params = PatchParams::apply("test").force();
    maps.patch(name, &params, &Patch::Apply(map)).await.unwrap();
}

/// Mounts volumes under `/v`.
fn with_volumes(volumes: Value) -> Value {
    let mut spec = pod("p", "exec sleep 999");
    let mounts = volumes.as_array().unwrap().iter().map(|volume| {
        let name = volume["name"].as_str().unwrap();
        json!({"name": name, "mountPath": format!("/v/{name}")})
    });
    spec["spec"]["containers"][0]["volumeMounts"] = mounts.collect();
    spec["spec"]["volumes"] = volumes;
    spec
}

async fn shows(pods: &Api<Pod>, script: &str, wanted: &str) {
    let mut text = String::new();
    for _ in 0..LOOKS {
        text = run(pods, "p", &["sh", "-c", script]).await.0;
        if text == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{script:?} shows {text:?} and never {wanted:?}");
}

fn follow() {
    let daemon = Daemon::start();
    block_on(async {
        let client = client(&daemon.kubeconfig()).await;
        map(&client, "m", json!({"a": "1", "b": "x"})).await;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
        let secret = json!({"metadata": {"name": "s"}, "stringData": {"key": "old"}});
        secrets.create(&POST, &serde_json::from_value(secret).unwrap()).await.unwrap();
        let labels = json!({"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}});
        let mut spec = with_volumes(json!([
            {"name": "map", "configMap": {"name": "m"}},
            {"name": "all", "projected": {"defaultMode": 0o444, "sources": [
                {"secret": {"name": "s", "items": [{"key": "key", "path": "in/key", "mode": 0o644}]}},
                {"configMap": {"name": "m", "items": [{"key": "a", "path": "a"}]}},
                {"downwardAPI": {"items": [labels]}}]}},
        ]));
        spec["metadata"]["labels"] = json!({"x": "1"});
        let fixed = json!({"name": "map", "mountPath": "/v/fixed", "subPath": "a"});
        spec["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(fixed);
        let pods = pods(&daemon).await;
        create(&pods, spec).await;
        in_phase(&pods, "p", &["Running"]).await;
        let all =
            "cd /v; cat map/a fixed all/in/key all/labels; echo; stat -L -c %a all/a all/in/key";
        shows(&pods, all, "11oldx=\"1\"\n444\n644\n").await;
        shows(&pods, "cd /v/map; readlink a ..data | cut -c 1-3; ls", "..d\n..2\na\nb\n").await;
        map(&client, "m", json!({"a": "2"})).await;
        shows(&pods, "cd /v; cat map/a fixed; ls map", "21a\n").await;
        let changed = Patch::Merge(json!({"stringData": {"key": "new"}}));
        secrets.patch("s", &PatchParams::default(), &changed).await.unwrap();
        let changed = Patch::Merge(json!({"metadata": {"labels": {"y": "2"}}}));
        pods.patch("p", &PatchParams::default(), &changed).await.unwrap();
        shows(&pods, "cd /v/all; cat in/key labels a", "newx=\"1\"\ny=\"2\"2").await;
    });
}

fn optional() {
    let mut daemon = Daemon::start();
    block_on(async {
        let all = pods(&daemon).await;
        let volumes = json!([{"name": "m", "configMap": {"name": "m", "optional": true}}]);
        create(&all, with_volumes(volumes)).await;
        in_phase(&all, "p", &["Running"]).await;
        assert_eq!(run(&all, "p", &["ls", "/v/m"]).await, (String::new(), 0));
        // Also one that comes after the daemon was started anew.
        daemon.stop_and_start();
        let client = client(&daemon.kubeconfig()).await;
        map(&client, "m", json!({"a": "1"})).await;
        shows(&pods(&daemon).await, "cat /v/m/a", "1").await;
    });
}

fn token() {
    let mut daemon = Daemon::start();
    block_on(async {
        let all = pods(&daemon).await;
        let token = json!({"path": "token", "audience": "vault", "expirationSeconds": 600});
        let sources = json!([{"serviceAccountToken": token}]);
        let made =
            create(&all, with_volumes(json!([{"name": "t", "projected": {"sources": sources}}])))
                .await;
        in_phase(&all, "p", &["Running"]).await;
        let (first, code) = run(&all, "p", &["cat", "/v/t/token"]).await;
        assert_eq!(code, 0);
        let reviews: Api<TokenReview> = Api::all(client(&daemon.kubeconfig()).await);
        let review = json!({"metadata": {}, "spec": {"token": first, "audiences": ["vault"]}});
        let review = serde_json::from_value(review).unwrap();
        let status = reviews.create(&POST, &review).await.unwrap().status.unwrap();
        assert_eq!(
            (status.authenticated, status.audiences),
            (Some(true), Some(vec!["vault".into()]))
        );
        let user = status.user.unwrap();
        assert_eq!(user.username.as_deref(), Some("system:serviceaccount:default:default"));
        let uid = &user.extra.unwrap()["authentication.kubernetes.io/pod-uid"];
        assert_eq!(uid, &[made.metadata.uid.unwrap()]);
        // Nobody remembers a token: after a new start there is a new one.
        daemon.stop_and_start();
        let all = pods(&daemon).await;
        until(|| async {
            let (now, _) = run(&all, "p", &["cat", "/v/t/token"]).await;
            (now != first && now.split('.').count() == 3).then_some(())
        })
        .await;
    });
}
