//! `serviceaccounts/token`: tokens that a pod can show elsewhere, for a time.

use http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::Api;
use super::decode::{self, Format};
use super::kinds;
use super::request::Target;
use super::respond::{self, Answer};
use super::status::{FieldError, Refusal};
use crate::clock;
use crate::store::{Key, Object, Resource};
use crate::tokens::{self, Grant};

const DEFAULT_SECONDS: i64 = 3600;
const LEAST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;

/// Answers a TokenRequest with itself and a token.
pub(crate) fn create(
    api: &Api,
    target: &Target,
    body: &[u8],
    format: Format,
) -> Result<Answer, Refusal> {
    let (mut request, _) = decode::parse(body, format)?;
    let account = super::pod_of(api, target)?;
    let seconds = seconds(&request["spec"])?;
    let bound = bound_object(api, target, &request["spec"]["boundObjectRef"])?;
    let audiences: Vec<String> = match request["spec"]["audiences"].as_array() {
        Some(some) if !some.is_empty() => {
            some.iter().filter_map(|audience| audience.as_str().map(str::to_owned)).collect()
        }
        _ => vec![tokens::ISSUER.to_owned()],
    };
    let now = clock::now();
    let grant = Grant { account: &account, bound: bound.as_ref(), audiences: &audiences, seconds };
    let token = api.tokens.issue(&grant, now);
    let token = token.map_err(|error| Refusal::internal(error.to_string()))?;
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    request["kind"] = "TokenRequest".into();
    request["metadata"] = json!({"name": target.name, "namespace": target.namespace,
                                 "creationTimestamp": clock::text(now)});
    request["spec"]["audiences"] = json!(audiences);
    request["spec"]["expirationSeconds"] = seconds.into();
    let until = clock::text(now + SignedDuration::from_secs(seconds));
    request["status"] = json!({"token": token, "expirationTimestamp": until});
    Ok(respond::json(StatusCode::CREATED, &request))
}

fn seconds(spec: &Value) -> Result<i64, Refusal> {
    let asked = &spec["expirationSeconds"];
    let seconds = asked.as_i64().unwrap_or(DEFAULT_SECONDS);
    let why = match seconds {
        ..LEAST_SECONDS => "may not specify a duration less than 10 minutes",
        _ if seconds > MOST_SECONDS => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(seconds),
    };
    let error = FieldError::invalid("spec.expirationSeconds", asked, why);
    Err(Refusal::invalid_of("TokenRequest.authentication.k8s.io", "", &[error]))
}

fn bound_object(api: &Api, target: &Target, asked: &Value) -> Result<Option<Object>, Refusal> {
    if !asked.is_object() {
        return Ok(None);
    }
    let text = |field: &str| asked[field].as_str().unwrap_or_default();
    let (resource, name) = match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => (Resource::Pods, text("name")),
        ("v1", "Secret") => (Resource::Secrets, text("name")),
        _ => {
            let why = format!("cannot bind token to object of type {}", text("kind"));
            return Err(Refusal::bad_request(why));
        }
    };
    let object = api.store.get(&Key::new(resource, &target.namespace, name));
    let object = object.ok_or_else(|| Refusal::not_found(kinds::of(resource), name))?;
    if !text("uid").is_empty() && object["metadata"]["uid"] != text("uid") {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The \
             object might have been deleted and then recreated",
            text("uid")
        );
        return Err(Refusal::conflict(kinds::of(resource), name, &why));
    }
    let account = object["spec"]["serviceAccountName"].as_str().filter(|name| !name.is_empty());
    if resource == Resource::Pods && account.unwrap_or("default") != target.name {
        let why = format!(
            "cannot bind token for serviceaccount {:?} to pod running with different \
             serviceaccount name.",
            target.name
        );
        return Err(Refusal::bad_request(why));
    }
    Ok(Some(object))
}
