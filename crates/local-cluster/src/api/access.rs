//! `kubectl auth can-i`: the one user may do whatever is served.

use http::StatusCode;
use serde_json::json;

use super::kinds::{self, VERBS};
use super::respond::{self, Answer};
use super::status::Refusal;

/// Answers a SelfSubjectAccessReview.
pub(crate) fn review(body: &[u8], yaml: bool) -> Result<Answer, Refusal> {
    let (mut review, _) = super::decode::parse(body, yaml)?;
    let asked = &review["spec"]["resourceAttributes"];
    let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
    let kind = kinds::by_plural(&text("resource"));
    let sub = text("subresource");
    let verbs = kind.and_then(|kind| match sub.as_str() {
        "" => Some(VERBS),
        sub => kind.subresources.iter().find(|(name, ..)| *name == sub).map(|(.., verbs)| *verbs),
    });
    let any = text("resource") == "*" || review["spec"].get("nonResourceAttributes").is_some();
    let served = verbs.is_some_and(|v| v.contains(&text("verb").as_str()) || text("verb") == "*");
    let allowed = any || served && text("group").is_empty();
    review["apiVersion"] = "authorization.k8s.io/v1".into();
    review["kind"] = "SelfSubjectAccessReview".into();
    review["status"] = match allowed {
        true => json!({"allowed": true}),
        false => json!({"allowed": false, "reason": "the local cluster does not serve this"}),
    };
    Ok(respond::json(StatusCode::CREATED, &review))
}
