//! Which values of an [`HttpConfig`] let clients connect.

use std::time::Duration;

use super::HttpConfig;
use crate::wire::{ConfigError, at_least, within};

impl HttpConfig {
    /// Checks that clients can connect with these values. [`HttpServer::bind`](super::HttpServer::bind) does
    /// it too.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first field with whose value no client is answered.
    pub fn check(&self) -> Result<(), ConfigError> {
        let cure = "otherwise discovery answers nobody; leave the default if in doubt";
        at_least("HttpConfig::max_connects_per_address", &self.max_connects_per_address, &1, cure)?;
        at_least("HttpConfig::connects_per_second", &self.connects_per_second, &1, cure)?;
        at_least(
            "HttpConfig::max_connections",
            &self.max_connections,
            &1,
            "otherwise no request is read; 1,024 is the default",
        )?;
        within(
            "HttpConfig::header_timeout",
            &self.header_timeout,
            HEADER_TIMEOUT_MIN..=HEADER_TIMEOUT_MAX,
            "a request takes some round trips, and its connection keeps a place until then; 10 s is the default",
        )
    }
}

/// The shortest time for the head of a request: a round trip of a slow network.
const HEADER_TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// The longest time for the head of a request.
const HEADER_TIMEOUT_MAX: Duration = Duration::from_secs(10 * 60);
