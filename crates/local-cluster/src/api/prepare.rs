//! Metadata and kinds' own rules before an object is stored.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::kinds::Kind;
use super::names;
use super::request::Target;
use super::status::{FieldError, Refusal};
use crate::store::Resource;
use crate::{clock, pod};

/// Gives a new object its metadata and its kind's defaults, or says what is wrong with it.
pub(crate) fn create(target: &Target, object: &mut Value) -> Result<(), Refusal> {
    let kind = target.kind;
    given_metadata(target, object)?;
    drop_empty(object);
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut errors = metadata_errors(kind, object);
    match kind.resource {
        Resource::Pods => {
            no_runtime_class(kind, &name, &object["spec"])?;
            pod::defaults::apply(object);
            errors.extend(pod::validate::create(object));
            object["status"] = pod::defaults::first_status(object);
        }
        Resource::Namespaces => namespace(object, &name),
        Resource::Secrets => secret(object, &mut errors),
        Resource::ConfigMaps => key_errors(object, &["data", "binaryData"], &mut errors),
        Resource::Leases => lease(object, &mut errors),
        Resource::Events | Resource::ServiceAccounts | Resource::Nodes => {}
    }
    if errors.is_empty() { Ok(()) } else { Err(Refusal::invalid(kind, &name, &errors)) }
}

/// Leaves out what says nothing, as Kubernetes does.
pub(crate) fn drop_empty(object: &mut Value) {
    let empty = |value: &Value| {
        value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
    };
    for field in ["annotations", "finalizers", "labels", "ownerReferences"] {
        if empty(&object["metadata"][field]) {
            remove(&mut object["metadata"], field);
        }
    }
    for field in ["binaryData", "data", "stringData"] {
        if empty(&object[field]) {
            remove(object, field);
        }
    }
}

/// Carries over what an update may not change, or says what it wrongly changes.
pub(crate) fn update(kind: &Kind, old: &Value, new: &mut Value) -> Result<(), Refusal> {
    let name = old["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    same_object(kind, &name, old, new)?;
    drop_empty(new);
    for field in KEPT {
        match old["metadata"].get(*field) {
            Some(value) => new["metadata"][*field] = value.clone(),
            None => remove(&mut new["metadata"], field),
        }
    }
    remove(&mut new["metadata"], "selfLink");
    if old.get("status").is_some() {
        new["status"] = old["status"].clone();
    }
    let mut errors = metadata_errors(kind, new);
    errors.extend(new_finalizer(old, new));
    match kind.resource {
        Resource::Pods => {
            errors.extend(pod::update::wrong(old, new));
            new["spec"] = old["spec"].clone();
        }
        Resource::Namespaces => new["spec"] = old["spec"].clone(),
        Resource::Secrets => {
            secret(new, &mut errors);
            errors.extend(changed(old, new, "type"));
            errors.extend(immutable(old, new));
        }
        Resource::ConfigMaps => {
            key_errors(new, &["data", "binaryData"], &mut errors);
            errors.extend(immutable(old, new));
        }
        Resource::Leases => lease(new, &mut errors),
        Resource::Events | Resource::ServiceAccounts | Resource::Nodes => {}
    }
    if errors.is_empty() { Ok(()) } else { Err(Refusal::invalid(kind, &name, &errors)) }
}

const KEPT: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "generateName",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "resourceVersion",
];

/// Checks what the new state says about which object it is for.
fn same_object(kind: &Kind, name: &str, old: &Value, new: &Value) -> Result<(), Refusal> {
    let (old, new) = (&old["metadata"], &new["metadata"]);
    let given = |field: &str| new[field].as_str().filter(|text| !text.is_empty());
    for field in ["name", "namespace"] {
        if given(field).is_some_and(|given| old[field] != given) {
            return Err(Refusal::bad_request(format!(
                "the {field} of the object ({}) does not match the {field} on the URL ({})",
                given(field).unwrap_or_default(),
                old[field].as_str().unwrap_or_default(),
            )));
        }
    }
    if given("resourceVersion").is_some_and(|version| old["resourceVersion"] != version) {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        return Err(Refusal::conflict(kind, name, why));
    }
    if let Some(uid) = given("uid").filter(|uid| old["uid"] != *uid) {
        return Err(Refusal::conflict(kind, name, &uid_differs(uid, &old["uid"])));
    }
    Ok(())
}

/// Kubernetes' words for a uid precondition that does not hold.
pub(crate) fn uid_differs(asked: &str, found: &Value) -> String {
    format!(
        "Precondition failed: UID in precondition: {asked}, UID in object meta: {}",
        found.as_str().unwrap_or_default()
    )
}

fn given_metadata(target: &Target, object: &mut Value) -> Result<(), Refusal> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let meta = &mut object["metadata"];
    let text = |meta: &Value, field: &str| meta[field].as_str().unwrap_or_default().to_owned();
    if !text(meta, "resourceVersion").is_empty() {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Refusal::bad_request(message));
    }
    let namespace = text(meta, "namespace");
    if !namespace.is_empty() && namespace != target.namespace {
        return Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if text(meta, "name").is_empty() && !text(meta, "generateName").is_empty() {
        let suffix: String = Uuid::new_v4().simple().to_string().chars().take(5).collect();
        meta["name"] = format!("{}{suffix}", text(meta, "generateName")).into();
    }
    if target.kind.namespaced {
        meta["namespace"] = target.namespace.clone().into();
    }
    for field in ["managedFields", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        remove(meta, field);
    }
    meta["uid"] = Uuid::new_v4().to_string().into();
    meta["creationTimestamp"] = clock::now_text().into();
    match target.kind.resource {
        Resource::Pods => meta["generation"] = 1.into(),
        _ => remove(meta, "generation"),
    }
    Ok(())
}

fn metadata_errors(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let meta = &object["metadata"];
    let name = meta["name"].as_str().unwrap_or_default();
    let valid = match kind.resource {
        Resource::Namespaces => names::is_dns_label(name),
        _ => names::is_dns_subdomain(name),
    };
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else if !valid {
        let why = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                   characters, '-' or '.', and must start and end with an alphanumeric character \
                   (e.g. 'example.com', regex used for validation is \
                   '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        errors.push(FieldError::invalid("metadata.name", &meta["name"], why));
    }
    for (key, value) in fields(&meta["labels"]) {
        if !names::is_qualified(key) {
            errors.push(FieldError::invalid("metadata.labels", &json!(key), NAME_PART));
        }
        if !value.as_str().is_some_and(names::is_label_value) {
            let why = "a valid label must be an empty string or consist of alphanumeric characters, \
                       '-', '_' or '.', and must start and end with an alphanumeric character \
                       (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
                       '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
            errors.push(FieldError::invalid("metadata.labels", value, why));
        }
    }
    errors.extend(annotation_errors(&meta["annotations"]));
    for (at, finalizer) in meta["finalizers"].as_array().into_iter().flatten().enumerate() {
        if !finalizer.as_str().is_some_and(is_finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            let field = format!("metadata.finalizers[{at}]");
            errors.push(FieldError::invalid(field, finalizer, why));
        }
    }
    errors
}

const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and \
                         must start and end with an alphanumeric character (e.g. 'MyName',  or \
                         'my.name',  or '123-abc', regex used for validation is \
                         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// What Kubernetes itself holds objects by.
const OWN_FINALIZERS: &[&str] = &["foregroundDeletion", "kubernetes", "orphan"];

fn is_finalizer(text: &str) -> bool {
    OWN_FINALIZERS.contains(&text) || text.contains('/') && names::is_qualified(text)
}

const MAX_ANNOTATIONS: usize = 256 << 10;

fn annotation_errors(annotations: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in fields(annotations) {
        bytes += key.len() + value.as_str().map_or(0, str::len);
        if !names::is_qualified(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", &json!(key), NAME_PART));
        }
    }
    if bytes > MAX_ANNOTATIONS {
        let why = format!("must have at most {MAX_ANNOTATIONS} bytes");
        errors.push(FieldError::invalid("metadata.annotations", &json!(bytes), &why));
    }
    errors
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// Refuses as Kubernetes' admission does where there are no such classes.
fn no_runtime_class(kind: &Kind, name: &str, spec: &Value) -> Result<(), Refusal> {
    let class = spec["runtimeClassName"].as_str().filter(|class| !class.is_empty());
    class.map_or(Ok(()), |class| {
        let why = format!("pod rejected: RuntimeClass {class:?} not found");
        Err(Refusal::forbidden(kind, name, &why))
    })
}

fn new_finalizer(old: &Value, new: &Value) -> Option<FieldError> {
    let had = old["metadata"]["finalizers"].as_array();
    let all = new["metadata"]["finalizers"].as_array()?.iter();
    let added: Vec<String> = all
        .filter(|finalizer| !had.is_some_and(|had| had.contains(finalizer)))
        .map(Value::to_string)
        .collect();
    let deleting = old["metadata"].get("deletionTimestamp").is_some();
    (!added.is_empty() && deleting).then(|| {
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers \
             []string{{{}}}",
            added.join(", ")
        );
        FieldError::forbidden("metadata.finalizers", &why)
    })
}

fn lease(object: &Value, errors: &mut Vec<FieldError>) {
    let number = |field: &str| object["spec"][field].as_i64();
    if let Some(seconds) = number("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        let field = "spec.leaseDurationSeconds";
        errors.push(FieldError::invalid(field, &json!(seconds), "must be greater than 0"));
    }
    if let Some(times) = number("leaseTransitions").filter(|times| *times < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("spec.leaseTransitions", &json!(times), why));
    }
}

fn namespace(object: &mut Value, name: &str) {
    object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
    object["spec"] = json!({"finalizers": ["kubernetes"]});
    object["status"] = json!({"phase": "Active"});
}

fn secret(object: &mut Value, errors: &mut Vec<FieldError>) {
    if let Some(plain) = object.as_object_mut().and_then(|fields| fields.remove("stringData")) {
        for (key, value) in fields(&plain) {
            let text = value.as_str().unwrap_or_default();
            object["data"][key] = super::base64_text(text.as_bytes()).into();
        }
    }
    if object["type"].as_str().unwrap_or_default().is_empty() {
        object["type"] = "Opaque".into();
    }
    key_errors(object, &["data"], errors);
}

const MAX_DATA: usize = 1 << 20;

fn key_errors(object: &Value, sections: &[&str], errors: &mut Vec<FieldError>) {
    let mut bytes = 0;
    for section in sections {
        for (key, value) in fields(&object[*section]) {
            bytes += value.as_str().map_or(0, str::len);
            let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let dots = key == "." || key.starts_with("..");
            if key.is_empty() || key.len() > 253 || dots || !key.chars().all(fine) {
                let why = "a valid config key must consist of alphanumeric characters, '-', '_' \
                           or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used \
                           for validation is '[-._a-zA-Z0-9]+')";
                errors.push(FieldError::invalid(format!("{section}[{key}]"), &json!(key), why));
            }
        }
    }
    // Base64 is a third longer than what it carries.
    if bytes > MAX_DATA * 4 / 3 {
        errors.push(FieldError {
            reason: "FieldValueTooLong",
            field: sections[0].into(),
            message: format!("Too long: may not be more than {MAX_DATA} bytes"),
        });
    }
}

fn changed(old: &Value, new: &Value, field: &str) -> Option<FieldError> {
    (old[field] != new[field])
        .then(|| FieldError::invalid(field, &new[field], "field is immutable"))
}

fn immutable(old: &Value, new: &Value) -> Option<FieldError> {
    let same = ["data", "binaryData", "immutable"].iter().all(|field| old[*field] == new[*field]);
    (old["immutable"] == true && !same)
        .then(|| FieldError::forbidden("data", "field is immutable when `immutable` is set"))
}

fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}
