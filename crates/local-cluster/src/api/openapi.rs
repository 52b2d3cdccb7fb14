//! OpenAPI v3, as much as kubectl reads of it: that fields are validated and applied here, and
//! the fields of every kind, without descriptions, for `kubectl explain`.

use serde_json::{Map, Value, json};

use super::discovery::{GIT_VERSION, GROUPS};
use super::kinds::{KINDS, Kind};
use super::protobuf::schema::{Field, Schema, Shape};

/// Answers `/openapi/v3`.
pub(crate) fn index() -> Value {
    let mut paths = Map::new();
    let groups = GROUPS.iter().map(|group| format!("apis/{group}/v1"));
    for path in std::iter::once("api/v1".to_owned()).chain(groups) {
        let url = format!("/openapi/v3/{path}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// Returns the document of one group.
pub(crate) fn document(group: &str) -> Value {
    let mut paths = Map::new();
    for kind in KINDS.iter().filter(|kind| kind.group == group) {
        let root = match group {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/v1"),
        };
        let base = match kind.namespaced {
            true => format!("{root}/namespaces/{{namespace}}/{}", kind.plural),
            false => format!("{root}/{}", kind.plural),
        };
        paths.insert(
            base.clone(),
            json!({"get": operation(kind, "list"), "post": operation(kind, "post")}),
        );
        paths.insert(
            format!("{base}/{{name}}"),
            json!({"get": operation(kind, "get"), "put": operation(kind, "put"),
                   "patch": operation(kind, "patch")}),
        );
    }
    json!({"openapi": "3.0.0", "info": {"title": "Loom local cluster", "version": GIT_VERSION},
           "paths": paths, "components": {"schemas": schemas(group)}})
}

fn operation(kind: &Kind, action: &str) -> Value {
    let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    json!({
        "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk(kind),
        "parameters": [parameter("dryRun"), parameter("fieldValidation")],
        "responses": {"200": {"description": "OK"}},
    })
}

fn gvk(kind: &Kind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn schemas(group: &str) -> Value {
    let schema = Schema::read();
    let kinds = || KINDS.iter().filter(|kind| kind.group == group);
    let mut found = Map::new();
    let mut wanted: Vec<&str> = kinds().map(|kind| kind.kind).collect();
    while let Some(name) = wanted.pop() {
        let id = id(name);
        if found.contains_key(&id) {
            continue;
        }
        let mut properties = Map::new();
        fields(&schema, name, &mut |field| {
            if schema.message(field.kind).is_some() {
                wanted.push(field.kind);
            }
            properties.insert(field.name.into(), of_field(&schema, field));
        });
        let mut written = json!({"type": "object", "properties": properties});
        if let Some(kind) = kinds().find(|kind| kind.kind == name) {
            for field in ["apiVersion", "kind"] {
                written["properties"][field] = json!({"type": "string"});
            }
            written["x-kubernetes-group-version-kind"] = json!([gvk(kind)]);
        }
        found.insert(id, written);
    }
    Value::Object(found)
}

fn id(name: &str) -> String {
    format!("io.k8s.api.v1.{name}")
}

/// Visits the fields of a message as JSON has them: inlined messages are opened.
fn fields(schema: &Schema, name: &str, visit: &mut impl FnMut(&Field<'static>)) {
    for field in schema.message(name).unwrap_or_default() {
        match field.shape {
            Shape::Inline => fields(schema, field.kind, visit),
            _ => visit(field),
        }
    }
}

fn of_field(schema: &Schema, field: &Field<'_>) -> Value {
    let one = match field.kind {
        "bool" => json!({"type": "boolean"}),
        "int" => json!({"type": "integer"}),
        "double" => json!({"type": "number"}),
        "bytes" => json!({"type": "string", "format": "byte"}),
        "Time" | "MicroTime" => json!({"type": "string", "format": "date-time"}),
        "FieldsV1" | "RawExtension" => json!({"type": "object"}),
        name if schema.message(name).is_some() => {
            json!({"allOf": [{"$ref": format!("#/components/schemas/{}", id(name))}]})
        }
        _ => json!({"type": "string"}),
    };
    match field.shape {
        Shape::List => json!({"type": "array", "items": one}),
        Shape::Map => json!({"type": "object", "additionalProperties": one}),
        Shape::Plain | Shape::Kept | Shape::Inline => one,
    }
}
