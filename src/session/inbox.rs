//! What arrived for a session and was not dispatched yet.

use std::collections::VecDeque;
use std::time::Duration;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::outbox::COUNT_MAX;
use crate::wire::{self, Lane};

/// Frames of the bound link that wait for dispatch, and the count of those that were taken.
#[derive(Component, Debug, Default)]
pub struct Inbox {
    pub(super) frames: VecDeque<Inbound>,
    bytes: usize,
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
        self.frames.len()
    }

    /// Whether so many frames wait, or as many bytes as an outbox holds of them.
    pub(crate) fn is_full(&self, max: usize) -> bool {
        self.frames.len() > max || self.bytes > wire::OUTBOX_MAX_BYTES
    }

    /// Takes the next frame, in order of arrival.
    pub(crate) fn pop(&mut self) -> Option<Inbound> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.bytes.len();
        Some(frame)
    }

    /// A frame arrived.
    pub(crate) fn push(&mut self, frame: Inbound) {
        self.bytes += frame.bytes.len();
        self.frames.push_back(frame);
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
    pub(super) fn rebase(&mut self, trimmed: u64) -> bool {
        self.discard();
        let gap = trimmed > self.received;
        if trimmed <= COUNT_MAX {
            self.received = self.received.max(trimmed);
        }
        self.acked = self.received;
        gap
    }

    /// Drops what waits, uncounted: its client will send it again.
    pub(crate) fn discard(&mut self) {
        self.frames = VecDeque::new();
        self.bytes = 0;
    }
}

/// Sessions whose frames wait for dispatch, and the order in which frames arrived.
#[derive(Resource, Debug, Default)]
pub(crate) struct DispatchQueue {
    sessions: Vec<Entity>,
    arrived: u64,
}

impl DispatchQueue {
    /// A frame arrived for a session, the first that waits or one more. Its place among all.
    pub(crate) fn arrived(&mut self, session: Entity, is_first: bool) -> u64 {
        if is_first {
            self.sessions.push(session);
        }
        self.arrived += 1;
        self.arrived
    }

    /// Takes the sessions that are to be dispatched.
    pub(crate) fn take(&mut self) -> Vec<Entity> {
        std::mem::take(&mut self.sessions)
    }

    /// Frames of a session are left for the next tick.
    pub(crate) fn leave(&mut self, session: Entity) {
        self.sessions.push(session);
    }
}
