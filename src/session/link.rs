//! The link that drives a session, and how well it does.

use std::time::Duration;

use bevy_ecs::prelude::*;
use bytes::{Bytes, BytesMut};

use super::core::Terms;
use super::outbox::Outbox;
use crate::ident::{LinkKey, SessionId};
use crate::proxy::LinkSlot;
use crate::tick::TickTime;
use crate::wire::v1::{Ack, Beacon};
use crate::wire::{self, BEACON_EVERY, OUTBOX_MAX_BYTES, PROBE_EVERY};

/// The bound link of a session, and what leaves on it with the next flush.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Link {
    /// Unreliable frames, which leave last.
    unreliable: Vec<Bytes>,
    unreliable_bytes: usize,
    key: LinkKey,
    /// Where the proxies keep it.
    slot: LinkSlot,
    /// Leaves before all else.
    welcome: Option<Bytes>,
    /// Leaves after what is counted.
    beacon: Option<Bytes>,
    /// The steady time at which something was last received.
    heard: Duration,
    /// The server does not read it for now.
    is_paused: bool,
    beacons: Beacons,
    /// A Probe is not answered before this steady time.
    probe_from: Duration,
}

impl Link {
    /// A link that was just bound. Beacons are numbered on from those of earlier links, and sent at
    /// another moment of the second for each session.
    pub(super) fn new(key: LinkKey, session: SessionId, beacon_count: u64, terms: &Terms) -> Self {
        let stagger = Duration::from_millis(session.0 % BEACON_EVERY.as_millis() as u64);
        Self {
            key,
            slot: LinkSlot::default(),
            heard: terms.now,
            is_paused: false,
            welcome: None,
            beacon: None,
            unreliable: Vec::new(),
            unreliable_bytes: 0,
            beacons: Beacons { sent: beacon_count, due: terms.clock + stagger, ..Beacons::default() },
            probe_from: Duration::ZERO,
        }
    }

    /// See `Core::warm`.
    pub(super) fn warm(&self) -> usize {
        let beacons = &self.beacons;
        let is_awaited = beacons.awaited[0].is_some() ^ beacons.awaited[BEACONS_AWAITED - 1].is_some();
        let is_set =
            [is_awaited, beacons.answered, self.is_paused, self.welcome.is_some(), self.beacon.is_some()];
        self.unreliable.len()
            ^ is_set.into_iter().map(usize::from).sum::<usize>()
            ^ self.heard.subsec_nanos() as usize
            ^ beacons.unanswered as usize
    }

    pub(super) fn key(&self) -> LinkKey {
        self.key
    }

    /// Returns where the proxies keep it.
    pub(super) fn slot(&self) -> LinkSlot {
        self.slot
    }

    /// As [`slot`](Self::slot), to note it.
    pub(super) fn slot_mut(&mut self) -> &mut LinkSlot {
        &mut self.slot
    }

    pub(super) fn heard(&self) -> Duration {
        self.heard
    }

    /// Something was received.
    pub(super) fn hear(&mut self, at: Duration) {
        self.heard = self.heard.max(at);
    }

    /// Returns when the link will have been silent for too long. A link that is not read is not
    /// silent: the server is behind, not the peer.
    pub(super) fn silent_at(&self, link_timeout: Duration) -> Option<Duration> {
        (!self.is_paused).then(|| self.heard.saturating_add(link_timeout))
    }

    pub(super) fn beacon_due(&self) -> Duration {
        self.beacons.due
    }

    /// Sends the Beacon that is due by now, encoded at the end of `buffer`. Returns how many were sent over all
    /// links.
    pub(super) fn beat(
        &mut self,
        time: &TickTime,
        (received, latency_ms): (u64, u32),
        buffer: &mut BytesMut,
    ) -> Option<u64> {
        // Clients go by the time between two Beacons, so slow ticks do not make it longer.
        if self.beacons.due > time.now() {
            return None;
        }
        self.beacons.due = time.now() + BEACON_EVERY;
        // A client whose link is left unread is not given up, whatever of it has arrived.
        let echoed = if self.is_paused { self.beacons.sent } else { self.beacons.echoed };
        let id = self.beacons.send(time.steady());
        let beacon = Beacon { id, tick: time.tick().0, received, latency_ms, echoed: Some(echoed) };
        if buffer.capacity() < BEACON_BYTES {
            buffer.reserve(BEACONS_PER_BUFFER * BEACON_BYTES);
        }
        self.beacon = Some(wire::encode_into(buffer, &beacon));
        Some(id)
    }

    /// A Beacon came back. Returns the time since it was sent, if it is awaited.
    pub(super) fn echo(&mut self, id: u64, at: Duration) -> Option<Duration> {
        self.beacons.echo(id, at)
    }

    /// A Probe came. Returns the link to answer on, unless the last one was just now.
    pub(super) fn may_probe(&mut self, at: Duration) -> Option<LinkKey> {
        if at < self.probe_from {
            return None;
        }
        self.probe_from = at + PROBE_EVERY;
        Some(self.key)
    }

    /// What the answers to Beacons, or their absence, say of the link.
    pub(super) fn state(&self) -> LinkState {
        self.beacons.state()
    }

    pub(super) fn welcome(&mut self, frame: Bytes) {
        self.welcome = Some(frame);
    }

    /// Queues an unreliable frame. Returns false if there is no room.
    #[inline]
    pub(super) fn put(&mut self, frame: Bytes) -> bool {
        let bytes = self.unreliable_bytes + frame.len();
        if bytes > OUTBOX_MAX_BYTES || self.unreliable.len() >= UNRELIABLE_MAX_FRAMES {
            return false;
        }
        self.unreliable_bytes = bytes;
        self.unreliable.push(frame);
        true
    }

    /// Pauses a link of whose frames too many wait, and reads on when half of them are gone.
    pub(super) fn regulate(
        &mut self,
        is_full: bool,
        is_half_full: bool,
        now: Duration,
    ) -> Option<(LinkKey, bool)> {
        if !self.is_paused && is_full {
            self.is_paused = true;
        } else if self.is_paused && !is_half_full {
            self.is_paused = false;
            // Its silence was the server's.
            self.heard = self.heard.max(now);
        } else {
            return None;
        }
        Some((self.key, self.is_paused))
    }

    /// Returns true if something leaves with the next flush.
    pub(super) fn has_any(&self) -> bool {
        self.welcome.is_some() || self.beacon.is_some() || !self.unreliable.is_empty()
    }

    /// Hands over what is queued: the Welcome, an Ack, what is counted, a Beacon, then the rest. Returns how
    /// many unreliable frames were dropped for want of room.
    #[inline(always)]
    pub(super) fn flush(&mut self, ack: Option<u64>, outbox: &mut Outbox, to: &mut impl Outlet) -> u64 {
        if let Some(welcome) = self.welcome.take() {
            to.send(welcome);
        }
        if let Some(received) = ack {
            to.send(wire::encode(&Ack { received }));
        }
        while outbox.has_unsent()
            && to.has_room()
            && let Some(frame) = outbox.next_unsent()
        {
            to.send(frame);
        }
        // Without Beacons, a client takes a slow link for a dead one.
        if let Some(beacon) = self.beacon.take()
            && to.keeps_up()
        {
            to.send(beacon);
        }
        let mut dropped = 0;
        self.unreliable_bytes = 0;
        for frame in self.unreliable.drain(..) {
            if to.has_room() {
                to.send(frame);
            } else {
                dropped += 1;
            }
        }
        dropped
    }
}

/// Where the frames of a link go.
pub(super) trait Outlet {
    /// Returns true if the link takes another frame now.
    fn has_room(&self) -> bool;

    /// Returns true if the proxy of the link keeps up.
    fn keeps_up(&self) -> bool;

    fn send(&mut self, frame: Bytes);
}

impl Outlet for Vec<Bytes> {
    fn has_room(&self) -> bool {
        true
    }

    fn keeps_up(&self) -> bool {
        true
    }

    fn send(&mut self, frame: Bytes) {
        self.push(frame);
    }
}

/// The smoothed round-trip time of a session, measured by Beacons once a second.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
#[component(clone_behavior = Ignore)]
pub struct Latency {
    smoothed: Option<Duration>,
}

impl Latency {
    /// Nothing has been measured yet.
    pub(super) const UNKNOWN: Self = Self { smoothed: None };

    /// Returns the smoothed round-trip time; `None` until a Beacon came back.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.smoothed
    }

    /// Returns the smoothed round-trip time in whole milliseconds, 0 if it is unknown, as it goes over the
    /// wire.
    #[must_use]
    pub fn round_trip_ms(&self) -> u32 {
        self.smoothed.map_or(0, |time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX))
    }

    /// Takes a sample, with the weight of an eighth (RFC 6298, section 2).
    pub(super) fn sample(&mut self, round_trip: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => round_trip,
            Some(smoothed) => (smoothed * 7 + round_trip) / 8,
        });
    }
}

/// How well a session's link does. It follows from what is received; a game reads it.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[component(immutable, clone_behavior = Ignore, on_insert = super::mirror::inserted::<LinkState>)]
#[component(on_remove = super::mirror::removed::<LinkState>)]
pub enum LinkState {
    /// The link is bound, and no Beacon has come back on it yet.
    #[default]
    Connect,
    /// Beacons come back.
    Ok,
    /// Three Beacons in a row have had no answer.
    TempFail,
    /// There is no link. The session may be resumed.
    Disconnect,
    /// The session has ended.
    PermFail,
}

/// Beacons under way.
#[derive(Debug, Default)]
struct Beacons {
    /// The id of the newest.
    sent: u64,
    /// When the next one is due, on the sampled clock.
    due: Duration,
    /// Sent and not answered, oldest first.
    awaited: [Option<(u64, Duration)>; BEACONS_AWAITED],
    /// The newest one that was answered on this link; 0 before the first.
    echoed: u64,
    unanswered: u32,
    answered: bool,
}

impl Beacons {
    /// Sends one. Returns its id. The oldest awaited one is given up.
    fn send(&mut self, now: Duration) -> u64 {
        self.sent += 1;
        self.unanswered += 1;
        self.awaited.rotate_left(1);
        self.awaited[BEACONS_AWAITED - 1] = Some((self.sent, now));
        self.sent
    }

    fn echo(&mut self, id: u64, at: Duration) -> Option<Duration> {
        if id <= self.sent {
            self.echoed = self.echoed.max(id);
        }
        let slot = self.awaited.iter_mut().find(|slot| slot.is_some_and(|(awaited, _)| awaited == id))?;
        let (_, sent) = slot.take()?;
        self.unanswered = 0;
        self.answered = true;
        Some(at.saturating_sub(sent))
    }

    fn state(&self) -> LinkState {
        if self.unanswered > UNANSWERED_MAX {
            LinkState::TempFail
        } else if self.answered {
            LinkState::Ok
        } else {
            LinkState::Connect
        }
    }
}

/// What a Beacon takes at most: its id and five fields of numbers.
const BEACON_BYTES: usize = 64;
/// Beacons that share an allocation, which is free when the last of them was sent.
const BEACONS_PER_BUFFER: usize = 32;
/// Beacons whose answers are still awaited: five seconds' worth, as long as a link may be silent.
const BEACONS_AWAITED: usize = 5;
/// With the third unanswered Beacon the link is in doubt. The one just sent does not count.
const UNANSWERED_MAX: u32 = 3;
/// Unreliable frames that one tick may queue for a link, as many bytes as an outbox holds at most: what
/// is more than that would be late when it arrived, and is dropped.
const UNRELIABLE_MAX_FRAMES: usize = 1_024;
