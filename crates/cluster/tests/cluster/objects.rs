//! What weavers lean on beside pods: finalizers, tokens of service accounts, secrets, owners.

use cluster::Deletion;
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenReview, TokenReviewStatus};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, LogParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::setup::{Bench, Case, a_moment};

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("a_finalizer_holds_a_weaver_until_it_is_taken_off", finalizer),
        ("a_token_is_for_its_audience_while_its_account_is_there", account_token),
        ("a_token_in_a_pod_names_that_pod", pod_token),
        ("a_secret_is_kept_to_the_byte_and_read_in_a_pod", secret),
        ("what_a_weaver_owns_goes_with_it", owned),
    ]
}

const POST: PostParams = PostParams { dry_run: false, field_manager: None };

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn fresh(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::new_v4().simple())
}

/// Somebody wants to hear of the end before the pod is forgotten.
fn finalizer(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let found = bench.ready(&[]).await;
        let (id, pods) = (found.weaver.id, bench.api::<Pod>().await);
        let (name, params) = (found.pod.name.as_str(), PatchParams::default());
        let finalizers = |names| Patch::Merge(json!({"metadata": {"finalizers": names}}));
        pods.patch(name, &params, &finalizers(json!(["loom.dev/lifecycle"]))).await.unwrap();
        let deleted = bench.cluster.delete(id, &found.uid_guard()).await.unwrap();
        assert_eq!(deleted, Deletion::Deleted);
        loop {
            let held = bench.cluster.get(id).await.unwrap().expect("its finalizer holds it");
            assert!(held.pod.deleting);
            if held.weaver.phase.is_over() {
                break;
            }
            a_moment().await;
        }
        pods.patch(name, &params, &finalizers(json!(null))).await.unwrap();
        while bench.cluster.get(id).await.unwrap().is_some() {
            a_moment().await;
        }
    }
    .boxed()
}

/// Asks the cluster who has a token.
async fn review(bench: &Bench, token: &str, audience: &str) -> TokenReviewStatus {
    let api = Api::<TokenReview>::all(bench.site.client().await);
    let asked = of(json!({"metadata": {}, "spec": {"token": token, "audiences": [audience]}}));
    api.create(&POST, &asked).await.unwrap().status.unwrap()
}

async fn account(bench: &Bench) -> String {
    let name = fresh("account");
    let asked = of(json!({"metadata": {"name": name}}));
    bench.api::<ServiceAccount>().await.create(&POST, &asked).await.unwrap();
    name
}

fn account_token(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let (name, accounts) = (account(bench).await, bench.api::<ServiceAccount>().await);
        let asked: TokenRequest = of(json!({"metadata": {},
            "spec": {"audiences": ["loom-api"], "expirationSeconds": 600}}));
        let made = accounts.create_token_request(&name, &POST, &asked).await.unwrap();
        let token = made.status.unwrap().token;
        let status = review(bench, &token, "loom-api").await;
        assert_eq!(status.authenticated, Some(true), "{status:?}");
        assert_eq!(status.audiences, Some(vec!["loom-api".to_owned()]));
        let namespace = bench.site.settings().namespace;
        let user = format!("system:serviceaccount:{namespace}:{name}");
        assert_eq!(status.user.unwrap().username, Some(user));
        let other = review(bench, &token, "loom-weaver").await;
        assert_ne!(other.authenticated, Some(true), "{other:?}");
        let broken = review(bench, &format!("{token}x"), "loom-api").await;
        assert_ne!(broken.authenticated, Some(true), "{broken:?}");
        accounts.delete(&name, &DeleteParams::default()).await.unwrap();
        // An API server remembers for some seconds what it has just accepted.
        while review(bench, &token, "loom-api").await.authenticated == Some(true) {
            a_moment().await;
        }
    }
    .boxed()
}

/// Runs a program in a pod that Loom knows nothing of, with a volume at `/run/given`; returns what
/// it wrote, and the pod.
async fn run(bench: &Bench, pods: &Api<Pod>, script: &str, spec: Value) -> (String, Pod) {
    let name = fresh("plain");
    let mut asked = bench.plain_pod(&name, script);
    let target = asked["spec"].as_object_mut().unwrap();
    target.extend(spec.as_object().unwrap().clone());
    asked["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "given", "mountPath": "/run/given", "readOnly": true}]);
    let made = pods.create(&POST, &of(asked)).await.unwrap();
    while pods.get(&name).await.unwrap().status.unwrap().phase.as_deref() != Some("Succeeded") {
        a_moment().await;
    }
    (pods.logs(&name, &LogParams::default()).await.unwrap(), made)
}

async fn delete(pods: &Api<Pod>, pod: &Pod) {
    let name = pod.metadata.name.as_deref().unwrap();
    pods.delete(name, &DeleteParams::default()).await.unwrap();
}

fn pod_token(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let account = account(bench).await;
        let token = json!({"audience": "loom-weaver", "expirationSeconds": 600, "path": "token"});
        let given = json!({"name": "given", "projected": {"sources": [
            {"serviceAccountToken": token}]}});
        let spec = json!({"serviceAccountName": account, "volumes": [given]});
        let pods = bench.api::<Pod>().await;
        let (token, pod) = run(bench, &pods, "cat /run/given/token", spec).await;
        let status = review(bench, &token, "loom-weaver").await;
        assert_eq!(status.authenticated, Some(true), "{status:?}");
        let extra = status.user.unwrap().extra.unwrap();
        let uid = pod.metadata.uid.clone().unwrap();
        assert_eq!(extra["authentication.kubernetes.io/pod-uid"], [uid]);
        let name = pod.metadata.name.clone().unwrap();
        assert_eq!(extra["authentication.kubernetes.io/pod-name"], [name]);
        delete(&pods, &pod).await;
    }
    .boxed()
}

fn secret(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let (secrets, name) = (bench.api::<Secret>().await, fresh("secret"));
        let bytes: Vec<u8> =
            (0..512_u32 << 10).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let value = k8s_openapi::ByteString(bytes);
        let mut asked: Secret = of(json!({"metadata": {"name": name}}));
        asked.data = Some([("value".to_owned(), value.clone())].into());
        let made = secrets.create(&POST, &asked).await.unwrap();
        let read = secrets.get(&name).await.unwrap();
        assert!(read.data == asked.data, "the bytes read are the bytes written");
        let longer = json!({"metadata": {"labels": {"a": "b"}}});
        let params = PatchParams::default();
        secrets.patch(&name, &params, &Patch::Merge(&longer)).await.unwrap();
        let late = secrets.replace(&name, &POST, &made).await.expect_err("it is of an old version");
        assert!(matches!(&late, kube::Error::Api(status) if status.code == 409), "{late}");
        let given = json!({"name": "given", "secret": {"secretName": name}});
        let script = "sha256sum </run/given/value";
        let pods = bench.api::<Pod>().await;
        let (said, pod) = run(bench, &pods, script, json!({"volumes": [given]})).await;
        delete(&pods, &pod).await;
        let hash: String = Sha256::digest(&value.0).iter().map(|b| format!("{b:02x}")).collect();
        assert!(said.starts_with(&hash), "{said} is not {hash}");
    }
    .boxed()
}

fn owned(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let found = bench.ready(&[]).await;
        let (secrets, name) = (bench.api::<Secret>().await, fresh("owned"));
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": found.pod.name,
            "uid": found.pod.uid});
        let asked = of(json!({"metadata": {"name": name, "ownerReferences": [owner]}}));
        secrets.create(&POST, &asked).await.unwrap();
        let kept = fresh("kept");
        secrets.create(&POST, &of(json!({"metadata": {"name": kept}}))).await.unwrap();
        bench.cluster.delete(found.weaver.id, &found.uid_guard()).await.unwrap();
        while secrets.get_opt(&name).await.unwrap().is_some() {
            a_moment().await;
        }
        assert!(secrets.get_opt(&kept).await.unwrap().is_some(), "nobody owns that one");
    }
    .boxed()
}
