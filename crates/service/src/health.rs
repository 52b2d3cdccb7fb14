//! Whether this process lives, and whether it can do its work.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;

/// What still stands in the way of work, by name. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Health {
    /// Makes the health of a process that is ready unless somebody says otherwise.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that `what` stands in the way, and why.
    pub fn waiting(&self, what: &'static str, why: impl Into<String>) {
        self.reasons().insert(what, why.into());
    }

    /// Says that `what` is well.
    pub fn well(&self, what: &'static str) {
        self.reasons().remove(what);
    }

    /// Takes a check's result.
    pub fn set<E: std::fmt::Display>(&self, what: &'static str, result: Result<(), E>) {
        match result {
            Ok(()) => self.well(what),
            Err(why) => self.waiting(what, why.to_string()),
        }
    }

    /// Tells whether nothing stands in the way.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.reasons().is_empty()
    }

    /// Serves `/healthz` (the process lives) and `/readyz` (200, or 503 and what is missing).
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let health = self.clone();
        Router::new()
            .route("/healthz", get(async || Json(serde_json::json!({"status": "ok"}))))
            .route("/readyz", get(async move || health.readyz()))
    }

    fn readyz(&self) -> (StatusCode, Json<serde_json::Value>) {
        let waiting = self.reasons().clone();
        if waiting.is_empty() {
            return (StatusCode::OK, Json(serde_json::json!({"status": "ready"})));
        }
        let body = serde_json::json!({"status": "waiting", "waiting": waiting});
        (StatusCode::SERVICE_UNAVAILABLE, Json(body))
    }

    fn reasons(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_follows_what_is_said() {
        let health = Health::new();
        assert_eq!(health.readyz().0, StatusCode::OK);
        health.set("namespace", Err("is missing"));
        let (status, Json(body)) = health.readyz();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["waiting"]["namespace"], "is missing");
        health.set("namespace", Ok::<(), &str>(()));
        assert!(health.is_ready());
    }
}
