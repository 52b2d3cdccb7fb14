//! Tokens of service accounts: JSON Web Tokens as Kubernetes makes them, signed by a key of this
//! cluster, worth something while their account and pod exist.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::pki::{PkiError, write_private};
use crate::store::{Key, Object, Resource, Store};

/// The issuer, and the audience of tokens for this API.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const KEY: &str = "service-accounts.pk8";
/// How long a token outlives its pod.
const LEEWAY_SECONDS: i64 = 60;

/// Makes and checks tokens.
pub(crate) struct Tokens {
    key: EcdsaKeyPair,
    /// Names the key.
    kid: String,
}

/// What a token is made of.
pub(crate) struct Grant<'a> {
    pub(crate) account: &'a Object,
    /// The pod or secret that it dies with.
    pub(crate) bound: Option<&'a Object>,
    pub(crate) audiences: &'a [String],
    pub(crate) seconds: i64,
}

/// Who sends a request.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Who has the kubeconfig.
    Owner,
    Account(Account),
}

/// A service account that showed a token.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    namespace: String,
    name: String,
    uid: Value,
    /// Empty, or name and uid of the pod.
    pod: Option<(Value, Value)>,
    id: String,
}

/// Why a token is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("invalid bearer token")]
    Invalid,
    #[error("[invalid bearer token, service account token has expired]")]
    Expired,
    #[error("[invalid bearer token, service account token has been invalidated]")]
    Gone,
    #[error("a token could not be signed")]
    Signing,
}

impl Tokens {
    /// Opens or makes the key in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self, PkiError> {
        let path = dir.join(KEY);
        let io = |error| PkiError::Io(path.clone(), error);
        let random = SystemRandom::new();
        if !path.exists() {
            let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
            let made = made.map_err(|error| io(std::io::Error::other(error.to_string())))?;
            write_private(&path, made.as_ref()).map_err(io)?;
        }
        let bytes = std::fs::read(&path).map_err(io)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &bytes, &random);
        let key = key.map_err(|error| io(std::io::Error::other(error.to_string())))?;
        let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(key.public_key().as_ref()));
        Ok(Self { key, kid })
    }

    /// Returns a new token.
    pub(crate) fn issue(&self, grant: &Grant<'_>, now: Timestamp) -> Result<String, TokenError> {
        let header = json!({"alg": "ES256", "kid": self.kid});
        let claims = claims(grant, now.as_second());
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| TokenError::Signing)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Returns whose token it is and for which audiences.
    pub(crate) fn review(
        &self,
        store: &Store,
        token: &str,
        now: Timestamp,
    ) -> Result<(Account, Vec<String>), TokenError> {
        let claims = self.verified(token).ok_or(TokenError::Invalid)?;
        let second = |field: &str| claims[field].as_i64().unwrap_or(0);
        if second("exp") <= now.as_second() {
            return Err(TokenError::Expired);
        }
        if claims["iss"] != ISSUER || second("nbf") > now.as_second() {
            return Err(TokenError::Invalid);
        }
        let own = &claims["kubernetes.io"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let account = &own["serviceaccount"];
        let (namespace, name) = (text(&own["namespace"]), text(&account["name"]));
        for (resource, named) in [
            (Resource::ServiceAccounts, account),
            (Resource::Pods, &own["pod"]),
            (Resource::Secrets, &own["secret"]),
        ] {
            let key = Key::new(resource, &namespace, &text(&named["name"]));
            if named.is_object() && !lives(store.get(&key), &named["uid"], now) {
                return Err(TokenError::Gone);
            }
        }
        let audiences = claims["aud"].as_array().into_iter().flatten().map(text).collect();
        let pod = &own["pod"];
        let pod = pod.is_object().then(|| (pod["name"].clone(), pod["uid"].clone()));
        let (uid, id) = (account["uid"].clone(), text(&claims["jti"]));
        Ok((Account { namespace, name, uid, pod, id }, audiences))
    }

    /// Returns the claims of a token that was signed here.
    fn verified(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        key.verify(signed.as_bytes(), &signature).ok()?;
        let json = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        json(header).filter(|header| header["alg"] == "ES256")?;
        json(claims)
    }

    /// Returns the key that others check tokens with (RFC 7517).
    pub(crate) fn jwks(&self) -> Value {
        // 0x04, then both coordinates.
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.kid, "crv": "P-256",
                         "alg": "ES256", "x": text(x), "y": text(y)}]})
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("kid", &self.kid).finish_non_exhaustive()
    }
}

fn claims(grant: &Grant<'_>, now: i64) -> Value {
    let meta = &grant.account["metadata"];
    let text = |field: &str| meta[field].as_str().unwrap_or_default();
    let mut own = json!({
        "namespace": meta["namespace"],
        "serviceaccount": {"name": meta["name"], "uid": meta["uid"]},
    });
    if let Some(bound) = grant.bound {
        let kind = if bound["spec"].is_object() { "pod" } else { "secret" };
        own[kind] = json!({"name": bound["metadata"]["name"], "uid": bound["metadata"]["uid"]});
    }
    json!({
        "iss": ISSUER, "aud": grant.audiences, "jti": uuid::Uuid::new_v4().to_string(),
        "sub": format!("system:serviceaccount:{}:{}", text("namespace"), text("name")),
        "iat": now, "nbf": now, "exp": now.saturating_add(grant.seconds), "kubernetes.io": own,
    })
}

/// Whether an object is still the one that a token was made for.
fn lives(object: Option<Object>, uid: &Value, now: Timestamp) -> bool {
    let Some(object) = object.filter(|object| object["metadata"]["uid"] == *uid) else {
        return false;
    };
    let deleted = object["metadata"]["deletionTimestamp"].as_str().and_then(crate::clock::parse);
    deleted.is_none_or(|at| now.as_second() - at.as_second() < LEEWAY_SECONDS)
}

impl Caller {
    /// Returns the words of refusals.
    pub(crate) fn username(&self) -> String {
        match self {
            Self::Owner => "loom-local".into(),
            Self::Account(Account { namespace, name, .. }) => {
                format!("system:serviceaccount:{namespace}:{name}")
            }
        }
    }

    /// Returns Kubernetes' UserInfo.
    pub(crate) fn user_info(&self) -> Value {
        let Self::Account(account) = self else {
            return json!({"username": self.username(),
                          "groups": ["system:masters", "system:authenticated"]});
        };
        let mut extra = json!({
            "authentication.kubernetes.io/credential-id": [format!("JTI={}", account.id)],
        });
        if let Some((name, uid)) = &account.pod {
            extra["authentication.kubernetes.io/pod-name"] = json!([name]);
            extra["authentication.kubernetes.io/pod-uid"] = json!([uid]);
        }
        let of_namespace = format!("system:serviceaccounts:{}", account.namespace);
        json!({"username": self.username(), "uid": account.uid, "extra": extra,
               "groups": ["system:serviceaccounts", of_namespace, "system:authenticated"]})
    }
}
