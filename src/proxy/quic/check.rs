//! Which values of a [`QuicConfig`] let links work.

use std::time::Duration;

use super::{QUIC_LINKS_MAX, QuicConfig};
use crate::proxy::udp::SOCKET_BUFFER_MIN_BYTES;
use crate::wire::{ConfigError, at_least, within};

impl QuicConfig {
    /// Checks that links can work with these values. [`QuicProxy::bind`](super::QuicProxy::bind) does it too.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first field with whose value no link works.
    pub fn check(&self) -> Result<(), ConfigError> {
        within(
            "QuicConfig::max_links",
            &self.max_links,
            1..=QUIC_LINKS_MAX,
            "one thread serves no more, and without one nobody connects; 1,024 is the default",
        )?;
        at_least(
            "QuicConfig::max_handshakes",
            &self.max_handshakes,
            &1,
            "a link begins with a handshake; 512 is the default",
        )?;
        within(
            "QuicConfig::handshake_timeout",
            &self.handshake_timeout,
            HANDSHAKE_TIMEOUT_MIN..=HANDSHAKE_TIMEOUT_MAX,
            "a handshake takes a few round trips, and holds 28 KB until then; 5 s is the default",
        )?;
        at_least(
            "QuicConfig::socket_buffer_bytes",
            &self.socket_buffer_bytes,
            &SOCKET_BUFFER_MIN_BYTES,
            "the datagrams of a few clients must fit between two turns; 4 MiB is the default",
        )?;
        self.limits.check()
    }
}

/// The shortest time for a handshake: two round trips of a slow network.
const HANDSHAKE_TIMEOUT_MIN: Duration = Duration::from_millis(500);
/// The longest time for a handshake.
const HANDSHAKE_TIMEOUT_MAX: Duration = Duration::from_secs(60);
