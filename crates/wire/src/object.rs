//! JSON objects that must be objects.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// Reads a struct from an object or `null` only. Code that serde derives also takes its fields from
/// an array, in their order, which is nothing that an API should promise.
///
/// # Errors
/// It is something else, or the struct refuses a field.
pub fn only<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::<Object<T>>::deserialize(from)?.map(|Object(value)| value))
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, from: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Resources;

    #[test]
    fn only_an_object_is_one() {
        let read = |text: &str| only::<Resources, _>(&mut serde_json::Deserializer::from_str(text));
        let one = Resources { cpu_millicores: Some(1), memory_mb: None };
        assert_eq!(read(r#"{"cpu_millicores":1}"#).unwrap(), Some(one));
        assert_eq!(read("null").unwrap(), None);
        for text in ["[1,2]", "[]", "1", "\"x\"", r#"{"cpu_millicores":1,"x":1}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
