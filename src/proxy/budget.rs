//! Limits how many bytes the tick sends on a link before its adapter has passed on earlier frames.
//!
//! A link opens with a budget of [`LINK_BUDGET`] bytes. Each frame that the tick sends spends its length. When
//! frames have left the adapter's queue, the adapter restores the budget by [`ProxyEventKind::Room`]. If a client
//! does not read, its budget is not restored, and the tick stops sending. The tick learns of restored budgets only
//! from the events that it gathers when it begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ProxyEventKind;

/// The tick's count of the room on one link.
#[derive(Debug, Default)]
pub(super) struct LinkBudget {
    /// Bytes that were sent and that the adapter has not reported yet.
    unreported: usize,
}

impl LinkBudget {
    /// Returns how many bytes are left. If any are left, one frame may exceed them.
    pub(super) fn room(&self) -> usize {
        LINK_BUDGET.saturating_sub(self.unreported)
    }

    /// Notes that this many bytes were sent on the link.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.unreported = self.unreported.saturating_add(bytes);
    }

    /// Notes that the adapter has passed on this many bytes. The budget never exceeds [`LINK_BUDGET`], even if the
    /// adapter reports more than was sent.
    pub(super) fn restore(&mut self, bytes: usize) {
        self.unreported = self.unreported.saturating_sub(bytes);
    }
}

/// Counts the bytes that an adapter has passed on for one link, and reports them to the tick.
///
/// Clones share their count, so a thread that only writes to a socket can hold a clone.
///
/// ```
/// use waystation::proxy::{Outflow, ProxyEventKind};
///
/// let outflow = Outflow::default();
/// let writer = outflow.clone();
/// writer.passed_on(1_000); // after each frame that was written or dropped
/// assert!(outflow.report().is_none(), "less than ROOM_STEP");
/// writer.passed_on(100_000);
/// assert!(matches!(outflow.report(), Some(ProxyEventKind::Room { bytes: 101_000 })));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Outflow(Arc<AtomicUsize>);

impl Outflow {
    /// Notes that a frame of this many bytes has left the adapter's queue because it was written or dropped.
    pub fn passed_on(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Returns the event for the tick if at least [`ROOM_STEP`] bytes were passed on since the last report. Call
    /// this method in each turn of the adapter's loop.
    #[must_use = "the tick stops sending on the link unless it receives the event"]
    pub fn report(&self) -> Option<ProxyEventKind> {
        if self.0.load(Ordering::Acquire) < ROOM_STEP {
            return None;
        }
        Some(ProxyEventKind::Room { bytes: self.0.swap(0, Ordering::AcqRel) })
    }
}

/// Like [`Outflow`], for an adapter that can compute how many bytes of a link wait.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Bytes that the tick has sent and that were not reported yet.
    unreported: usize,
}

impl Gauge {
    /// Notes that the tick has sent this many bytes.
    pub(super) fn take_in(&mut self, bytes: usize) {
        self.unreported = self.unreported.saturating_add(bytes);
    }

    /// Returns the event for the tick if at least [`ROOM_STEP`] bytes can be reported while `waiting` bytes wait.
    /// All other bytes were passed on or dropped.
    pub(super) fn report(&mut self, waiting: usize) -> Option<ProxyEventKind> {
        let bytes = self.unreported.saturating_sub(waiting);
        if bytes < ROOM_STEP {
            return None;
        }
        self.unreported -= bytes;
        Some(ProxyEventKind::Room { bytes })
    }
}

/// Budget of a link in bytes: 256 KiB, the size of a full outbox, so that all of it can be sent again at once on a
/// new link. A larger budget would only fill the adapter's queue for a client that does not read.
pub const LINK_BUDGET: usize = crate::wire::OUTBOX_MAX_BYTES;

/// Number of bytes that a link has to pass on before its adapter reports them: 64 KiB, a quarter of
/// [`LINK_BUDGET`]. An event per frame would cost the tick as much as the frame. The tick's count of the room is
/// too low by less than this step, so more than three quarters of the budget are left when nothing waits.
pub const ROOM_STEP: usize = LINK_BUDGET / 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::FRAME_MAX_SERVER;

    fn bytes_of(event: Option<ProxyEventKind>) -> usize {
        match event {
            None => 0,
            Some(ProxyEventKind::Room { bytes }) => bytes,
            Some(other) => panic!("a report is not {other:?}"),
        }
    }

    #[test]
    fn one_frame_may_exceed_the_budget_and_the_next_one_waits() {
        let mut budget = LinkBudget::default();

        budget.spend(LINK_BUDGET - 1);
        assert_eq!(budget.room(), 1);
        budget.spend(FRAME_MAX_SERVER);
        assert_eq!(budget.room(), 0);
        budget.restore(FRAME_MAX_SERVER);

        assert_eq!(budget.room(), 1);
    }

    #[test]
    fn a_report_of_more_than_was_sent_does_not_enlarge_the_budget() {
        let mut budget = LinkBudget::default();
        budget.spend(1_000);

        budget.restore(usize::MAX);
        assert_eq!(budget.room(), LINK_BUDGET);
        budget.restore(1_000);

        assert_eq!(budget.room(), LINK_BUDGET);
    }

    proptest! {
        /// For any frames, passed on at any time: the tick's count of the room is never above the true room, and
        /// less than a step below it.
        #[test]
        fn the_room_follows_what_the_adapter_has_passed_on(
            steps in prop::collection::vec((0_usize..=FRAME_MAX_SERVER, 0_usize..100_000), 1..200),
            by_outflow in any::<bool>(),
        ) {
            let mut budget = LinkBudget::default();
            let (mut gauge, outflow) = (Gauge::default(), Outflow::default());
            let mut waiting = 0;
            for (frame, passed) in steps {
                // The tick sends while there is room.
                if budget.room() > 0 {
                    budget.spend(frame);
                    gauge.take_in(frame);
                    waiting += frame;
                }
                // The adapter passes some bytes on.
                let passed = passed.min(waiting);
                waiting -= passed;
                outflow.passed_on(passed);
                let report = if by_outflow { outflow.report() } else { gauge.report(waiting) };
                budget.restore(bytes_of(report));

                let left = LINK_BUDGET.saturating_sub(waiting);
                prop_assert!(budget.room() <= left);
                prop_assert!(left - budget.room() < ROOM_STEP);
                prop_assert!(waiting < LINK_BUDGET + FRAME_MAX_SERVER);
            }
        }
    }
}
