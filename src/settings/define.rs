//! Defines configurations: the macro, and the traits that it implements.

use super::game::GameTable;
use super::mistake::Mistakes;
use super::value::Value;
use super::walk::{Assigned, Walk};

/// Defines a configuration that a file, environment variables and flags can set.
///
/// Each field has a doc, a type and a default. The macro generates the struct, [`Default`],
/// [`Settings`](crate::settings::Settings), and [`Deserialize`](crate::settings::serde::Deserialize), which refuses
/// unknown keys and uses defaults for missing keys. The type of a field implements [`Leaf`](crate::settings::Leaf), or
/// is a configuration itself. The latter is a table of the file.
///
/// A mark may follow the default of a field:
///
/// | mark | meaning |
/// | --- | --- |
/// | `=> skipped` | the field has no key and keeps its default, because no text can express it |
/// | `=> flat` | the keys of this configuration belong to the table of the outer one |
///
/// ```
/// use waystation::settings::Settings as _;
///
/// waystation::settings! {
///     /// A door.
///     #[derive(Debug)]
///     pub struct DoorConfig {
///         /// Width in metres. Default: 1.
///         pub width: f64 = 1.0,
///         /// Code that runs when the door opens. Default: no code.
///         pub on_open: Option<fn()> = None => skipped,
///     }
/// }
///
/// let keys: Vec<_> = DoorConfig::default().fields().into_iter().map(|field| field.key).collect();
/// assert_eq!(keys, ["width"]);
/// ```
#[macro_export]
macro_rules! settings {
    (@field $fields:ident, $owner:ident, $field:ident, $value:expr, [$($doc:literal)*]) => {
        $fields.extend([$crate::settings::Field {
            owner: stringify!($owner),
            key: stringify!($field),
            docs: &[$($doc),*],
            content: $crate::settings::Setting::content(&$value),
        }]);
    };
    (@field $fields:ident, $owner:ident, $field:ident, $value:expr, [$($doc:literal)*] skipped) => {};
    (@field $fields:ident, $owner:ident, $field:ident, $value:expr, [$($doc:literal)*] flat) => {
        $fields.extend($crate::settings::Settings::fields(&$value));
    };
    (@field_mut $key:ident, $field:ident, $value:expr,) => {
        if $key == stringify!($field) {
            return Some(&mut $value);
        }
    };
    (@field_mut $key:ident, $field:ident, $value:expr, skipped) => {};
    (@field_mut $key:ident, $field:ident, $value:expr, flat) => {
        if let Some(found) = $crate::settings::Settings::field_mut(&mut $value, $key) {
            return Some(found);
        }
    };
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $field_vis:vis $field:ident: $type:ty = $default:expr $(=> $mark:ident)?
            ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $($(#[doc = $doc])* $field_vis $field: $type,)*
        }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::settings::Settings for $name {
            fn fields(&self) -> ::std::vec::Vec<$crate::settings::Field<'_>> {
                let mut fields = ::std::vec::Vec::new();
                $($crate::settings!(@field fields, $name, $field, self.$field, [$($doc)*] $($mark)?);)*
                fields
            }

            fn field_mut(&mut self, key: &str) -> ::std::option::Option<&mut dyn $crate::settings::Setting> {
                $($crate::settings!(@field_mut key, $field, self.$field, $($mark)?);)*
                None
            }
        }

        impl $crate::settings::Setting for $name {
            fn content(&self) -> $crate::settings::Content<'_> {
                $crate::settings::Content::Table(self)
            }

            fn set(&mut self, _: &$crate::settings::Value) -> ::std::result::Result<(), ::std::string::String> {
                Err("a table".to_owned())
            }

            fn table_mut(&mut self) -> ::std::option::Option<&mut dyn $crate::settings::Settings> {
                Some(self)
            }
        }

        impl<'de> $crate::settings::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::settings::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::std::result::Result<Self, D::Error> {
                $crate::settings::deserialize(deserializer)
            }
        }
    };
}

/// A configuration whose fields can be set. [`settings!`](crate::settings!) implements this trait.
pub trait Settings {
    /// Returns the fields with their current values, in the order of their declaration.
    fn fields(&self) -> Vec<Field<'_>>;

    /// Returns the field with this key.
    fn field_mut(&mut self, key: &str) -> Option<&mut dyn Setting>;
}

/// A field of a configuration.
#[derive(Clone)]
pub struct Field<'a> {
    /// Name of the struct that has the field.
    pub owner: &'static str,
    /// Name of the field, which is its key in the table.
    pub key: &'static str,
    /// Lines of the doc, in Markdown.
    pub docs: &'static [&'static str],
    /// Current content.
    pub content: Content<'a>,
}

/// The content of a field.
#[derive(Clone)]
pub enum Content<'a> {
    /// A value.
    Value(Value),
    /// A configuration, which is a table.
    Table(&'a dyn Settings),
    /// The table of the game.
    Game(&'a GameTable),
}

/// A field that can be set. [`Leaf`](super::Leaf) types and configurations implement this trait.
pub trait Setting {
    /// Returns the current content.
    fn content(&self) -> Content<'_>;

    /// Sets the value.
    ///
    /// # Errors
    ///
    /// Returns what the value must be instead, such as `a whole number from 0 to 255`.
    fn set(&mut self, value: &Value) -> Result<(), String>;

    /// Returns the field as a configuration, or `None` if it is a single value.
    fn table_mut(&mut self) -> Option<&mut dyn Settings> {
        None
    }
}

/// Deserialises a configuration. Unknown keys are errors, and missing keys have their defaults.
///
/// # Errors
///
/// Returns an error that lists all mistakes.
pub fn deserialize<'de, S, D>(deserializer: D) -> Result<S, D::Error>
where
    S: Settings + Default,
    D: serde::Deserializer<'de>,
{
    use serde::de::Error as _;

    let mut value = S::default();
    let Value::Table(entries) = serde::Deserialize::deserialize(deserializer)? else {
        return Err(D::Error::custom("a configuration must be a table"));
    };
    let mut walk = Walk::new(&value);
    let mut assigned = Assigned::new();
    walk.table(&value, "", entries, &mut assigned);
    walk.apply(&mut value, &assigned);
    let mistakes = walk.into_mistakes();
    if mistakes.is_empty() { Ok(value) } else { Err(D::Error::custom(Mistakes::new(mistakes))) }
}
