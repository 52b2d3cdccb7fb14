//! How answers of Kubernetes are told apart.

use super::*;

fn call() -> Call {
    Call { verb: "create", resource: "pods", namespace: "ns".to_owned(), name: None }
}

fn of(code: u16, reason: &str, message: &str) -> Error {
    refusal(&call(), &Status::failure(message, reason).with_code(code))
}

#[test]
fn answers_are_told_apart() {
    for (code, reason, message, expected) in [
        (404, "NotFound", "pods \"weaver-1\" not found", "not_found"),
        (409, "AlreadyExists", "pods \"weaver-1\" already exists", "already_exists"),
        (409, "Conflict", "the object has been modified", "changed"),
        (410, "Expired", "The provided continue parameter is too old", "cursor_expired"),
        (410, "Gone", "too old resource version", "cursor_expired"),
        (401, "Unauthorized", "Unauthorized", "cluster_unauthorized"),
        (403, "Forbidden", "User \"x\" cannot create resource \"pods\"", "cluster_forbidden"),
        (403, "Forbidden", "exceeded quota: q, requested: pods=1", "quota_exceeded"),
        (403, "Forbidden", "status unknown for quota: q, resources: pods", "quota_exceeded"),
        (403, "Forbidden", "violates PodSecurity \"restricted:latest\"", "refused_by_cluster"),
        (422, "Invalid", "Pod \"x\" is invalid", "invalid"),
        (429, "TooManyRequests", "slow down", "cluster_overloaded"),
        (400, "BadRequest", "container \"weaver\" in pod is waiting to start", "not_running"),
        (500, "InternalError", "container not found (\"weaver\")", "not_running"),
        (500, "InternalError", "etcdserver: request timed out", "cluster_unavailable"),
        (503, "ServiceUnavailable", "", "cluster_unavailable"),
        (504, "Timeout", "", "cluster_unavailable"),
    ] {
        assert_eq!(of(code, reason, message).code(), expected, "{code} {reason} {message}");
    }
}

/// Some of these words are also RBAC's, and a webhook chooses its code.
#[test]
fn abuse_what_admission_refuses_is_told_in_its_words() {
    let policy = "ValidatingAdmissionPolicy 'a' with binding 'b' denied request: no";
    for (code, reason, message) in [
        (403, "Forbidden", "[maximum cpu usage per Container is 1, but limit is 2]"),
        (403, "", "admission webhook \"no.example\" denied the request: you cannot do this"),
        (400, "", "admission webhook \"no.example\" denied the request: no"),
        (422, "Invalid", policy),
    ] {
        let error = of(code, reason, message);
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn forbidden_names_verb_resource_and_namespace() {
    // The verb is Kubernetes' own: a WebSocket needs two.
    for verb in ["create", "get"] {
        let words = format!("pods \"x\" is forbidden: User \"x\" cannot {verb} resource \"pods\"");
        assert_eq!(
            of(403, "Forbidden", &words).to_string(),
            format!(
                "Kubernetes does not let this server {verb} pods in namespace ns: \
                 add the verb to its role"
            )
        );
    }
}
