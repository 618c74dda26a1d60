//! Rate limits of a session: three token buckets and an allowance for replay.
//!
//! A bucket stores the time at which it is full again. Each unit that is taken moves this time forward. The bucket
//! is empty if this time is so far ahead that a whole burst is missing. The meter only measures; the
//! [`Inbox`](super::inbox::Inbox) decides what happens to a frame that is over the rates.

use std::time::Duration;

use super::SessionConfig;

/// The use of a session's rates, over all its links.
#[derive(Debug, Default)]
pub(super) struct Meter {
    messages: Bucket,
    bytes: Bucket,
    control: Bucket,
    /// The allowance for frames that a client sends again after a resume. It is separate from the rates.
    replay: Replay,
}

#[derive(Debug, Default)]
struct Replay {
    frames: usize,
    bytes: usize,
    /// The steady time at which the allowance was last increased.
    granted: Option<Duration>,
}

/// The capacity of a bucket, and the rate at which it fills.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    pub(super) per_second: u32,
    pub(super) burst: u32,
}

/// The steady time at which the bucket is full again.
#[derive(Debug, Default)]
struct Bucket(Duration);

impl Meter {
    /// Increases the replay allowance when a session gets a new link. The allowance grows to its maximum
    /// within [`REPLAY_EVERY`], so that a client gains nothing by many takeovers in a row.
    pub(super) fn allow_replay(&mut self, now: Duration, config: &SessionConfig) {
        let since = self.replay.granted.map_or(REPLAY_EVERY, |granted| now.saturating_sub(granted));
        let share = since.min(REPLAY_EVERY).as_secs_f64() / REPLAY_EVERY.as_secs_f64();
        // Rounded down. The share is at most 1, so the result fits a `usize`.
        let part = |max: usize| (max as f64 * share) as usize;
        self.replay = Replay {
            frames: (self.replay.frames + part(config.outbox_max_frames)).min(config.outbox_max_frames),
            bytes: (self.replay.bytes + part(config.outbox_max_bytes)).min(config.outbox_max_bytes),
            granted: Some(now),
        };
    }

    /// Counts a frame against the rates. Returns false, and counts nothing, if the rates do not allow it. A
    /// counted frame uses the replay allowance first.
    pub(super) fn admits(
        &mut self,
        is_counted: bool,
        bytes: usize,
        now: Duration,
        config: &SessionConfig,
    ) -> bool {
        if is_counted && self.replay.frames > 0 && self.replay.bytes >= bytes {
            self.replay.frames -= 1;
            self.replay.bytes -= bytes;
            return true;
        }
        let messages = Rate { per_second: config.messages_per_second, burst: config.messages_burst };
        let by_byte = Rate { per_second: config.bytes_per_second, burst: config.bytes_burst };
        let admits = self.messages.has_any(messages, now) && self.bytes.has_any(by_byte, now);
        if admits {
            self.messages.take(1, messages, now);
            self.bytes.take(bytes, by_byte, now);
        }
        admits
    }

    /// See `Core::prefetch`.
    pub(super) fn prefetch(&self) -> usize {
        self.control.0.subsec_nanos() as usize
    }

    /// Counts a link control frame against its rate. Returns false if the rate does not allow it.
    pub(super) fn admits_control(&mut self, now: Duration, rate: Rate) -> bool {
        let admits = self.control.has_any(rate, now);
        if admits {
            self.control.take(1, rate, now);
        }
        admits
    }
}

impl Bucket {
    /// Returns true if the bucket is not empty. The next frame may be larger than what is left, so that no
    /// frame is too large to pass; frames after it wait longer.
    fn has_any(&self, rate: Rate, now: Duration) -> bool {
        self.0.saturating_sub(now) < rate.cost().saturating_mul(rate.burst.max(1))
    }

    fn take(&mut self, units: usize, rate: Rate, now: Duration) {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        self.0 = self.0.max(now).saturating_add(rate.cost().saturating_mul(units));
    }
}

impl Rate {
    /// Returns the time in which one unit is refilled. It is rounded up, so that a burst is not larger than
    /// configured.
    fn cost(self) -> Duration {
        Duration::from_nanos(NANOS_PER_SECOND.div_ceil(u64::from(self.per_second.max(1))))
    }
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// Time in which the replay allowance grows from zero to a whole outbox. Resumes in quick succession share one
/// allowance. It is enough, because a client rarely fills its outbox between them.
const REPLAY_EVERY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(meter: &mut Meter, tries: usize, bytes: usize, at_ms: u64) -> usize {
        let now = Duration::from_millis(at_ms);
        (0..tries).filter(|_| meter.admits(true, bytes, now, &SessionConfig::default())).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut meter = Meter::default();

        assert_eq!(admitted(&mut meter, 1_000, 10, 5_000), 240);
        assert_eq!(admitted(&mut meter, 1_000, 10, 5_000), 0);
        let each_tick: usize = (1..=20).map(|tick| admitted(&mut meter, 1_000, 10, 5_000 + tick * 50)).sum();
        assert!((119..=120).contains(&each_tick), "{each_tick} in a second");
        assert_eq!(admitted(&mut meter, 1_000, 10, 3_600_000), 240, "after an hour, one burst passes");
    }

    #[test]
    fn bytes_are_limited_too_and_the_last_message_may_exceed_the_burst() {
        let mut meter = Meter::default();

        // 64 KiB, and one more frame that begins within them.
        assert_eq!(admitted(&mut meter, 100, 16_000, 0), 5);
        assert_eq!(admitted(&mut meter, 100, 16_000, 400), 0);
        assert_eq!(admitted(&mut meter, 100, 16_000, 500), 1);
    }

    #[test]
    fn a_replay_of_counted_frames_is_free_up_to_the_size_of_an_outbox() {
        let mut meter = Meter::default();
        let config = SessionConfig::default();
        assert_eq!(admitted(&mut meter, 300, 10, 0), 240);

        meter.allow_replay(Duration::ZERO, &config);

        assert!(!meter.admits(false, 10, Duration::ZERO, &config));
        assert_eq!(admitted(&mut meter, 1_000, 10, 0), config.outbox_max_frames);
        meter.allow_replay(Duration::ZERO, &config);
        assert_eq!(admitted(&mut meter, 1_000, 10, 0), 0, "the allowance does not grow at once");

        let mut meter = Meter::default();
        admitted(&mut meter, 300, 10, 0);
        meter.allow_replay(Duration::ZERO, &config);
        assert_eq!(admitted(&mut meter, 1_000, 16 * 1024, 0), 16, "256 KiB");
    }

    #[test]
    fn link_control_has_a_rate_of_its_own() {
        let mut meter = Meter::default();
        let config = SessionConfig::default();
        assert_eq!(admitted(&mut meter, 1_000, 10, 0), 240);

        let rate = Rate { per_second: config.control_per_second, burst: config.control_burst };
        let passed = (0..1_000).filter(|_| meter.admits_control(Duration::ZERO, rate)).count();

        assert_eq!(passed, usize::try_from(config.control_burst).expect("a small number"));
    }
}
