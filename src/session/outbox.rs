//! The outbox of a session: its send queue and its replay buffer in one.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::SessionConfig;

/// The counted frames for a client that the client has not acknowledged, in order, across all links.
///
/// A frame is removed when the client acknowledges it, or when the outbox overflows. A cursor marks the first
/// frame that was not yet sent on the current link. On a new link, the cursor starts behind the frames that
/// the client has received.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Bytes>,
    bytes: usize,
    acked: u64,
    cursor: usize,
    /// The latest of these steady times: the oldest frame was queued, an ack advanced, a link was bound.
    since: Duration,
    overflowed: bool,
}

/// The error for a frame that the outbox has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overflow;

/// The error for an invalid ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckError {
    /// The ack is above the number of frames that were sent on the current link or acknowledged before.
    BeyondSent,
}

/// The state that a client reports in its Resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResumePoint {
    /// Number of counted frames that the client has received.
    pub(crate) received: u64,
    /// True if the client asks for a resync.
    pub(crate) resync: bool,
}

impl Outbox {
    /// Returns the number of frames that were queued since the session began. A resync may raise it to the
    /// count of the client.
    pub(crate) fn sent(&self) -> u64 {
        self.acked + self.frames.len() as u64
    }

    /// Returns the number of frames that the client has acknowledged or that a resync or an overflow has
    /// discarded.
    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    /// Returns the number of frames in the outbox.
    pub(crate) fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// Returns the number of bytes in the outbox.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the frames in the outbox, oldest first.
    pub(crate) fn frames(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.frames.iter()
    }

    /// Returns true if the outbox has overflowed. Then no frame is queued or counted until the client
    /// resumes.
    pub(crate) fn awaits_resync(&self) -> bool {
        self.overflowed
    }

    /// Creates an outbox from a record. If the frames exceed the configured limits, the outbox overflows.
    pub(super) fn restored(
        acked: u64,
        frames: &[Bytes],
        awaits_resync: bool,
        now: Duration,
        config: &SessionConfig,
    ) -> Self {
        let mut outbox = Self { acked, overflowed: awaits_resync, ..Self::default() };
        for frame in frames {
            if outbox.push(frame.clone(), now, config).is_err() {
                break;
            }
        }
        outbox
    }

    /// Queues a frame. Overflows if there is no room for it.
    #[inline]
    pub(super) fn push(
        &mut self,
        frame: Bytes,
        now: Duration,
        config: &SessionConfig,
    ) -> Result<(), Overflow> {
        if self.overflowed {
            return Err(Overflow);
        }
        let full = self.frames.len() >= config.outbox_max_frames
            || self.bytes + frame.len() > config.outbox_max_bytes;
        if full {
            self.overflow();
            return Err(Overflow);
        }
        if self.frames.is_empty() {
            self.since = now;
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
        Ok(())
    }

    /// Drops all frames, and accepts no further frames until a resume.
    pub(super) fn overflow(&mut self) {
        self.acked = self.sent();
        self.frames = VecDeque::new();
        self.bytes = 0;
        self.cursor = 0;
        self.overflowed = true;
    }

    /// Takes an ack: removes the frames up to the number `received`. Returns true if the ack advances.
    pub(super) fn ack(&mut self, received: u64, now: Duration) -> Result<bool, AckError> {
        if received > self.acked + self.cursor as u64 {
            return Err(AckError::BeyondSent);
        }
        if received <= self.acked {
            return Ok(false);
        }
        self.trim(received);
        self.since = now;
        Ok(true)
    }

    /// Removes the frames up to the number `received`, which must be in the outbox.
    fn trim(&mut self, received: u64) {
        while self.acked < received
            && let Some(frame) = self.frames.pop_front()
        {
            self.bytes -= frame.len();
            self.acked += 1;
            self.cursor = self.cursor.saturating_sub(1);
        }
        debug_assert_eq!(self.acked.max(received), self.acked, "an acknowledged frame was in the outbox");
    }

    /// Prepares the outbox for a new link. Returns true if the client must resync. The client then adopts
    /// [`acked`](Self::acked) as its count.
    pub(super) fn resume(&mut self, point: ResumePoint, now: Duration) -> bool {
        let fits = (self.acked..=self.sent()).contains(&point.received);
        let resync = point.resync || self.overflowed || !fits;
        if resync {
            // A client of a restored session may have received more frames than the record includes.
            let usable = !point.resync && point.received <= COUNT_MAX;
            let count = if usable { self.sent().max(point.received) } else { self.sent() };
            self.overflow();
            self.acked = count;
            self.overflowed = false;
        } else {
            self.trim(point.received);
        }
        self.cursor = 0;
        self.since = now;
        resync
    }

    /// Returns the next frame for the current link, and advances the cursor.
    #[inline]
    pub(super) fn next_unsent(&mut self) -> Option<Bytes> {
        let frame = self.frames.get(self.cursor)?.clone();
        self.cursor += 1;
        Some(frame)
    }

    /// Returns true if some frames were not yet sent on the current link.
    pub(super) fn has_unsent(&self) -> bool {
        self.cursor < self.frames.len()
    }

    /// Returns the steady time from which the client is too slow: `max` after the last progress, or zero if
    /// the outbox has overflowed. Returns `None` if the outbox is empty.
    pub(super) fn slow_at(&self, max: Duration) -> Option<Duration> {
        if self.overflowed {
            return Some(Duration::ZERO);
        }
        (!self.frames.is_empty()).then(|| self.since.saturating_add(max))
    }

    /// Returns the steady time of the last progress: the oldest frame was queued, an ack advanced, or a link was
    /// bound.
    pub(super) fn since(&self) -> Duration {
        self.since
    }
}

/// Highest count that the server accepts. A client that sends a frame each nanosecond needs more than a
/// century to reach it. Higher counts are not adopted, so that no count can overflow.
pub(super) const COUNT_MAX: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Duration = Duration::from_secs(1);

    fn frame(number: u64) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    fn filled(count: u64) -> Outbox {
        let mut outbox = Outbox::default();
        for number in 1..=count {
            outbox.push(frame(number), NOW, &SessionConfig::default()).expect("the outbox has room");
        }
        outbox
    }

    fn drain(outbox: &mut Outbox) -> Vec<Bytes> {
        std::iter::from_fn(|| outbox.next_unsent()).collect()
    }

    #[test]
    fn a_new_link_gets_the_frames_that_were_not_received() {
        let mut outbox = filled(5);
        drain(&mut outbox);
        outbox.ack(2, NOW).expect("sent");

        let resync = outbox.resume(ResumePoint { received: 3, resync: false }, NOW);

        assert!(!resync);
        assert_eq!(drain(&mut outbox), [frame(4), frame(5)]);
        assert_eq!((outbox.acked(), outbox.sent()), (3, 5));
    }

    #[test]
    fn impossible_counts_end_in_a_resync() {
        for received in [1, 6] {
            let mut outbox = filled(5);
            drain(&mut outbox);
            outbox.ack(2, NOW).expect("sent");

            assert!(outbox.resume(ResumePoint { received, resync: false }, NOW));

            assert_eq!(drain(&mut outbox), Vec::<Bytes>::new());
            assert_eq!(outbox.acked(), outbox.sent());
            assert_eq!(outbox.sent(), received.max(5));
        }
    }

    #[test]
    fn an_ack_above_the_sent_count_is_an_error_and_a_lower_ack_is_ignored() {
        let mut outbox = filled(5);

        assert_eq!(
            outbox.ack(1, NOW),
            Err(AckError::BeyondSent),
            "the frame is queued and was not sent on the link"
        );
        drain(&mut outbox);
        assert_eq!(outbox.ack(6, NOW), Err(AckError::BeyondSent));
        assert_eq!(outbox.ack(3, NOW), Ok(true));
        assert_eq!(outbox.ack(2, NOW), Ok(false));
        assert_eq!(outbox.acked(), 3);
    }

    #[test]
    fn after_an_overflow_the_outbox_awaits_a_resync() {
        let mut outbox = filled(512);

        assert_eq!(outbox.push(frame(513), NOW, &SessionConfig::default()), Err(Overflow));

        assert!(outbox.awaits_resync());
        assert_eq!((outbox.frame_count(), outbox.bytes(), outbox.sent()), (0, 0, 512));
        assert!(outbox.resume(ResumePoint { received: 400, resync: false }, NOW));
        assert!(!outbox.awaits_resync());
        assert_eq!(outbox.sent(), 512);
    }

    proptest! {
        /// A client that counts as `docs/protocol.md` specifies receives every frame once and in order, for
        /// any sequence of sends, acks and lost links. The counts of the outbox stay consistent.
        #[test]
        fn every_frame_arrives_once_and_in_order(steps in prop::collection::vec(0_u8..5, 1..300)) {
            let config = SessionConfig::default();
            let mut outbox = Outbox::default();
            let (mut queued, mut received) = (0_u64, 0_u64);
            for step in steps {
                match step {
                    0 | 1 => {
                        queued += 1;
                        outbox.push(frame(queued), NOW, &config).expect("the outbox has room");
                    }
                    2 => while let Some(next) = outbox.next_unsent() {
                        received += 1;
                        prop_assert_eq!(next, frame(received));
                    },
                    3 => { outbox.ack(received, NOW).expect("sent"); }
                    _ => {
                        let point = ResumePoint { received, resync: false };
                        prop_assert!(!outbox.resume(point, NOW));
                    }
                }
                prop_assert_eq!(outbox.sent(), queued);
                prop_assert_eq!(outbox.sent() - outbox.acked(), outbox.frame_count() as u64);
                prop_assert_eq!(outbox.bytes(), outbox.frame_count() * 8);
            }
        }
    }
}
