//! Label and field selectors, as far as equality goes.

use std::collections::HashMap;

use serde_json::Value;

/// The parameter as which the path's namespace stands beside the query's own.
pub(crate) const NAMESPACE: &str = "fakeNamespace";

/// Tells whether an object is selected by a list's or watch's query.
pub(crate) fn matches(object: &Value, query: &HashMap<String, String>) -> bool {
    let labels = &object["metadata"]["labels"];
    is_in(object, &query[NAMESPACE])
        && terms(query, "labelSelector").all(|(key, value)| labels[key] == value)
        && terms(query, "fieldSelector")
            .all(|(path, value)| path.split('.').fold(object, |inner, part| &inner[part]) == value)
}

/// Tells whether an object is in this namespace; one that says nothing is everywhere.
pub(crate) fn is_in(object: &Value, namespace: &str) -> bool {
    let own = &object["metadata"]["namespace"];
    own.is_null() || own == namespace
}

fn terms<'a>(
    query: &'a HashMap<String, String>,
    name: &str,
) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    let text = query.get(name).map_or("", String::as_str);
    text.split(',').filter_map(|term| term.split_once('='))
}
