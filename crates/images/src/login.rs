//! Who somebody is for a registry.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

/// A name and a password for one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The registry's host, and its port if it has one.
    pub host: String,
    /// The name.
    pub username: String,
    /// The password, never shown.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, username, .. } = self;
        f.debug_struct("Login").field("host", host).field("username", username).finish()
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

impl Login {
    /// Reads docker's `config.json`, or a Kubernetes secret of type
    /// `kubernetes.io/dockerconfigjson`. Passwords that helpers keep elsewhere are not
    /// in it.
    #[must_use]
    pub fn of_docker_config(json: &[u8]) -> Vec<Self> {
        let Ok(config) = serde_json::from_slice::<DockerConfig>(json) else { return Vec::new() };
        config.auths.into_iter().filter_map(|(host, entry)| Self::of_entry(&host, entry)).collect()
    }

    /// Reads a Kubernetes secret of type `kubernetes.io/dockercfg`.
    #[must_use]
    pub fn of_docker_cfg(json: &[u8]) -> Vec<Self> {
        let hosts: BTreeMap<String, Entry> = serde_json::from_slice(json).unwrap_or_default();
        hosts.into_iter().filter_map(|(host, entry)| Self::of_entry(&host, entry)).collect()
    }

    fn of_entry(host: &str, entry: Entry) -> Option<Self> {
        let host = host.strip_prefix("https://").or(host.strip_prefix("http://")).unwrap_or(host);
        let host = host.split('/').next()?.to_owned();
        if !entry.username.is_empty() {
            return Some(Self { host, username: entry.username, password: entry.password });
        }
        let both = String::from_utf8(STANDARD.decode(entry.auth.trim()).ok()?).ok()?;
        let (username, password) = both.split_once(':')?;
        Some(Self { host, username: username.to_owned(), password: password.to_owned() })
    }

    /// Tells whether it is for this registry: Docker Hub has several names.
    pub(crate) fn is_for(&self, host: &str) -> bool {
        let hub =
            |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
        self.host == host || (hub(&self.host) && hub(host))
    }

    pub(crate) fn auth(&self) -> RegistryAuth {
        RegistryAuth::Basic(self.username.clone(), self.password.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_configs_are_read() {
        let json = br#"{"auths": {"https://index.docker.io/v1/": {"auth": "YWRhOnB3OjE="},
            "ghcr.io": {"username": "u", "password": "p"}, "empty.example": {}},
            "credsStore": "desktop"}"#;
        let logins = Login::of_docker_config(json);
        let of = |host: &str| logins.iter().find(|login| login.is_for(host)).cloned();
        let hub = of("docker.io").unwrap();
        assert_eq!((hub.username.as_str(), hub.password.as_str()), ("ada", "pw:1"));
        assert_eq!(of("ghcr.io").unwrap().password, "p");
        assert_eq!(of("empty.example"), None);
        assert!(!format!("{logins:?}").contains("pw"), "passwords are not shown");
        assert_eq!(Login::of_docker_cfg(br#"{"r.example:5": {"auth": "YTpi"}}"#).len(), 1);
        for odd in [&b"["[..], b"{\"auths\": {\"h\": {\"auth\": \"%\"}}}", b"7"] {
            assert!(
                Login::of_docker_config(odd).is_empty() && Login::of_docker_cfg(odd).is_empty()
            );
        }
    }
}
