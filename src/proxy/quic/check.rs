//! Checks the values of a [`QuicConfig`].

use std::time::Duration;

use url::Url;

use super::{QUIC_LINKS_MAX, QuicConfig};
use crate::proxy::udp::SOCKET_BUFFER_MIN_BYTES;
use crate::settings::{ConfigError, at_least, failures, first, within};

impl QuicConfig {
    /// Checks the values. [`QuicProxy::bind`](super::QuicProxy::bind) calls this method.
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
        let mut errors = failures([
            within(
                "QuicConfig::max_links",
                &self.max_links,
                1..=QUIC_LINKS_MAX,
                "one thread serves at most 65,536 connections, and no client can connect with 0; the default is \
                 1,024",
            ),
            at_least(
                "QuicConfig::max_handshakes",
                &self.max_handshakes,
                &1,
                "each link begins with a handshake; the default is 512",
            ),
            within(
                "QuicConfig::handshake_timeout",
                &self.handshake_timeout,
                HANDSHAKE_TIMEOUT_MIN..=HANDSHAKE_TIMEOUT_MAX,
                "a handshake takes a few round trips and occupies 28 KB; the default is 5 s",
            ),
            at_least(
                "QuicConfig::socket_buffer_bytes",
                &self.socket_buffer_bytes,
                &SOCKET_BUFFER_MIN_BYTES,
                "the buffer must hold the datagrams that arrive between two reads; the default is 4 MiB",
            ),
            self.check_public_address(),
        ]);
        errors.extend(self.limits.check_all());
        errors
    }

    /// Clients read the address as a part of a URL.
    fn check_public_address(&self) -> Result<(), ConfigError> {
        let Some(address) = &self.public_address else { return Ok(()) };
        let is_bare = |url: Url| {
            url.host_str().is_some()
                && url.path() == "/"
                && url.query().is_none()
                && url.username().is_empty()
        };
        if Url::parse(&format!("https://{address}/")).is_ok_and(is_bare) && !address.contains(['/', '#']) {
            return Ok(());
        }
        Err(ConfigError {
            field: "QuicConfig::public_address",
            value: format!("{address:?}"),
            range: "a host and, if it is not the bound one, a port".to_owned(),
            cure: "clients cannot connect to anything else; use play.example, play.example:4433 or [2001:db8::1]:4433",
        })
    }
}

/// Minimum of [`QuicConfig::handshake_timeout`]: two round trips of a slow network.
const HANDSHAKE_TIMEOUT_MIN: Duration = Duration::from_millis(500);
/// Maximum of [`QuicConfig::handshake_timeout`].
const HANDSHAKE_TIMEOUT_MAX: Duration = Duration::from_secs(60);
