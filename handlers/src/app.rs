//! The state that every route gets, and the routes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use cluster::Cluster;
use service::{Guard, Health, Metrics};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;
use weaver::{Image, Policy};
use wire::problem::Code;

use crate::args::ApiArgs;
use crate::caller::Caller;
use crate::{ApiError, layers, openapi, weavers};

/// What every route gets. Clones share it; nothing in it is lost by a restart.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

/// What an [`App`] is made of.
pub struct Parts {
    /// The cluster.
    pub cluster: Cluster,
    /// Who gets in.
    pub guard: Guard,
    /// What the API does.
    pub api: ApiArgs,
    /// `/healthz` and `/readyz`.
    pub health: Health,
    /// `/metrics`.
    pub metrics: Metrics,
    /// Ends streams that would otherwise go on.
    pub shutdown: CancellationToken,
}

struct Inner {
    parts: Parts,
    policy: Policy,
    caller: Caller,
    cleaning: TaskTracker,
}

impl App {
    /// Puts the state together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let policy = Policy {
            max_ttl: parts.cluster.settings().max_lifetime,
            max_cpu_millicores: parts.api.weaver_max_cpu,
            max_memory_mb: parts.api.weaver_max_memory,
            root: parts.api.weaver_allow_root,
            keep_entrypoint: parts.api.weaver_allow_keep_entrypoint,
            publish: parts.api.publishes,
        };
        parts.metrics.short_times(layers::SECONDS, &layers::LABELS);
        let caller = Caller::local(&parts.api.local_user);
        let cleaning = TaskTracker::new();
        Self { inner: Arc::new(Inner { parts, policy, caller, cleaning }) }
    }

    /// Waits until pods that nobody would know of are gone, or given up.
    pub async fn cleaned(&self) {
        self.inner.cleaning.close();
        self.inner.cleaning.wait().await;
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.inner.parts.cluster
    }

    pub(crate) fn guard(&self) -> &Guard {
        &self.inner.parts.guard
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.inner.caller
    }

    pub(crate) fn default_image(&self) -> &Image {
        &self.inner.parts.api.weaver_image
    }

    pub(crate) fn relay_url(&self) -> Option<&Url> {
        self.inner.parts.api.relay_url.as_ref()
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.inner.parts.api.deadline()
    }

    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.inner.parts.shutdown
    }

    pub(crate) fn cleaning(&self) -> &TaskTracker {
        &self.inner.cleaning
    }
}

/// Returns everything that `loom-handlers` serves.
pub fn app(state: App) -> Router {
    let health = state.inner.parts.health.router();
    api(state).merge(health).fallback(no_route)
}

/// Returns the routes behind the guard: the API, `/metrics` and `/openapi.json`.
///
/// It has no fallback, so that it can be merged with the relay's routes.
pub fn api(state: App) -> Router {
    let weavers = Router::new()
        .route("/api/weavers", get(weavers::list).post(weavers::create))
        .route("/api/weavers/{id}", get(weavers::get).delete(weavers::delete))
        .route("/api/weavers/{id}/extend", post(weavers::extend))
        .route("/api/weavers/{id}/logs", get(weavers::logs))
        .route("/api/weavers/{id}/events", get(weavers::events))
        .route("/openapi.json", get(openapi::serve))
        .merge(state.inner.parts.metrics.router())
        .method_not_allowed_fallback(no_method);
    weavers
        .layer(from_fn_with_state(state.clone(), layers::deadline))
        .layer(from_fn_with_state(state.clone(), layers::guard))
        .layer(tower_http::catch_panic::CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn(layers::measure))
        .with_state(state)
}

async fn no_route() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such path")
}

async fn no_method() -> ApiError {
    ApiError::new(Code::MethodNotAllowed, "this path does not know that method")
}
