//! What is served, said in the ways clients ask: `/api`, `/apis`, `/version`, OpenAPI.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::kinds::{KINDS, Kind, VERBS};
use super::request::header;
use super::respond::{self, Answer};
use super::status::Refusal;

/// The version of Kubernetes whose behaviour this follows.
pub(crate) const GIT_VERSION: &str = "v1.33.0+loom-local";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Answers a path that describes the server rather than an object.
pub(crate) fn answer(path: &str, headers: &HeaderMap) -> Result<Answer, Refusal> {
    let aggregated = wants_aggregated(headers);
    let body = match path.trim_end_matches('/') {
        "/version" => version(),
        "/api" if aggregated => return Ok(aggregated_answer(&core_group())),
        "/apis" if aggregated => return Ok(aggregated_answer(&review_group())),
        "/api" => {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        }
        "/apis" => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group()]}),
        "/apis/authorization.k8s.io" => group(),
        "/api/v1" => resource_list("v1", &core_resources()),
        "/apis/authorization.k8s.io/v1" => resource_list(
            "authorization.k8s.io/v1",
            &[json!({
                "name": "selfsubjectaccessreviews", "singularName": "selfsubjectaccessreview",
                "namespaced": false, "kind": "SelfSubjectAccessReview", "verbs": ["create"],
            })],
        ),
        "/openapi/v3" => json!({"paths": {"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1"}}}),
        "/openapi/v3/api/v1" => openapi(),
        _ => return Err(Refusal::no_resource()),
    };
    Ok(respond::json(StatusCode::OK, &body))
}

fn wants_aggregated(headers: &HeaderMap) -> bool {
    header(headers, "accept").split(',').any(|range| {
        let words: Vec<&str> = range.split(';').map(str::trim).collect();
        words.first() == Some(&"application/json")
            && words.contains(&"as=APIGroupDiscoveryList")
            && words.contains(&"v=v2")
    })
}

fn aggregated_answer(group: &Value) -> Answer {
    let body = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": [group],
    });
    respond::bytes(StatusCode::OK, AGGREGATED, serde_json::to_vec(&body).unwrap_or_default())
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": GIT_VERSION, "gitCommit": "",
        "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
        "compiler": "rustc", "platform": format!("linux/{}", std::env::consts::ARCH),
    })
}

fn group() -> Value {
    let version = json!({"groupVersion": "authorization.k8s.io/v1", "version": "v1"});
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": "authorization.k8s.io",
           "versions": [version], "preferredVersion": version})
}

fn resource_list(group_version: &str, resources: &[Value]) -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
           "resources": resources})
}

fn core_resources() -> Vec<Value> {
    let resource = |kind: &Kind| {
        let main = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": VERBS, "shortNames": kind.short,
            "categories": kind.categories,
        });
        let subs = kind.subresources.iter().map(|(sub, of, verbs)| {
            json!({"name": format!("{}/{sub}", kind.plural), "singularName": "",
                   "namespaced": kind.namespaced, "kind": of, "verbs": verbs})
        });
        std::iter::once(main).chain(subs).collect::<Vec<_>>()
    };
    KINDS.iter().flat_map(resource).collect()
}

fn core_group() -> Value {
    let resource = |kind: &Kind| {
        let subs: Vec<Value> = kind
            .subresources
            .iter()
            .map(|(sub, of, verbs)| {
                json!({"subresource": sub, "verbs": verbs,
                       "responseKind": {"group": "", "version": "v1", "kind": of}})
            })
            .collect();
        json!({
            "resource": kind.plural, "singularResource": kind.singular, "verbs": VERBS,
            "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "shortNames": kind.short, "categories": kind.categories, "subresources": subs,
            "responseKind": {"group": "", "version": "v1", "kind": kind.kind},
        })
    };
    json!({
        "metadata": {"creationTimestamp": null},
        "versions": [{"version": "v1", "freshness": "Current",
                      "resources": KINDS.iter().map(resource).collect::<Vec<_>>()}],
    })
}

fn review_group() -> Value {
    json!({
        "metadata": {"name": "authorization.k8s.io", "creationTimestamp": null},
        "versions": [{"version": "v1", "freshness": "Current", "resources": [{
            "resource": "selfsubjectaccessreviews", "singularResource": "selfsubjectaccessreview",
            "scope": "Cluster", "verbs": ["create"],
            "responseKind": {"group": "authorization.k8s.io", "version": "v1",
                             "kind": "SelfSubjectAccessReview"},
        }]}],
    })
}

/// The paths of the API with the little that kubectl looks for before it writes: that fields are
/// validated here. Schemas are not published.
fn openapi() -> Value {
    let mut paths = serde_json::Map::new();
    for kind in KINDS {
        let base = match kind.namespaced {
            true => format!("/api/v1/namespaces/{{namespace}}/{}", kind.plural),
            false => format!("/api/v1/{}", kind.plural),
        };
        paths.insert(base.clone(), json!({"post": operation(kind, "post")}));
        paths.insert(
            format!("{base}/{{name}}"),
            json!({"put": operation(kind, "put"), "patch": operation(kind, "patch")}),
        );
    }
    json!({"openapi": "3.0.0", "info": {"title": "Loom local cluster", "version": GIT_VERSION},
           "paths": paths, "components": {"schemas": {}}})
}

fn operation(kind: &Kind, action: &str) -> Value {
    let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    json!({
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": "", "version": "v1", "kind": kind.kind},
        "parameters": [parameter("dryRun"), parameter("fieldValidation")],
        "responses": {"200": {"description": "OK"}},
    })
}
