//! Counters and histograms, and their text for Prometheus.

use axum::Router;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use metrics_prometheus::Recorder;
use prometheus::{HistogramOpts, HistogramVec, Registry, TextEncoder};

/// Upper bounds of histograms, in seconds.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// This process's metrics. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics(Recorder);

/// Counting cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("somebody else counts in this process already")]
pub struct Counted;

impl Metrics {
    /// Makes this process count, for everybody who uses the `metrics` macros; once a process.
    ///
    /// # Errors
    /// Somebody else has installed a recorder.
    pub fn install() -> Result<Self, Counted> {
        let metrics = Self::detached();
        metrics::set_global_recorder(metrics.0.clone()).map_err(|_| Counted)?;
        Ok(metrics)
    }

    /// Makes metrics that nothing is counted in, for tests that only need the route.
    #[must_use]
    pub fn detached() -> Self {
        Self(Recorder::builder().with_registry(Registry::new()).build())
    }

    /// Says that this histogram has these labels and is about times as short as a request's.
    ///
    /// # Panics
    /// When the name or a label is none, or it has been said otherwise.
    pub fn short_times(&self, name: &str, labels: &[&str]) {
        let options = HistogramOpts::new(name, name).buckets(BUCKETS.to_vec());
        let histogram = HistogramVec::new(options, labels).expect("the name and labels are valid");
        self.0.register_metric(histogram);
    }

    /// Returns everything counted so far in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let families = self.0.registry().gather();
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be written");
            String::new()
        })
    }

    /// Serves `/metrics`.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let metrics = self.clone();
        let text = [(CONTENT_TYPE, "text/plain; version=0.0.4")];
        Router::new().route("/metrics", get(async move || (text, metrics.render())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_have_small_buckets() {
        let metrics = Metrics::detached();
        metrics.short_times("loom_short_seconds", &["route"]);
        metrics::with_local_recorder(&metrics.0, || {
            metrics::histogram!("loom_short_seconds", "route" => "/a").record(0.002);
            metrics::counter!("loom_all_total").increment(3);
        });
        let text = metrics.render();
        for line in [
            r#"loom_short_seconds_bucket{route="/a",le="0.001"} 0"#,
            r#"loom_short_seconds_bucket{route="/a",le="0.0025"} 1"#,
            "loom_all_total 3",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
