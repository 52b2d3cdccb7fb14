//! What a cluster's own rules refuse or end, told in its words.

use client::Error;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use serde_json::json;
use wire::problem::{Code, Problem};

use crate::stage::Stage;
use crate::support::{Case, code, show, text, until};

pub(crate) const REAL: &[Case] = &[
    ("refused::abuse_quota_exhausted", quota),
    ("refused::abuse_limit_range_refuses", limit_range),
    ("refused::abuse_admission_refuses", admission),
    ("refused::abuse_pod_evicted", evicted),
];

/// Asks for a weaver and returns what is said instead.
fn refusal(stage: &Stage) -> Problem {
    match stage.maker().idle(&uuid::Uuid::new_v4().to_string()) {
        Err(Error::Problem(problem)) => *problem,
        other => panic!("{other:?}"),
    }
}

/// Waits until the cluster has taken note of its rule, which it does by and by.
fn until_refused(stage: &Stage, words: &str) -> Problem {
    let mut problem = None;
    until(&format!("the cluster says {words:?}"), || {
        let key = uuid::Uuid::new_v4().to_string();
        problem = match stage.maker().idle(&key) {
            Err(Error::Problem(problem)) => Some(*problem),
            Err(error) => panic!("{error}"),
            Ok(id) => {
                stage.ok(&format!("rm {id}"), &[]);
                None
            }
        };
        problem.as_ref().is_some_and(|problem| problem.detail.contains(words))
    });
    problem.unwrap()
}

fn quota() {
    let stage = Stage::new();
    let quota = json!({"metadata": {"name": "two-pods"}, "spec": {"hard": {"pods": "1"}}});
    stage.admin().create::<ResourceQuota>(&stage.kube.namespace, quota);
    until("there is room for one", || stage.maker().idle("first").is_ok());
    let problem = until_refused(&stage, "exceeded quota: two-pods");
    assert_eq!((problem.status, problem.code), (429, Code::TooMany));
    let output = stage.run("new --no-attach", &[]);
    assert_eq!(code(&output), 255, "{}", show(&output));
    let said = text(&output.stderr);
    assert!(
        said.contains("exceeded quota: two-pods") && said.contains("limited: pods=1"),
        "{said}"
    );
    assert_eq!(stage.kube.pods().len(), 1);
}

fn limit_range() {
    let stage = Stage::new();
    let most = json!({"metadata": {"name": "small"}, "spec": {"limits": [
        {"type": "Container", "max": {"cpu": "100m"}}]}});
    stage.admin().create::<LimitRange>(&stage.kube.namespace, most);
    let problem = until_refused(&stage, "maximum cpu usage per Container is 100m, but limit is 2");
    assert_eq!((problem.status, problem.code), (403, Code::Forbidden));
    assert_eq!(refusal(&stage).status, 403);
}

fn admission() {
    let stage = Stage::new();
    let (admin, namespace) = (stage.admin(), stage.kube.namespace.clone());
    let pods = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["pods"]}]);
    let only_here = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
    admin.create_for_all::<ValidatingAdmissionPolicy>(json!({"metadata": {"name": namespace},
        "spec": {"failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": pods, "namespaceSelector": only_here},
            "validations": [{"expression": "false", "message": "you cannot have that here"}]}}));
    admin.create_for_all::<ValidatingAdmissionPolicyBinding>(json!({
        "metadata": {"name": namespace},
        "spec": {"policyName": namespace, "validationActions": ["Deny"]}}));
    let problem = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until_refused(&stage, "you cannot have that here")
    }));
    admin.delete_for_all::<ValidatingAdmissionPolicyBinding>(&namespace);
    admin.delete_for_all::<ValidatingAdmissionPolicy>(&namespace);
    let problem = problem.unwrap();
    assert_eq!((problem.status, problem.code), (403, Code::Forbidden));
}

/// The node itself ends a pod that fills its disk.
fn evicted() {
    let stage = Stage::new();
    let little = json!({"metadata": {"name": "little-disk"}, "spec": {"limits": [
        {"type": "Container", "default": {"ephemeral-storage": "1Mi"},
            "defaultRequest": {"ephemeral-storage": "1Mi"}}]}});
    stage.admin().create::<LimitRange>(&stage.kube.namespace, little);
    let id = stage.weaver("", "head -c 20000000 /dev/zero >/tmp/much; sleep 1000");
    let mut seen = None;
    until("it is evicted", || {
        seen = stage.find(&id);
        seen.as_ref().is_some_and(|weaver| weaver["status"] == "Failed")
    });
    let weaver = seen.unwrap();
    assert_eq!(weaver["reason"], "Evicted", "{weaver}");
    let message = weaver["message"].as_str().unwrap();
    assert!(message.starts_with("the node evicted it: "), "{message}");
    assert!(message.contains("ephemeral") && message.contains("1Mi"), "{message}");
}
