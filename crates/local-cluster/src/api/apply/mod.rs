//! Server-side apply: who set which field, what conflicts, what goes when nobody wants it any more.
//!
//! Managers are kept from an object's first apply on; before it there are none, and the first apply
//! finds all fields with `before-first-apply`, as Kubernetes does with objects that have none.
//!
//! ```text
//! applied + live -> conflicts? -> merged - what this manager let go -> managedFields
//! ```

mod fields;
mod lists;
mod request;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::kinds::Kind;
use super::status::Refusal;
use fields::Fields;
use lists::List;

pub(crate) use request::{APPLY, answer};

/// Who applies, and how.
#[derive(Debug, Clone)]
pub(crate) struct Applier {
    pub(crate) manager: String,
    pub(crate) force: bool,
    /// Empty: all but the status.
    pub(crate) subresource: String,
    /// The present moment, as Kubernetes writes it.
    pub(crate) now: String,
}

/// One entry of `managedFields`.
#[derive(Debug, Clone)]
struct Manager {
    /// Everything but `fieldsV1`.
    entry: Map<String, Value>,
    fields: Fields,
}

impl Manager {
    fn new(name: &str, operation: &str, kind: &Kind, now: &str, fields: Fields) -> Self {
        let entry = json!({"manager": name, "operation": operation, "time": now,
                           "apiVersion": kind.group_version(), "fieldsType": "FieldsV1"});
        Self { entry: entry.as_object().cloned().unwrap_or_default(), fields }
    }

    fn is(&self, name: &str, operation: &str) -> bool {
        self.entry.get("manager").is_some_and(|given| given == name)
            && self.entry.get("operation").is_some_and(|given| given == operation)
            && self.subresource().is_empty()
    }

    fn is_of(&self, by: &Applier) -> bool {
        let text = |field: &str| self.entry.get(field).and_then(Value::as_str).unwrap_or_default();
        (text("manager"), text("operation")) == (&by.manager, "Apply")
            && self.subresource() == by.subresource
    }

    fn subresource(&self) -> &str {
        self.entry.get("subresource").and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the words of conflicts.
    fn words(&self) -> String {
        let text = |field: &str| self.entry.get(field).and_then(Value::as_str).unwrap_or_default();
        match text("operation") {
            "Update" => {
                let (name, version, time) = (text("manager"), text("apiVersion"), text("time"));
                let at = if time.is_empty() { String::new() } else { format!(" at {time}") };
                format!("{name:?} using {version}{at}")
            }
            _ => format!("{:?}", text("manager")),
        }
    }
}

fn read(managed: &Value) -> Vec<Manager> {
    let entries = managed.as_array().into_iter().flatten().filter_map(Value::as_object);
    entries
        .filter(|entry| entry.get("manager").is_some_and(Value::is_string))
        .map(|entry| {
            let mut entry = entry.clone();
            let fields = entry.remove("fieldsV1").unwrap_or_default();
            Manager { entry, fields: Fields::read(&fields) }
        })
        .collect()
}

fn write(managers: Vec<Manager>, object: &mut Value) {
    let entries: Vec<Value> = managers
        .into_iter()
        .filter(|manager| !manager.fields.is_empty())
        .map(|mut manager| {
            manager.entry.insert("fieldsV1".into(), manager.fields.write());
            Value::Object(manager.entry)
        })
        .collect();
    if entries.is_empty() {
        if let Some(meta) = object["metadata"].as_object_mut() {
            meta.remove("managedFields");
        }
    } else {
        object["metadata"]["managedFields"] = entries.into();
    }
}

/// Returns the object that applying `config` makes of `live`, which may be nothing.
pub(crate) fn apply(
    kind: &Kind,
    live: Option<&Value>,
    config: &Value,
    by: &Applier,
) -> Result<Value, Refusal> {
    let wanted = Fields::of(config);
    let nothing = json!({});
    let present = live.unwrap_or(&nothing);
    let mut managers = read(&present["metadata"]["managedFields"]);
    if live.is_some() && managers.is_empty() {
        let all = Fields::of(present);
        managers.push(Manager::new("before-first-apply", "Update", kind, &by.now, all));
    }
    let (own, mut others): (Vec<_>, Vec<_>) =
        managers.into_iter().partition(|manager| manager.is_of(by));
    let changed = wanted.differing("", live, Some(config));
    refuse_conflicts(&mut others, &changed, by.force)?;
    let mut merged = merge("", Some(present), config);
    let mut dropped = own.first().map(|own| own.fields.clone()).unwrap_or_default();
    dropped.subtract(&wanted);
    others.iter().for_each(|other| dropped.subtract(&other.fields));
    prune(&mut merged, "", &dropped, &wanted, &others);
    let same = own.first().filter(|own| own.fields == wanted && merged == *present).cloned();
    let own = same.unwrap_or_else(|| {
        let mut own = Manager::new(&by.manager, "Apply", kind, &by.now, wanted);
        if !by.subresource.is_empty() {
            own.entry.insert("subresource".into(), by.subresource.clone().into());
        }
        own
    });
    others.insert(0, own);
    write(others, &mut merged);
    Ok(merged)
}

/// Refuses fields that others manage, or takes them away from them.
fn refuse_conflicts(others: &mut [Manager], changed: &Fields, force: bool) -> Result<(), Refusal> {
    let mut conflicts: Vec<(String, String)> = Vec::new();
    for other in others {
        let both = other.fields.common(changed);
        if force {
            other.fields.subtract(&both);
        } else {
            let who = other.words();
            conflicts.extend(both.paths().into_iter().map(|path| (who.clone(), path)));
        }
    }
    if conflicts.is_empty() { Ok(()) } else { Err(conflict(&mut conflicts)) }
}

fn conflict(conflicts: &mut [(String, String)]) -> Refusal {
    conflicts.sort();
    let message = if let [(who, path)] = conflicts {
        format!("Apply failed with 1 conflict: conflict with {who}: {path}")
    } else {
        let mut lines = Vec::new();
        let mut last = "";
        for (who, path) in &*conflicts {
            if who != last {
                lines.push(format!("conflicts with {who}:"));
                last = who;
            }
            lines.push(format!("- {path}"));
        }
        format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
    };
    let cause = |(who, path): &(String, String)| {
        json!({"reason": "FieldManagerConflict", "message": format!("conflict with {who}"),
               "field": path})
    };
    let causes: Vec<Value> = conflicts.iter().map(cause).collect();
    Refusal::new(StatusCode::CONFLICT, "Conflict", message).with_causes(&causes)
}

fn merge(name: &str, live: Option<&Value>, config: &Value) -> Value {
    match (live, config, lists::kind(name)) {
        (Some(Value::Object(live)), Value::Object(config), _) if !lists::is_atomic(name) => {
            let mut merged = live.clone();
            for (name, value) in config {
                merged.insert(name.clone(), merge(name, live.get(name), value));
            }
            Value::Object(merged)
        }
        (Some(Value::Array(live)), Value::Array(config), List::Map(keys)) => {
            let mut merged = live.clone();
            for item in config {
                let key = lists::key(keys, item);
                match merged.iter_mut().find(|old| lists::key(keys, old) == key) {
                    Some(old) => *old = merge("", Some(&*old), item),
                    None => merged.push(item.clone()),
                }
            }
            Value::Array(merged)
        }
        (Some(Value::Array(live)), Value::Array(config), List::Set) => {
            let new = config.iter().filter(|item| !live.contains(item));
            Value::Array(live.iter().chain(new).cloned().collect())
        }
        _ => config.clone(),
    }
}

/// Removes fields, but for places below which somebody wants something.
fn prune(value: &mut Value, name: &str, gone: &Fields, wanted: &Fields, others: &[Manager]) {
    let empty = Fields::default();
    for (step, below) in &gone.below {
        let kept = wanted.below.get(step).unwrap_or(&empty);
        let held: Vec<Manager> = others
            .iter()
            .filter_map(|other| {
                let fields = other.fields.below.get(step)?.clone();
                Some(Manager { entry: Map::new(), fields })
            })
            .collect();
        if below.here && kept.is_empty() && held.is_empty() {
            lists::remove(value, name, step);
        } else if let Some(child) = child_mut(value, name, step) {
            prune(child, step.strip_prefix("f:").unwrap_or_default(), below, kept, &held);
            let emptied = child.as_object().is_some_and(Map::is_empty)
                || child.as_array().is_some_and(Vec::is_empty);
            if emptied && kept.is_empty() && held.is_empty() {
                lists::remove(value, name, step);
            }
        }
    }
}

fn child_mut<'a>(value: &'a mut Value, name: &str, step: &str) -> Option<&'a mut Value> {
    match (value, step.strip_prefix("f:")) {
        (Value::Object(fields), Some(field)) => fields.get_mut(field),
        (Value::Array(items), None) => {
            let List::Map(keys) = lists::kind(name) else { return None };
            items.iter_mut().find(|item| lists::key_step(keys, item) == step)
        }
        _ => None,
    }
}

/// Follows another write of an object that has managers: who writes takes what changes.
pub(crate) fn track(kind: &Kind, old: &Value, new: &mut Value, manager: &str, now: &str) {
    let before = &old["metadata"]["managedFields"];
    let reset = new["metadata"]["managedFields"]
        .as_array()
        .is_some_and(|given| given.is_empty() || given.iter().all(|entry| *entry == json!({})));
    let given = read(&new["metadata"]["managedFields"]);
    let mut managers = if reset || !given.is_empty() { given } else { read(before) };
    if managers.is_empty() {
        return write(managers, new);
    }
    let (had, has) = (Fields::of(old), Fields::of(new));
    let changed = has.differing("", Some(old), Some(new));
    let mut gone = had;
    gone.subtract(&has);
    let position = managers.iter().position(|entry| entry.is(manager, "Update"));
    for (at, other) in managers.iter_mut().enumerate() {
        other.fields.subtract(&gone);
        if Some(at) != position {
            other.fields.subtract(&changed);
        }
    }
    match position {
        _ if changed.is_empty() => {}
        Some(at) => {
            managers[at].fields.add(&changed);
            managers[at].entry.insert("time".into(), now.into());
        }
        None => managers.push(Manager::new(manager, "Update", kind, now, changed)),
    }
    write(managers, new);
}

#[cfg(test)]
mod tests {
    use super::super::kinds;
    use super::*;

    fn by(manager: &str, force: bool) -> Applier {
        let (subresource, now) = (String::new(), "2026-01-02T03:04:05Z".into());
        Applier { manager: manager.into(), force, subresource, now }
    }

    fn applied(live: &Value, config: &Value, by: &Applier) -> Result<Value, Refusal> {
        apply(kinds::find("", "pods").unwrap(), Some(live), config, by)
    }

    fn first(config: &Value, manager: &str) -> Value {
        apply(kinds::find("", "pods").unwrap(), None, config, &by(manager, false)).unwrap()
    }

    #[test]
    fn items_of_lists_are_owned_by_their_keys() {
        let one = json!({"spec": {"containers": [
            {"name": "a", "image": "i", "env": [{"name": "X", "value": "1"}]},
            {"name": "b", "ports": [{"containerPort": 1}]}]}});
        let live = first(&one, "one");
        assert_eq!(
            live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:containers"],
            json!({
                "k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:image": {},
                    "f:env": {"k:{\"name\":\"X\"}": {".": {}, "f:name": {}, "f:value": {}}}},
                "k:{\"name\":\"b\"}": {".": {}, "f:name": {}, "f:ports":
                    {"k:{\"containerPort\":1,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}},
            })
        );
        let two = json!({"spec": {"containers": [{"name": "a", "workingDir": "/"}]}});
        let live = applied(&live, &two, &by("two", false)).unwrap();
        let less = json!({"spec": {"containers": [{"name": "a", "image": "i"}]}});
        let live = applied(&live, &less, &by("one", false)).unwrap();
        let left = json!([{"name": "a", "image": "i", "workingDir": "/"}]);
        assert_eq!(live["spec"]["containers"], left);
        // What the one lets go, the other still wants.
        let live = applied(&live, &json!({}), &by("one", false)).unwrap();
        assert_eq!(live["spec"]["containers"], json!([{"name": "a", "workingDir": "/"}]));
    }

    #[test]
    fn conflicts_are_worded_as_kubernetes_does() {
        let live = first(&json!({"metadata": {"labels": {"a": "1", "b": "1"}}}), "one");
        let other = json!({"metadata": {"labels": {"a": "2", "b": "2"}}});
        let refusal = applied(&live, &other, &by("two", false)).unwrap_err();
        assert_eq!(
            refusal.body()["message"],
            "Apply failed with 2 conflicts: conflicts with \"one\":\n- .metadata.labels.a\n- \
             .metadata.labels.b"
        );
        let taken = applied(&live, &other, &by("two", true)).unwrap();
        assert_eq!(taken["metadata"]["managedFields"].as_array().unwrap().len(), 1);
        let finalizers =
            json!({"metadata": {"finalizers": ["x/y"], "labels": {"a": "1", "b": "1"}}});
        let live = applied(&live, &finalizers, &by("one", false)).unwrap();
        let more = json!({"metadata": {"finalizers": ["z/y"]}});
        let live = applied(&live, &more, &by("two", false)).unwrap();
        assert_eq!(live["metadata"]["finalizers"], json!(["x/y", "z/y"]));
    }

    #[test]
    fn applying_the_same_again_changes_nothing() {
        let config =
            json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "a"}]}});
        let live = first(&config, "one");
        let later = Applier { now: "2027-01-02T03:04:05Z".into(), ..by("one", false) };
        assert_eq!(applied(&live, &config, &later).unwrap(), live);
    }

    #[test]
    fn managed_fields_of_anything_are_read_without_panic() {
        for fields in
            [json!(1), json!({"f:": {"k:": {"v:": []}}}), json!({"": {"k:{": {}, "v:{": {}}})]
        {
            let live = json!({"data": [1], "metadata": {"managedFields": [
                {"manager": "one", "operation": "Apply", "fieldsV1": fields}]}});
            applied(&live, &json!({"data": {"a": "b"}}), &by("one", true)).unwrap();
        }
    }
}
