//! Requests and answers of `/api/weavers`, field by field as the documents write them.
//!
//! Requests refuse unknown fields and keys that stand twice; answers may carry more than is read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use weaver::{Phase, Publish, Terminal};

/// `POST /api/weavers`: everything is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWeaver {
    /// Container image; the server's default without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Organization; the personal one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// Environment variables.
    #[serde(
        default,
        deserialize_with = "crate::unique::map",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub env: BTreeMap<String, String>,
    /// Repository to clone, a public https URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// Branch, tag or commit to check out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Lifetime, 1 to 48 whole hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_hours: Option<u64>,
    /// A name of its own, unique for its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Program to run instead of a shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments behind `command`, or of the image's own program with `keep_entrypoint`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Whether the image's own program is the main process: it is attached through Kubernetes, without
    /// what it wrote before; false without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_entrypoint: Option<bool>,
    /// Where it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Labels of the user.
    #[serde(
        default,
        deserialize_with = "crate::unique::map",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub tags: BTreeMap<String, String>,
    /// What it may use at most.
    #[serde(
        default,
        deserialize_with = "crate::object::only",
        skip_serializing_if = "Option::is_none"
    )]
    pub resources: Option<Resources>,
    /// Whether the program runs on a terminal; true without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<bool>,
    /// Whether it runs as root, in a user namespace, where the deployment allows it; false without
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<bool>,
    /// Ports of the machine's loopback that lead into it, where the deployment allows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub ports: Vec<Publish>,
    /// The caller's TERM, COLORTERM and LANG.
    #[serde(default, deserialize_with = "terminal", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub terminal: Option<Terminal>,
}

/// A terminal as a request brings it: on a pod a newer build may have written more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    term: Option<String>,
    colorterm: Option<String>,
    lang: Option<String>,
}

fn terminal<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Terminal>, D::Error> {
    let asked = crate::object::only(from)?;
    Ok(asked.map(|Asked { term, colorterm, lang }| Terminal { term, colorterm, lang }))
}

/// What a weaver may use at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Thousandths of a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millicores: Option<u64>,
    /// MiB of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
}

/// One weaver in an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WeaverView {
    /// `W-{uuid}`.
    pub id: String,
    /// The container image.
    pub image: String,
    /// How it fares.
    #[schema(value_type = String)]
    pub status: Phase,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Its lifetime since then.
    pub lifetime_hours: u64,
    /// When it ends.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
    /// `weaver-{uuid}`.
    pub pod_name: String,
    /// Kubernetes' own word.
    pub pod_phase: Option<String>,
    /// Its address, once it has one.
    pub pod_ip: Option<String>,
    /// Hours since it was made, one decimal.
    pub age_hours: Option<f64>,
    /// Hours until it ends, one decimal.
    pub remaining_hours: Option<f64>,
    /// Its name.
    pub name: Option<String>,
    /// Why it is Pending, Failed or Unknown, in a word.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub message: Option<String>,
    /// The program's exit code, once it has ended.
    pub exit_code: Option<i32>,
    /// Its organization.
    pub org_id: String,
    /// Who made it.
    pub owner: String,
    /// How its maker is called.
    pub owner_name: String,
    /// What was cloned.
    pub repo: Option<String>,
    /// What was checked out.
    pub branch: Option<String>,
    /// The program it runs instead of a shell.
    pub command: Vec<String>,
    /// Its arguments, or those of the image's own program with `keep_entrypoint`.
    pub args: Vec<String>,
    /// Whether the image's own program is its main process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_entrypoint: bool,
    /// Where it started.
    pub workdir: Option<String>,
    /// The user's labels.
    pub tags: BTreeMap<String, String>,
    /// What it may use at most.
    pub resources: Resources,
    /// Whether its program runs on a terminal.
    pub tty: bool,
    /// Whether it runs as root of a user namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub root: bool,
    /// Ports of the machine's loopback that lead into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub ports: Vec<Publish>,
    /// What the cluster could not do for it, e.g. enforce limits.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Where to attach: a `ws://` or `wss://` URL.
    pub attach_url: String,
}

/// `GET /api/weavers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WeaverList {
    /// The weavers.
    pub weavers: Vec<WeaverView>,
    /// The cursor of the next page, if there is more.
    pub next: Option<String>,
}

/// `POST /api/weavers/{id}/extend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    /// Total lifetime since the weaver was made, 1 to 48 whole hours.
    pub lifetime_hours: u64,
}

/// One message of `GET /api/weavers/{id}/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogChunk {
    /// Bytes sent before this message.
    pub offset: u64,
    /// The bytes, base64 (RFC 4648).
    pub data: String,
}

/// One message of `GET /api/weavers/{id}/events`: how the start goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Progress {
    /// A node was found.
    Scheduled,
    /// The image is on its way. It is told again as more comes, where the cluster says how much.
    Pulling {
        /// Bytes that are there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        done: Option<u64>,
        /// Bytes in all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
    },
    /// The image is there.
    Pulled,
    /// The container runs.
    Started,
    /// The host accepts connections.
    Ready,
    /// It goes on no further, or not now; `last` says which.
    Failed {
        /// In a word.
        reason: String,
        /// In a sentence.
        message: String,
        /// Whether nothing more will happen.
        last: bool,
    },
    /// It was deleted.
    Deleted,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_request_is_read() {
        let json = r#"{"image": "ghcr.io/ghuntley/loom/weaver:latest", "org_id": "O-123",
            "env": {"NODE_ENV": "production"}, "repo": "https://github.com/user/project",
            "branch": "main", "lifetime_hours": 4}"#;
        let request: CreateWeaver = serde_json::from_str(json).unwrap();
        assert_eq!(request.env["NODE_ENV"], "production");
        assert_eq!(request.lifetime_hours, Some(4));
    }

    #[test]
    fn abuse_bodies() {
        for json in [
            r#"{"image":"a","image":"b"}"#,
            r#"{"env":{"A":"1","A":"2"}}"#,
            r#"{"unknown":1}"#,
            r#"{"resources":{"gpu":1}}"#,
            r#"{"resources":[1000,2048]}"#,
            r#"{"terminal":["xterm"]}"#,
            r#"{"terminal":{"shell":"zsh"}}"#,
            r#"{"lifetime_hours":"4"}"#,
            r#"{"lifetime_hours":4.5}"#,
            r#"{"lifetime_hours":-1}"#,
            r#"{"lifetime_hours":1e9}"#,
        ] {
            assert!(serde_json::from_str::<CreateWeaver>(json).is_err(), "{json}");
        }
        let deep = "[".repeat(10_000);
        assert!(serde_json::from_str::<CreateWeaver>(&format!(r#"{{"command":{deep}"#)).is_err());
    }

    #[test]
    fn progress_is_one_flat_object() {
        let failed = Progress::Failed { reason: "A".into(), message: "b".into(), last: true };
        let json = r#"{"event":"failed","reason":"A","message":"b","last":true}"#;
        assert_eq!(serde_json::to_string(&failed).unwrap(), json);
        let pulling = serde_json::from_str::<Progress>(r#"{"event":"pulling"}"#).unwrap();
        assert_eq!(pulling, Progress::Pulling { done: None, total: None });
        assert_eq!(serde_json::to_string(&pulling).unwrap(), r#"{"event":"pulling"}"#);
        assert_eq!(serde_json::to_string(&Progress::Ready).unwrap(), r#"{"event":"ready"}"#);
    }
}
