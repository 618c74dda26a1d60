//! Converts times to whole milliseconds and seconds, for tickets, messages and discovery.

use std::time::Duration;

/// Returns a duration in whole milliseconds, rounded down.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns a duration in whole seconds, rounded down.
#[cfg(feature = "server")]
pub(crate) fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
