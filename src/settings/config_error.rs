//! The error about a value of a configuration that does not work, and the checks that return it.

use std::fmt::Debug;
use std::ops::RangeInclusive;

/// An error about a field of a configuration whose value does not work.
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
    /// The configuration and the field, such as `SessionConfig::link_timeout`.
    pub field: &'static str,
    /// The value that the field has.
    pub value: String,
    /// The permitted values, in words.
    pub range: String,
    /// The reason why other values do not work, and the value to set instead.
    pub cure: &'static str,
}

/// Returns an error if a value is outside a range.
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

/// Returns an error if a value is below a minimum.
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

/// Returns the errors of these checks.
pub(crate) fn failures<const N: usize>(checks: [Result<(), ConfigError>; N]) -> Vec<ConfigError> {
    checks.into_iter().filter_map(Result::err).collect()
}

/// Returns the first of these errors.
pub(crate) fn first(errors: Vec<ConfigError>) -> Result<(), ConfigError> {
    errors.into_iter().next().map_or(Ok(()), Err)
}
