//! Deserialises a table. An error has the key and the source of the wrong value.

use std::fmt;

use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::super::mistake::Source;
use super::super::nearest::did_you_mean;
use super::super::value::{Entry, Value};

/// Reads a value.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a Value);

/// An error about a value that does not fit the type of the game.
#[derive(Debug)]
pub(super) struct ReadError {
    /// Keys of the value, the innermost first.
    path: Vec<String>,
    source: Source,
    /// What is wrong with the value, or for an unknown key, the name that was probably meant.
    text: String,
    is_unknown: bool,
}

impl ReadError {
    /// Returns the keys of the value, the outermost first.
    pub(super) fn path(&self) -> impl Iterator<Item = &str> {
        self.path.iter().rev().map(String::as_str)
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Returns true if the last key of the path is unknown.
    pub(super) fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// Returns what is wrong with the value of this path.
    pub(super) fn text(&self, path: &str) -> String {
        if self.is_unknown {
            format!("unknown key `{path}`{}", self.text)
        } else {
            format!("{path}: {}", self.text)
        }
    }

    /// Adds the key of the table that holds the value.
    fn within(mut self, entry: &Entry) -> Self {
        if self.path.is_empty() {
            self.source = entry.source.clone();
        }
        self.path.push(entry.key.clone());
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ReadError {}

impl Error for ReadError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self { path: Vec::new(), source: Source::Default, text: text.to_string(), is_unknown: false }
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self { is_unknown: true, ..Self::custom(did_you_mean(field, known.iter().copied())) }
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        let hint = did_you_mean(variant, known.iter().copied());
        Self::custom(format_args!("{variant:?} must be one of {}{hint}", known.join(", ")))
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => match i64::try_from(*value) {
                Ok(value) => visitor.visit_i64(value),
                Err(_) => visitor.visit_i128(*value),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) | Value::Date(text) => visitor.visit_str(text),
            Value::Word(word) => {
                if let Ok(value) = word.parse() {
                    visitor.visit_bool(value)
                } else if let Ok(value) = word.parse() {
                    visitor.visit_i64(value)
                } else if let Ok(value) = word.parse() {
                    visitor.visit_u64(value)
                } else if let Ok(value) = word.parse() {
                    visitor.visit_f64(value)
                } else {
                    visitor.visit_str(word)
                }
            }
            Value::List(values) => list(values, visitor),
            Value::Table(entries) => visitor.visit_map(Entries { entries, value: None }),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::Word(word) => visitor.visit_str(word),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::Word(word) if word.is_empty() => list(&[], visitor),
            Value::Word(word) => {
                let items: Vec<Value> =
                    word.split(',').map(|item| Value::Word(item.trim().to_owned())).collect();
                list(&items, visitor)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::Text(text) | Value::Word(text) => visitor.visit_enum(StrDeserializer::new(text)),
            Value::Table(entries) => match entries.as_slice() {
                [entry] => visitor.visit_enum(Variant(entry)),
                _ => Err(ReadError::custom("a variant is a table with one key")),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 bytes byte_buf unit unit_struct map struct ignored_any
    }
}

impl<'de> IntoDeserializer<'de, ReadError> for Reader<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn list<'de, V: Visitor<'de>>(values: &[Value], visitor: V) -> Result<V::Value, ReadError> {
    let mut items = SeqDeserializer::new(values.iter().map(Reader));
    let list = visitor.visit_seq(&mut items)?;
    items.end()?;
    Ok(list)
}

/// The entries of a table that are not read yet.
struct Entries<'a> {
    entries: &'a [Entry],
    /// The entry whose key was read.
    value: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some((entry, rest)) = self.entries.split_first() else { return Ok(None) };
        self.entries = rest;
        self.value = Some(entry);
        let key = seed.deserialize(StrDeserializer::new(&entry.key));
        key.map(Some).map_err(|error: ReadError| error.within(entry))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let entry = self.value.take().ok_or_else(|| ReadError::custom("a value was read before its key"))?;
        seed.deserialize(Reader(&entry.value)).map_err(|error| error.within(entry))
    }
}

/// A variant with content: a table with one key, which is the name of the variant.
#[derive(Clone, Copy)]
struct Variant<'a>(&'a Entry);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), ReadError> {
        let name = seed.deserialize(StrDeserializer::new(&self.0.key));
        name.map(|name| (name, self)).map_err(|error: ReadError| error.within(self.0))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        serde::Deserialize::deserialize(Reader(&self.0.value))
            .map_err(|error: ReadError| error.within(self.0))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        seed.deserialize(Reader(&self.0.value)).map_err(|error| error.within(self.0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        Reader(&self.0.value).deserialize_seq(visitor).map_err(|error| error.within(self.0))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        Reader(&self.0.value).deserialize_any(visitor).map_err(|error| error.within(self.0))
    }
}
