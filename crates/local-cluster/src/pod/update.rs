//! What an update may change of a pod: nothing of its spec.

use serde_json::Value;

use crate::api::{FieldError, is_zero};

/// Returns what an update of a pod wrongly changes: the spec is fixed here.
pub(crate) fn wrong(old: &Value, new: &Value) -> Vec<FieldError> {
    if said(&old["spec"]) == said(&new["spec"]) {
        return Vec::new();
    }
    let why = "pod updates may not change the spec: the local cluster fixes it at creation";
    vec![FieldError::forbidden("spec", why)]
}

/// Leaves out what is empty: who writes protobuf cannot tell it from what is not there.
fn said(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), said(value)));
            Value::Object(fields.filter(|(_, value)| !is_zero(value)).collect())
        }
        Value::Array(items) => items.iter().map(said).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_spec_may_come_back_without_what_is_empty() {
        let old = json!({"spec": {"a": {"b": ""}, "grace": 0, "list": [{"c": {}, "d": 1}]}});
        let same = json!({"spec": {"list": [{"d": 1}], "more": []}});
        assert!(wrong(&old, &same).is_empty());
        for other in [json!({"list": [{"d": 2}]}), json!({"list": []}), json!({"grace": 1})] {
            assert_eq!(wrong(&old, &json!({"spec": other}))[0].field, "spec");
        }
    }
}
