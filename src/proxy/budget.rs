//! How much a link may be sent before its adapter has passed on what it was sent before.
//!
//! A link opens with a budget of [`LINK_BUDGET`] bytes. Each frame that the tick sends on it spends the
//! length of the frame. The adapter gives it back by [`ProxyEventKind::Room`] as soon as frames have left
//! its own queue for the network. So the tick sees a client that does not take what it is sent: its room
//! does not come back. It learns this from the events that it takes once, when it begins, and never by a
//! look at what another thread has done meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ProxyEventKind;

/// What the tick knows of the room on one link.
#[derive(Debug, Default)]
pub(super) struct LinkBudget {
    /// Bytes that were sent and that the adapter has not reported.
    unreported: usize,
}

impl LinkBudget {
    /// Bytes that the link may take now. A frame may be longer: one at a time may overdraw the budget.
    pub(super) fn room(&self) -> usize {
        LINK_BUDGET.saturating_sub(self.unreported)
    }

    /// The link is sent this many bytes.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.unreported = self.unreported.saturating_add(bytes);
    }

    /// The adapter has passed on this many bytes. An adapter that reports more than it was given makes
    /// the budget whole, and no larger.
    pub(super) fn restore(&mut self, bytes: usize) {
        self.unreported = self.unreported.saturating_sub(bytes);
    }
}

/// Counts what an adapter has passed on of one link's frames, and makes the report of it.
///
/// Clones count together, so a thread that does nothing but write to a socket can hold one.
///
/// ```
/// use waystation::proxy::{Outflow, ProxyEventKind};
///
/// let outflow = Outflow::default();
/// let writer = outflow.clone();
/// writer.passed_on(1_000); // after each frame that was written or dropped
/// assert!(outflow.report().is_none(), "not worth an event yet");
/// writer.passed_on(100_000);
/// assert!(matches!(outflow.report(), Some(ProxyEventKind::Room { bytes: 101_000 })));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Outflow(Arc<AtomicUsize>);

impl Outflow {
    /// Notes that a frame of this many bytes has left the adapter's queue: it was written, or dropped.
    pub fn passed_on(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::AcqRel);
    }

    /// The event for the tick, as soon as there is [`ROOM_STEP`] to report. To be called in each turn of
    /// the adapter.
    #[must_use = "the tick sends less and less on the link unless it is told"]
    pub fn report(&self) -> Option<ProxyEventKind> {
        if self.0.load(Ordering::Acquire) < ROOM_STEP {
            return None;
        }
        Some(ProxyEventKind::Room { bytes: self.0.swap(0, Ordering::AcqRel) })
    }
}

/// As [`Outflow`], for an adapter that knows how much of a link's frames waits.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Bytes that the tick has sent and that were not reported.
    unreported: usize,
}

impl Gauge {
    /// The tick has sent this many bytes.
    pub(super) fn take_in(&mut self, bytes: usize) {
        self.unreported = self.unreported.saturating_add(bytes);
    }

    /// The event for the tick, if there is enough to report while `waiting` bytes wait. Whatever does not
    /// wait was passed on or dropped.
    pub(super) fn report(&mut self, waiting: usize) -> Option<ProxyEventKind> {
        let bytes = self.unreported.saturating_sub(waiting);
        if bytes < ROOM_STEP {
            return None;
        }
        self.unreported -= bytes;
        Some(ProxyEventKind::Room { bytes })
    }
}

/// Bytes that a link may be sent and not have passed on: an outbox, so that a replay leaves at once on a new
/// link. More would wait in the adapter for a client that cannot take it.
pub const LINK_BUDGET: usize = crate::wire::OUTBOX_MAX_BYTES;

/// An adapter reports as soon as this many bytes of a link have been passed on, a quarter of [`LINK_BUDGET`]:
/// an event for each frame would cost the tick as much as the frame. So the room that the tick knows is too
/// small by less than this, and three quarters of the budget are there when nothing waits.
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
            Some(other) => panic!("a report is no {other:?}"),
        }
    }

    #[test]
    fn a_frame_may_overdraw_the_budget_and_the_next_one_waits() {
        let mut budget = LinkBudget::default();

        budget.spend(LINK_BUDGET - 1);
        assert_eq!(budget.room(), 1);
        budget.spend(FRAME_MAX_SERVER);
        assert_eq!(budget.room(), 0);
        budget.restore(FRAME_MAX_SERVER);

        assert_eq!(budget.room(), 1);
    }

    #[test]
    fn a_report_of_more_than_was_sent_makes_the_budget_whole_and_no_larger() {
        let mut budget = LinkBudget::default();
        budget.spend(1_000);

        budget.restore(usize::MAX);
        assert_eq!(budget.room(), LINK_BUDGET);
        budget.restore(1_000);

        assert_eq!(budget.room(), LINK_BUDGET);
    }

    proptest! {
        /// Whatever is sent, and whenever an adapter passes it on: the room that the tick knows is never
        /// more than what is left, and less than a step below it.
        #[test]
        fn the_room_follows_what_the_adapter_has_passed_on(
            steps in prop::collection::vec((0_usize..=FRAME_MAX_SERVER, 0_usize..100_000), 1..200),
            by_outflow in any::<bool>(),
        ) {
            let mut budget = LinkBudget::default();
            let (mut gauge, outflow) = (Gauge::default(), Outflow::default());
            let mut waiting = 0;
            for (frame, passed) in steps {
                // The tick: it sends while there is room.
                if budget.room() > 0 {
                    budget.spend(frame);
                    gauge.take_in(frame);
                    waiting += frame;
                }
                // The adapter: the network takes some of it.
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
