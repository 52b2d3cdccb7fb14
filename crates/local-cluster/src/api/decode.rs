//! From a request's body to an object: duplicate and unknown fields are refused by name.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::kinds::Kind;
use super::protobuf;
use super::status::{FieldError, Refusal};

/// What happens to fields that the kind does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validation {
    Strict,
    Warn,
    Ignore,
}

impl Validation {
    /// Reads `?fieldValidation=`. Unlike Kubernetes, whose default is `Warn`, silence is `Strict`:
    /// what this cluster does not do it refuses.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Refusal> {
        match text {
            None | Some("" | "Strict") => Ok(Self::Strict),
            Some("Warn") => Ok(Self::Warn),
            Some("Ignore") => Ok(Self::Ignore),
            Some(other) => {
                let known = &["", "Ignore", "Strict", "Warn"];
                let error = FieldError::unsupported("fieldValidation", other, known);
                Err(Refusal::invalid_of("CreateOptions.meta.k8s.io", "", &[error]))
            }
        }
    }
}

/// An object and what a lenient client should be warned of.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) object: Value,
    pub(crate) warnings: Vec<String>,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
    Protobuf,
}

/// Reads any value, and returns also the duplicate fields met.
pub(crate) fn parse(bytes: &[u8], format: Format) -> Result<(Value, Vec<String>), Refusal> {
    let mut duplicates = Vec::new();
    let seed = Checked { path: String::new(), duplicates: &mut duplicates };
    let parsed = match format {
        Format::Yaml => {
            let text = String::from_utf8_lossy(bytes);
            let reader = serde_yaml_ng::Deserializer::from_str(&text);
            seed.deserialize(reader).map_err(|e| e.to_string())
        }
        Format::Json => {
            let mut reader = serde_json::Deserializer::from_slice(bytes);
            seed.deserialize(&mut reader)
                .and_then(|value| reader.end().map(|()| value))
                .map_err(|e| e.to_string())
        }
        Format::Protobuf => protobuf::decode(bytes).map_err(|e| e.to_string()),
    };
    let value = parsed.map_err(|why| {
        Refusal::bad_request(format!("the object provided is unrecognized: {why}"))
    })?;
    Ok((value, duplicates))
}

/// Reads an object of `kind` from a body.
pub(crate) fn object(
    kind: &Kind,
    bytes: &[u8],
    format: Format,
    validation: Validation,
) -> Result<Decoded, Refusal> {
    let (value, duplicates) = parse(bytes, format)?;
    checked(kind, value, duplicates, validation)
}

/// Gives `value` the shape of `kind`; `duplicates` were met while it was read.
pub(crate) fn checked(
    kind: &Kind,
    mut value: Value,
    duplicates: Vec<String>,
    validation: Validation,
) -> Result<Decoded, Refusal> {
    let cannot = |why: &str| {
        let (version, kind) = (kind.version, kind.kind);
        Refusal::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        ))
    };
    if !value.is_object() {
        return Err(cannot("expected an object"));
    }
    check_type(kind, &mut value)?;
    drop_nulls(&mut value);
    let object = (kind.canonical)(value.clone()).map_err(|e| cannot(&e.to_string()))?;
    let mut warnings: Vec<String> =
        duplicates.into_iter().map(|field| format!("duplicate field {field:?}")).collect();
    unknown_fields(&value, &object, "", &mut warnings);
    match validation {
        Validation::Strict if !warnings.is_empty() => {
            Err(cannot(&format!("strict decoding error: {}", warnings.join(", "))))
        }
        Validation::Ignore => Ok(Decoded { object, warnings: Vec::new() }),
        Validation::Strict | Validation::Warn => Ok(Decoded { object, warnings }),
    }
}

fn check_type(kind: &Kind, value: &mut Value) -> Result<(), Refusal> {
    for (field, expected) in [("apiVersion", kind.group_version().as_str()), ("kind", kind.kind)] {
        match value[field].as_str() {
            None | Some("") => value[field] = expected.into(),
            Some(given) if given == expected => {}
            Some(given) => {
                return Err(Refusal::bad_request(format!(
                    "{field} in the data ({given}) does not match the expected {field} ({expected})"
                )));
            }
        }
    }
    Ok(())
}

/// Removes nulls, which mean "not given".
pub(crate) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn unknown_fields(given: &Value, known: &Value, path: &str, found: &mut Vec<String>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (name, value) in given {
                let path = join(path, name);
                match known.get(name) {
                    Some(known) => unknown_fields(value, known, &path, found),
                    None => found.push(format!("unknown field {path:?}")),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (at, (given, known)) in given.iter().zip(known).enumerate() {
                unknown_fields(given, known, &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

/// Builds a [`Value`] and notes every field that comes twice.
struct Checked<'a> {
    path: String,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Checked<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, items.len());
            let seed = Checked { path, duplicates: &mut *self.duplicates };
            match seq.next_element_seed(seed)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let path = join(&self.path, &name);
            let seed = Checked { path: path.clone(), duplicates: &mut *self.duplicates };
            let value = map.next_value_seed(seed)?;
            if fields.insert(name, value).is_some() {
                self.duplicates.push(path);
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds;
    use super::*;

    fn pod(text: &str, validation: Validation) -> Result<Decoded, Refusal> {
        object(kinds::find("", "pods").unwrap(), text.as_bytes(), Format::Json, validation)
    }

    #[test]
    fn unknown_and_duplicate_fields_are_named() {
        let text = r#"{"metadata":{"name":"a","name":"b"},
            "spec":{"containers":[{"name":"c","imag":"x"}],"hostNetwerk":true}}"#;
        let words = pod(text, Validation::Strict).unwrap_err().body()["message"].to_string();
        for part in
            ["spec.containers[0].imag", "spec.hostNetwerk", "duplicate field", "metadata.name"]
        {
            assert!(words.contains(part), "{part} in {words}");
        }
        assert_eq!(pod(text, Validation::Warn).unwrap().warnings.len(), 3);
        assert!(pod(text, Validation::Ignore).unwrap().warnings.is_empty());
    }

    #[test]
    fn ten_thousand_levels_are_refused_not_overflowed() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(pod(&deep, Validation::Ignore).is_err());
        assert!(parse(deep.as_bytes(), Format::Yaml).is_err());
    }

    #[test]
    fn another_kind_is_refused() {
        assert!(pod(r#"{"kind":"Node","apiVersion":"v1"}"#, Validation::Ignore).is_err());
    }
}
