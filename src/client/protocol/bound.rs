//! Handles the frames of a bound link: counts, acknowledgements, and the outbox.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::in_flight::InFlight;
use super::{Core, Phase};
use crate::client::event::ClientEvent;
use crate::wire::v1::{Ack, Beacon, Bye, Closed, Ping};
use crate::wire::{ACK_EVERY, ACK_EVERY_FRAMES, Frame, FrameError, Lane, Range, WireMessage as _, encode};

/// The state of one bound link, which ends with the link.
#[derive(Debug)]
pub(super) struct Bound {
    /// Time since a frame was received.
    silence: Duration,
    /// The `dt` of this update: a frame that is read now may have arrived this long ago.
    step: Duration,
    /// Time since a frame was sent.
    idle: Duration,
    /// Counted frames that were received since the last Ack.
    unacked: u64,
    /// Time since the first of the `unacked` frames.
    waited: Duration,
    /// True until the Ack that follows Welcome is sent.
    greeting: bool,
    /// Ids of the Beacons that are not echoed yet.
    beacons: VecDeque<u64>,
    in_flight: InFlight,
}

impl Bound {
    pub(super) fn new() -> Self {
        Self {
            silence: Duration::ZERO,
            step: Duration::ZERO,
            idle: Duration::ZERO,
            unacked: 0,
            waited: Duration::ZERO,
            greeting: true,
            beacons: VecDeque::new(),
            in_flight: InFlight::default(),
        }
    }

    /// Lets time pass. `is_unread` is true if the client does not read the link.
    pub(super) fn advance(&mut self, dt: Duration, is_unread: bool) {
        self.silence = self.silence.saturating_add(dt);
        self.in_flight.advance(dt, is_unread);
        self.step = dt;
        self.idle = self.idle.saturating_add(dt);
        if self.unacked > 0 {
            self.waited = self.waited.saturating_add(dt);
        }
    }

    /// Notes that a frame has arrived at some time since the last update. The silence is then at most the `dt` of this
    /// update. After a sleep, the silence can be close to the link timeout, and the server may have closed the link in
    /// the meantime. So the silence is lowered further until a new frame has [`FRESH_WITHIN`] to arrive, or half of the
    /// link timeout if that is shorter.
    pub(super) fn received(&mut self, link_timeout: Duration) {
        let stale_most = link_timeout.saturating_sub(FRESH_WITHIN.min(link_timeout / 2));
        self.silence = self.silence.min(self.step).min(stale_most);
    }

    /// Returns the time for which nothing was received. If the link `may_be_deaf`, returns the time for which the
    /// server has received nothing, if that is longer.
    pub(super) fn silence(&self, may_be_deaf: bool) -> Duration {
        if may_be_deaf { self.silence.max(self.in_flight.silence()) } else { self.silence }
    }

    /// Returns the silence at the last update, after its frames were read.
    pub(super) fn silence_before(&self, may_be_deaf: bool) -> Duration {
        self.silence(may_be_deaf).saturating_sub(self.step)
    }

    fn owes_ack(&self, link_timeout: Duration) -> bool {
        self.greeting
            || self.unacked >= ACK_EVERY_FRAMES
            || self.waited >= ACK_EVERY
            || self.idle >= link_timeout / IDLE_FRACTION
    }

    fn acked(&mut self) {
        self.greeting = false;
        self.unacked = 0;
        self.waited = Duration::ZERO;
        self.idle = Duration::ZERO;
    }
}

impl Core {
    pub(super) fn take_bound(&mut self, lane: Lane, frame: Frame) {
        match frame.id.range() {
            Range::LinkControl => {
                if let Err(error) = self.take_control(&frame) {
                    self.broken(error.to_string());
                }
            }
            Range::Session | Range::GameReliable if lane == Lane::Unreliable => {
                self.broken(format!("message {} arrived on the unreliable lane", frame.id));
            }
            Range::Session | Range::GameReliable => {
                if let (Some(session), Phase::Bound(bound)) = (&mut self.session, &mut self.phase) {
                    session.received = session.received.saturating_add(1);
                    bound.unacked += 1;
                }
                self.events.push(ClientEvent::Message(frame));
            }
            Range::GameUnreliable => self.events.push(ClientEvent::Message(frame)),
        }
    }

    /// Applies link control. Messages that a server does not send, and unknown ids, are ignored.
    fn take_control(&mut self, frame: &Frame) -> Result<(), FrameError> {
        match frame.id {
            Closed::ID => {
                let closed = frame.decode()?;
                self.closed(closed);
            }
            Ack::ID => {
                let ack: Ack = frame.decode()?;
                self.acknowledged(ack.received);
            }
            Beacon::ID => {
                let beacon: Beacon = frame.decode()?;
                if beacon.latency_ms > 0 {
                    self.latency = Some(Duration::from_millis(beacon.latency_ms.into()));
                }
                self.reports_echoes = beacon.echoed.is_some();
                if let Phase::Bound(bound) = &mut self.phase {
                    bound.in_flight.echoed(beacon.echoed.unwrap_or_default());
                    if bound.beacons.len() >= BEACONS_MAX {
                        bound.beacons.pop_front();
                    }
                    bound.beacons.push_back(beacon.id);
                }
                self.acknowledged(beacon.received);
            }
            _ => {}
        }
        Ok(())
    }

    fn acknowledged(&mut self, received: u64) {
        let Some(session) = &mut self.session else {
            return;
        };
        if session.outbox.acknowledge(received).is_err() {
            self.broken(format!("{received} frames were acknowledged, more than were sent"));
        } else if let Phase::Bound(bound) = &mut self.phase {
            bound.in_flight.acknowledged(received);
        }
    }

    /// Sends the Ack if one is due, then Pings, then the outbox in order, and last the Bye.
    pub(super) fn transmit_bound(&mut self, send: &mut impl FnMut(Bytes) -> bool) {
        let (Phase::Bound(bound), Some(session)) = (&mut self.phase, &mut self.session) else {
            return;
        };
        let received = session.received;
        if bound.owes_ack(self.config.link_timeout) {
            if !send(encode(&Ack { received })) {
                return;
            }
            bound.acked();
        }
        while let Some(&id) = bound.beacons.front() {
            if !send(encode(&Ping { id, received })) {
                break;
            }
            bound.beacons.pop_front();
            bound.idle = Duration::ZERO;
            bound.in_flight.sent_echo(id);
        }
        while let Some(frame) = session.outbox.next() {
            if !send(frame.clone()) {
                return;
            }
            session.outbox.advance();
            bound.in_flight.sent(session.outbox.given());
            bound.idle = Duration::ZERO;
        }
        if let Some(leaving) = self.leaving.as_mut().filter(|leaving| !leaving.said) {
            leaving.said = send(encode(&Bye {}));
        }
    }

    /// Returns true if an unreliable frame may be sent: the link is bound and its first Ack was sent.
    pub(in crate::client) fn is_bound(&self) -> bool {
        matches!(&self.phase, Phase::Bound(bound) if !bound.greeting)
    }
}

/// Time within which a new frame arrives on a good link after a sleep: the server sends a Beacon each second.
const FRESH_WITHIN: Duration = Duration::from_secs(2);
/// An idle client sends an Ack this many times per link timeout. The protocol requires two.
const IDLE_FRACTION: u32 = 4;
/// Beacons that wait for their Ping while the link has no room. Older ones are dropped.
const BEACONS_MAX: usize = 8;
