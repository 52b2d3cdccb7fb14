//! What a registry's refusals mean.

use std::fmt::Display;

use oci_client::Reference;
use oci_client::errors::{OciDistributionError as Oci, OciErrorCode as Code};

use crate::error::Error;

/// Reads what a registry, or the way there, has said.
pub(super) fn read(reference: &Reference, error: Oci) -> Error {
    let name = || reference.whole();
    match error {
        Oci::ImageManifestNotFoundError(why) if why.contains("platform") => {
            Error::NoPlatform(name())
        }
        Oci::ImageManifestNotFoundError(_) => Error::NotFound(name()),
        Oci::UnauthorizedError { .. } | Oci::AuthenticationFailure(_) => {
            Error::Unauthorized(name())
        }
        Oci::ServerError { code, message, .. } => of_status(reference, code, &message),
        Oci::RegistryError { envelope, .. } => {
            let has = |codes: &[Code]| envelope.errors.iter().any(|e| codes.contains(&e.code));
            if has(&[Code::ManifestUnknown, Code::NameUnknown, Code::NotFound]) {
                Error::NotFound(name())
            } else if has(&[Code::Unauthorized, Code::Denied]) {
                Error::Unauthorized(name())
            } else if has(&[Code::Toomanyrequests]) {
                Error::RateLimited(name())
            } else {
                cut(reference.registry(), &envelope)
            }
        }
        Oci::DigestError(why) => Error::Lies { what: name(), why: why.to_string() },
        Oci::RequestError(error) => of_request(reference, &error),
        Oci::IoError(error) => cut(reference.registry(), &error),
        other => Error::Unsupported(format!("{}: {other}", name())),
    }
}

fn of_request(reference: &Reference, error: &reqwest::Error) -> Error {
    match error.status() {
        Some(status) => of_status(reference, status.as_u16(), ""),
        None if error.is_timeout() => cut(reference.registry(), &"it does not answer in time"),
        None => cut(reference.registry(), &root(error)),
    }
}

fn of_status(reference: &Reference, status: u16, message: &str) -> Error {
    match status {
        404 => Error::NotFound(reference.whole()),
        401 | 403 => Error::Unauthorized(reference.whole()),
        429 => Error::RateLimited(reference.whole()),
        _ => {
            let message: String = message.chars().take(200).collect();
            cut(reference.registry(), &format!("it answers {status} {message}").trim_end())
        }
    }
}

/// What may go better another time.
pub(super) fn cut(registry: &str, why: &dyn Display) -> Error {
    Error::Unreachable { registry: registry.to_owned(), why: why.to_string() }
}

/// Returns the innermost cause, which says most: `Connection refused`.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => root(source),
        None => error.to_string(),
    }
}
