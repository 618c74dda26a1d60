//! What a network does to traffic.

use std::time::Duration;

use super::dice::Dice;
use super::{Direction, RelayError};

/// What a network does to the traffic that passes through it. The default is faultless and without
/// delay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// The part of the packets that is lost, in each direction; 0 to 1, default 0. Over TCP a lost
    /// segment is sent again after 200 ms and the longest round trip. That time doubles while an outage
    /// lasts.
    pub loss: f64,
    /// The time that a packet takes in each direction; up to 60 s, default 0.
    pub delay: Duration,
    /// What is added to the delay, a random time up to this; up to 60 s, default 0. By itself it keeps
    /// the packets' order.
    pub jitter: Duration,
    /// The part of the datagrams that is held back by up to 100 ms, so that later ones overtake them;
    /// 0 to 1, default 0.
    pub reordered: f64,
    /// The part of the datagrams that arrives twice, the second time up to 100 ms later; 0 to 1,
    /// default 0.
    pub doubled: f64,
    /// Outages of both directions; default none.
    pub blackouts: Option<Outages>,
    /// Outages of one direction, a random one each time; default none.
    pub one_way: Option<Outages>,
    /// How often a client that sends gets another outer port, on average; a second or more, default
    /// never. A TCP connection does not survive it: the client's end is reset, and the server's hears
    /// nothing more.
    pub rebind_every: Option<Duration>,
    /// How often a TCP connection over which its client sends is reset at both ends, on average; a
    /// second or more, default never.
    pub reset_every: Option<Duration>,
    /// Bytes a second that each flow may carry in each direction, 28 for the headers of each packet
    /// included; 500 or more, default without limit.
    pub rate: Option<u32>,
    /// How long a packet may wait for the rate before it is dropped, and over TCP before no more is
    /// taken from the sender; up to 60 s, default 500 ms.
    pub queue: Duration,
}

/// Outages that come again and again.
///
/// Time is divided into periods of `every`, and in the middle half of each there is one outage, so
/// that at least half a period lies between two. None is cut short: `longest` is half a period at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outages {
    /// The length of a period; 100 ms or more.
    pub every: Duration,
    /// The shortest outage.
    pub shortest: Duration,
    /// The longest outage.
    pub longest: Duration,
}

/// An outage that a packet met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outage {
    /// That of this period, of both directions.
    Blackout(u64),
    /// That of this period, of one direction.
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
    /// The outage of this direction at this time after the start.
    pub(super) fn outage(&self, seed: u64, direction: Direction, at: Duration) -> Option<Outage> {
        let blackout = self.blackouts.and_then(|outages| outages.at(seed, BLACKOUTS, at));
        if let Some((period, _)) = blackout {
            return Some(Outage::Blackout(period));
        }
        let (period, cut) = self.one_way.and_then(|outages| outages.at(seed, ONE_WAY, at))?;
        (cut == direction).then_some(Outage::OneWay(period))
    }

    /// The longest that a packet and its answer are under way.
    pub(super) fn round_trip_max(&self) -> Duration {
        (self.delay + self.jitter) * 2
    }

    /// Checks the fields' ranges.
    pub(super) fn check(&self) -> Result<(), RelayError> {
        let out_of_range = |field, value: String, range| Err(RelayError::Range { field, value, range });
        for (field, part) in [("loss", self.loss), ("reordered", self.reordered), ("doubled", self.doubled)] {
            if !(0.0..=1.0).contains(&part) {
                return out_of_range(field, part.to_string(), "0 to 1");
            }
        }
        for (field, time) in [("delay", self.delay), ("jitter", self.jitter), ("queue", self.queue)] {
            if time > TIME_MAX {
                return out_of_range(field, format!("{time:?}"), "60 s at most");
            }
        }
        for (field, every) in [("rebind_every", self.rebind_every), ("reset_every", self.reset_every)] {
            if let Some(every) = every.filter(|every| *every < EVERY_MIN) {
                return out_of_range(field, format!("{every:?}"), "a second or more");
            }
        }
        if let Some(rate) = self.rate.filter(|rate| *rate < RATE_MIN) {
            return out_of_range("rate", rate.to_string(), "500 bytes a second or more");
        }
        for (field, outages) in [("blackouts", self.blackouts), ("one_way", self.one_way)] {
            if let Some(outages) = outages.filter(|outages| !outages.is_sound()) {
                return out_of_range(
                    field,
                    format!("{outages:?}"),
                    "every 100 ms or more, shortest to longest, half of that at most",
                );
            }
        }
        Ok(())
    }
}

impl Outages {
    /// The period of the outage at this time, and the direction that it cuts if it is of one only.
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

/// What makes the dice of blackouts other ones than those of packets.
const BLACKOUTS: u64 = 1 << 32;
/// The same, of outages of one direction.
const ONE_WAY: u64 = 2 << 32;
/// Longer than any network takes, short enough that a test ends.
const TIME_MAX: Duration = Duration::from_secs(60);
/// A client that is moved more often than it can open a link is no case of interest.
const EVERY_MIN: Duration = Duration::from_secs(1);
/// Shorter outages are a loss of single packets.
const PERIOD_MIN: Duration = Duration::from_millis(100);
/// With less, a full packet takes longer than any queue.
const RATE_MIN: u32 = 500;
