//! Protobuf bodies, which `kubectl create` and client-go send, read into the JSON they stand for.
//!
//! ```text
//! "k8s\0" Unknown{apiVersion, kind, raw} -> schema of that kind -> JSON
//! ```

pub(crate) mod schema;
mod wire;

use serde_json::{Map, Value, json};

use schema::{Field, Schema, Shape};
use wire::{Malformed, Reader, Wire};

use crate::clock;

/// The media type of such bodies.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix k8s")]
    Prefix,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("a string is not UTF-8")]
    Text,
    #[error("messages are nested too deeply")]
    Deep,
    #[error("no kind {0:?} is registered")]
    Kind(String),
}

/// No kind of ours comes near.
const MAX_DEPTH: usize = 32;

/// Reads a whole body.
pub(crate) fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(b"k8s\0").ok_or(ProtobufError::Prefix)?;
    let (mut kind, mut api_version, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Reader(envelope) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Reader(meta) {
                    match field? {
                        (1, Wire::Bytes(bytes)) => api_version = text(bytes)?,
                        (2, Wire::Bytes(bytes)) => kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let schema = Schema::read();
    if schema.message(&kind).is_none() {
        return Err(ProtobufError::Kind(kind));
    }
    let mut object = message(&schema, &kind, raw, 0)?;
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

fn text(bytes: &[u8]) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Text)
}

fn message(
    schema: &Schema,
    name: &str,
    bytes: &[u8],
    depth: usize,
) -> Result<Map<String, Value>, ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::Deep);
    }
    let known = schema.message(name).unwrap_or_default();
    let mut object = Map::new();
    for field in Reader(bytes) {
        let (number, wire) = field?;
        // Fields of later versions are unknown to us as they would be to an older server.
        if let Some(field) = known.iter().find(|field| field.number == number) {
            put(schema, &mut object, field, wire, depth + 1)?;
        }
    }
    Ok(object)
}

fn put(
    schema: &Schema,
    object: &mut Map<String, Value>,
    field: &Field<'_>,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), ProtobufError> {
    let read = |wire| value(schema, field.kind, wire, depth);
    match field.shape {
        Shape::Plain => {
            let value = read(wire)?;
            if !is_zero(&value) {
                object.insert(field.name.into(), value);
            }
        }
        Shape::Kept => drop(object.insert(field.name.into(), read(wire)?)),
        Shape::Inline => {
            if let Value::Object(fields) = read(wire)? {
                object.extend(fields);
            }
        }
        Shape::List => {
            let values = match (field.kind, wire) {
                ("int", Wire::Bytes(packed)) => packed_numbers(packed)?,
                _ => vec![read(wire)?],
            };
            if let Value::Array(list) = object.entry(field.name).or_insert_with(|| json!([])) {
                list.extend(values);
            }
        }
        Shape::Map => {
            let (key, value) = map_entry(schema, field.kind, wire, depth)?;
            if let Value::Object(map) = object.entry(field.name).or_insert_with(|| json!({})) {
                map.insert(key, value);
            }
        }
    }
    Ok(())
}

/// Says whether a value is what protobuf has where nothing was said.
pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn packed_numbers(bytes: &[u8]) -> Result<Vec<Value>, ProtobufError> {
    let mut reader = Reader(bytes);
    let mut numbers = Vec::new();
    while !reader.0.is_empty() {
        numbers.push(reader.varint()?.cast_signed().into());
    }
    Ok(numbers)
}

fn map_entry(
    schema: &Schema,
    kind: &str,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(String, Value), ProtobufError> {
    let Wire::Bytes(entry) = wire else { return Err(Malformed.into()) };
    let (mut key, mut found) = (String::new(), Wire::Bytes(&[]));
    for field in Reader(entry) {
        match field? {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, wire) => found = wire,
            _ => {}
        }
    }
    let value = value(schema, kind, found, depth)?;
    // A list that is a message of its own, of which JSON knows nothing.
    let value = match (kind, value) {
        ("ExtraValue", mut value) => value["items"].take(),
        (_, value) => value,
    };
    Ok((key, value))
}

fn value(
    schema: &Schema,
    kind: &str,
    wire: Wire<'_>,
    depth: usize,
) -> Result<Value, ProtobufError> {
    Ok(match (kind, wire) {
        ("bool", Wire::Varint(number)) => (number != 0).into(),
        ("int", Wire::Varint(number)) => number.cast_signed().into(),
        ("double", Wire::Fixed(bits)) => f64::from_bits(bits).into(),
        ("string", Wire::Bytes(bytes)) => text(bytes)?.into(),
        ("bytes", Wire::Bytes(bytes)) => super::base64_text(bytes).into(),
        ("Time" | "MicroTime", Wire::Bytes(bytes)) => time(bytes, kind == "MicroTime")?,
        ("Quantity", Wire::Bytes(bytes)) => text(part(bytes, 1)?)?.into(),
        ("IntOrString", Wire::Bytes(bytes)) => int_or_string(bytes)?,
        ("FieldsV1" | "RawExtension", Wire::Bytes(bytes)) => {
            serde_json::from_slice(part(bytes, 1)?).unwrap_or_default()
        }
        (name, Wire::Bytes(bytes)) if schema.message(name).is_some() => {
            Value::Object(message(schema, name, bytes, depth)?)
        }
        _ => return Err(Malformed.into()),
    })
}

/// Returns the last value of a field of bytes, nothing if it never comes.
fn part(bytes: &[u8], wanted: u64) -> Result<&[u8], ProtobufError> {
    let mut found = &[][..];
    for field in Reader(bytes) {
        if let (number, Wire::Bytes(bytes)) = field?
            && number == wanted
        {
            found = bytes;
        }
    }
    Ok(found)
}

fn number(bytes: &[u8], wanted: u64) -> Result<i64, ProtobufError> {
    let mut found = 0;
    for field in Reader(bytes) {
        if let (number, Wire::Varint(value)) = field?
            && number == wanted
        {
            found = value.cast_signed();
        }
    }
    Ok(found)
}

/// A moment; the zero one is nothing.
fn time(bytes: &[u8], micro: bool) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(number(bytes, 2)?).map_err(|_| Malformed)?;
    let at = jiff::Timestamp::new(number(bytes, 1)?, nanos).map_err(|_| Malformed)?;
    Ok(if micro { clock::micro_text(at) } else { clock::text(at) }.into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    Ok(match number(bytes, 1)? {
        0 => number(bytes, 2)?.into(),
        _ => text(part(bytes, 3)?)?.into(),
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use proptest::prelude::*;

    use super::*;

    /// Bodies written by Kubernetes' own encoder, and the JSON of its other one.
    const CORPUS: &str = include_str!("corpus.txt");

    fn corpus() -> Vec<(Vec<u8>, Value)> {
        let pair = |line: &str| {
            let (bytes, json) = line.split_once(' ').unwrap();
            let bytes = base64::engine::general_purpose::STANDARD.decode(bytes).unwrap();
            (bytes, serde_json::from_str(json).unwrap())
        };
        CORPUS.lines().map(pair).collect()
    }

    /// Leaves out what means nothing: nulls and empty structures.
    fn trimmed(value: &Value) -> Value {
        match value {
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| (name.clone(), trimmed(value)))
                .filter(|(name, value)| {
                    let nothing = value.is_null() || *value == json!({});
                    !nothing || ["emptyDir", "securityContext"].contains(&name.as_str())
                })
                .collect(),
            Value::Array(items) => items.iter().map(trimmed).collect(),
            other => other.clone(),
        }
    }

    #[test]
    fn bodies_of_kubernetes_own_encoder_are_read_as_their_json() {
        let corpus = corpus();
        assert!(corpus.len() >= 8);
        for (bytes, json) in corpus {
            assert_eq!(trimmed(&decode(&bytes).unwrap()), trimmed(&json));
        }
    }

    #[test]
    fn every_cut_of_a_body_is_answered() {
        for (bytes, _) in corpus() {
            for end in 0..bytes.len() {
                decode(&bytes[..end]).ok();
            }
        }
    }

    #[test]
    fn a_length_beyond_the_body_and_an_endless_number_are_malformed() {
        let tail = [&b"k8s\0\x12"[..], &[0xff; 9], &[1]].concat();
        assert!(matches!(decode(&tail), Err(ProtobufError::Malformed(_))));
        assert!(matches!(
            decode(&[&b"k8s\0"[..], &[0xff; 40]].concat()),
            Err(ProtobufError::Malformed(_))
        ));
        assert!(matches!(decode(b"{}"), Err(ProtobufError::Prefix)));
        assert!(matches!(decode(b"k8s\0"), Err(ProtobufError::Kind(_))));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(which in 0usize..8, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..9)) {
            let (mut bytes, _) = corpus().swap_remove(which);
            for (at, byte) in flips {
                let at = at.index(bytes.len() - 4) + 4;
                bytes[at] = byte;
            }
            decode(&bytes).ok();
        }
    }
}
