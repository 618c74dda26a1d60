//! Reads and writes the types that fields can have.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::define::{Content, Setting};
use super::nearest::nearest;
use super::units::{parse_time, time_to_text};
use super::value::{NONE, Value};

/// A type of fields that is written as one value.
///
/// | type | written as |
/// | --- | --- |
/// | `bool` | `true` or `false` |
/// | whole numbers | `5`. If one word of the key is `bytes`, also `"64KiB"`, `"4MiB"` or `"1GiB"` |
/// | `f32`, `f64` | `0.5` |
/// | `String`, `PathBuf` | `"text"` |
/// | [`Duration`] | `"250ms"`, `"5s"`, `"2min"` or `"1h"` |
/// | [`SocketAddr`] | `"0.0.0.0:7777"`, `"[::1]:7777"`, `"localhost:7777"`, or `7777`, which is a port of 127.0.0.1 |
/// | `Option<T>` | as `T`, or `"none"`. The text `none` is therefore `None` also for `Option<String>` |
/// | `Vec<T>` | `[1, 2]`; in variables and flags `1,2` |
/// | [`Choice`] | the name of the variant, such as `"identified"` |
pub trait Leaf: Sized {
    /// Reads a value.
    ///
    /// # Errors
    ///
    /// Returns what the value must be instead, such as `a whole number from 0 to 255`.
    fn read(value: &Value) -> Result<Self, String>;

    /// Returns the value as it is written in a file.
    fn write(&self) -> Value;
}

impl<T: Leaf> Setting for T {
    fn content(&self) -> Content<'_> {
        Content::Value(self.write())
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        *self = Self::read(value)?;
        Ok(())
    }
}

/// An enum without fields, whose variants have names.
///
/// ```
/// use waystation::settings::{Choice, Leaf as _, Value};
///
/// #[derive(Debug, Clone, Copy, PartialEq)]
/// enum Door {
///     Open,
///     HalfOpen,
/// }
/// impl Choice for Door {
///     const NAMES: &'static [(&'static str, Self)] = &[("open", Self::Open), ("half-open", Self::HalfOpen)];
/// }
///
/// assert_eq!(Door::read(&Value::Text("half-open".to_owned())), Ok(Door::HalfOpen));
/// let expected = Door::read(&Value::Text("half-opn".to_owned())).expect_err("there is no such variant");
/// assert_eq!(expected, "\"open\" or \"half-open\"; did you mean \"half-open\"?");
/// ```
pub trait Choice: Copy + PartialEq + 'static {
    /// All variants and their names, in kebab case.
    const NAMES: &'static [(&'static str, Self)];
}

impl<T: Choice> Leaf for T {
    fn read(value: &Value) -> Result<Self, String> {
        let text = match value {
            Value::Text(text) | Value::Word(text) => text.as_str(),
            _ => "",
        };
        if let Some((_, variant)) = T::NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(*variant);
        }
        let names: Vec<String> = T::NAMES.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let near = nearest(text, T::NAMES.iter().map(|(name, _)| *name));
        let hint = near.map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"));
        Err(format!("{}{hint}", names.join(" or ")))
    }

    fn write(&self) -> Value {
        let name = T::NAMES.iter().find(|(_, variant)| variant == self).map_or("", |(name, _)| *name);
        Value::Text(name.to_owned())
    }
}

/// Parses a value that is written as text. For implementations of [`Leaf`].
///
/// # Errors
///
/// Returns `expected` if the value is no text or cannot be parsed.
pub fn from_text<T: FromStr>(value: &Value, expected: &str) -> Result<T, String> {
    match value {
        Value::Text(text) | Value::Word(text) => text.parse().map_err(|_| expected.to_owned()),
        _ => Err(expected.to_owned()),
    }
}

impl Leaf for bool {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Bool(value) => Ok(*value),
            Value::Word(word) => word.parse().map_err(|_| BOOL.to_owned()),
            _ => Err(BOOL.to_owned()),
        }
    }

    fn write(&self) -> Value {
        Value::Bool(*self)
    }
}

macro_rules! whole_numbers {
    ($($type:ty),*) => {$(
        impl Leaf for $type {
            fn read(value: &Value) -> Result<Self, String> {
                let expected = || format!("a whole number from {} to {}", Self::MIN, Self::MAX);
                let number = match value {
                    Value::Integer(number) => Some(*number),
                    Value::Word(word) => word.parse().ok(),
                    // TOML has no larger numbers, so they are written as texts.
                    Value::Text(text) => text.parse().ok().filter(|number: &i128| i64::try_from(*number).is_err()),
                    _ => None,
                };
                number.and_then(|number| number.try_into().ok()).ok_or_else(expected)
            }

            fn write(&self) -> Value {
                // No machine has a `usize` of more than 64 bits.
                Value::Integer(i128::try_from(*self).unwrap_or(i128::MAX))
            }
        }
    )*};
}

whole_numbers!(u8, u16, u32, u64, usize, i8, i16, i32, i64);

impl Leaf for f64 {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Float(number) => Ok(*number),
            #[expect(clippy::cast_precision_loss, reason = "a whole number is read as the nearest float")]
            Value::Integer(number) => Ok(*number as Self),
            Value::Word(word) => word.parse().map_err(|_| NUMBER.to_owned()),
            _ => Err(NUMBER.to_owned()),
        }
    }

    fn write(&self) -> Value {
        Value::Float(*self)
    }
}

impl Leaf for f32 {
    fn read(value: &Value) -> Result<Self, String> {
        #[expect(clippy::cast_possible_truncation, reason = "a number is read as the nearest float")]
        f64::read(value).map(|number| number as Self)
    }

    fn write(&self) -> Value {
        // Writes the shortest text of the number, not the digits of the nearest `f64`.
        Value::Float(self.to_string().parse().unwrap_or_else(|_| f64::from(*self)))
    }
}

impl Leaf for String {
    fn read(value: &Value) -> Result<Self, String> {
        from_text(value, "a text in quotes")
    }

    fn write(&self) -> Value {
        Value::Text(self.clone())
    }
}

impl Leaf for PathBuf {
    fn read(value: &Value) -> Result<Self, String> {
        from_text(value, "a path in quotes")
    }

    fn write(&self) -> Value {
        Value::Text(self.display().to_string())
    }
}

impl Leaf for Duration {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) | Value::Word(text) => parse_time(text).ok_or_else(|| TIME.to_owned()),
            _ => Err(TIME.to_owned()),
        }
    }

    fn write(&self) -> Value {
        Value::Text(time_to_text(*self))
    }
}

impl Leaf for SocketAddr {
    fn read(value: &Value) -> Result<Self, String> {
        let text = match value {
            Value::Text(text) | Value::Word(text) => text.clone(),
            Value::Integer(port) => port.to_string(),
            _ => return Err(ADDRESS.to_owned()),
        };
        let port = text.strip_prefix("localhost:").unwrap_or(&text);
        if let Ok(port) = port.parse() {
            return Ok(Self::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        }
        text.parse().map_err(|_| ADDRESS.to_owned())
    }

    fn write(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl<T: Leaf> Leaf for Option<T> {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) | Value::Word(text) if text == NONE => Ok(None),
            _ => T::read(value).map(Some).map_err(|expected| format!("\"{NONE}\" or {expected}")),
        }
    }

    fn write(&self) -> Value {
        self.as_ref().map_or_else(|| Value::Text(NONE.to_owned()), T::write)
    }
}

impl<T: Leaf> Leaf for Vec<T> {
    fn read(value: &Value) -> Result<Self, String> {
        let listed = |expected: String| format!("a list, and each item must be {expected}");
        match value {
            Value::List(values) => values.iter().map(T::read).collect::<Result<_, _>>().map_err(listed),
            Value::Word(word) if word.is_empty() => Ok(Self::new()),
            Value::Word(word) => word
                .split(',')
                .map(|item| T::read(&Value::Word(item.trim().to_owned())))
                .collect::<Result<_, _>>()
                .map_err(listed),
            _ => Err("a list in brackets".to_owned()),
        }
    }

    fn write(&self) -> Value {
        Value::List(self.iter().map(T::write).collect())
    }
}

const BOOL: &str = "true or false";
const NUMBER: &str = "a number";
const TIME: &str = "a time with a unit, such as \"250ms\", \"5s\", \"2min\" or \"1h\"";
const ADDRESS: &str = "an IP address and a port, such as \"127.0.0.1:7777\", \"0.0.0.0:7777\" or \"[::]:7777\", or \
                       the port alone for this machine only";
