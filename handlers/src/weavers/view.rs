//! A weaver as the API shows it.

use std::collections::BTreeMap;

use axum::extract::FromRequestParts;
use cluster::{Found, Settings};
use http::request::Parts;
use http::{HeaderMap, Uri, header};
use jiff::{SignedDuration, Timestamp};
use wire::api::{Resources, WeaverView};

use crate::{ApiError, App};

/// Where weavers of this request are attached: `ws://host[/prefix]`, without a slash at its end.
#[derive(Debug, Clone)]
pub(crate) struct Base(String);

impl FromRequestParts<App> for Base {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let configured = app.relay_url().map(|url| url.as_str().trim_end_matches('/').to_owned());
        Ok(Self(configured.unwrap_or_else(|| own_address(&parts.uri, &parts.headers))))
    }
}

/// The address under which this request came; the guard has checked it.
fn own_address(uri: &Uri, headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST.as_str()).or_else(|| uri.authority().map(|a| a.as_str()));
    let scheme = if text("x-forwarded-proto") == Some("https") { "wss" } else { "ws" };
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}

/// Shows a weaver as it is at `now`.
pub(crate) fn view(found: Found, now: Timestamp, settings: &Settings, base: &Base) -> WeaverView {
    let Found { weaver, pod } = found;
    let (age, remaining) = (hours(weaver.age(now)), hours(weaver.remaining(now)));
    let expires_at = weaver.expires_at();
    let (reason, message) = weaver.why.map(|why| (why.reason, why.message)).unzip();
    let spec = weaver.spec;
    let (command, args) =
        if spec.keep_entrypoint { (Vec::new(), spec.command) } else { (spec.command, Vec::new()) };
    WeaverView {
        id: weaver.id.to_string(),
        image: spec.image.to_string(),
        status: weaver.phase,
        created_at: weaver.created_at,
        lifetime_hours: spec.ttl.hours(),
        expires_at,
        pod_name: pod.name,
        pod_phase: Some(pod.phase).filter(|phase| !phase.is_empty()),
        pod_ip: pod.ip,
        age_hours: Some(age),
        remaining_hours: Some(remaining),
        name: spec.name.map(|name| name.to_string()),
        reason,
        message,
        exit_code: weaver.exit_code,
        org_id: spec.org.to_string(),
        owner: spec.owner.to_string(),
        owner_name: spec.owner_name,
        repo: spec.repo.map(|repo| repo.to_string()),
        branch: spec.branch.map(|branch| branch.to_string()),
        command,
        args,
        keep_entrypoint: spec.keep_entrypoint,
        workdir: spec.workdir.map(|workdir| workdir.to_string()),
        tags: BTreeMap::from(spec.tags),
        resources: amounts(settings.limits_of(&spec.resources)),
        tty: spec.tty,
        root: spec.root,
        ports: spec.ports,
        warnings: pod.limits_not_enforced.into_iter().collect(),
        attach_url: format!("{}/api/weavers/{}/attach", base.0, weaver.id),
    }
}

fn amounts(limits: cluster::Amounts) -> Resources {
    let cluster::Amounts { cpu_millicores, memory_mb } = limits;
    Resources { cpu_millicores: Some(cpu_millicores), memory_mb: Some(memory_mb) }
}

/// Hours with one decimal, as the documents show them.
fn hours(span: SignedDuration) -> f64 {
    (span.as_secs_f64() / 360.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use cluster::PodFacts;
    use weaver::Weaver;

    use super::*;

    fn sample() -> serde_json::Value {
        let weaver = Weaver::sample();
        let pod = PodFacts {
            name: weaver.id.pod_name(),
            phase: "Running".to_owned(),
            ip: Some("10.244.1.5".to_owned()),
            ..PodFacts::default()
        };
        let now = weaver.created_at + SignedDuration::from_mins(138);
        let base = Base("wss://loom.example".to_owned());
        let shown = view(Found { weaver, pod }, now, &Settings::default(), &base);
        serde_json::to_value(shown).unwrap()
    }

    /// Every field of the documents' samples stands in our answer with that value.
    fn assert_holds(sample: &str, answer: &serde_json::Value) {
        let sample: serde_json::Value = serde_json::from_str(sample).unwrap();
        for (name, value) in sample.as_object().unwrap() {
            assert_eq!(&answer[name], value, "{name}");
        }
    }

    #[test]
    fn the_documents_status_answer_is_ours() {
        let documents = r#"{
            "id": "W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c",
            "status": "Running",
            "pod_name": "weaver-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c",
            "pod_phase": "Running",
            "pod_ip": "10.244.1.5",
            "age_hours": 2.3,
            "remaining_hours": 1.7
        }"#;
        assert_holds(documents, &sample());
    }

    #[test]
    fn the_documents_create_answer_is_ours() {
        let documents = r#"{
            "id": "W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c",
            "image": "ghcr.io/ghuntley/loom/weaver:latest",
            "created_at": "2025-03-03T10:00:00Z",
            "lifetime_hours": 4,
            "expires_at": "2025-03-03T14:00:00Z"
        }"#;
        assert_holds(documents, &sample());
    }

    #[test]
    fn the_whole_answer() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&sample()).unwrap(), @r#"
        {
          "age_hours": 2.3,
          "args": [],
          "attach_url": "wss://loom.example/api/weavers/W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c/attach",
          "branch": "main",
          "command": [],
          "created_at": "2025-03-03T10:00:00Z",
          "exit_code": null,
          "expires_at": "2025-03-03T14:00:00Z",
          "id": "W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c",
          "image": "ghcr.io/ghuntley/loom/weaver:latest",
          "lifetime_hours": 4,
          "message": null,
          "name": null,
          "org_id": "O-123",
          "owner": "U-ada",
          "owner_name": "ada",
          "pod_ip": "10.244.1.5",
          "pod_name": "weaver-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c",
          "pod_phase": "Running",
          "reason": null,
          "remaining_hours": 1.7,
          "repo": "https://github.com/user/project",
          "resources": {
            "cpu_millicores": 2000,
            "memory_mb": 2048
          },
          "status": "Running",
          "tags": {},
          "tty": true,
          "warnings": [],
          "workdir": null
        }
        "#);
    }

    #[test]
    fn the_address_of_the_request_is_where_to_attach() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "127.0.0.1:8080".parse().unwrap());
        let uri = Uri::from_static("/api/weavers");
        assert_eq!(own_address(&uri, &headers), "ws://127.0.0.1:8080");
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        assert_eq!(own_address(&uri, &headers), "wss://127.0.0.1:8080");
    }
}
