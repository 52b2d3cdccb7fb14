//! Whether a service could do its work: the namespace is there and it has its rights.

use std::time::Duration;

use service::Health;

use crate::error::{Call, Result};
use crate::rights::Service;
use crate::weavers::Cluster;

/// How soon what is missing is looked for again.
const MISSING: Duration = Duration::from_secs(2);
/// How often what is there is looked at.
const THERE: Duration = Duration::from_secs(30);

/// Keeps `/readyz` in step with the namespace and with what `service` may do in it, for ever. Nothing
/// is created or granted here.
pub async fn watch_ready(cluster: Cluster, service: Service, health: Health) {
    let mut said = None;
    loop {
        let namespace = cluster.validate_namespace().await;
        let rights = match &namespace {
            // Of a namespace that is missing nothing can be allowed.
            Err(_) => Ok(Vec::new()),
            Ok(()) => cluster.missing_rights(service).await,
        };
        let trouble = namespace.as_ref().err().map(ToString::to_string);
        let trouble = trouble.or_else(|| lacks(&rights));
        if let Some(error) = trouble.as_ref().filter(|error| said.as_ref() != Some(*error)) {
            tracing::error!(%error, "Weaver provisioner namespace validation failed");
        }
        health.set("rights", lacks(&rights).map_or(Ok(()), Err));
        health.set("namespace", namespace);
        tokio::time::sleep(if trouble.is_some() { MISSING } else { THERE }).await;
        said = trouble;
    }
}

/// Says what is missing, if something is.
fn lacks(rights: &Result<Vec<Call>>) -> Option<String> {
    match rights {
        Err(error) => Some(error.to_string()),
        Ok(missing) if missing.is_empty() => None,
        Ok(missing) => {
            let calls: Vec<_> = missing.iter().map(ToString::to_string).collect();
            let calls = calls.join(", ");
            Some(format!("Kubernetes does not let this server {calls}: add the verb to its role"))
        }
    }
}
