//! Label and field selectors, as far as equality goes.

use std::collections::HashMap;

use serde_json::Value;

/// Tells whether an object is selected by a list's or watch's query.
pub(crate) fn matches(object: &Value, query: &HashMap<String, String>) -> bool {
    let labels = &object["metadata"]["labels"];
    terms(query, "labelSelector").all(|(key, value)| labels[key] == value)
        && terms(query, "fieldSelector")
            .all(|(path, value)| path.split('.').fold(object, |inner, part| &inner[part]) == value)
}

fn terms<'a>(
    query: &'a HashMap<String, String>,
    name: &str,
) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    let text = query.get(name).map_or("", String::as_str);
    text.split(',').filter_map(|term| term.split_once('='))
}
