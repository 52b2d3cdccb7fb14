//! Reviews: who is asking, may they, and whose token is this.

use http::StatusCode;
use serde_json::{Value, json};

use super::Api;
use super::decode::{self, Format};
use super::kinds;
use super::respond::{self, Answer};
use super::status::Refusal;
use crate::clock;
use crate::tokens::{self, Caller};

/// One kind of question; it is answered and never stored.
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    status: fn(&Api, &Caller, &Value) -> Value,
}

impl Review {
    /// Returns the word of one of them.
    pub(crate) fn singular(&self) -> &str {
        self.plural.strip_suffix('s').unwrap_or(self.plural)
    }

    /// Whether everybody may ask, not the cluster's owner alone.
    pub(crate) fn about_oneself(&self) -> bool {
        self.kind.starts_with("Self")
    }
}

/// Every review served.
pub(crate) static REVIEWS: &[Review] = &[
    Review {
        group: "authentication.k8s.io",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        status: |_, caller, _| json!({"userInfo": caller.user_info()}),
    },
    Review {
        group: "authentication.k8s.io",
        kind: "TokenReview",
        plural: "tokenreviews",
        status: token_status,
    },
    Review {
        group: "authorization.k8s.io",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        status: access_status,
    },
    Review {
        group: "authorization.k8s.io",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        status: rules_status,
    },
];

/// Finds the review that a path names.
pub(crate) fn at(group: &str, plural: &str) -> Option<&'static Review> {
    REVIEWS.iter().find(|review| review.group == group && review.plural == plural)
}

/// Answers a review.
pub(crate) fn answer(
    api: &Api,
    caller: &Caller,
    review: &Review,
    body: &[u8],
    format: Format,
) -> Result<Answer, Refusal> {
    let (mut object, _) = decode::parse(body, format)?;
    if !object.is_object() {
        return Err(Refusal::bad_request(format!("{} expected", review.kind)));
    }
    if review.kind == "TokenReview" && object["spec"]["token"].as_str().is_none_or(str::is_empty) {
        let why = "token is required for TokenReview in authentication";
        return Err(Refusal::bad_request(why));
    }
    object["apiVersion"] = format!("{}/v1", review.group).into();
    object["kind"] = review.kind.into();
    object["status"] = (review.status)(api, caller, &object["spec"]);
    Ok(respond::json(StatusCode::CREATED, &object))
}

/// The owner may do whatever is served; a pod's account nothing but ask.
fn access_status(_: &Api, caller: &Caller, spec: &Value) -> Value {
    let asked = &spec["resourceAttributes"];
    let text = |field: &str| asked[field].as_str().unwrap_or_default();
    let (group, resource, verb) = (text("group"), text("resource"), text("verb"));
    let (resource, sub) = resource.split_once('/').unwrap_or((resource, text("subresource")));
    let kind = kinds::find(group, resource);
    let verbs = kind.and_then(|kind| match sub {
        "" => Some(kind.verbs()),
        sub => {
            let found = kind.subresources.iter().find(|(name, ..)| *name == sub);
            found.map(|(.., verbs)| verbs.to_vec())
        }
    });
    let any = resource == "*" || spec["nonResourceAttributes"].is_object();
    let review = at(group, resource).is_some() && verb == "create";
    let served = review || verbs.as_ref().is_some_and(|verbs| verb == "*" || verbs.contains(&verb));
    match caller {
        Caller::Owner if any || served => json!({"allowed": true}),
        Caller::Owner => {
            json!({"allowed": false, "reason": "the local cluster does not serve this"})
        }
        Caller::Account(_) => json!({"allowed": false}),
    }
}

fn rules_status(_: &Api, caller: &Caller, _: &Value) -> Value {
    let all = match caller {
        Caller::Owner => vec!["*"],
        Caller::Account(_) => Vec::new(),
    };
    let rule = |what: Value| match all.is_empty() {
        true => json!([]),
        false => json!([what]),
    };
    json!({
        "incomplete": false,
        "resourceRules": rule(json!({"verbs": all, "apiGroups": all, "resources": all})),
        "nonResourceRules": rule(json!({"verbs": all, "nonResourceURLs": all})),
    })
}

fn token_status(api: &Api, _: &Caller, spec: &Value) -> Value {
    let token = spec["token"].as_str().unwrap_or_default();
    let wanted: Vec<&str> =
        spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let wanted = if wanted.is_empty() { vec![tokens::ISSUER] } else { wanted };
    let (caller, held) = if api.token.accepts(&format!("Bearer {token}")) {
        (Caller::Owner, vec![tokens::ISSUER.to_owned()])
    } else {
        match api.tokens.review(&api.store, token, clock::now()) {
            Ok((account, held)) => (Caller::Account(account), held),
            Err(error) => return json!({"user": {}, "error": error.to_string()}),
        }
    };
    let shared: Vec<&str> =
        wanted.iter().copied().filter(|a| held.iter().any(|h| h == a)).collect();
    if shared.is_empty() {
        let error = format!(
            "[invalid bearer token, token audiences {held:?} is invalid for the target audiences \
             {wanted:?}]"
        );
        return json!({"user": {}, "error": error});
    }
    json!({"authenticated": true, "user": caller.user_info(), "audiences": shared})
}
