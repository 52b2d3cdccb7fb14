//! Passwords that docker keeps elsewhere than in its `config.json`: `credHelpers`, `credsStore`.

use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use images::Login;

/// A helper may have to ask somebody for their keychain.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the helper that docker's configuration names for this registry, if it names one.
pub(super) async fn ask(config: Vec<u8>, host: String) -> Option<Login> {
    let server = server(&host).to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        docker_credential::get_credential_from_reader(config.as_slice(), &server)
    });
    match tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()? {
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            Some(Login { host, username, password })
        }
        // Those are for registries that give tokens for tokens, which ours are not asked for.
        Ok(DockerCredential::IdentityToken(_)) => None,
        Err(CredentialRetrievalError::HelperFailure { helper, stderr, .. }) => {
            tracing::warn!(host, helper, "it has no password: {}", stderr.trim());
            None
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => None,
        Err(error) => {
            tracing::warn!(host, "docker's configuration: {error}");
            None
        }
    }
}

/// Returns how helpers call a registry.
fn server(host: &str) -> &str {
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => "https://index.docker.io/v1/",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_helper_nobody_is_asked() {
        for config in ["", "{}", "7", r#"{"credsStore": "there-is-no-such"}"#] {
            assert_eq!(ask(config.into(), "r.example".to_owned()).await, None, "{config}");
        }
    }

    #[test]
    fn docker_hub_has_a_name_of_its_own() {
        assert_eq!(server("docker.io"), "https://index.docker.io/v1/");
        assert_eq!(server("127.0.0.1:5000"), "127.0.0.1:5000");
    }
}
