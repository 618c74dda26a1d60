//! Values as they are written in a file, a variable or a flag.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::mistake::Source;

/// A value of a setting, before its type is known. It is displayed as TOML.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A whole number. Numbers above 2⁶³ - 1 are written as texts, because TOML has only smaller numbers.
    Integer(i128),
    /// A number with a fraction, an infinity or NaN.
    Float(f64),
    /// A text in quotes.
    Text(String),
    /// The text of a variable or a flag. Each type reads it in its own way. A list is divided at commas.
    Word(String),
    /// A date or a time. No field of this crate has this type.
    Date(String),
    /// A list.
    List(Vec<Value>),
    /// A table.
    Table(Vec<Entry>),
}

/// An entry of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Key within the table.
    pub key: String,
    /// Source of the value.
    pub source: Source,
    /// The value.
    pub value: Value,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) if i64::try_from(*value).is_err() => write!(f, "\"{value}\""),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) if value.is_nan() => f.write_str("nan"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(text) | Self::Word(text) => quoted(text, f),
            Self::Date(text) => f.write_str(text),
            Self::List(values) => {
                let texts: Vec<String> = values.iter().map(Self::to_string).collect();
                write!(f, "[{}]", texts.join(", "))
            }
            Self::Table(entries) if entries.is_empty() => f.write_str("{}"),
            Self::Table(entries) => {
                let texts: Vec<String> = entries.iter().map(Entry::to_string).collect();
                write!(f, "{{ {} }}", texts.join(", "))
            }
        }
    }
}

impl fmt::Display for Entry {
    /// Formats the entry as `key = value`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !self.key.is_empty() && self.key.chars().all(is_bare) {
            f.write_str(&self.key)?;
        } else {
            quoted(&self.key, f)?;
        }
        write!(f, " = {}", self.value)
    }
}

/// Writes a basic string of TOML.
fn quoted(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(f, "\\{character}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            _ if character.is_control() => write!(f, "\\u{:04X}", u32::from(character))?,
            _ => write!(f, "{character}")?,
        }
    }
    f.write_str("\"")
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a setting")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    /// Formats without a schema write an absent value in this way.
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Text(NONE.to_owned()))
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = values.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut table = Vec::new();
        while let Some((key, value)) = entries.next_entry()? {
            table.push(Entry { key, source: Source::Default, value });
        }
        Ok(Value::Table(table))
    }
}

/// The text of an option without a value.
pub(super) const NONE: &str = "none";
