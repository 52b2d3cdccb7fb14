//! Tables, as `kubectl get` prints them.

mod pod;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::request::Query;
use super::status::Refusal;
use crate::clock;
use crate::store::{Object, Resource};

/// What a row carries beside its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    /// Reads `?includeObject=`.
    pub(crate) fn of(query: &Query) -> Result<Self, Refusal> {
        match query.get("includeObject") {
            None | Some("" | "Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(Refusal::bad_request(format!("invalid includeObject {other:?}"))),
        }
    }
}

/// Returns a `Table` of objects.
pub(crate) fn table(
    resource: Resource,
    objects: &[Object],
    meta: &Value,
    include: Include,
    columns: bool,
) -> Value {
    let now = clock::now();
    let rows: Vec<Value> =
        objects.iter().map(|object| row(resource, object, include, now)).collect();
    let columns = if columns { column_definitions(resource) } else { Vec::new() };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
        "columnDefinitions": columns, "rows": rows,
    })
}

fn row(resource: Resource, object: &Object, include: Include, now: Timestamp) -> Value {
    let cells = match resource {
        Resource::Pods => pod::cells(object, now),
        Resource::Namespaces => {
            vec![name(object), object["status"]["phase"].clone(), age(object, now)]
        }
        Resource::Nodes => node_cells(object, now),
        Resource::Secrets => {
            vec![name(object), object["type"].clone(), count(object, &["data"]), age(object, now)]
        }
        Resource::ConfigMaps => {
            vec![name(object), count(object, &["data", "binaryData"]), age(object, now)]
        }
        Resource::ServiceAccounts => vec![name(object), json!(0), age(object, now)],
        Resource::Events => event_cells(object, now),
        Resource::Leases => {
            vec![name(object), object["spec"]["holderIdentity"].clone(), age(object, now)]
        }
    };
    let carried = match include {
        Include::None => return json!({"cells": cells}),
        Include::Metadata => json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": object["metadata"],
        }),
        Include::Object => super::respond::tagged(super::kinds::of(resource), object),
    };
    json!({"cells": cells, "object": carried})
}

/// Columns in order; `+` marks those of `-o wide`.
fn columns(resource: Resource) -> &'static str {
    match resource {
        Resource::Pods => {
            "Name,Ready,Status,Restarts,Age,+IP,+Node,+Nominated Node,+Readiness Gates"
        }
        Resource::Namespaces => "Name,Status,Age",
        Resource::Nodes => {
            "Name,Status,Roles,Age,Version,+Internal-IP,+External-IP,+OS-Image,+Kernel-Version,\
             +Container-Runtime"
        }
        Resource::Secrets => "Name,Type,Data,Age",
        Resource::ConfigMaps => "Name,Data,Age",
        Resource::ServiceAccounts => "Name,Secrets,Age",
        Resource::Leases => "Name,Holder,Age",
        Resource::Events => {
            "Last Seen,Type,Reason,Object,+Subobject,+Source,Message,+First Seen,+Count,+Name"
        }
    }
}

fn column_definitions(resource: Resource) -> Vec<Value> {
    let definition = |column: &str| {
        let name = column.trim_start_matches('+');
        let format = if name == "Name" { "name" } else { "" };
        json!({"name": name, "type": "string", "format": format, "description": name,
               "priority": u8::from(name != column)})
    };
    columns(resource).split(',').map(definition).collect()
}

fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

fn count(object: &Value, sections: &[&str]) -> Value {
    let count = |section: &&str| object[*section].as_object().map_or(0, serde_json::Map::len);
    json!(sections.iter().map(count).sum::<usize>())
}

fn age(object: &Value, now: Timestamp) -> Value {
    since(&object["metadata"]["creationTimestamp"], now)
}

fn since(at: &Value, now: Timestamp) -> Value {
    match at.as_str().and_then(clock::parse) {
        Some(at) => json!(human(clock::seconds_between(at, now))),
        None => json!("<unknown>"),
    }
}

/// Writes a duration as kubectl does: two units while they are small.
fn human(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: u64, unit: char, small: u64, part: char| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{part}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        _ => format!("{days}d"),
    }
}

fn node_cells(node: &Value, now: Timestamp) -> Vec<Value> {
    let info = |field: &str| node["status"]["nodeInfo"][field].clone();
    let cordoned = node["spec"]["unschedulable"] == true;
    vec![
        name(node),
        json!(if cordoned { "Ready,SchedulingDisabled" } else { "Ready" }),
        json!("<none>"),
        age(node, now),
        info("kubeletVersion"),
        node["status"]["addresses"][0]["address"].clone(),
        json!("<none>"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn event_cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let about = &event["involvedObject"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"]));
    vec![
        since(&event["lastTimestamp"], now),
        event["type"].clone(),
        event["reason"].clone(),
        json!(object),
        json!(text(&about["fieldPath"])),
        json!(text(&event["source"]["component"])),
        json!(text(&event["message"]).trim()),
        since(&event["firstTimestamp"], now),
        json!(event["count"].as_i64().unwrap_or(1)),
        name(event),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_as_kubectl_does() {
        let written: Vec<String> =
            [5, 119, 125, 599, 3600, 10_805, 30_000, 180_000, 864_000].map(human).into();
        let expected = ["5s", "119s", "2m5s", "9m59s", "60m", "3h", "8h", "2d2h", "10d"];
        assert_eq!(written, expected);
    }
}
