//! The inbox of a session: frames that have arrived and were not dispatched.
//!
//! Frames are taken in the order of arrival, as fast as the session's rates allow. A counted frame that is
//! over the rates waits, and all frames behind it wait too. An unreliable frame that is over the rates is
//! dropped. Link control does not wait here, because it takes effect on arrival.

use std::collections::VecDeque;
use std::time::Duration;

use super::SessionConfig;
use super::meter::{Meter, Rate};
use super::outbox::COUNT_MAX;
use crate::ident::MessageId;
use crate::wire::{self, Frame, FrameError, Lane, Range};

/// The frames of a client that wait for dispatch, and the number of counted frames that were taken.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Inbox {
    received: u64,
    /// Number of received frames that an Ack has acknowledged.
    acked: u64,
    frames: VecDeque<Inbound>,
    bytes: usize,
    meter: Meter,
    stray_count: u32,
    /// Number of counted frames that the client has sent on earlier links.
    replayed: u64,
}

/// A frame that has arrived.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// The position of the frame among all frames that the server has received.
    pub(crate) order: u64,
    /// The steady time at which the frame arrived.
    pub(crate) at: Duration,
    /// The lane on which the frame arrived.
    pub(crate) lane: Lane,
    /// Length of the frame in bytes.
    pub(crate) length: usize,
    /// True if the client has sent the frame on an earlier link as well. It is set when the frame is taken.
    pub(crate) is_replayed: bool,
    /// The parsed frame, or the error if it has no message id.
    pub(crate) frame: Result<Frame, FrameError>,
}

impl Inbound {
    /// Returns the range of the frame's id. A frame without an id is in the range of link control, so that
    /// rates do not delay the offence.
    fn range(&self) -> Range {
        self.frame.as_ref().map_or(Range::LinkControl, |frame| frame.id.range())
    }
}

impl Inbox {
    /// Creates an inbox from which this many counted frames were taken.
    pub(super) fn since(received: u64) -> Self {
        Self { received, acked: received, ..Self::default() }
    }

    /// Returns how many counted frames were taken, over all links.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Returns how many counted frames were taken and not yet acknowledged by an Ack.
    pub(super) fn unacked_count(&self) -> u64 {
        self.received - self.acked
    }

    /// Returns the count for an Ack if at least `every` frames are unacknowledged, and notes them as
    /// acknowledged.
    pub(super) fn take_ack(&mut self, every: u64) -> Option<u64> {
        if self.unacked_count() < every {
            return None;
        }
        self.acked = self.received;
        Some(self.received)
    }

    /// See `Core::prefetch`.
    pub(super) fn prefetch(&self) -> usize {
        self.frames.len() ^ self.meter.prefetch() ^ usize::from(self.received > self.acked)
    }

    /// Returns the number of frames that wait.
    pub(crate) fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// Returns the position of the first waiting frame with this id among all frames that have arrived.
    pub(super) fn find(&self, id: MessageId) -> Option<u64> {
        let found =
            self.frames.iter().find(|inbound| inbound.frame.as_ref().is_ok_and(|frame| frame.id == id));
        found.map(|inbound| inbound.order)
    }

    /// Returns true if more than `max` frames wait, or more bytes than an outbox holds.
    pub(super) fn is_full(&self, max: usize) -> bool {
        self.frames.len() > max || self.bytes > wire::OUTBOX_MAX_BYTES
    }

    /// Takes and counts the next frame that may be dispatched now, in the order of arrival. Adds to `dropped`
    /// the number of unreliable frames that are dropped because they are over the rates.
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
                let mut frame = self.frames.pop_front()?;
                frame.is_replayed = is_counted && self.received <= self.replayed;
                return Some(frame);
            }
            let before = self.frames.len();
            self.drop_unreliable();
            *dropped += (before - self.frames.len()) as u64;
            if is_counted {
                return None;
            }
        }
    }

    /// Drops all unreliable frames.
    fn drop_unreliable(&mut self) {
        let bytes = &mut self.bytes;
        self.frames.retain(|frame| {
            let is_lost = frame.range() == Range::GameUnreliable;
            *bytes -= if is_lost { frame.length } else { 0 };
            !is_lost
        });
    }

    /// Adds a frame. Returns false if the frame is dropped because the inbox is full. A counted frame on the
    /// reliable lane is never dropped.
    pub(super) fn push(&mut self, frame: Inbound, max_frames: usize) -> bool {
        let may_be_lost = frame.lane == Lane::Unreliable || frame.range() == Range::GameUnreliable;
        if may_be_lost && self.is_full(max_frames) {
            return false;
        }
        self.bytes += frame.length;
        self.frames.push_back(frame);
        true
    }

    /// Counts a link control frame. Returns false if it is over its rate.
    pub(super) fn admits_control(&mut self, now: Duration, rate: Rate) -> bool {
        self.meter.admits_control(now, rate)
    }

    /// Counts a message that the server does not accept. Returns how many of them the session has sent.
    pub(super) fn stray(&mut self) -> u32 {
        self.stray_count += 1;
        self.stray_count
    }

    /// Prepares the inbox for a new link: drops the frames that wait, uncounted, and raises the count of
    /// received frames to `trimmed`. Returns how many frames are lost if `trimmed` is above that count, and
    /// `None` otherwise. If `trimmed` is above [`COUNT_MAX`], the count stays and the number of lost frames
    /// is 0. Counted frames up to the number `sent` were sent on earlier links.
    pub(super) fn rebase(
        &mut self,
        trimmed: u64,
        sent: u64,
        now: Duration,
        config: &SessionConfig,
    ) -> Option<u64> {
        self.discard();
        self.replayed = sent;
        self.meter.allow_replay(now, config);
        let lost = trimmed.checked_sub(self.received).filter(|lost| *lost > 0);
        let is_believed = trimmed <= COUNT_MAX;
        if is_believed {
            self.received = self.received.max(trimmed);
        }
        self.acked = self.received;
        lost.map(|lost| if is_believed { lost } else { 0 })
    }

    /// Drops the frames that wait, uncounted. The client will send them again.
    pub(super) fn discard(&mut self) {
        self.frames = VecDeque::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn inbound(id: u16, length: usize) -> Inbound {
        let bytes = [&id.to_be_bytes()[..], &vec![0; length - 2]].concat();
        let frame = Frame::parse(Bytes::from(bytes));
        Inbound { order: 0, at: Duration::ZERO, lane: Lane::Reliable, length, is_replayed: false, frame }
    }

    #[test]
    fn the_bytes_of_unreliable_frames_that_are_dropped_leave_room_for_others() {
        // Given an inbox whose session has used up its rates.
        let config = SessionConfig { messages_burst: 1, ..SessionConfig::default() };
        let (mut inbox, mut dropped) = (Inbox::default(), 0);
        inbox.push(inbound(0x0100, 100), 64);
        assert!(inbox.pop(Duration::ZERO, &config, &mut dropped).is_some());

        // When a counted frame waits, and ten long unreliable ones behind it are dropped again and again.
        inbox.push(inbound(0x0100, 100), 64);
        for _ in 0..20 {
            for _ in 0..10 {
                assert!(inbox.push(inbound(0x8100, 16 * 1_024), 64), "there is room");
            }
            assert!(inbox.pop(Duration::ZERO, &config, &mut dropped).is_none());
        }

        // Then the counted frame alone is left, and its bytes.
        assert_eq!((inbox.frame_count(), inbox.bytes, dropped), (1, 100, 200));
    }
}
