//! Holds unreliable frames until their link has room for them.
//!
//! A [`Waiting`] holds the frames that a link cannot send at once. It drops frames that have waited too
//! long, and the oldest frames if there are too many. Beacons and Pings do not expire, because they carry
//! acknowledgements and keep the link alive. Only the newest few are kept: each one supersedes the ones
//! before it. This module reads no clock: times are durations since an instant that the caller chooses.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::{Range, id_of};

/// The longest time that an unreliable frame waits: two ticks at the default rate.
pub(crate) const STALE_AFTER: Duration = Duration::from_millis(100);

/// Unreliable frames that wait to be sent to one peer, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// The frames, each with the time of the first `expire` after it was pushed. `None` before that.
    frames: VecDeque<(Option<Duration>, Bytes)>,
    /// The total length of `frames`.
    bytes: usize,
    /// Beacons and Pings, which are sent before `frames`.
    control: VecDeque<Bytes>,
    dropped_count: u64,
}

impl Waiting {
    /// Adds a frame, and drops the oldest frames if a bound is exceeded.
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

    /// Drops frames that have waited for more than [`STALE_AFTER`]. The wait of a frame begins with the first call
    /// after its push.
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

    /// Takes the next Beacon or Ping.
    pub(crate) fn pop_control(&mut self) -> Option<Bytes> {
        self.control.pop_front()
    }

    /// Takes the next frame that is not a Beacon or Ping, if it has at most `room` bytes.
    pub(crate) fn pop_within(&mut self, room: usize) -> Option<Bytes> {
        let (_, frame) = self.frames.pop_front_if(|(_, frame)| frame.len() <= room)?;
        self.bytes -= frame.len();
        Some(frame)
    }

    /// Returns the total length of all frames, Beacons and Pings included.
    #[cfg(feature = "server")]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.control.iter().map(Bytes::len).sum::<usize>()
    }

    /// Returns true if no frame waits, apart from Beacons and Pings.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Returns true if a Beacon or Ping waits.
    #[cfg(all(feature = "client", feature = "udp"))]
    pub(crate) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// Returns the number of frames that were dropped since the last call.
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

/// The bound on the bytes that wait: one frame of a server's full length.
const WAITING_MAX_BYTES: usize = super::FRAME_MAX_SERVER;
/// The bound on the frames that wait. It bounds empty frames, whose bookkeeping takes 32 KiB at most.
const WAITING_MAX_FRAMES: usize = 512;
/// The bound on the Beacons or Pings that wait: those of four seconds.
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

    fn pop(waiting: &mut Waiting) -> Option<Bytes> {
        waiting.pop_control().or_else(|| waiting.pop_within(usize::MAX))
    }

    #[test]
    fn frames_that_have_waited_too_long_are_dropped_and_beacons_are_kept() {
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
    fn frames_of_one_push_leave_in_order_at_any_time() {
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
    fn memory_is_bounded_and_the_newest_frames_stay() {
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
