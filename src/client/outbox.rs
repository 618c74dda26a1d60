//! The reliable frames that the server has not counted yet: the send queue, with a cursor for
//! the link at hand.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::wire::{OUTBOX_MAX_BYTES, OUTBOX_MAX_FRAMES};

/// The outbox has no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The peer acknowledged what it was never sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Beyond;

/// Frames are numbered from 1; those up to `trimmed` are acknowledged and gone.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Bytes>,
    bytes: usize,
    trimmed: u64,
    /// How many of `frames` the link at hand was given.
    cursor: usize,
    /// How many of `frames` any link was ever given; the rest have no number yet.
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

    /// The next frame for the link at hand.
    pub(super) fn next(&self) -> Option<&Bytes> {
        self.frames.get(self.cursor)
    }

    /// The link took what [`next`](Self::next) returned.
    pub(super) fn advance(&mut self) {
        self.cursor = (self.cursor + 1).min(self.frames.len());
        self.tried = self.tried.max(self.cursor);
    }

    /// The peer has counted `received` frames, says an Ack, Ping or Beacon on the link at hand.
    /// Fewer than were known is an old ack.
    pub(super) fn acknowledge(&mut self, received: u64) -> Result<(), Beyond> {
        if received > self.given() {
            return Err(Beyond);
        }
        self.trim(received);
        Ok(())
    }

    /// A new link is bound and the peer has counted `received` frames, says its Welcome. Each side
    /// takes the higher count. If that is beyond all that any link was given, what was never given
    /// to one is numbered anew, after it.
    pub(super) fn rebase(&mut self, received: u64) {
        self.cursor = 0;
        let known = self.trimmed.saturating_add(self.tried as u64);
        self.trim(received.min(known));
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

    /// Frames up to the last one that the link at hand was given.
    pub(super) fn given(&self) -> u64 {
        self.trimmed.saturating_add(self.cursor as u64)
    }

    /// Frames that the peer has not acknowledged.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Frames that the peer has acknowledged.
    pub(super) fn trimmed(&self) -> u64 {
        self.trimmed
    }

    /// All frames so far, acknowledged or not.
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
    fn a_new_link_is_given_what_the_peer_did_not_count() {
        let mut outbox = outbox(5, 4);

        outbox.rebase(2);

        assert_eq!(outbox.next().map(|frame| frame[0]), Some(2));
        assert_eq!(outbox.acknowledge(3), Err(Beyond));
    }

    #[test]
    fn of_two_counts_the_higher_one_holds() {
        let mut behind = outbox(5, 4);
        assert_eq!(behind.acknowledge(3), Ok(()));
        let mut ahead = outbox(5, 4);

        behind.rebase(1);
        ahead.rebase(90);

        assert_eq!((behind.trimmed(), behind.len()), (3, 2));
        // The fifth was never sent, so it is the ninety-first.
        assert_eq!((ahead.trimmed(), ahead.len(), ahead.total()), (90, 1, 91));
        ahead.advance();
        assert_eq!(ahead.acknowledge(91), Ok(()));
        ahead.rebase(u64::MAX);
        assert_eq!(ahead.total(), u64::MAX);
    }

    #[test]
    fn it_refuses_what_is_over_its_bounds() {
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
