//! Checks the values of an [`HttpConfig`].

use std::time::Duration;

use super::HttpConfig;
use crate::settings::{ConfigError, at_least, failures, first, within};

impl HttpConfig {
    /// Checks the values. [`HttpServer::bind`](super::HttpServer::bind) calls this method.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] for the first field whose value is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        first(self.check_all())
    }

    /// Returns an error for each field whose value is out of range.
    #[must_use]
    pub fn check_all(&self) -> Vec<ConfigError> {
        let silent = "with 0, discovery answers no client; keep the default if in doubt";
        failures([
            at_least("HttpConfig::max_connects_per_address", &self.max_connects_per_address, &1, silent),
            at_least("HttpConfig::connects_per_second", &self.connects_per_second, &1, silent),
            at_least(
                "HttpConfig::max_connections",
                &self.max_connections,
                &1,
                "with 0, no request is read; the default is 1,024",
            ),
            within(
                "HttpConfig::header_timeout",
                &self.header_timeout,
                HEADER_TIMEOUT_MIN..=HEADER_TIMEOUT_MAX,
                "a request takes some round trips, and its connection occupies a place; the default is 10 s",
            ),
        ])
    }
}

/// Minimum of [`HttpConfig::header_timeout`]: a round trip of a slow network.
const HEADER_TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// Maximum of [`HttpConfig::header_timeout`].
const HEADER_TIMEOUT_MAX: Duration = Duration::from_secs(10 * 60);
