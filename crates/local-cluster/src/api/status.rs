//! Refusals, as Kubernetes words them: the `Status` object.

use http::StatusCode;
use serde_json::{Value, json};

use super::kinds::Kind;
use super::request::Target;
use crate::store::WriteError;

/// A refused request.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) code: StatusCode,
    reason: &'static str,
    message: String,
    details: Value,
}

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldError {
    pub(crate) reason: &'static str,
    pub(crate) field: String,
    pub(crate) message: String,
}

impl FieldError {
    /// A value that is not allowed here.
    pub(crate) fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self::new("FieldValueForbidden", field, format!("Forbidden: {why}"))
    }

    /// A value that is malformed.
    pub(crate) fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        Self::new("FieldValueInvalid", field, format!("Invalid value: {value}: {why}"))
    }

    /// A value that is missing.
    pub(crate) fn required(field: impl Into<String>, why: &str) -> Self {
        let message =
            if why.is_empty() { "Required value".into() } else { format!("Required value: {why}") };
        Self::new("FieldValueRequired", field, message)
    }

    /// A value that must be one of a few.
    pub(crate) fn unsupported(field: impl Into<String>, value: &str, known: &[&str]) -> Self {
        let known: Vec<String> = known.iter().map(|word| format!("{word:?}")).collect();
        let message =
            format!("Unsupported value: {value:?}: supported values: {}", known.join(", "));
        Self::new("FieldValueNotSupported", field, message)
    }

    /// A value that occurs twice.
    pub(crate) fn duplicate(field: impl Into<String>, value: &str) -> Self {
        Self::new("FieldValueDuplicate", field, format!("Duplicate value: {value:?}"))
    }

    fn new(reason: &'static str, field: impl Into<String>, message: String) -> Self {
        Self { reason, field: field.into(), message }
    }
}

impl Refusal {
    pub(crate) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", kind.qualified());
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(kind, name)
    }

    /// Who asks may not do this.
    pub(crate) fn not_allowed(user: &str, verb: &str, target: &Target) -> Self {
        let kind = target.kind;
        let resource = match target.subresource.as_str() {
            "" => kind.plural.to_owned(),
            sub => format!("{}/{sub}", kind.plural),
        };
        let place = match target.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        let what = match target.name.as_str() {
            "" => kind.qualified(),
            name => format!("{} {name:?}", kind.qualified()),
        };
        let message = format!(
            "{what} is forbidden: User {user:?} cannot {verb} resource {resource:?} in API group \
             {:?} {place}",
            kind.group
        );
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(kind, &target.name)
    }

    /// The path names no resource of this server.
    pub(crate) fn no_resource() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.qualified());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(kind, name)
    }

    pub(crate) fn exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", kind.qualified());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    pub(crate) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let what = kind.qualified();
        let message = format!("Operation cannot be fulfilled on {what} {name:?}: {why}");
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    pub(crate) fn method(verb: &str) -> Self {
        let message =
            format!("the server does not allow this method on the requested resource ({verb})");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub(crate) fn media_type(given: &str, supported: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: \
             {supported} (got {given:?})"
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("limit is {limit}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// The asked-for version has not been issued yet.
    pub(crate) fn too_new(asked: u64, present: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {present}");
        let mut refusal = Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message);
        refusal.details = json!({
            "retryAfterSeconds": 1,
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        });
        refusal
    }

    pub(crate) fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        let what = match kind.group {
            "" => kind.kind.to_owned(),
            group => format!("{}.{group}", kind.kind),
        };
        let mut refusal = Self::invalid_of(&what, name, errors);
        refusal.details["kind"] = kind.kind.into();
        refusal
    }

    /// The same of something that is not stored; `what` is `KIND.GROUP`.
    pub(crate) fn invalid_of(what: &str, name: &str, errors: &[FieldError]) -> Self {
        let words: Vec<String> =
            errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        let words = match words.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{what} {name:?} is invalid: {words}");
        let mut refusal = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        let causes: Vec<Value> = errors
            .iter()
            .map(|e| json!({"reason": e.reason, "message": e.message, "field": e.field}))
            .collect();
        let kind = what.split('.').next();
        refusal.details = json!({"name": name, "kind": kind, "causes": causes});
        refusal
    }

    /// A list or watch is asked for in a way that makes no sense.
    pub(crate) fn list_options(field: &str, why: &str) -> Self {
        Self::invalid_of("ListOptions.meta.k8s.io", "", &[FieldError::forbidden(field, why)])
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// Names the error of a write to the store in terms of the object.
    pub(crate) fn of_write(error: WriteError, kind: &Kind, name: &str) -> Self {
        match error {
            WriteError::Exists => Self::exists(kind, name),
            WriteError::Missing => Self::not_found(kind, name),
            WriteError::Storage(cause) => {
                tracing::error!(%cause, "a write was refused by the disk");
                let message = format!("the local cluster's disk refused the write: {cause}");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage", message)
            }
        }
    }

    /// Says that there are details, and nothing in them.
    pub(crate) fn with_no_details(mut self) -> Self {
        self.details = json!({});
        self
    }

    /// Adds what led to it, one by one.
    pub(crate) fn with_causes(mut self, causes: &[Value]) -> Self {
        self.details["causes"] = json!(causes);
        self
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.details = json!({"name": name, "kind": kind.plural});
        if !kind.group.is_empty() {
            self.details["group"] = kind.group.into();
        };
        self
    }

    /// Returns the `Status` object.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        // Clients tell "nothing" from "nothing known".
        if !self.details.is_null() {
            body["details"] = self.details.clone();
        }
        body
    }
}

/// The `Status` object of something that went well.
pub(crate) fn success(details: &Value) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    })
}
