//! Whether the namespace is there, asked again and again.

use std::time::Duration;

use cluster::Cluster;
use service::Health;

/// How soon a namespace that is missing is looked for again.
const MISSING: Duration = Duration::from_secs(2);
/// How often one that is there is looked at.
const THERE: Duration = Duration::from_secs(30);

/// Keeps `/readyz` in step with the namespace, for ever. The server does not create it.
pub async fn watch_namespace(cluster: Cluster, health: Health) {
    let mut said = None;
    loop {
        let checked = cluster.validate_namespace().await;
        let error = checked.as_ref().err().map(ToString::to_string);
        if let Some(error) = error.as_ref().filter(|error| said.as_ref() != Some(*error)) {
            tracing::error!(%error, "Weaver provisioner namespace validation failed");
        }
        health.set("namespace", checked);
        tokio::time::sleep(if error.is_some() { MISSING } else { THERE }).await;
        said = error;
    }
}
