//! Which values of a [`SessionConfig`] let clients play.

use std::time::Duration;

use super::SessionConfig;
use crate::wire::{ACK_EVERY_FRAMES, ConfigError, FRAME_MAX_SERVER, at_least, within};

impl SessionConfig {
    /// Checks that clients can play with these values. [`SessionPlugin`](super::SessionPlugin) does it too.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first field whose value lets no client play, or lets abandoned sessions add up
    /// without end.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_times()?;
        self.check_queues()?;
        self.check_rates()
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        within(
            "SessionConfig::timeout",
            &self.timeout,
            Duration::ZERO..=TIMEOUT_MAX,
            "a session that its player left for good is kept for this long; 5 s is the default",
        )?;
        within(
            "SessionConfig::link_timeout",
            &self.link_timeout,
            LINK_TIMEOUT_MIN..=TIMEOUT_MAX,
            "clients answer a Beacon each second, and a shorter time loses their links; 5 s is the default, which \
             clients assume",
        )?;
        at_least(
            "SessionConfig::unacked_max",
            &self.unacked_max,
            &UNACKED_MAX_MIN,
            "clients acknowledge once a second, and a shorter time drops them as slow; 10 s is the default",
        )
    }

    fn check_queues(&self) -> Result<(), ConfigError> {
        at_least(
            "SessionConfig::outbox_max_frames",
            &self.outbox_max_frames,
            &OUTBOX_MIN_FRAMES,
            "clients acknowledge each 64 frames, and fewer drop them as slow; 512 is the default",
        )?;
        at_least(
            "SessionConfig::outbox_max_bytes",
            &self.outbox_max_bytes,
            &FRAME_MAX_SERVER,
            "a frame has up to 64 KiB, and must fit; 256 KiB is the default",
        )?;
        at_least(
            "SessionConfig::outboxes_max_bytes",
            &self.outboxes_max_bytes,
            &self.outbox_max_bytes,
            "one outbox must fit into the bound of all; 256 MiB is the default",
        )?;
        at_least(
            "SessionConfig::dispatch_max_frames",
            &self.dispatch_max_frames,
            &1,
            "otherwise no frame of a client is read; 256 is the default",
        )?;
        at_least(
            "SessionConfig::inbox_max_frames",
            &self.inbox_max_frames,
            &1,
            "otherwise no frame of a client is taken; 512 is the default",
        )?;
        at_least(
            "SessionConfig::max_sessions",
            &self.max_sessions,
            &1,
            "otherwise every Hello is denied as FULL; 10,000 is the default",
        )
    }

    fn check_rates(&self) -> Result<(), ConfigError> {
        let cure = "otherwise no message of a client is taken; leave the default if in doubt";
        at_least("SessionConfig::messages_per_second", &self.messages_per_second, &1, cure)?;
        at_least("SessionConfig::messages_burst", &self.messages_burst, &1, cure)?;
        at_least("SessionConfig::bytes_per_second", &self.bytes_per_second, &1, cure)?;
        at_least("SessionConfig::bytes_burst", &self.bytes_burst, &1, cure)?;
        let cure =
            "clients send an Ack and a Ping a second, and one more when they resume; 60 is the default";
        at_least("SessionConfig::control_per_second", &self.control_per_second, &CONTROL_MIN, cure)?;
        at_least("SessionConfig::control_burst", &self.control_burst, &CONTROL_MIN, cure)
    }
}

/// The longest timeout: a client is told its window in milliseconds of 32 bits, and a day of abandoned
/// sessions is more than a server has room for.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest link timeout: two Beacons.
const LINK_TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// The shortest time that a frame may be unacknowledged: an Ack each second, and a second for its way.
const UNACKED_MAX_MIN: Duration = Duration::from_secs(2);
/// The fewest frames of an outbox. The number is 64, which fits.
const OUTBOX_MIN_FRAMES: usize = ACK_EVERY_FRAMES as usize;
/// The fewest link control messages a second with which clients work.
const CONTROL_MIN: u32 = 3;
