//! Validates a [`SessionConfig`].

use std::time::Duration;

use super::SessionConfig;
use crate::settings::{ConfigError, at_least, failures, first, within};
use crate::wire::{ACK_EVERY_FRAMES, FRAME_MAX_SERVER};

impl SessionConfig {
    /// Checks that each value is in its range. [`SessionPlugin`](super::SessionPlugin) calls this method
    /// too.
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
        [self.check_times(), self.check_queues(), self.check_rates()].concat()
    }

    fn check_times(&self) -> Vec<ConfigError> {
        failures([
            within(
                "SessionConfig::timeout",
                &self.timeout,
                Duration::ZERO..=TIMEOUT_MAX,
                "an abandoned session is kept for this long; the default is 5 s",
            ),
            within(
                "SessionConfig::link_timeout",
                &self.link_timeout,
                LINK_TIMEOUT_MIN..=TIMEOUT_MAX,
                "clients answer one Beacon a second, and a shorter timeout closes their links; the default is 5 s, \
                 which clients assume",
            ),
            at_least(
                "SessionConfig::unacked_max",
                &self.unacked_max,
                &UNACKED_MAX_MIN,
                "clients acknowledge once a second, and a shorter time closes links as SLOW; the default is 10 s",
            ),
        ])
    }

    fn check_queues(&self) -> Vec<ConfigError> {
        failures([
            at_least(
                "SessionConfig::outbox_max_frames",
                &self.outbox_max_frames,
                &OUTBOX_MIN_FRAMES,
                "clients acknowledge every 64 frames, and a smaller outbox overflows first; the default is 512",
            ),
            at_least(
                "SessionConfig::outbox_max_bytes",
                &self.outbox_max_bytes,
                &FRAME_MAX_SERVER,
                "a frame of up to 64 KiB must fit; the default is 256 KiB",
            ),
            at_least(
                "SessionConfig::outboxes_max_bytes",
                &self.outboxes_max_bytes,
                &self.outbox_max_bytes,
                "the bound of all outboxes must hold one outbox; the default is 256 MiB",
            ),
            at_least(
                "SessionConfig::dispatch_max_frames",
                &self.dispatch_max_frames,
                &1,
                "otherwise no frame of a client is dispatched; the default is 256",
            ),
            at_least(
                "SessionConfig::inbox_max_frames",
                &self.inbox_max_frames,
                &1,
                "otherwise the server stops reading each link too early; the default is 512",
            ),
            at_least(
                "SessionConfig::max_sessions",
                &self.max_sessions,
                &1,
                "otherwise every Hello is denied as FULL; the default is 10,000",
            ),
        ])
    }

    fn check_rates(&self) -> Vec<ConfigError> {
        let silent = "otherwise the server accepts no message of a client; keep the default if in doubt";
        let control =
            "clients send an Ack and a Ping each second, and another Ack when they resume; the default is 60";
        failures([
            at_least("SessionConfig::messages_per_second", &self.messages_per_second, &1, silent),
            at_least("SessionConfig::messages_burst", &self.messages_burst, &1, silent),
            at_least("SessionConfig::bytes_per_second", &self.bytes_per_second, &1, silent),
            at_least("SessionConfig::bytes_burst", &self.bytes_burst, &1, silent),
            at_least("SessionConfig::control_per_second", &self.control_per_second, &CONTROL_MIN, control),
            at_least("SessionConfig::control_burst", &self.control_burst, &CONTROL_MIN, control),
        ])
    }
}

/// The longest timeout, which is a day. `Welcome.timeout_ms` has 32 bits, and a server has no room for the
/// abandoned sessions of more than a day.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest link timeout. It covers two Beacons.
const LINK_TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// The shortest time for which a frame may be unacknowledged: one second until the next Ack, and one second
/// for its transmission.
const UNACKED_MAX_MIN: Duration = Duration::from_secs(2);
/// The smallest outbox, in frames. The value is 64, which fits a `usize`.
const OUTBOX_MIN_FRAMES: usize = ACK_EVERY_FRAMES as usize;
/// The lowest rate of link control messages per second with which clients work.
const CONTROL_MIN: u32 = 3;
