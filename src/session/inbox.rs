//! What arrived for a session and was not dispatched yet.
//!
//! Frames are taken in order of arrival, as fast as the session's rates allow. A counted one that
//! is over them waits, and with it all behind it; what is unreliable is dropped instead. Only Ack,
//! Ping and Probe pass by those that wait: they say nothing that a frame before them could change,
//! and behind calls that wait a client that acknowledges all would seem to acknowledge nothing.

use std::collections::VecDeque;
use std::time::Duration;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::SessionConfig;
use super::meter::Meter;
use super::outbox::COUNT_MAX;
use crate::ident::MessageId;
use crate::wire::v1::{Ack, Ping, Probe};
use crate::wire::{self, Lane, Range, WireMessage as _};

/// Frames of the bound link that wait for dispatch, and the count of those that were taken.
#[derive(Component, Debug, Default)]
pub struct Inbox {
    frames: VecDeque<Inbound>,
    bytes: usize,
    /// Acks, Pings and Probes.
    control: VecDeque<Inbound>,
    meter: Meter,
    pub(super) received: u64,
    /// Of these, how many the client was told of by a frame of its own.
    pub(super) acked: u64,
    pub(super) stray_count: u32,
}

/// A frame as it arrived.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// Its place among all frames that the server received.
    pub(crate) order: u64,
    /// The steady time at which it arrived.
    pub(crate) at: Duration,
    pub(crate) lane: Lane,
    pub(crate) bytes: Bytes,
}

impl Inbox {
    /// Counted frames that were taken from this session, over all its links.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Frames that wait.
    #[must_use]
    pub fn frame_count(&self) -> usize {
        self.frames.len() + self.control.len()
    }

    /// Whether so many frames wait, or as many bytes as an outbox holds of them.
    pub(crate) fn is_full(&self, max: usize) -> bool {
        self.frames.len() > max || self.bytes > wire::OUTBOX_MAX_BYTES
    }

    /// Takes the next Ack, Ping or Probe.
    pub(crate) fn pop_control(&mut self) -> Option<Inbound> {
        self.control.pop_front()
    }

    /// Takes the next frame that may be dispatched now, in order of arrival; `dropped` grows by the
    /// unreliable ones that are over the rates.
    pub(crate) fn pop(
        &mut self,
        now: Duration,
        config: &SessionConfig,
        dropped: &mut u64,
    ) -> Option<Inbound> {
        loop {
            let frame = self.frames.front()?;
            let range = wire::id_of(&frame.bytes).map_or(Range::LinkControl, MessageId::range);
            let is_counted = matches!(range, Range::Session | Range::GameReliable);
            let bytes = frame.bytes.len();
            if range == Range::LinkControl || self.meter.admits(is_counted, bytes, now, config) {
                self.bytes -= bytes;
                return self.frames.pop_front();
            }
            let before = self.frames.len();
            self.drop_unreliable();
            *dropped += (before - self.frames.len()) as u64;
            if is_counted {
                return None;
            }
        }
    }

    /// The rates are exhausted: what may be lost is.
    fn drop_unreliable(&mut self) {
        let bytes = &mut self.bytes;
        self.frames.retain(|frame| {
            let is_lost = is_unreliable(&frame.bytes);
            *bytes -= if is_lost { frame.bytes.len() } else { 0 };
            !is_lost
        });
    }

    /// A frame arrived, and is kept if there is room for it: what is counted always is.
    pub(crate) fn push(&mut self, frame: Inbound, now: Duration, config: &SessionConfig) -> bool {
        let id = wire::id_of(&frame.bytes);
        if matches!(id, Some(Ack::ID | Ping::ID | Probe::ID)) {
            let admitted = self.meter.admits_control(now, config);
            if admitted {
                self.control.push_back(frame);
            }
            return admitted;
        }
        let may_be_lost = frame.lane == Lane::Unreliable || is_unreliable(&frame.bytes);
        if self.is_full(config.inbox_max_frames) && may_be_lost {
            return false;
        }
        self.bytes += frame.bytes.len();
        self.frames.push_back(frame);
        true
    }

    /// A counted frame was taken, whatever comes of it.
    pub(crate) fn count(&mut self) {
        self.received += 1;
    }

    /// Another message that the server does not take; how many there were.
    pub(crate) fn stray(&mut self) -> u32 {
        self.stray_count += 1;
        self.stray_count
    }

    /// A new link: drops what waits, uncounted, and takes the client's word that it has trimmed
    /// further than was received here. Whether it had: those frames are lost.
    pub(super) fn rebase(&mut self, trimmed: u64, now: Duration, config: &SessionConfig) -> bool {
        self.discard();
        self.meter.allow_replay(now, config);
        let gap = trimmed > self.received;
        if trimmed <= COUNT_MAX {
            self.received = self.received.max(trimmed);
        }
        self.acked = self.received;
        gap
    }

    /// Takes all that waits, whatever the rates.
    #[cfg(feature = "planted")]
    pub(super) fn take_all(&mut self) -> VecDeque<Inbound> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }

    /// Puts back what was taken.
    #[cfg(feature = "planted")]
    pub(super) fn put_back(&mut self, frames: VecDeque<Inbound>) {
        self.bytes += frames.iter().map(|frame| frame.bytes.len()).sum::<usize>();
        self.frames.extend(frames);
    }

    /// Drops what waits, uncounted: its client will send it again.
    pub(crate) fn discard(&mut self) {
        self.frames = VecDeque::new();
        self.control = VecDeque::new();
        self.bytes = 0;
    }
}

/// Whether a frame is one of the game's that may be lost.
fn is_unreliable(frame: &[u8]) -> bool {
    wire::id_of(frame).is_some_and(|id| id.range() == Range::GameUnreliable)
}

/// Sessions whose frames wait for dispatch, and the order in which frames arrived.
#[derive(Resource, Debug, Default)]
pub(crate) struct DispatchQueue {
    sessions: Vec<Entity>,
    arrived: u64,
}

impl DispatchQueue {
    /// A frame arrived. Its place among all.
    pub(crate) fn arrived(&mut self) -> u64 {
        self.arrived += 1;
        self.arrived
    }

    /// Frames that arrived so far.
    pub(crate) fn arrived_count(&self) -> u64 {
        self.arrived
    }

    /// A session has frames that wait, and had none before.
    pub(crate) fn enter(&mut self, session: Entity) {
        self.sessions.push(session);
    }

    /// Takes the sessions that are to be dispatched.
    pub(crate) fn take(&mut self) -> Vec<Entity> {
        std::mem::take(&mut self.sessions)
    }
}
