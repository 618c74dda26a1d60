//! The link that drives a session, and how well it does.

use std::time::Duration;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::ident::{LinkKey, SessionId};
use crate::wire::{BEACON_EVERY, PROBE_EVERY};

/// The bound link of a session, if it has one, and what leaves on it with the next flush.
#[derive(Component, Debug, Default)]
pub struct Uplink {
    pub(super) link: Option<LinkKey>,
    /// Steady time at which something was last received.
    pub(super) heard: Duration,
    pub(super) paused: bool,
    /// Link control, before what is counted.
    pub(super) control: Vec<Bytes>,
    /// Unreliable frames, after what is counted.
    pub(super) unreliable: Vec<Bytes>,
    pub(super) beacons: Beacons,
    /// The client has shown that it got a Welcome of this session.
    pub(super) confirmed: bool,
    probe_from: Duration,
}

impl Uplink {
    /// The bound link.
    #[must_use]
    pub fn link(&self) -> Option<LinkKey> {
        self.link
    }

    /// Steady time at which something was last received.
    #[must_use]
    pub fn heard(&self) -> Duration {
        self.heard
    }

    /// Something was received.
    pub(crate) fn hear(&mut self, at: Duration) {
        self.heard = self.heard.max(at);
    }

    /// Notes that the client has shown that it got a Welcome. Returns true if that was not known.
    pub(super) fn confirm(&mut self) -> bool {
        !std::mem::replace(&mut self.confirmed, true)
    }

    /// A Probe came: the link to answer on, unless the last one was just now.
    pub(crate) fn may_probe(&mut self, at: Duration) -> Option<LinkKey> {
        if at < self.probe_from {
            return None;
        }
        self.probe_from = at + PROBE_EVERY;
        self.link
    }

    /// A Beacon came back; the time since it was sent, if it is one that is awaited.
    pub(crate) fn echo(&mut self, id: u64, now: Duration) -> Option<Duration> {
        self.beacons.echo(id, now)
    }

    /// A new link, or none.
    pub(super) fn rebind(&mut self, link: Option<LinkKey>, now: Duration, session: SessionId) {
        let stagger = Duration::from_millis(session.0 % BEACON_EVERY.as_millis() as u64);
        *self = Self {
            link,
            heard: now,
            confirmed: self.confirmed,
            beacons: Beacons { next: self.beacons.next, due: now + stagger, ..Beacons::default() },
            ..Self::default()
        };
    }
}

/// Round-trip time of a session, smoothed; measured by beacons once a second.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    smoothed: Option<Duration>,
}

impl Latency {
    /// The smoothed round-trip time; `None` until a beacon came back.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The same in whole milliseconds, 0 if unknown, as it goes over the wire.
    #[must_use]
    pub fn round_trip_ms(&self) -> u32 {
        self.smoothed.map_or(0, |time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX))
    }

    /// Takes a sample, with the weight of an eighth (RFC 6298, section 2).
    pub(crate) fn sample(&mut self, round_trip: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => round_trip,
            Some(smoothed) => (smoothed * 7 + round_trip) / 8,
        });
    }
}

/// How a session's link does. Follows from what is received; the game only reads it.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkState {
    /// Bound, and nothing was heard on it yet.
    #[default]
    Connect,
    /// Beacons come back.
    Ok,
    /// Three beacons in a row stayed without an answer.
    TempFail,
    /// There is no link; the session may be resumed.
    Disconnect,
    /// The session has ended.
    PermFail,
}

/// Beacons under way.
#[derive(Debug, Default)]
pub(super) struct Beacons {
    pub(super) next: u64,
    pub(super) due: Duration,
    /// Sent and not answered, oldest first.
    awaited: [Option<(u64, Duration)>; BEACONS_AWAITED],
    /// The newest one that was answered on this link; 0 before the first.
    pub(super) echoed: u64,
    unanswered: u32,
    answered: bool,
}

impl Beacons {
    /// Sends one: its id. The oldest awaited one is given up.
    pub(super) fn send(&mut self, now: Duration) -> u64 {
        self.next += 1;
        self.unanswered += 1;
        self.awaited.rotate_left(1);
        self.awaited[BEACONS_AWAITED - 1] = Some((self.next, now));
        self.next
    }

    fn echo(&mut self, id: u64, now: Duration) -> Option<Duration> {
        if id <= self.next {
            self.echoed = self.echoed.max(id);
        }
        let slot = self.awaited.iter_mut().find(|slot| slot.is_some_and(|(awaited, _)| awaited == id))?;
        let (_, sent) = slot.take()?;
        self.unanswered = 0;
        self.answered = true;
        Some(now.saturating_sub(sent))
    }

    /// What the answers, or their absence, say of the link.
    pub(super) fn state(&self) -> LinkState {
        if self.unanswered > UNANSWERED_MAX {
            LinkState::TempFail
        } else if self.answered {
            LinkState::Ok
        } else {
            LinkState::Connect
        }
    }
}

/// Beacons whose answers are still awaited: five seconds' worth, as long as a link may be silent.
const BEACONS_AWAITED: usize = 5;
/// With the third unanswered beacon the link is in doubt (the one just sent does not count).
const UNANSWERED_MAX: u32 = 3;
