//! The client's outbox: a queue of the counted frames that the server has not acknowledged, with a cursor
//! for the current link.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::wire::{OUTBOX_MAX_BYTES, OUTBOX_MAX_FRAMES};

/// The outbox has no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The server acknowledged more frames than were sent on the link.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Beyond;

/// The outbox. Frames are numbered from 1, and frames up to the number `trimmed` are acknowledged and removed.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Bytes>,
    bytes: usize,
    trimmed: u64,
    /// Number of `frames` that were sent on the current link.
    cursor: usize,
    /// Number of `frames` that were sent on any link. The other frames have no number yet.
    tried: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, frame: Bytes) -> Result<(), Full> {
        let bytes = self.bytes + frame.len();
        if self.frames.len() >= OUTBOX_MAX_FRAMES || bytes > OUTBOX_MAX_BYTES {
            return Err(Full);
        }
        self.bytes = bytes;
        self.frames.push_back(frame);
        Ok(())
    }

    /// Returns the next frame to send on the current link.
    pub(super) fn next(&self) -> Option<&Bytes> {
        self.frames.get(self.cursor)
    }

    /// Notes that the link has taken the frame that [`next`](Self::next) returned.
    pub(super) fn advance(&mut self) {
        self.cursor = (self.cursor + 1).min(self.frames.len());
        self.tried = self.tried.max(self.cursor);
    }

    /// Applies the acknowledgement in an Ack or Beacon on the current link. If it is lower than an earlier one, it is
    /// old and changes nothing.
    pub(super) fn acknowledge(&mut self, received: u64) -> Result<(), Beyond> {
        if received > self.given() {
            return Err(Beyond);
        }
        self.trim(received);
        Ok(())
    }

    /// Prepares the outbox for a new link, after a Welcome that reports `received` counted frames. The outbox adopts
    /// the higher of both counts. If `received` is above the number of the last frame that was ever sent, the frames
    /// that were never sent get the numbers after `received`.
    pub(super) fn rebase(&mut self, received: u64) {
        self.cursor = 0;
        self.trim(received.min(self.sent()));
        self.trimmed = self.trimmed.max(received);
    }

    fn trim(&mut self, received: u64) {
        while self.trimmed < received {
            let Some(frame) = self.frames.pop_front() else {
                break;
            };
            self.bytes -= frame.len();
            self.trimmed += 1;
            self.cursor = self.cursor.saturating_sub(1);
            self.tried = self.tried.saturating_sub(1);
        }
    }

    /// Returns the number of the last frame that was sent on any link.
    pub(super) fn sent(&self) -> u64 {
        self.trimmed.saturating_add(self.tried as u64)
    }

    /// Returns the number of the last frame that was sent on the current link.
    pub(super) fn given(&self) -> u64 {
        self.trimmed.saturating_add(self.cursor as u64)
    }

    /// Returns the number of frames that the server has not acknowledged.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Returns the number of frames that the server has acknowledged.
    pub(super) fn trimmed(&self) -> u64 {
        self.trimmed
    }

    /// Returns the number of all frames of the session so far, acknowledged or not.
    pub(super) fn total(&self) -> u64 {
        self.trimmed.saturating_add(self.frames.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(frames: usize, given: usize) -> Outbox {
        let mut outbox = Outbox::default();
        for number in 0..frames {
            outbox.push(Bytes::from(vec![u8::try_from(number).unwrap(); 4])).unwrap();
        }
        for _ in 0..given {
            outbox.advance();
        }
        outbox
    }

    #[test]
    fn acks_are_cumulative_and_lower_ones_are_ignored() {
        let mut outbox = outbox(5, 4);

        assert_eq!(outbox.acknowledge(3), Ok(()));
        assert_eq!(outbox.acknowledge(1), Ok(()));

        assert_eq!((outbox.trimmed(), outbox.len(), outbox.total()), (3, 2, 5));
        assert_eq!(outbox.next().map(|frame| frame[0]), Some(4));
        assert_eq!(outbox.acknowledge(5), Err(Beyond));
    }

    #[test]
    fn a_new_link_starts_with_the_first_frame_that_the_server_has_not_counted() {
        let mut outbox = outbox(5, 4);

        outbox.rebase(2);

        assert_eq!(outbox.next().map(|frame| frame[0]), Some(2));
        assert_eq!(outbox.acknowledge(3), Err(Beyond));
    }

    #[test]
    fn after_a_resume_the_higher_of_both_counts_holds() {
        let mut behind = outbox(5, 4);
        assert_eq!(behind.acknowledge(3), Ok(()));
        let mut ahead = outbox(5, 4);

        behind.rebase(1);
        ahead.rebase(90);

        assert_eq!((behind.trimmed(), behind.len()), (3, 2));
        // The fifth frame was never sent, so its number becomes 91.
        assert_eq!((ahead.trimmed(), ahead.len(), ahead.total()), (90, 1, 91));
        ahead.advance();
        assert_eq!(ahead.acknowledge(91), Ok(()));
        ahead.rebase(u64::MAX);
        assert_eq!(ahead.total(), u64::MAX);
    }

    #[test]
    fn a_frame_over_the_bounds_is_refused() {
        let mut outbox = outbox(0, 0);
        for _ in 0..OUTBOX_MAX_FRAMES {
            outbox.push(Bytes::from_static(&[1, 0])).unwrap();
        }
        assert_eq!(outbox.push(Bytes::from_static(&[1, 0])), Err(Full));
        outbox.advance();
        assert_eq!(outbox.acknowledge(1), Ok(()));

        assert_eq!(outbox.push(Bytes::from(vec![0; OUTBOX_MAX_BYTES])), Err(Full));
        assert_eq!(outbox.push(Bytes::from_static(&[1, 0])), Ok(()));
        assert_eq!(outbox.len(), OUTBOX_MAX_FRAMES);
    }
}
