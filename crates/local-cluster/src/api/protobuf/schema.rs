//! The messages known: field numbers, names and types, read from a table.

use std::collections::HashMap;

const TABLE: &str = include_str!("schema.txt");

/// How often a field may come and what it is then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Left out of JSON when it is its type's zero.
    Plain,
    /// Kept even when it is zero.
    Kept,
    List,
    Map,
    /// A message whose fields stand in the one around it.
    Inline,
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u64,
    pub(crate) name: &'a str,
    pub(crate) shape: Shape,
    pub(crate) kind: &'a str,
}

/// Every message by its name.
#[derive(Debug)]
pub(crate) struct Schema(HashMap<&'static str, Vec<Field<'static>>>);

impl Schema {
    /// Reads the table.
    pub(crate) fn read() -> Self {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(message).collect())
    }

    /// Returns the fields of a message.
    pub(crate) fn message(&self, name: &str) -> Option<&[Field<'static>]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

fn message(line: &'static str) -> Option<(&'static str, Vec<Field<'static>>)> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    Some((name, words.filter_map(field).collect()))
}

fn field(word: &'static str) -> Option<Field<'static>> {
    let mut parts = word.splitn(3, ':');
    let number = parts.next()?.parse().ok()?;
    let (name, kind) = (parts.next()?, parts.next()?);
    let shape = match kind.as_bytes().first()? {
        b'*' => Shape::List,
        b'%' => Shape::Map,
        b'<' => Shape::Inline,
        b'?' | b'!' => Shape::Kept,
        _ => Shape::Plain,
    };
    Some(Field { number, name, shape, kind: kind.trim_start_matches(['*', '%', '<', '?', '!']) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALARS: &[&str] = &[
        "string",
        "bool",
        "int",
        "double",
        "bytes",
        "Time",
        "MicroTime",
        "Quantity",
        "IntOrString",
        "FieldsV1",
        "RawExtension",
    ];

    #[test]
    fn every_line_is_read_and_every_type_is_known() {
        let schema = Schema::read();
        let lines = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(schema.0.len(), lines);
        for (message, fields) in &schema.0 {
            for field in fields {
                let known = SCALARS.contains(&field.kind) || schema.message(field.kind).is_some();
                assert!(known, "{message}.{} is {}", field.name, field.kind);
            }
        }
    }
}
