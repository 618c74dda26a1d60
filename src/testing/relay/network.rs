//! The faults and the limits of a simulated network.

use std::time::Duration;

use super::dice::Dice;
use super::{Direction, RelayError};

/// A simulated network. The default has no faults, no delay and no limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// The fraction of the packets that are lost in each direction, 0 to 1. Default: 0. Over TCP, a lost segment is
    /// sent again after 200 ms and the longest round trip. During an outage this time doubles with each try, up to
    /// 4 s.
    pub loss: f64,
    /// The time that a packet takes in each direction, at most 60 s. Default: 0.
    pub delay: Duration,
    /// The upper bound of a random time that is added to the delay of each packet, at most 60 s. Default: 0. Jitter
    /// alone does not reorder packets.
    pub jitter: Duration,
    /// The fraction of the datagrams that are held back by up to 100 ms, so that later ones overtake them, 0 to 1.
    /// Default: 0.
    pub reordered: f64,
    /// The fraction of the datagrams that arrive twice, 0 to 1. Their second copy arrives up to 100 ms later.
    /// Default: 0.
    pub doubled: f64,
    /// Outages of both directions. Default: `None`.
    pub blackouts: Option<Outages>,
    /// Outages of one direction, which is chosen at random for each outage. Default: `None`.
    pub one_way: Option<Outages>,
    /// The average time after which a client that sends gets another outer port, 1 s or more. Default: `None`, which is
    /// never. A TCP connection does not survive this: the client's end is reset, and the server's end receives nothing
    /// more.
    pub rebind_every: Option<Duration>,
    /// The average time after which a TCP connection whose client sends is reset at both ends, 1 s or more. Default:
    /// `None`, which is never.
    pub reset_every: Option<Duration>,
    /// The bytes per second of each flow in each direction, 500 or more. Each packet counts 28 bytes more for its
    /// headers. Default: `None`, which is no limit.
    pub rate: Option<u32>,
    /// The longest time that a packet waits for the rate, at most 60 s. Over UDP, packets that would wait longer are
    /// dropped. Over TCP, the relay stops reading from the sender. Default: 500 ms.
    pub queue: Duration,
}

/// Repeated outages.
///
/// Time is divided into periods of `every`. Each period has one outage within its middle half. So at least half a
/// period is between two outages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outages {
    /// The length of a period, 100 ms or more.
    pub every: Duration,
    /// The length of the shortest outage, at most `longest`.
    pub shortest: Duration,
    /// The length of the longest outage, at most half of `every`.
    pub longest: Duration,
}

/// The outage in which a packet is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outage {
    /// The outage of both directions in the period of this number.
    Blackout(u64),
    /// The outage of one direction in the period of this number.
    OneWay(u64),
}

impl Default for Network {
    fn default() -> Self {
        Self {
            loss: 0.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reordered: 0.0,
            doubled: 0.0,
            blackouts: None,
            one_way: None,
            rebind_every: None,
            reset_every: None,
            rate: None,
            queue: Duration::from_millis(500),
        }
    }
}

impl Network {
    /// Returns the outage of a direction at a time after the start, if there is one.
    pub(super) fn outage(&self, seed: u64, direction: Direction, at: Duration) -> Option<Outage> {
        let blackout = self.blackouts.and_then(|outages| outages.at(seed, BLACKOUTS, at));
        if let Some((period, _)) = blackout {
            return Some(Outage::Blackout(period));
        }
        let (period, cut) = self.one_way.and_then(|outages| outages.at(seed, ONE_WAY, at))?;
        (cut == direction).then_some(Outage::OneWay(period))
    }

    /// Returns the longest round-trip time.
    pub(super) fn round_trip_max(&self) -> Duration {
        (self.delay + self.jitter) * 2
    }

    /// Returns an error if a field is out of range.
    pub(super) fn check(&self) -> Result<(), RelayError> {
        let out_of_range = |field, value: String, range| Err(RelayError::Range { field, value, range });
        for (field, part) in [("loss", self.loss), ("reordered", self.reordered), ("doubled", self.doubled)] {
            if !(0.0..=1.0).contains(&part) {
                return out_of_range(field, part.to_string(), "0 to 1");
            }
        }
        for (field, time) in [("delay", self.delay), ("jitter", self.jitter), ("queue", self.queue)] {
            if time > TIME_MAX {
                return out_of_range(field, format!("{time:?}"), "at most 60 s");
            }
        }
        for (field, every) in [("rebind_every", self.rebind_every), ("reset_every", self.reset_every)] {
            if let Some(every) = every.filter(|every| *every < EVERY_MIN) {
                return out_of_range(field, format!("{every:?}"), "1 s or more");
            }
        }
        if let Some(rate) = self.rate.filter(|rate| *rate < RATE_MIN) {
            return out_of_range("rate", rate.to_string(), "500 bytes per second or more");
        }
        for (field, outages) in [("blackouts", self.blackouts), ("one_way", self.one_way)] {
            if let Some(outages) = outages.filter(|outages| !outages.is_sound()) {
                return out_of_range(
                    field,
                    format!("{outages:?}"),
                    "`every` from 100 ms, `shortest` up to `longest`, and `longest` up to half of `every`",
                );
            }
        }
        Ok(())
    }
}

impl Outages {
    /// Returns the period of the outage at a time after the start, and the direction that a one-way outage cuts. `None`
    /// if there is no outage at that time.
    fn at(self, seed: u64, kind: u64, at: Duration) -> Option<(u64, Direction)> {
        let period = u64::try_from(at.as_nanos() / self.every.as_nanos().max(1)).unwrap_or(u64::MAX);
        let begun = Duration::from_nanos_u128(self.every.as_nanos() * u128::from(period));
        let mut dice = Dice::new([seed, kind, period, 0]);
        let length = self.shortest + dice.duration(self.longest - self.shortest);
        let from = begun + self.every / 4 + dice.duration(self.every / 2 - length);
        let direction = if dice.chance(0.5) { Direction::Up } else { Direction::Down };
        (at >= from && at < from + length).then_some((period, direction))
    }

    fn is_sound(self) -> bool {
        let is_ordered = self.shortest <= self.longest && self.longest <= self.every / 2;
        is_ordered && self.every >= PERIOD_MIN
    }
}

/// The kind of the random numbers for blackouts. It makes them independent of those for packets.
const BLACKOUTS: u64 = 1 << 32;
/// The kind of the random numbers for outages of one direction.
const ONE_WAY: u64 = 2 << 32;
/// The longest delay, jitter and queue: longer than on real networks, and short enough for a test.
const TIME_MAX: Duration = Duration::from_secs(60);
/// The shortest average time between rebindings or resets. More often than this, a client could hardly open a link.
const EVERY_MIN: Duration = Duration::from_secs(1);
/// The shortest period of outages. Shorter outages would lose single packets only.
const PERIOD_MIN: Duration = Duration::from_millis(100);
/// The lowest rate in bytes per second. At this rate, a full packet takes about 3 s.
const RATE_MIN: u32 = 500;
