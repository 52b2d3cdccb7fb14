//! An image on this machine's disk.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An image whose files are here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its whole name: `docker.io/library/debian:12`.
    pub name: String,
    /// Its name by digest: `docker.io/library/debian@sha256:…`.
    pub id: String,
    /// The digest of its manifest: `sha256:…`.
    pub digest: String,
    /// All its files in one folder, to be read only.
    pub rootfs: PathBuf,
    /// Bytes of its layers as they came.
    pub size: u64,
    /// What it says of itself.
    pub config: ImageConfig,
}

/// What an image says of the program it is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The environment, in order.
    pub env: Vec<(String, String)>,
    /// `uid`, `name`, `uid:gid`, `name:group`, or empty for root.
    pub user: String,
    /// The folder to start in, or empty.
    pub workdir: String,
    /// What is always run.
    pub entrypoint: Vec<String>,
    /// Its arguments, or all of it without an entrypoint.
    pub cmd: Vec<String>,
}

/// <https://github.com/opencontainers/image-spec/blob/main/config.md>
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    config: Option<Section>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Section {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
}

impl ImageConfig {
    /// Reads an image's configuration; `None` when it is for another machine.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn read(json: &[u8]) -> serde_json::Result<Option<Self>> {
        let document: Document = serde_json::from_slice(json)?;
        let is = |told: &str, ours: &str| told.is_empty() || told == ours;
        if !is(&document.os, "linux") || !is(&document.architecture, architecture()) {
            return Ok(None);
        }
        let said = document.config.unwrap_or_default();
        let pair = |text: String| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (text, String::new()),
        };
        Ok(Some(Self {
            env: said.env.unwrap_or_default().into_iter().map(pair).collect(),
            user: said.user.unwrap_or_default(),
            workdir: said.working_dir.unwrap_or_default(),
            entrypoint: said.entrypoint.unwrap_or_default(),
            cmd: said.cmd.unwrap_or_default(),
        }))
    }
}

/// This machine as images call it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_read() {
        let json = format!(
            r#"{{"os":"linux","architecture":"{}","config":{{"User":"1000:50","Env":["A=b=c","D"],
                "Entrypoint":["/e"],"Cmd":null,"WorkingDir":"/w"}},"rootfs":{{}}}}"#,
            architecture()
        );
        let read = ImageConfig::read(json.as_bytes()).unwrap().unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(read.env, [pair("A", "b=c"), pair("D", "")]);
        assert_eq!((read.user.as_str(), read.workdir.as_str()), ("1000:50", "/w"));
        assert_eq!((read.entrypoint, read.cmd), (vec!["/e".to_owned()], vec![]));
        assert_eq!(ImageConfig::read(b"{}").unwrap(), Some(ImageConfig::default()));
        assert_eq!(ImageConfig::read(br#"{"os":"windows"}"#).unwrap(), None);
        assert!(ImageConfig::read(b"[").is_err());
    }
}
