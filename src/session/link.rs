//! The link that drives a session, and its state.

use std::time::Duration;

use bevy_ecs::prelude::*;
use bytes::{Bytes, BytesMut};

use super::BoundLink;
use super::core::WelcomeTerms;
use super::outbox::Outbox;
use crate::ident::{LinkKey, SessionId};
use crate::proxy::LinkSlot;
use crate::tick::TickTime;
use crate::wire::v1::{Ack, Beacon};
use crate::wire::{self, BEACON_EVERY, OUTBOX_MAX_BYTES, PROBE_EVERY};

/// The bound link of a session, and the frames that are sent on it with the next flush.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Link {
    /// Unreliable frames. They are sent last.
    unreliable: Vec<Bytes>,
    unreliable_bytes: usize,
    key: LinkKey,
    /// The slot in which the proxies keep the link.
    slot: LinkSlot,
    /// The Welcome. It is sent first.
    welcome: Option<Bytes>,
    /// The Beacon. It is sent after the counted frames.
    beacon: Option<Bytes>,
    /// The steady time at which a frame was last received.
    last_received: Duration,
    /// True while the server does not read the link.
    is_paused: bool,
    beacons: Beacons,
    /// The steady time from which the next Probe is answered.
    probe_from: Duration,
    /// What a game sees of the link.
    bound: BoundLink,
}

impl Link {
    /// Creates a link that was just bound. The ids of Beacons continue from those of earlier links. Each
    /// session sends its Beacons at its own moment within the second.
    pub(super) fn new(bound: BoundLink, session: SessionId, beacon_count: u64, terms: &WelcomeTerms) -> Self {
        let stagger = Duration::from_millis(session.0 % BEACON_EVERY.as_millis() as u64);
        Self {
            key: bound.key(),
            slot: LinkSlot::default(),
            last_received: terms.now,
            is_paused: false,
            welcome: None,
            beacon: None,
            unreliable: Vec::new(),
            unreliable_bytes: 0,
            beacons: Beacons { sent: beacon_count, due: terms.clock + stagger, ..Beacons::default() },
            probe_from: Duration::ZERO,
            bound,
        }
    }

    /// See `Core::prefetch`.
    pub(super) fn prefetch(&self) -> usize {
        let beacons = &self.beacons;
        let is_awaited = beacons.awaited[0].is_some() ^ beacons.awaited[BEACONS_AWAITED - 1].is_some();
        let is_set =
            [is_awaited, beacons.answered, self.is_paused, self.welcome.is_some(), self.beacon.is_some()];
        self.unreliable.len()
            ^ is_set.into_iter().map(usize::from).sum::<usize>()
            ^ self.last_received.subsec_nanos() as usize
            ^ beacons.unanswered as usize
    }

    pub(super) fn key(&self) -> LinkKey {
        self.key
    }

    pub(super) fn bound(&self) -> BoundLink {
        self.bound
    }

    /// Returns the slot in which the proxies keep the link.
    pub(super) fn slot(&self) -> LinkSlot {
        self.slot
    }

    /// Returns the slot as a mutable reference, so that the proxies can set it.
    pub(super) fn slot_mut(&mut self) -> &mut LinkSlot {
        &mut self.slot
    }

    pub(super) fn last_received(&self) -> Duration {
        self.last_received
    }

    /// Notes the time at which a frame was received.
    pub(super) fn note_received(&mut self, at: Duration) {
        self.last_received = self.last_received.max(at);
    }

    /// Returns the steady time at which the link will have been silent for too long. Returns `None` while the
    /// server does not read the link, because then the frames of a client do not arrive.
    pub(super) fn silent_at(&self, link_timeout: Duration) -> Option<Duration> {
        (!self.is_paused).then(|| self.last_received.saturating_add(link_timeout))
    }

    pub(super) fn beacon_due(&self) -> Duration {
        self.beacons.due
    }

    /// Queues the Beacon if it is due, encoded at the end of `buffer`. Returns how many Beacons were sent
    /// over all links. Returns `None` if no Beacon is due.
    pub(super) fn queue_beacon(
        &mut self,
        time: &TickTime,
        (received, latency_ms): (u64, u32),
        buffer: &mut BytesMut,
    ) -> Option<u64> {
        // The sampled clock is used, because the steady clock lags after long ticks, and clients expect a Beacon
        // each second.
        if self.beacons.due > time.now() {
            return None;
        }
        self.beacons.due = time.now() + BEACON_EVERY;
        // The client of a paused link must not take the link for lost, so the newest Beacon counts as echoed.
        let echoed = if self.is_paused { self.beacons.sent } else { self.beacons.echoed };
        let id = self.beacons.send(time.steady());
        let beacon = Beacon { id, tick: time.tick().0, received, latency_ms, echoed: Some(echoed) };
        if buffer.capacity() < BEACON_BYTES {
            buffer.reserve(BEACONS_PER_BUFFER * BEACON_BYTES);
        }
        self.beacon = Some(wire::encode_into(buffer, &beacon));
        Some(id)
    }

    /// Takes the echo of a Beacon. Returns the time since the Beacon was sent, if its echo is awaited.
    pub(super) fn echo(&mut self, id: u64, at: Duration) -> Option<Duration> {
        self.beacons.echo(id, at)
    }

    /// Returns the link on which to answer a Probe that arrived at `at`. Returns `None` if another Probe was
    /// answered shortly before.
    pub(super) fn may_probe(&mut self, at: Duration) -> Option<LinkKey> {
        if at < self.probe_from {
            return None;
        }
        self.probe_from = at + PROBE_EVERY;
        Some(self.key)
    }

    /// Returns the state of the link, as derived from the echoes of Beacons.
    pub(super) fn state(&self) -> LinkState {
        self.beacons.state()
    }

    pub(super) fn welcome(&mut self, frame: Bytes) {
        self.welcome = Some(frame);
    }

    /// Queues an unreliable frame. Returns false if there is no room for it.
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

    /// Pauses the link if the inbox is full, and ends the pause when the inbox is at most half full. Returns the
    /// link, and true if it is now paused. Returns `None` if nothing changes.
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
            // The link was silent only because the server did not read it.
            self.last_received = self.last_received.max(now);
        } else {
            return None;
        }
        Some((self.key, self.is_paused))
    }

    /// Returns true if a Welcome, a Beacon or an unreliable frame is queued.
    pub(super) fn has_any(&self) -> bool {
        self.welcome.is_some() || self.beacon.is_some() || !self.unreliable.is_empty()
    }

    /// Sends the queued frames in this order: the Welcome, an Ack, the counted frames, a Beacon, the
    /// unreliable frames. Returns how many unreliable frames were dropped for lack of room.
    #[inline(always)]
    pub(super) fn flush(&mut self, ack: Option<u64>, outbox: &mut Outbox, to: &mut impl FrameSink) -> u64 {
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
        // A Beacon is sent even if the link has no room, because a client without Beacons takes a slow link
        // for lost.
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

/// The destination of a link's frames.
pub(super) trait FrameSink {
    /// Returns true if the link has room for another frame.
    fn has_room(&self) -> bool;

    /// Returns true if the link's proxy still accepts frames.
    fn keeps_up(&self) -> bool;

    fn send(&mut self, frame: Bytes);
}

impl FrameSink for Vec<Bytes> {
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

/// The smoothed round-trip time of a session. It is measured once a second, with Beacons.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
#[component(clone_behavior = Ignore)]
pub struct Latency {
    smoothed: Option<Duration>,
}

impl Latency {
    /// The latency before the first measurement.
    pub(super) const UNKNOWN: Self = Self { smoothed: None };

    /// Returns the smoothed round-trip time. Returns `None` until the first echo of a Beacon.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.smoothed
    }

    /// Returns the smoothed round-trip time in whole milliseconds, as it is sent in a Beacon. Returns 0 if it
    /// is not known yet.
    #[must_use]
    pub fn round_trip_ms(&self) -> u32 {
        self.smoothed.map_or(0, |time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX))
    }

    /// Adds a sample with a weight of one eighth (RFC 6298, section 2).
    pub(super) fn sample(&mut self, round_trip: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => round_trip,
            Some(smoothed) => (smoothed * 7 + round_trip) / 8,
        });
    }
}

/// The state of a session's link. The server derives it from the echoes of Beacons; a game only reads it.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[component(immutable, clone_behavior = Ignore, on_insert = super::mirror::inserted::<LinkState>)]
#[component(on_remove = super::mirror::removed::<LinkState>)]
pub enum LinkState {
    /// The link is bound, and no Beacon has been echoed on it yet.
    #[default]
    Connect,
    /// The client echoes Beacons.
    Ok,
    /// Three Beacons in a row were not echoed.
    TempFail,
    /// There is no link. The session may be resumed.
    Disconnect,
    /// The session has ended.
    PermFail,
}

/// The Beacons of one link.
#[derive(Debug, Default)]
struct Beacons {
    /// The id of the newest Beacon.
    sent: u64,
    /// The time at which the next Beacon is due, on the sampled clock.
    due: Duration,
    /// The ids and steady times of the Beacons that were sent and not echoed, oldest first.
    awaited: [Option<(u64, Duration)>; BEACONS_AWAITED],
    /// The id of the newest Beacon that was echoed on this link. It is 0 before the first echo.
    echoed: u64,
    unanswered: u32,
    answered: bool,
}

impl Beacons {
    /// Notes that a Beacon is sent at `now`, and returns its id. The oldest awaited Beacon is no longer
    /// awaited.
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

/// Maximum length of a Beacon's frame in bytes: the message id and five numeric fields.
const BEACON_BYTES: usize = 64;
/// Number of Beacons that share an allocation. The allocation is freed when the last of them has been sent.
const BEACONS_PER_BUFFER: usize = 32;
/// Number of Beacons whose echoes are awaited. Five Beacons cover the five seconds for which a link may be
/// silent.
const BEACONS_AWAITED: usize = 5;
/// Number of Beacons without a Ping above which the state is TempFail. It includes the Beacon that was just
/// sent.
const UNANSWERED_MAX: u32 = 3;
/// Maximum number of unreliable frames that can be queued for a link in one tick. They also have at most as
/// many bytes as an outbox. Further frames are dropped, because they would arrive too late.
const UNRELIABLE_MAX_FRAMES: usize = 1_024;
