//! Errors of the HTTP API: `application/problem+json` (RFC 9457) with a stable `code`.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// One error as the API tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the code says more.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// A stable word for programs.
    pub code: Code,
    /// What happened and what to do, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The field of the request that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

/// Makes the enum of codes with their word, status and title, so that each stands in one row.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:literal, $title:literal;)+) => {
        /// What went wrong, as a stable word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        pub enum Code {$($(#[$doc])* #[serde(rename = $word)] $name),+}

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Returns the word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {$(Self::$name => $word),+}
            }

            /// Returns the HTTP status it is sent with.
            #[must_use]
            pub fn status(self) -> u16 {
                match self {$(Self::$name => $status),+}
            }

            fn title(self) -> &'static str {
                match self {$(Self::$name => $title),+}
            }
        }
    };
}

codes! {
    /// The request cannot be read or a field is wrong.
    Invalid = "invalid", 400, "Bad Request";
    /// No or no valid credentials.
    Unauthenticated = "unauthenticated", 401, "Unauthorized";
    /// Known, but not allowed.
    Forbidden = "forbidden", 403, "Forbidden";
    /// Weavers of this deployment do not run as root.
    RootNotAllowed = "root_not_allowed", 403, "Forbidden";
    /// This deployment keeps the session of every weaver.
    KeepEntrypointNotAllowed = "keep_entrypoint_not_allowed", 403, "Forbidden";
    /// This deployment publishes no ports.
    PublishNotAllowed = "publish_not_allowed", 403, "Forbidden";
    /// There is no such thing, or it is not yours.
    NotFound = "not_found", 404, "Not Found";
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", 405, "Method Not Allowed";
    /// Something else was changed first, or the name is taken.
    Conflict = "conflict", 409, "Conflict";
    /// The key was used before with another body.
    IdempotencyKeyReused = "idempotency_key_reused", 409, "Conflict";
    /// The list was read for too long: start again.
    CursorExpired = "cursor_expired", 410, "Gone";
    /// The body is too large.
    TooLarge = "too_large", 413, "Content Too Large";
    /// The body is not JSON.
    UnsupportedMediaType = "unsupported_media_type", 415, "Unsupported Media Type";
    /// A quota is used up, or too many requests.
    TooMany = "too_many", 429, "Too Many Requests";
    /// Our own fault.
    Internal = "internal", 500, "Internal Server Error";
    /// Kubernetes cannot be reached, or refuses for now.
    Unavailable = "unavailable", 503, "Service Unavailable";
    /// Kubernetes did not answer in time.
    Timeout = "timeout", 504, "Gateway Timeout";
}

impl Problem {
    /// Makes the problem of a code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: about_blank(),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            field: None,
        }
    }

    /// Makes the problem of a field.
    pub fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(Code::Invalid, detail) }
    }
}

impl From<weaver::FieldError> for Problem {
    fn from(error: weaver::FieldError) -> Self {
        Self::field(error.field, error.to_string())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.detail.is_empty() { &self.title } else { &self.detail })
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_as_rfc_9457_writes_it() {
        let problem = Problem::from(weaver::FieldError::new("image", "is empty"));
        let json = r#"{"type":"about:blank","title":"Bad Request","status":400,"code":"invalid","detail":"image is empty","field":"image"}"#;
        assert_eq!(serde_json::to_string(&problem).unwrap(), json);
        assert_eq!(serde_json::from_str::<Problem>(json).unwrap(), problem);
    }

    #[test]
    fn every_code_travels_as_its_word() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
