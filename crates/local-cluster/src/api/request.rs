//! What a request asks for: path, query, and how the answer should look.

use http::request::Parts;
use http::{HeaderMap, Method};

use super::decode::Format;
use super::kinds::{self, Kind};
use super::protobuf;
use super::selector::Selector;
use super::status::Refusal;

/// Path segments of an object or of a collection.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) kind: &'static Kind,
    /// Empty: cluster-wide, or all namespaces.
    pub(crate) namespace: String,
    /// Empty: the collection.
    pub(crate) name: String,
    /// Empty: the object itself.
    pub(crate) subresource: String,
}

impl Target {
    /// Reads the part of a path after `/api/v1/` or `/apis/GROUP/v1/`.
    pub(crate) fn parse(group: &str, path: &str) -> Result<Self, Refusal> {
        let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        let (namespace, rest) = match parts.as_slice() {
            // Everything below a namespace but its own subresources.
            ["namespaces", namespace, rest @ ..]
                if rest.first().is_some_and(|plural| namespaced(group, plural)) =>
            {
                (*namespace, rest)
            }
            rest => ("", rest),
        };
        let [plural, rest @ ..] = rest else { return Err(Refusal::no_resource()) };
        let kind = kinds::find(group, plural).ok_or_else(Refusal::no_resource)?;
        let (name, subresource) = match rest {
            [] => ("", ""),
            [name] => (*name, ""),
            [name, sub] => (*name, *sub),
            _ => return Err(Refusal::no_resource()),
        };
        let unknown = !subresource.is_empty()
            && kind.subresources.iter().all(|(sub, ..)| *sub != subresource);
        if unknown || (kind.namespaced && namespace.is_empty() && !name.is_empty()) {
            return Err(Refusal::no_resource());
        }
        Ok(Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
            subresource: subresource.into(),
        })
    }
}

fn namespaced(group: &str, plural: &str) -> bool {
    kinds::find(group, plural).is_some_and(|kind| kind.namespaced)
}

/// The query's pairs in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    /// The client's program, which manages fields unless it says otherwise.
    agent: String,
}

impl Query {
    pub(crate) fn of(parts: &Parts) -> Self {
        let text = parts.uri.query().unwrap_or_default();
        let agent = header(&parts.headers, "user-agent").split('/').next().unwrap_or_default();
        let agent = if agent.is_empty() { "unknown" } else { agent };
        let pairs = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        Self { pairs, agent: agent.into() }
    }

    /// Returns the first value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns every value of `name`.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// Returns a switch; `name` alone is on.
    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1" | ""))
    }

    /// Returns a number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                Refusal::bad_request(format!("invalid value {text:?} for parameter {name}"))
            }),
        }
    }

    /// Returns who manages the fields that are written.
    pub(crate) fn manager(&self) -> &str {
        self.get("fieldManager").filter(|name| !name.is_empty()).unwrap_or(&self.agent)
    }

    /// Whether nothing is to be stored.
    pub(crate) fn dry_run(&self) -> Result<bool, Refusal> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(Refusal::bad_request(format!("invalid dryRun {other:?}"))),
        }
    }

    /// Returns the selector of a list, narrowed to one object when `name` is not empty.
    pub(crate) fn selector(&self, target: &Target) -> Result<Selector, Refusal> {
        let mut fields = self.get("fieldSelector").unwrap_or_default().to_owned();
        if !target.name.is_empty() {
            fields = format!("{fields},metadata.name={}", target.name);
        }
        let labels = self.get("labelSelector");
        Selector::parse(target.kind.resource, labels, Some(&fields))
    }

    /// Returns `resourceVersion`; 0 and nothing are `None`.
    pub(crate) fn version(&self) -> Result<Option<u64>, Refusal> {
        Ok(self.number("resourceVersion")?.filter(|version| *version > 0))
    }
}

/// How an answer is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Table,
    /// Only what stands in `metadata` (PartialObjectMetadata).
    Metadata,
}

impl Shape {
    /// Reads `Accept`: the first shape that is served, in the client's order.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let accept = header(headers, "accept");
        if accept.is_empty() {
            return Ok(Self::Object);
        }
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let shape = parts.find_map(|part| part.strip_prefix("as="));
            match (media, shape) {
                ("application/json" | "application/*" | "*/*", None) => return Ok(Self::Object),
                ("application/json", Some("Table")) => return Ok(Self::Table),
                (
                    "application/json",
                    Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
                ) => return Ok(Self::Metadata),
                _ => {}
            }
        }
        let message = "only the following media types are accepted: application/json";
        Err(Refusal::new(http::StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message))
    }
}

/// Returns a header as text, empty when absent.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Returns how the body is written.
pub(crate) fn body_format(headers: &HeaderMap) -> Result<Format, Refusal> {
    match header(headers, "content-type").split(';').next().unwrap_or_default().trim() {
        "" | "application/json" | "*/*" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        protobuf::MEDIA_TYPE => Ok(Format::Protobuf),
        other => Err(Refusal::media_type(
            other,
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// Returns the Kubernetes verb of a request on `target`.
pub(crate) fn verb(method: &Method, target: &Target, query: &Query) -> Option<&'static str> {
    let collection = target.name.is_empty();
    Some(match (method.as_str(), collection) {
        ("GET", _) if target.subresource.is_empty() && query.flag("watch") => "watch",
        ("GET", true) => "list",
        ("GET", false) => "get",
        ("POST", true) => "create",
        ("POST", false) if !target.subresource.is_empty() => "create",
        ("PUT", false) => "update",
        ("PATCH", false) => "patch",
        ("DELETE", false) => "delete",
        ("DELETE", true) => "deletecollection",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_targets() {
        let target = |path: &str| {
            let t = Target::parse("", path).ok()?;
            Some(format!("{} {} {} {}", t.kind.plural, t.namespace, t.name, t.subresource))
        };
        assert_eq!(target("pods").unwrap(), "pods   ");
        assert_eq!(target("namespaces/a/pods/b/log").unwrap(), "pods a b log");
        assert_eq!(target("namespaces/a").unwrap(), "namespaces  a ");
        assert_eq!(target("namespaces/a/status").unwrap(), "namespaces  a status");
        assert_eq!(target("nodes/n").unwrap(), "nodes  n ");
        for missing in
            ["", "pods/x", "services", "namespaces/a/services", "namespaces/a/pods/b/proxy"]
        {
            assert!(target(missing).is_none(), "{missing}");
        }
    }
}
