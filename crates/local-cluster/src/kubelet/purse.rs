//! Tokens that are projected into a pod: kept until they should be made anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::about::text;
use super::env::Source;
use crate::store::{Key, Resource};
use crate::tokens::{Grant, ISSUER, Tokens};

const DEFAULT_SECONDS: i64 = 3600;
/// The longest that any token is kept, however long it is good for.
const DAY_SECONDS: i64 = 24 * 3600;
/// When one that could not be had is asked for again.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// The tokens of one pod, by volume and path.
#[derive(Debug)]
pub(crate) struct Purse {
    tokens: Arc<Tokens>,
    kept: Mutex<HashMap<(String, String), Kept>>,
}

#[derive(Debug, Clone)]
struct Kept {
    token: String,
    renew_at: Timestamp,
}

impl Purse {
    pub(crate) fn new(tokens: Arc<Tokens>) -> Self {
        Self { tokens, kept: Mutex::default() }
    }

    /// Returns when the first of them should be made anew.
    pub(crate) fn renew_at(&self) -> Option<Timestamp> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.values().map(|kept| kept.renew_at).min()
    }
}

impl Source<'_> {
    /// Returns the token that a projected volume asks for: the last one while it is young.
    pub(crate) fn token(&self, volume: &str, wanted: &Value) -> Result<String, String> {
        let mut kept = self.purse.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (volume.to_owned(), text(&wanted["path"]).to_owned());
        if let Some(young) = kept.get(&place).filter(|kept| self.now < kept.renew_at) {
            return Ok(young.token.clone());
        }
        let seconds = wanted["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
        match self.issue(text(&wanted["audience"]), seconds) {
            Ok(token) => {
                let renew_at = renew_at(self.now, seconds);
                kept.insert(place, Kept { token: token.clone(), renew_at });
                Ok(token)
            }
            Err(why) => {
                if let Some(old) = kept.get_mut(&place) {
                    old.renew_at = self.now + TRY_AGAIN;
                }
                Err(why)
            }
        }
    }

    fn issue(&self, audience: &str, seconds: i64) -> Result<String, String> {
        let namespace = text(&self.pod["metadata"]["namespace"]);
        let name = self.pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let account = self.store.get(&Key::new(Resource::ServiceAccounts, namespace, name));
        let account = account
            .ok_or_else(|| format!("failed to fetch token: serviceaccounts {name:?} not found"))?;
        let audiences = [if audience.is_empty() { ISSUER } else { audience }.to_owned()];
        let pod = Arc::new(self.pod.clone());
        let grant = Grant { account: &account, bound: Some(&pod), audiences: &audiences, seconds };
        self.purse.tokens.issue(&grant, self.now).map_err(|error| error.to_string())
    }
}

/// When four fifths of its time are over, as the kubelet has it.
fn renew_at(now: Timestamp, seconds: i64) -> Timestamp {
    let after = (seconds.saturating_mul(4) / 5).min(DAY_SECONDS);
    now.checked_add(SignedDuration::from_secs(after)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_long_before_they_end() {
        let after = |seconds| renew_at(Timestamp::UNIX_EPOCH, seconds).as_second();
        assert_eq!([after(600), after(3600), after(1 << 32)], [480, 2880, 86_400]);
    }
}
