//! Values of configurations with which nobody could play, and what to do about them.

use std::fmt::Debug;
use std::ops::RangeInclusive;

/// A field of a configuration has a value with which no client could play.
///
/// ```
/// use waystation::client::ClientConfig;
///
/// let error = ClientConfig { tries: 0, ..ClientConfig::default() }.check().expect_err("no tries");
/// assert_eq!(error.field, "ClientConfig::tries");
/// assert!(error.to_string().starts_with("ClientConfig::tries is 0, and must be at least 1: "));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, and must be {range}: {cure}")]
pub struct ConfigError {
    /// The configuration and the field: `SessionConfig::link_timeout`.
    pub field: &'static str,
    /// The value that the field has.
    pub value: String,
    /// The values that the field may have, in words.
    pub range: String,
    /// Why others do not work, and what to set instead.
    pub cure: &'static str,
}

/// Checks that a value is in a range.
pub(crate) fn within<T: PartialOrd + Debug>(
    field: &'static str,
    value: &T,
    range: RangeInclusive<T>,
    cure: &'static str,
) -> Result<(), ConfigError> {
    if range.contains(value) {
        return Ok(());
    }
    let range = format!("{:?} to {:?}", range.start(), range.end());
    Err(ConfigError { field, value: format!("{value:?}"), range, cure })
}

/// Checks that a value is not less than another.
pub(crate) fn at_least<T: PartialOrd + Debug>(
    field: &'static str,
    value: &T,
    min: &T,
    cure: &'static str,
) -> Result<(), ConfigError> {
    if value >= min {
        return Ok(());
    }
    Err(ConfigError { field, value: format!("{value:?}"), range: format!("at least {min:?}"), cure })
}
