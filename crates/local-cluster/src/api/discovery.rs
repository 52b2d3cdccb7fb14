//! What is served, said in the ways clients ask: `/api`, `/apis`, `/version`.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::kinds::{KINDS, Kind};
use super::openapi;
use super::request::header;
use super::respond::{self, Answer};
use super::reviews::REVIEWS;
use super::status::Refusal;

/// The version of Kubernetes whose behaviour this follows.
pub(crate) const GIT_VERSION: &str = "v1.33.0+loom-local";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// Every group beside the core one; each has version v1 alone.
pub(crate) const GROUPS: &[&str] =
    &["authentication.k8s.io", "authorization.k8s.io", "coordination.k8s.io"];

/// Answers a path that describes the server rather than an object.
pub(crate) fn answer(path: &str, headers: &HeaderMap) -> Result<Answer, Refusal> {
    let aggregated = wants_aggregated(headers);
    let body = match path.trim_end_matches('/') {
        "/version" => version(),
        "/api" if aggregated => return Ok(aggregated_answer(&[aggregated_group("")])),
        "/apis" if aggregated => {
            let groups: Vec<Value> = GROUPS.iter().map(|group| aggregated_group(group)).collect();
            return Ok(aggregated_answer(&groups));
        }
        "/api" => {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        }
        "/apis" => {
            let groups: Vec<Value> = GROUPS.iter().map(|name| group(name)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        "/api/v1" => resource_list("v1", &resources("")),
        "/openapi/v3" => openapi::index(),
        "/openapi/v3/api/v1" => openapi::document(""),
        path => return Ok(respond::json(StatusCode::OK, &of_group(path)?)),
    };
    Ok(respond::json(StatusCode::OK, &body))
}

/// Answers `/apis/GROUP`, `/apis/GROUP/v1` and `/openapi/v3/apis/GROUP/v1`.
fn of_group(path: &str) -> Result<Value, Refusal> {
    let known = |name: &str| GROUPS.iter().find(|group| **group == name).copied();
    if let Some(rest) = path.strip_prefix("/openapi/v3/apis/") {
        let group = rest.strip_suffix("/v1").and_then(known);
        return group.map(openapi::document).ok_or_else(Refusal::no_resource);
    }
    let rest = path.strip_prefix("/apis/").ok_or_else(Refusal::no_resource)?;
    match (known(rest), rest.strip_suffix("/v1").and_then(known)) {
        (Some(name), _) => Ok(group(name)),
        (None, Some(name)) => Ok(resource_list(&format!("{name}/v1"), &resources(name))),
        (None, None) => Err(Refusal::no_resource()),
    }
}

fn wants_aggregated(headers: &HeaderMap) -> bool {
    header(headers, "accept").split(',').any(|range| {
        let words: Vec<&str> = range.split(';').map(str::trim).collect();
        words.first() == Some(&"application/json")
            && words.contains(&"as=APIGroupDiscoveryList")
            && words.contains(&"v=v2")
    })
}

fn aggregated_answer(groups: &[Value]) -> Answer {
    let body = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": groups,
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

fn group(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": name,
           "versions": [version], "preferredVersion": version})
}

fn resource_list(group_version: &str, resources: &[Value]) -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
           "resources": resources})
}

fn kinds_of(group: &str) -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(move |kind| kind.group == group)
}

/// The group of what a subresource answers with.
fn group_of(kind: &str) -> &'static str {
    match kind {
        "TokenRequest" => "authentication.k8s.io",
        "Eviction" => "policy",
        _ => "",
    }
}

fn resources(group: &str) -> Vec<Value> {
    let resource = |kind: &Kind| {
        let main = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": kind.verbs(), "shortNames": kind.short,
            "categories": kind.categories,
        });
        let subs = kind.subresources.iter().map(|(sub, of, verbs)| {
            let mut entry = json!({"name": format!("{}/{sub}", kind.plural), "singularName": "",
                   "namespaced": kind.namespaced, "kind": of, "verbs": verbs});
            if !group_of(of).is_empty() {
                entry["group"] = group_of(of).into();
                entry["version"] = "v1".into();
            }
            entry
        });
        std::iter::once(main).chain(subs).collect::<Vec<_>>()
    };
    let reviews = REVIEWS.iter().filter(|review| review.group == group).map(|review| {
        json!({"name": review.plural, "singularName": review.singular(), "namespaced": false,
               "kind": review.kind, "verbs": ["create"]})
    });
    kinds_of(group).flat_map(resource).chain(reviews).collect()
}

fn aggregated_group(group: &str) -> Value {
    let resource = |kind: &Kind| {
        let subs = kind.subresources.iter().map(|(sub, of, verbs)| {
            json!({"subresource": sub, "verbs": verbs,
                   "responseKind": {"group": group_of(of), "version": "v1", "kind": of}})
        });
        json!({
            "resource": kind.plural, "singularResource": kind.singular, "verbs": kind.verbs(),
            "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "shortNames": kind.short, "categories": kind.categories,
            "subresources": subs.collect::<Vec<_>>(),
            "responseKind": {"group": group, "version": "v1", "kind": kind.kind},
        })
    };
    let reviews = REVIEWS.iter().filter(|review| review.group == group).map(|review| {
        json!({"resource": review.plural, "singularResource": review.singular(),
               "scope": "Cluster", "verbs": ["create"],
               "responseKind": {"group": group, "version": "v1", "kind": review.kind}})
    });
    let resources: Vec<Value> = kinds_of(group).map(resource).chain(reviews).collect();
    let mut meta = json!({"creationTimestamp": null});
    if !group.is_empty() {
        meta["name"] = group.into();
    }
    json!({"metadata": meta,
           "versions": [{"version": "v1", "freshness": "Current", "resources": resources}]})
}
