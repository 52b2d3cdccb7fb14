//! Counters and histograms, and their text for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use crate::Task;

/// How often histograms are folded, so that they stay small when nobody asks for them.
const UPKEEP: Duration = Duration::from_secs(5);
/// Upper bounds of histograms, in seconds.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// This process's metrics. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    _upkeep: Arc<Task>,
}

impl Metrics {
    /// Makes this process count, for everybody who uses the `metrics` macros; once a process.
    ///
    /// # Errors
    /// Somebody else has installed a recorder.
    pub fn install() -> Result<Self, BuildError> {
        let builder = PrometheusBuilder::new().set_buckets(&BUCKETS)?;
        Ok(Self::of(builder.install_recorder()?))
    }

    /// Makes metrics that nothing is counted in, for tests that only need the route.
    #[must_use]
    pub fn detached() -> Self {
        Self::of(PrometheusBuilder::new().build_recorder().handle())
    }

    fn of(handle: PrometheusHandle) -> Self {
        let folded = handle.clone();
        let upkeep = Task::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                folded.run_upkeep();
            }
        });
        Self { handle, _upkeep: Arc::new(upkeep) }
    }

    /// Returns everything counted so far in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Serves `/metrics`.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let metrics = self.clone();
        let text = [(CONTENT_TYPE, "text/plain; version=0.0.4")];
        Router::new().route("/metrics", get(async move || (text, metrics.render())))
    }
}
