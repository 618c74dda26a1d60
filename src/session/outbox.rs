//! What a session was sent and has not acknowledged: the send queue and the replay buffer in one.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::SessionConfig;

/// Counted frames on their way to a client, in order, across all its links.
///
/// Frames leave only when they are acknowledged. A cursor says how far the current link was
/// given them; a new link starts with the cursor at what its client has received.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Bytes>,
    bytes: usize,
    acked: u64,
    cursor: usize,
    /// The latest of: when the oldest frame was queued, the last ack that advanced, the last bind.
    since: Duration,
    overflowed: bool,
}

/// An outbox has no room for another frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overflow;

/// An ack that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckError {
    /// It acknowledges what its link was never given.
    BeyondSent,
}

/// What a client says of its counts when it resumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResumePoint {
    /// Frames it has taken.
    pub(crate) received: u64,
    /// It kept nothing, or what it kept is of no use.
    pub(crate) resync: bool,
}

impl Outbox {
    /// Frames queued since the session began, in all.
    pub(crate) fn sent(&self) -> u64 {
        self.acked + self.frames.len() as u64
    }

    /// Frames that the client has acknowledged.
    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    /// Frames held.
    pub(crate) fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The frames held, oldest first.
    pub(crate) fn frames(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.frames.iter()
    }

    /// Whether it has overflowed: nothing is queued or counted until the client resumes.
    pub(crate) fn awaits_resync(&self) -> bool {
        self.overflowed
    }

    /// An outbox as it was written down. If it holds more than the configuration allows, it is given up.
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

    /// Queues a frame.
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

    /// Gives up on replay: what is held is dropped, what follows is not queued until a resume.
    pub(super) fn overflow(&mut self) {
        self.acked = self.sent();
        self.frames = VecDeque::new();
        self.bytes = 0;
        self.cursor = 0;
        self.overflowed = true;
    }

    /// Takes an ack: frames up to `received` are done. Whether it advanced.
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

    /// Lets go of the frames up to `received`, which are held.
    fn trim(&mut self, received: u64) {
        while self.acked < received
            && let Some(frame) = self.frames.pop_front()
        {
            self.bytes -= frame.len();
            self.acked += 1;
            self.cursor = self.cursor.saturating_sub(1);
        }
        debug_assert_eq!(self.acked.max(received), self.acked, "what is acknowledged was held");
    }

    /// Prepares for a new link. Whether the client must resync; if so its count becomes
    /// [`sent`](Self::sent), else what it said it has received.
    pub(super) fn resume(&mut self, point: ResumePoint, now: Duration) -> bool {
        let fits = (self.acked..=self.sent()).contains(&point.received);
        let resync = point.resync || self.overflowed || !fits;
        if resync {
            // A client of a restored session may have taken more than the store remembers.
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

    /// The next frame for the current link, if there is one.
    #[inline]
    pub(super) fn next_unsent(&mut self) -> Option<Bytes> {
        let frame = self.frames.get(self.cursor)?.clone();
        self.cursor += 1;
        Some(frame)
    }

    /// Returns true if the current link was not given all frames.
    pub(super) fn has_unsent(&self) -> bool {
        self.cursor < self.frames.len()
    }

    /// Returns when the client is too slow, if something is held or was given up: `max` after the last
    /// progress, or at once.
    pub(super) fn slow_at(&self, max: Duration) -> Option<Duration> {
        if self.overflowed {
            return Some(Duration::ZERO);
        }
        (!self.frames.is_empty()).then(|| self.since.saturating_add(max))
    }

    /// Returns when something was last acknowledged or began to wait.
    pub(super) fn since(&self) -> Duration {
        self.since
    }
}

/// Counts above this are no client's: a frame each nanosecond gets here in a century. They are not
/// believed, so that no count can be driven to overflow.
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
            outbox.push(frame(number), NOW, &SessionConfig::default()).expect("room");
        }
        outbox
    }

    fn drain(outbox: &mut Outbox) -> Vec<Bytes> {
        std::iter::from_fn(|| outbox.next_unsent()).collect()
    }

    #[test]
    fn a_new_link_is_given_what_was_not_received() {
        let mut outbox = filled(5);
        drain(&mut outbox);
        outbox.ack(2, NOW).expect("sent");

        let resync = outbox.resume(ResumePoint { received: 3, resync: false }, NOW);

        assert!(!resync);
        assert_eq!(drain(&mut outbox), [frame(4), frame(5)]);
        assert_eq!((outbox.acked(), outbox.sent()), (3, 5));
    }

    #[test]
    fn counts_that_cannot_be_end_in_a_resync() {
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
    fn an_ack_of_what_was_not_sent_is_an_error_and_a_lower_one_is_nothing() {
        let mut outbox = filled(5);

        assert_eq!(outbox.ack(1, NOW), Err(AckError::BeyondSent), "queued, and not given to the link");
        drain(&mut outbox);
        assert_eq!(outbox.ack(6, NOW), Err(AckError::BeyondSent));
        assert_eq!(outbox.ack(3, NOW), Ok(true));
        assert_eq!(outbox.ack(2, NOW), Ok(false));
        assert_eq!(outbox.acked(), 3);
    }

    #[test]
    fn an_overflow_waits_for_a_resync() {
        let mut outbox = filled(512);

        assert_eq!(outbox.push(frame(513), NOW, &SessionConfig::default()), Err(Overflow));

        assert!(outbox.awaits_resync());
        assert_eq!((outbox.frame_count(), outbox.bytes(), outbox.sent()), (0, 0, 512));
        assert!(outbox.resume(ResumePoint { received: 400, resync: false }, NOW));
        assert!(!outbox.awaits_resync());
        assert_eq!(outbox.sent(), 512);
    }

    proptest! {
        /// Whatever is queued, sent, acknowledged and cut: a client that counts as `docs/protocol.md`
        /// says gets every frame once and in order, and the books balance.
        #[test]
        fn every_frame_arrives_once_and_in_order(steps in prop::collection::vec(0_u8..5, 1..300)) {
            let config = SessionConfig::default();
            let mut outbox = Outbox::default();
            let (mut queued, mut received) = (0_u64, 0_u64);
            for step in steps {
                match step {
                    0 | 1 => {
                        queued += 1;
                        outbox.push(frame(queued), NOW, &config).expect("fewer than the bound");
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
