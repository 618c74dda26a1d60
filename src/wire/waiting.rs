//! Unreliable frames that wait for room on their link.
//!
//! State is worth something while it is new. A [`Waiting`] holds what a link cannot take at once and
//! drops it, oldest first, when it is too old or too much. Beacons and Pings are kept, because they
//! carry acks and show that the link lives; of more than a few the last ones say all that the others
//! did. It reads no clock: times are durations since an instant of the caller's.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::{Range, id_of};

/// How long an unreliable frame waits to be sent, at most: two ticks at the default rate.
pub(crate) const STALE_AFTER: Duration = Duration::from_millis(100);

/// Unreliable frames on their way to one peer, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// When each was first seen waiting, if it was.
    frames: VecDeque<(Option<Duration>, Bytes)>,
    bytes: usize,
    /// Beacons and Pings. They go first.
    control: VecDeque<Bytes>,
    dropped_count: u64,
}

impl Waiting {
    /// Adds a frame. While there is more than fits, the oldest frames are dropped.
    pub(crate) fn push(&mut self, frame: Bytes) {
        if id_of(&frame).is_some_and(|id| id.range() == Range::LinkControl) {
            if self.control.len() >= CONTROL_MAX {
                self.control.pop_front();
                self.dropped_count += 1;
            }
            self.control.push_back(frame);
            return;
        }
        self.bytes += frame.len();
        self.frames.push_back((None, frame));
        while self.bytes > WAITING_MAX_BYTES || self.frames.len() > WAITING_MAX_FRAMES {
            self.drop_oldest();
        }
    }

    /// Drops what has become stale. What was pushed since the last call is as old as this one.
    pub(crate) fn expire(&mut self, now: Duration) {
        for (since, _) in self.frames.iter_mut().rev() {
            if since.is_some() {
                break;
            }
            *since = Some(now);
        }
        while let Some((Some(since), _)) = self.frames.front()
            && now.saturating_sub(*since) > STALE_AFTER
        {
            self.drop_oldest();
        }
    }

    /// The next Beacon or Ping to be sent.
    pub(crate) fn pop_control(&mut self) -> Option<Bytes> {
        self.control.pop_front()
    }

    /// The next of the other frames, if it has `room` bytes at most.
    pub(crate) fn pop_within(&mut self, room: usize) -> Option<Bytes> {
        let (_, frame) = self.frames.pop_front_if(|(_, frame)| frame.len() <= room)?;
        self.bytes -= frame.len();
        Some(frame)
    }

    /// Bytes of all that waits.
    #[cfg(feature = "server")]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.control.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether nothing waits but Beacons and Pings.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether Beacons or Pings wait.
    #[cfg(all(feature = "client", feature = "udp"))]
    pub(crate) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// Frames that were dropped since the last call.
    pub(crate) fn take_dropped_count(&mut self) -> u64 {
        std::mem::take(&mut self.dropped_count)
    }

    fn drop_oldest(&mut self) {
        if let Some((_, frame)) = self.frames.pop_front() {
            self.bytes -= frame.len();
            self.dropped_count += 1;
        }
    }
}

/// Bytes that wait at most: one frame of a server's full length.
const WAITING_MAX_BYTES: usize = super::FRAME_MAX_SERVER;
/// Frames that wait at most, so that empty ones are bounded too: 32 KiB of bookkeeping.
const WAITING_MAX_FRAMES: usize = 512;
/// Beacons or Pings that wait at most: four seconds' worth.
const CONTROL_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;
    use crate::wire::v1::Beacon;

    fn state(tag: u8, length: usize) -> Bytes {
        let mut frame = vec![tag; length];
        (frame[0], frame[1]) = (0x81, 0x00);
        frame.into()
    }

    fn beacon(id: u64) -> Bytes {
        encode(&Beacon { id, ..Beacon::default() })
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// The next frame to be sent.
    fn pop(waiting: &mut Waiting) -> Option<Bytes> {
        waiting.pop_control().or_else(|| waiting.pop_within(usize::MAX))
    }

    #[test]
    fn what_has_waited_too_long_is_dropped_oldest_first_and_beacons_are_kept() {
        let mut waiting = Waiting::default();
        waiting.push(state(1, 10));
        waiting.push(beacon(1));
        waiting.expire(at(1_000));
        waiting.push(state(2, 10));
        waiting.expire(at(1_050));

        waiting.expire(at(1_101));

        assert_eq!(pop(&mut waiting), Some(beacon(1)));
        assert_eq!(pop(&mut waiting), Some(state(2, 10)));
        assert_eq!((pop(&mut waiting), waiting.take_dropped_count()), (None, 1));
        assert_eq!(waiting.take_dropped_count(), 0);
    }

    #[test]
    fn what_is_sent_at_once_is_sent_in_order_whatever_its_time() {
        let mut waiting = Waiting::default();
        for tag in 0..5 {
            waiting.push(state(tag, 10));
        }

        waiting.expire(at(5_000));

        for tag in 0..5 {
            assert_eq!(pop(&mut waiting), Some(state(tag, 10)));
        }
        assert_eq!(pop(&mut waiting), None);
    }

    #[test]
    fn memory_is_bounded_and_the_newest_frames_are_the_ones_that_stay() {
        let mut waiting = Waiting::default();
        for tag in 0..=255_u8 {
            waiting.push(state(tag, 1_000));
            waiting.push(beacon(u64::from(tag)));
        }

        let mut bytes = 0;
        for id in 252..256 {
            assert_eq!(pop(&mut waiting), Some(beacon(id)));
        }
        let mut last = None;
        while let Some(frame) = pop(&mut waiting) {
            bytes += frame.len();
            last = Some(frame);
        }
        assert_eq!(last, Some(state(255, 1_000)));
        assert_eq!(bytes, 65_000);
        assert_eq!(waiting.take_dropped_count(), 256 - 65 + 252);

        for _ in 0..10_000 {
            waiting.push(state(0, 2));
        }
        assert_eq!(waiting.frames.len(), WAITING_MAX_FRAMES);
    }
}
