//! Idempotency keys: the same key of the same caller is the same weaver.

use cluster::Found;
use http::HeaderMap;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use weaver::{WeaverId, WeaverSpec};
use wire::problem::Problem;

use crate::ApiError;
use crate::caller::Caller;

const HEADER: &str = "idempotency-key";

/// Returns the id that the request's key stands for, if it has a key.
///
/// It is a UUIDv8 made from SHA-256 over organization, owner and key: whichever replica gets the
/// request again finds the pod.
pub(crate) fn id(caller: &Caller, headers: &HeaderMap) -> Result<Option<WeaverId>, ApiError> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let printable = |key: &&str| (1..=255).contains(&key.len()) && !key.contains('\t');
    let key = value.to_str().ok().filter(printable).filter(|_| values.next().is_none());
    let wrong =
        || Problem::field("Idempotency-Key", "must be one of 1 to 255 printable characters");
    let key = key.ok_or_else(wrong)?;
    Ok(Some(WeaverId::from_uuid(uuid(caller, key))))
}

fn uuid(caller: &Caller, key: &str) -> Uuid {
    let mut hash = Sha256::new();
    for part in [caller.org.as_str(), caller.owner.as_str(), key] {
        // Lengths keep the parts apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    Uuid::new_v8(bytes)
}

/// Tells whether `there` was asked for with the same body as `asked`.
pub(crate) fn same_body(there: &Found, asked: &WeaverSpec) -> bool {
    let spec = &there.weaver.spec;
    // Names of people change, and lifetimes do; everything else is what was asked for.
    let ttl = there.pod.asked_ttl.unwrap_or(spec.ttl);
    WeaverSpec { ttl, ..spec.clone() }
        == WeaverSpec { owner_name: spec.owner_name.clone(), ..asked.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: &str) -> Result<Option<WeaverId>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, key.parse().unwrap());
        id(&Caller::local("ada"), &headers)
    }

    #[test]
    fn a_key_is_one_weaver_of_one_caller() {
        let one = of("key").unwrap().unwrap();
        assert_eq!(one.uuid().get_version_num(), 8);
        assert_eq!(of("key").unwrap(), Some(one));
        assert_ne!(of("kez").unwrap(), Some(one));
        let other = Caller { owner: "U-other".parse().unwrap(), ..Caller::local("ada") };
        assert_ne!(uuid(&other, "key"), one.uuid());
        assert!(of("").is_err() && of(&"k".repeat(256)).is_err());
        assert_eq!(id(&Caller::local("ada"), &HeaderMap::new()).unwrap(), None);
    }
}
