//! A bound link: counting, acks, and the outbox.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::heard::Heard;
use super::{Core, Phase};
use crate::client::event::ClientEvent;
use crate::wire::v1::{Ack, Beacon, Bye, Closed, Ping};
use crate::wire::{ACK_EVERY, ACK_EVERY_FRAMES, Frame, FrameError, Lane, Range, WireMessage as _, encode};

/// What belongs to one link and goes with it.
#[derive(Debug)]
pub(super) struct Bound {
    /// Since something was heard.
    silence: Duration,
    /// How long ago what arrives now may have arrived: the time since the update before.
    step: Duration,
    /// Since something was sent.
    idle: Duration,
    /// Frames counted since the last Ack, and for how long the oldest has waited.
    uncounted: u64,
    waited: Duration,
    /// The Ack that follows Welcome is not sent yet.
    greeting: bool,
    /// Beacons that are not echoed yet.
    beacons: VecDeque<u64>,
    heard: Heard,
}

impl Bound {
    pub(super) fn new() -> Self {
        Self {
            silence: Duration::ZERO,
            step: Duration::ZERO,
            idle: Duration::ZERO,
            uncounted: 0,
            waited: Duration::ZERO,
            greeting: true,
            beacons: VecDeque::new(),
            heard: Heard::default(),
        }
    }

    /// Lets time pass, in which the game may leave the link unread.
    pub(super) fn advance(&mut self, dt: Duration, is_unread: bool) {
        self.silence = self.silence.saturating_add(dt);
        self.heard.advance(dt, is_unread);
        self.step = dt;
        self.idle = self.idle.saturating_add(dt);
        if self.uncounted > 0 {
            self.waited = self.waited.saturating_add(dt);
        }
    }

    /// A frame arrived at some time since the update before. After a sleep it may be as old as the
    /// sleep was long, and the server may have given the link up meanwhile.
    pub(super) fn received(&mut self, link_timeout: Duration) {
        let stale_most = link_timeout.saturating_sub(FRESH_WITHIN.min(link_timeout / 2));
        self.silence = self.silence.min(self.step).min(stale_most);
    }

    /// How long nothing was received or, where the link `may_be_deaf`, nothing of this client by the server.
    pub(super) fn silence(&self, may_be_deaf: bool) -> Duration {
        if may_be_deaf { self.silence.max(self.heard.silence()) } else { self.silence }
    }

    /// The silence up to the update before, whose frames were read.
    pub(super) fn silence_before(&self, may_be_deaf: bool) -> Duration {
        self.silence(may_be_deaf).saturating_sub(self.step)
    }

    fn owes_ack(&self, link_timeout: Duration) -> bool {
        self.greeting
            || self.uncounted >= ACK_EVERY_FRAMES
            || self.waited >= ACK_EVERY
            || self.idle >= link_timeout / IDLE_FRACTION
    }

    fn acked(&mut self) {
        self.greeting = false;
        self.uncounted = 0;
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
                self.broken(format!("message {} came on the unreliable lane", frame.id));
            }
            Range::Session | Range::GameReliable => {
                if let (Some(session), Phase::Bound(bound)) = (&mut self.session, &mut self.phase) {
                    session.received = session.received.saturating_add(1);
                    bound.uncounted += 1;
                }
                self.events.push(ClientEvent::Message(frame));
            }
            Range::GameUnreliable => self.events.push(ClientEvent::Message(frame)),
        }
    }

    /// Link control that a server does not send, or that this version does not know, is ignored.
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
                self.tells_echoes = beacon.echoed.is_some();
                if let Phase::Bound(bound) = &mut self.phase {
                    bound.heard.echoed(beacon.echoed.unwrap_or_default());
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
            bound.heard.acknowledged(received);
        }
    }

    /// The Ack that is due, echoes, the outbox in order, and at the very end the Bye.
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
            bound.heard.sent_echo(id);
        }
        while let Some(frame) = session.outbox.next() {
            if !send(frame.clone()) {
                return;
            }
            session.outbox.advance();
            bound.heard.sent(session.outbox.given());
            bound.idle = Duration::ZERO;
        }
        if let Some(leaving) = self.leaving.as_mut().filter(|leaving| !leaving.said) {
            leaving.said = send(encode(&Bye {}));
        }
    }

    /// Whether an unreliable frame may go straight to the link.
    pub(in crate::client) fn is_bound(&self) -> bool {
        matches!(&self.phase, Phase::Bound(bound) if !bound.greeting)
    }
}

/// After a sleep, a link that lives is heard within this time: the server sends a Beacon each second.
const FRESH_WITHIN: Duration = Duration::from_secs(2);
/// An idle client is heard from four times a link timeout; twice is what the server counts on.
const IDLE_FRACTION: u32 = 4;
/// Beacons that wait for their echo while the link takes nothing; older ones tell no latency.
const BEACONS_MAX: usize = 8;
