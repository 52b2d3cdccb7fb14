//! What clients send, as a fuzzer writes it.

use http::{HeaderMap, Method};
use serde_json::Value;

use super::apply::{self, Applier};
use super::decode::{self, Format, Validation};
use super::delete::DeleteOptions;
use super::kinds::{KINDS, Kind};
use super::patch::Style;
use super::request::{Query, Shape, Target, body_format, verb};
use super::selector::Selector;
use super::table::{self, Include};
use super::{MAX_BODY, portforward, prepare, read, route, streams};
use crate::store::Resource;

pub(crate) use super::portforward::fuzz as spdy;

/// A body of JSON; the first byte says of which kind.
pub(crate) fn json(bytes: &[u8]) {
    body(bytes, Format::Json);
}

/// A body of YAML.
pub(crate) fn yaml(bytes: &[u8]) {
    body(bytes, Format::Yaml);
}

/// A body of protobuf.
pub(crate) fn protobuf(bytes: &[u8]) {
    body(bytes, Format::Protobuf);
}

fn body(bytes: &[u8], format: Format) {
    let Some((kind, bytes)) = kind_of(bytes) else { return };
    for validation in [Validation::Strict, Validation::Warn, Validation::Ignore] {
        let Ok(decoded) = decode::object(kind, bytes, format, validation) else { continue };
        assert!(validation != Validation::Strict || decoded.warnings.is_empty());
        same(kind, &decoded.object);
        stored(kind, decoded.object);
    }
}

fn kind_of(bytes: &[u8]) -> Option<(&'static Kind, &[u8])> {
    let (number, bytes) = bytes.split_first()?;
    Some((&KINDS[usize::from(*number) % KINDS.len()], bytes))
}

/// What was taken is taken again, strictly, and is the same.
fn same(kind: &Kind, object: &Value) {
    let text = object.to_string();
    let again = decode::object(kind, text.as_bytes(), Format::Json, Validation::Strict);
    let again = again.unwrap_or_else(|refusal| panic!("{text}: {}", refusal.body()));
    assert_eq!(again.object, *object);
}

/// What may be stored can be shown, and an update by itself changes nothing.
fn stored(kind: &'static Kind, mut object: Value) {
    let namespace = if kind.namespaced { "default" } else { "" };
    let target =
        Target { kind, namespace: namespace.into(), name: "".into(), subresource: "".into() };
    if prepare::create(&target, &mut object).is_err() {
        return;
    }
    let shown = [crate::store::Object::from(object.clone())];
    let rows = table::table(kind.resource, &shown, &Value::Null, Include::Object, true);
    assert_eq!(rows["rows"].as_array().map(Vec::len), Some(1));
    let mut new = object.clone();
    if let Err(refusal) = prepare::update(kind, &object, &mut new) {
        panic!("{object} is no update of itself: {}", refusal.body());
    }
    assert_eq!(new, object);
}

/// Two lines, an object and its patch; the first byte says how it is to be read.
pub(crate) fn patch(bytes: &[u8]) {
    let Some((style, [object, patch])) = pair(bytes) else { return };
    let style = match style {
        b'j' => Style::Json,
        b'm' => Style::Merge,
        _ => Style::Strategic,
    };
    let Ok(patched) = style.apply(&object, &patch) else { return };
    let most = object.to_string().len() + 2 * patch.to_string().len() + MAX_BODY;
    assert!(patched.to_string().len() <= most, "a patch makes objects larger without end");
    if style == Style::Merge {
        assert_eq!(style.apply(&patched, &patch).ok(), Some(patched), "once is as good as twice");
    }
}

/// Two lines, an object and what is applied to it; the first byte says of which kind.
pub(crate) fn apply(bytes: &[u8]) {
    let Some((kind, [live, config])) = pair(bytes) else { return };
    let kind = &KINDS[usize::from(kind) % KINDS.len()];
    let lenient = |value| decode::checked(kind, value, Vec::new(), Validation::Ignore).ok();
    let (Some(live), Some(_)) = (lenient(live), lenient(config.clone())) else { return };
    let by = Applier {
        manager: "fuzz".into(),
        force: true,
        subresource: String::new(),
        now: "2026-01-01T00:00:00Z".into(),
    };
    for live in [None, Some(&live.object)] {
        let merged = apply::apply(kind, live, &config, &by).expect("nothing resists force");
        let Some(merged) = lenient(merged) else { continue };
        let again = apply::apply(kind, Some(&merged.object), &config, &by);
        let again = again.expect("nobody else has come").to_string();
        assert_eq!(again, merged.object.to_string(), "once is as good as twice");
    }
}

/// Reads a byte and two lines of JSON.
fn pair(bytes: &[u8]) -> Option<(u8, [Value; 2])> {
    let (first, rest) = bytes.split_first()?;
    let mut lines = rest.splitn(2, |byte| *byte == b'\n');
    let mut next = || decode::parse(lines.next()?, Format::Json).ok().map(|(value, _)| value);
    Some((*first, [next()?, next()?]))
}

/// Lines: a method, a path with its query, `Accept`, `Content-Type`, and a body for the rest.
pub(crate) fn request(bytes: &[u8]) {
    let mut lines = bytes.splitn(5, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (method, uri) = (line(), line());
    let mut headers = HeaderMap::new();
    for name in [http::header::ACCEPT, http::header::CONTENT_TYPE] {
        if let Ok(value) = http::HeaderValue::from_bytes(line()) {
            headers.insert(name, value);
        }
    }
    let Ok(method) = Method::from_bytes(method) else { return };
    let Ok(request) = http::Request::builder().method(method).uri(uri).body(()) else { return };
    let (parts, ()) = request.into_parts();
    let query = Query::of(&parts);
    Shape::of(&headers).ok();
    let format = body_format(&headers).unwrap_or(Format::Json);
    DeleteOptions::parse(&query, line(), format).ok();
    portforward::ports(&query).ok();
    streams::session::Wanted::of(&query).ok();
    Include::of(&query).ok();
    read::parse_continue(query.get("continue").unwrap_or_default()).ok();
    let Some((group, rest)) = route(parts.uri.path()) else { return };
    let Ok(target) = Target::parse(group, rest) else { return };
    assert!(target.kind.namespaced || target.namespace.is_empty());
    verb(&parts.method, &target, &query);
    query.selector(&target).ok();
}

/// Two lines, labels and fields, and an object.
pub(crate) fn selector(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(3, '\n');
    let (labels, fields) = (lines.next(), lines.next());
    let object = lines.next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    for resource in [Resource::Pods, Resource::Events] {
        let Ok(selector) = Selector::parse(resource, labels, fields) else { continue };
        let chosen = selector.matches(&object);
        assert!(chosen || !selector.is_empty(), "who asks for nothing gets all");
    }
}

/// A message of `exec` and `attach`: what the shim is told of a terminal's size is one line.
pub(crate) fn channels(bytes: &[u8]) {
    let Some(line) = streams::session::resized(bytes) else { return };
    assert_eq!(line.find('\n'), Some(line.len() - 1));
    let said: Value = serde_json::from_str(&line).expect("it is JSON");
    for side in ["rows", "cols"] {
        assert!(said["resize"][side].as_u64().is_some_and(|side| (1..=65_535).contains(&side)));
    }
}
