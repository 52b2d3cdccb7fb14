//! Label and field selectors.

use serde_json::Value;

use super::status::Refusal;
use crate::store::Resource;

/// Which objects a list or a watch wants.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    labels: Vec<LabelTerm>,
    fields: Vec<FieldTerm>,
}

#[derive(Debug, Clone)]
struct LabelTerm {
    key: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    /// True of objects without the label, too.
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

#[derive(Debug, Clone)]
struct FieldTerm {
    path: String,
    value: String,
    equal: bool,
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector` for one kind of object.
    pub(crate) fn parse(
        resource: Resource,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, Refusal> {
        let labels = split_terms(labels.unwrap_or_default())?
            .into_iter()
            .map(label_term)
            .collect::<Result<_, _>>()?;
        let fields = fields
            .unwrap_or_default()
            .split(',')
            .filter(|term| !term.is_empty())
            .map(|term| field_term(resource, term))
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Whether it selects everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether it selects `object`.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|term| term.matches(labels[&term.key].as_str()))
            && self
                .fields
                .iter()
                .all(|term| (field(object, &term.path) == term.value) == term.equal)
    }
}

impl LabelTerm {
    fn matches(&self, value: Option<&str>) -> bool {
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|v| v != value)),
            Test::Above(bound) => number(value).is_some_and(|number| number > *bound),
            Test::Below(bound) => number(value).is_some_and(|number| number < *bound),
        }
    }
}

fn number(value: Option<&str>) -> Option<i64> {
    value?.parse().ok()
}

/// Splits at commas that are not inside parentheses.
fn split_terms(text: &str) -> Result<Vec<&str>, Refusal> {
    let (mut depth, mut start, mut terms) = (0_i32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(text[start..].trim());
    if terms == [""] {
        return Ok(Vec::new());
    }
    if terms.contains(&"") {
        let found = if terms[..terms.len() - 1].contains(&"") { "," } else { "" };
        let why = format!("found '{found}', expected: identifier after ','");
        return Err(Refusal::bad_request(why));
    }
    Ok(terms)
}

fn label_term(term: &str) -> Result<LabelTerm, Refusal> {
    let bad = || Refusal::bad_request(format!("unable to parse requirement: {term:?}"));
    let (key, test) = if let Some(key) = term.strip_prefix('!') {
        (key, Test::Absent)
    } else if let Some((key, set)) = term.split_once('(') {
        let values = set.strip_suffix(')').ok_or_else(bad)?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        match key.split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, "in"] => (*key, Test::In(values)),
            [key, "notin"] => (*key, Test::NotIn(values)),
            _ => return Err(bad()),
        }
    } else if let Some((key, value)) = term.split_once("!=") {
        (key, Test::NotIn(vec![value.trim().into()]))
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (key, Test::In(vec![value.trim().into()]))
    } else if let Some((key, bound)) = term.split_once('>') {
        (key, Test::Above(bound.trim().parse().map_err(|_| bad())?))
    } else if let Some((key, bound)) = term.split_once('<') {
        (key, Test::Below(bound.trim().parse().map_err(|_| bad())?))
    } else {
        (term, Test::Exists)
    };
    let key = key.trim();
    let values: &[String] = match &test {
        Test::In(values) | Test::NotIn(values) => values,
        Test::Exists | Test::Absent | Test::Above(_) | Test::Below(_) => &[],
    };
    if values.iter().any(|value| value.contains('=')) {
        return Err(Refusal::bad_request("found '=', expected: ',' or 'end of string'"));
    }
    let wrong = values.iter().any(|value| !super::names::is_label_value(value));
    if !super::names::is_qualified(key) || wrong {
        return Err(bad());
    }
    Ok(LabelTerm { key: key.into(), test })
}

fn field_term(resource: Resource, term: &str) -> Result<FieldTerm, Refusal> {
    let (path, value, equal) = if let Some((path, value)) = term.split_once("!=") {
        (path, value, false)
    } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (path, value, true)
    } else {
        return Err(Refusal::bad_request(format!(
            "invalid selector: '{term}'; can't understand '{term}'"
        )));
    };
    let known = known_fields(resource);
    if !known.contains(&path) {
        let why = match known.as_slice() {
            [_, _] => format!(
                "{path:?} is not a known field selector: only \"metadata.name\", \
                 \"metadata.namespace\""
            ),
            _ => format!("field label not supported: {path}"),
        };
        return Err(Refusal::bad_request(why));
    }
    Ok(FieldTerm { path: path.into(), value: value.into(), equal })
}

fn known_fields(resource: Resource) -> Vec<&'static str> {
    let own: &[&str] = match resource {
        Resource::Pods => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        Resource::Events => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        Resource::Namespaces => &["status.phase"],
        Resource::Secrets => &["type"],
        Resource::Nodes => &["spec.unschedulable"],
        Resource::ConfigMaps | Resource::ServiceAccounts | Resource::Leases => &[],
    };
    [&["metadata.name", "metadata.namespace"], own].concat()
}

fn field(object: &Value, path: &str) -> String {
    let path = if path == "source" { "source.component" } else { path };
    let found = path.split('.').try_fold(object, |value, name| value.get(name));
    match found {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        None if matches!(path, "spec.hostNetwork" | "spec.unschedulable") => "false".into(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selects(labels: &str, fields: &str) -> bool {
        let pod = json!({
            "metadata": {"name": "a", "labels": {"app": "loom-weaver", "loom.dev/tag.x": "1"}},
            "spec": {"nodeName": "n"}, "status": {"phase": "Running"},
        });
        Selector::parse(Resource::Pods, Some(labels), Some(fields)).unwrap().matches(&pod)
    }

    #[test]
    fn terms_select_as_in_kubernetes() {
        for yes in [
            "",
            "app",
            "app=loom-weaver",
            "app==loom-weaver,loom.dev/tag.x",
            "app in (x, loom-weaver),!y",
            "y!=1",
            "y notin (1,2)",
            "loom.dev/tag.x > 0, loom.dev/tag.x<2",
        ] {
            assert!(selects(yes, ""), "{yes}");
        }
        for no in [
            "y",
            "app=x",
            "app in (x)",
            "app notin (loom-weaver)",
            "!app",
            "app!=loom-weaver",
            "app>1",
            "loom.dev/tag.x>1",
        ] {
            assert!(!selects(no, ""), "{no}");
        }
        assert!(selects("", "metadata.name=a,status.phase!=Failed,spec.nodeName==n"));
        assert!(!selects("", "metadata.name=b"));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["a,,b", ",a", "a b", "a in x", "=x", "a=b=c", "a=(x", "a=b c", "a>b"] {
            assert!(Selector::parse(Resource::Pods, Some(bad), None).is_err(), "{bad}");
        }
        assert!(Selector::parse(Resource::Pods, None, Some("spec.foo=1")).is_err());
    }
}
