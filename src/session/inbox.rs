//! What arrived for a session and was not dispatched yet.
//!
//! Frames are taken in order of arrival, as fast as the session's rates allow. A counted one that
//! is over them waits, and with it all behind it; what is unreliable is dropped instead. Link control
//! does not wait here: it takes effect when it arrives.

use std::collections::VecDeque;
use std::time::Duration;

use super::SessionConfig;
use super::meter::{Meter, Rate};
use super::outbox::COUNT_MAX;
use crate::ident::MessageId;
use crate::wire::{self, Frame, FrameError, Lane, Range};

/// Frames of a client that wait for dispatch, and the count of those that were taken.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Inbox {
    received: u64,
    /// Of these, how many the client was told of by a frame of its own.
    acked: u64,
    frames: VecDeque<Inbound>,
    bytes: usize,
    meter: Meter,
    stray_count: u32,
}

/// A frame as it arrived.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// Its place among all frames that the server received.
    pub(crate) order: u64,
    /// The steady time at which it arrived.
    pub(crate) at: Duration,
    /// The lane that it came on.
    pub(crate) lane: Lane,
    /// Its length in bytes.
    pub(crate) length: usize,
    /// The frame, unless it has not even an id.
    pub(crate) frame: Result<Frame, FrameError>,
}

impl Inbound {
    /// Returns who owns the frame's id. Dispatch finds a frame without one as soon as one of link control.
    fn range(&self) -> Range {
        self.frame.as_ref().map_or(Range::LinkControl, |frame| frame.id.range())
    }
}

impl Inbox {
    /// An inbox from which this many counted frames were taken.
    pub(super) fn since(received: u64) -> Self {
        Self { received, acked: received, ..Self::default() }
    }

    /// Returns how many counted frames were taken, over all links.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Returns how many counted frames were taken that the client was not told of by an Ack.
    pub(super) fn unacked_count(&self) -> u64 {
        self.received - self.acked
    }

    /// Returns the count that an Ack has to tell, if that is due.
    pub(super) fn take_ack(&mut self, every: u64) -> Option<u64> {
        if self.unacked_count() < every {
            return None;
        }
        self.acked = self.received;
        Some(self.received)
    }

    /// See `Core::warm`.
    pub(super) fn warm(&self) -> usize {
        self.frames.len() ^ self.meter.warm() ^ usize::from(self.received > self.acked)
    }

    /// Returns how many frames wait.
    pub(crate) fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// Returns the place among all frames of the first one of this message that waits.
    pub(super) fn find(&self, id: MessageId) -> Option<u64> {
        let found =
            self.frames.iter().find(|inbound| inbound.frame.as_ref().is_ok_and(|frame| frame.id == id));
        found.map(|inbound| inbound.order)
    }

    /// Returns true if more frames wait than that, or more bytes than an outbox holds.
    pub(super) fn is_full(&self, max: usize) -> bool {
        self.frames.len() > max || self.bytes > wire::OUTBOX_MAX_BYTES
    }

    /// Takes and counts the next frame that may be dispatched now, in order of arrival; `dropped` grows by
    /// the unreliable ones that are over the rates.
    pub(super) fn pop(
        &mut self,
        now: Duration,
        config: &SessionConfig,
        dropped: &mut u64,
    ) -> Option<Inbound> {
        loop {
            let frame = self.frames.front()?;
            let (range, length) = (frame.range(), frame.length);
            let is_counted = matches!(range, Range::Session | Range::GameReliable);
            if range == Range::LinkControl || self.meter.admits(is_counted, length, now, config) {
                self.bytes -= length;
                self.received += u64::from(is_counted);
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
            let is_lost = frame.range() == Range::GameUnreliable;
            *bytes -= if is_lost { frame.length } else { 0 };
            !is_lost
        });
    }

    /// A frame has arrived, and is kept if there is room for it: what is counted always is.
    pub(super) fn push(&mut self, frame: Inbound, max_frames: usize) -> bool {
        let may_be_lost = frame.lane == Lane::Unreliable || frame.range() == Range::GameUnreliable;
        if may_be_lost && self.is_full(max_frames) {
            return false;
        }
        self.bytes += frame.length;
        self.frames.push_back(frame);
        true
    }

    /// Takes a frame of link control into account. Returns false if it is over its rate.
    pub(super) fn admits_control(&mut self, now: Duration, rate: Rate) -> bool {
        self.meter.admits_control(now, rate)
    }

    /// Another message that the server does not take. Returns how many there were.
    pub(super) fn stray(&mut self) -> u32 {
        self.stray_count += 1;
        self.stray_count
    }

    /// A new link: drops what waits, uncounted, and takes the client's word that it has trimmed
    /// further than was received here. Returns how many frames are lost if it had, as far as its word is
    /// believed.
    pub(super) fn rebase(&mut self, trimmed: u64, now: Duration, config: &SessionConfig) -> Option<u64> {
        self.discard();
        self.meter.allow_replay(now, config);
        let lost = trimmed.checked_sub(self.received).filter(|lost| *lost > 0);
        let is_believed = trimmed <= COUNT_MAX;
        if is_believed {
            self.received = self.received.max(trimmed);
        }
        self.acked = self.received;
        lost.map(|lost| if is_believed { lost } else { 0 })
    }

    /// Drops what waits, uncounted: its client will send it again.
    pub(super) fn discard(&mut self) {
        self.frames = VecDeque::new();
        self.bytes = 0;
    }
}
