//! Which volumes make sense, in Kubernetes' words.

use serde_json::Value;

use crate::api::FieldError;

const PARTS: [&str; 4] = ["secret", "configMap", "downwardAPI", "serviceAccountToken"];

/// Returns what is wrong with the files that a volume is made of.
pub(crate) fn check(volume: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = part(volume, path);
    let Some(projected) = volume.get("projected") else { return errors };
    let sources = projected["sources"].as_array().into_iter().flatten();
    for (at, source) in sources.enumerate() {
        let path = format!("{path}.projected.sources[{at}]");
        let given = PARTS.iter().filter(|kind| source.get(**kind).is_some());
        for more in given.skip(1) {
            let why = "may not specify more than 1 volume type per source";
            errors.push(FieldError::forbidden(format!("{path}.{more}"), why));
        }
        errors.extend(part(source, &path));
    }
    errors
}

fn part(source: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for kind in ["secret", "configMap", "downwardAPI"] {
        let items = source[kind]["items"].as_array().into_iter().flatten();
        for (at, item) in items.enumerate() {
            let path = format!("{path}.{kind}.items[{at}]");
            errors.extend(relative(&item["path"], &format!("{path}.path")));
            let field = item["fieldRef"]["fieldPath"].as_str();
            if let Some(field) = field.filter(|field| !crate::kubelet::shows_field(field)) {
                let path = format!("{path}.fieldRef.fieldPath");
                errors.push(FieldError::unsupported(path, field, SHOWN));
            }
        }
    }
    if let Some(token) = source.get("serviceAccountToken") {
        let path = format!("{path}.serviceAccountToken");
        errors.extend(relative(&token["path"], &format!("{path}.path")));
        errors.extend(lifetime(&token["expirationSeconds"], &format!("{path}.expirationSeconds")));
    }
    errors
}

const SHOWN: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

fn lifetime(given: &Value, path: &str) -> Option<FieldError> {
    let why = match given.as_i64()? {
        ..600 => "may not specify a duration less than 10 minutes",
        seconds if seconds > 1 << 32 => "may not specify a duration larger than 2^32 seconds",
        _ => return None,
    };
    Some(FieldError::invalid(path, given, why))
}

fn relative(given: &Value, path: &str) -> Option<FieldError> {
    let text = given.as_str().unwrap_or_default();
    let why = match text {
        "" => return Some(FieldError::required(path, "")),
        _ if text.starts_with('/') => "must be a relative path",
        _ if text.split('/').any(|part| part == "..") => "must not contain '..'",
        _ if text.starts_with("..") => "must not start with '..'",
        _ => return None,
    };
    Some(FieldError::invalid(path, given, why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_stay_in_their_volume_and_tokens_live_ten_minutes() {
        let token = |path: &str, seconds: i64| {
            let token = json!({"path": path, "expirationSeconds": seconds});
            json!({"projected": {"sources": [{"serviceAccountToken": token}]}})
        };
        let fields = |volume: &Value| -> Vec<String> {
            check(volume, "v").into_iter().map(|error| error.field).collect()
        };
        assert_eq!(fields(&token("a/b", 600)), Vec::<String>::new());
        let place = "v.projected.sources[0].serviceAccountToken";
        assert_eq!(fields(&token("a", 599)), [format!("{place}.expirationSeconds")]);
        for bad in ["", "/a", "..a", "a/../b"] {
            assert_eq!(fields(&token(bad, 600)), [format!("{place}.path")], "{bad:?}");
        }
        let field = json!({"downwardAPI": {"items": [
            {"path": "a", "fieldRef": {"fieldPath": "spec.nodeName"}}]}});
        assert_eq!(fields(&field), ["v.downwardAPI.items[0].fieldRef.fieldPath"]);
    }
}
