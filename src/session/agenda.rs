//! The agenda: lists of the sessions that have work to do, so that idle sessions cost nothing.
//!
//! After each change, a core compares its state with its [`Marks`], which repeat what the agenda has noted,
//! and returns the difference as a [`Notice`]. If a frame postpones a deadline, the noted deadline stays as it
//! is. When the noted deadline comes, the core is checked, and its later deadline is noted.

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::prelude::*;

use super::core::Binding;
use super::inbox::Inbox;
use super::meter::Rate;
use super::outbox::Outbox;
use super::{Core, SessionConfig};
use crate::ident::Tick;
use crate::wire::ACK_EVERY_FRAMES;

/// The work to do for sessions.
#[derive(Resource, Debug, Default)]
pub(crate) struct Agenda {
    pub(super) limits: Limits,
    /// Sessions whose links may have to be taken away, on the steady clock.
    pub(super) losses: Timers,
    /// Sessions without a link that may have to expire, on the steady clock.
    pub(super) expiries: Timers,
    /// Sessions with a link that may have to send a Beacon, on the sampled clock.
    pub(super) beacons: Timers,
    /// Sessions with frames to send.
    pub(super) flush: Vec<Entity>,
    /// Sessions with frames that wait for dispatch, in the order in which their first frames arrived.
    dispatch: Vec<Entity>,
    /// Number of bytes in all outboxes.
    outbox_bytes: usize,
    /// Sessions whose link state was changed by a Beacon of this tick. The component is written early in the
    /// next tick.
    pub(super) link_states: Vec<Entity>,
    /// Sessions whose components differ from their cores.
    pub(super) inconsistent: Vec<Entity>,
    /// Sessions that have ended, with the tick of the end. Their entities stay for one more tick, in which the
    /// game reads the messages about the end.
    pub(super) closing: Vec<(Tick, Entity)>,
    /// Number of frames that have arrived.
    arrived: u64,
}

/// The limits of [`SessionConfig`] that apply to deadlines, link control and inboxes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(super) link_timeout: Duration,
    pub(super) unacked_max: Duration,
    pub(super) control: Rate,
    pub(super) inbox_max_frames: usize,
}

/// The deadlines that the agenda has noted for a session, and the lists of the agenda that the session is in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Marks {
    loss: Option<Duration>,
    expiry: Option<Duration>,
    beacon: Option<Duration>,
    is_flushing: bool,
    is_dispatching: bool,
}

/// The changes of a session that the agenda has to note.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub(super) struct Notice {
    loss: Option<Duration>,
    expiry: Option<Duration>,
    beacon: Option<Duration>,
    flush: bool,
    dispatch: bool,
    /// The number of bytes in the outbox before and after the change.
    bytes: (usize, usize),
}

impl Notice {
    pub(super) fn with_bytes(self, before: usize, after: usize) -> Self {
        Self { bytes: (before, after), ..self }
    }
}

impl Marks {
    /// Compares the state of a client's session with the marks. Returns what the agenda has to note.
    pub(super) fn compare(
        &mut self,
        (binding, inbox, outbox): (&Binding, &Inbox, &Outbox),
        limits: &Limits,
    ) -> Notice {
        let mut notice = Notice::default();
        match binding {
            Binding::Linked(link) => {
                let silent_at = link.silent_at(limits.link_timeout);
                let slow_at = outbox.slow_at(limits.unacked_max);
                notice.loss = arm(&mut self.loss, silent_at.into_iter().chain(slow_at).min());
                notice.beacon = arm(&mut self.beacon, Some(link.beacon_due()));
                let has_any =
                    link.has_any() || outbox.has_unsent() || inbox.unacked_count() >= ACK_EVERY_FRAMES;
                notice.flush = has_any && !std::mem::replace(&mut self.is_flushing, true);
            }
            Binding::Disconnected { expires_at } => notice.expiry = arm(&mut self.expiry, Some(*expires_at)),
        }
        if inbox.frame_count() > 0 {
            notice.dispatch = !std::mem::replace(&mut self.is_dispatching, true);
        }
        notice
    }

    /// Does the same as [`compare`](Self::compare), for a session with a link, if the only change is that a frame
    /// was queued. This runs for each recipient of a broadcast, so it checks as little as possible.
    #[inline]
    pub(super) fn compare_put(&mut self, outbox: &Outbox, limits: &Limits) -> Notice {
        // The deadline depends on the time at which the oldest frame was queued, so only the first frame changes it.
        let slow_at = if outbox.frame_count() <= 1 { outbox.slow_at(limits.unacked_max) } else { None };
        let loss = arm(&mut self.loss, slow_at);
        Notice { loss, flush: !std::mem::replace(&mut self.is_flushing, true), ..Notice::default() }
    }

    /// See `Core::prefetch`.
    pub(super) fn prefetch(&self) -> usize {
        usize::from(self.loss.is_some()) ^ usize::from(self.beacon.is_some()) ^ usize::from(self.is_flushing)
    }

    /// Clears the noted deadline of the link if it has come. Returns true if it was cleared.
    pub(super) fn clear_due_loss(&mut self, now: Duration) -> bool {
        comes(&mut self.loss, end_of_millisecond(now))
    }

    /// Clears the noted expiry if it has come. Returns true if it was cleared.
    pub(super) fn expiry_comes(&mut self, now: Duration) -> bool {
        comes(&mut self.expiry, end_of_millisecond(now))
    }

    /// Notes that the session is flushed. Returns true if a Beacon may be due before `end`, the result of
    /// [`end_of_millisecond`].
    #[inline]
    pub(super) fn clear_due_flush(&mut self, end: Duration) -> bool {
        self.is_flushing = false;
        comes(&mut self.beacon, end)
    }

    /// Notes that the session's frames are dispatched.
    pub(super) fn dispatches(&mut self) {
        self.is_dispatching = false;
    }
}

/// Notes a deadline, unless an earlier one is noted. Returns the deadline if it was noted.
#[inline]
fn arm(noted: &mut Option<Duration>, due: Option<Duration>) -> Option<Duration> {
    let due = due.filter(|due| noted.is_none_or(|noted| *due < noted))?;
    *noted = Some(due);
    Some(due)
}

impl Agenda {
    /// Notes the changes of a session.
    #[inline(always)]
    pub(super) fn take(&mut self, session: Entity, notice: Notice) {
        let Notice { loss, expiry, beacon, flush, dispatch, bytes: (before, after) } = notice;
        if let Some(due) = loss {
            self.losses.arm(due, session);
        }
        if let Some(due) = expiry {
            self.expiries.arm(due, session);
        }
        if let Some(due) = beacon {
            self.beacons.arm(due, session);
        }
        if flush {
            self.flush.push(session);
        }
        if dispatch {
            self.dispatch.push(session);
        }
        debug_assert!(self.outbox_bytes + after >= before, "the total is at least the size of one outbox");
        self.outbox_bytes = self.outbox_bytes.saturating_add(after).saturating_sub(before);
    }

    /// Notes the changes of a core.
    pub(crate) fn update(&mut self, session: Entity, core: &mut Core) {
        let notice = core.notice(&self.limits);
        self.take(session, notice);
    }

    /// Notes the changes of a core if the only change is that a frame was queued.
    #[inline]
    pub(super) fn update_put(&mut self, session: Entity, core: &mut Core) {
        let notice = core.notice_put(&self.limits);
        self.take(session, notice);
    }

    /// Returns true if no session is listed twice in `flush`.
    pub(super) fn flushes_each_once(&self) -> bool {
        let mut seen = EntityHashSet::default();
        self.flush.iter().all(|session| seen.insert(*session))
    }

    /// Counts a frame that has arrived. Returns its position among all frames, counted from 1.
    pub(crate) fn arrived(&mut self) -> u64 {
        self.arrived += 1;
        self.arrived
    }

    /// Returns how many frames have arrived.
    pub(crate) fn arrived_count(&self) -> u64 {
        self.arrived
    }

    /// Takes the sessions with frames that wait for dispatch.
    pub(super) fn take_dispatch(&mut self) -> Vec<Entity> {
        std::mem::take(&mut self.dispatch)
    }

    /// Returns true if components of sessions must be restored.
    pub(crate) fn has_inconsistent(&self) -> bool {
        !self.inconsistent.is_empty()
    }

    /// Returns the number of bytes in all outboxes.
    pub(crate) fn outbox_bytes(&self) -> usize {
        self.outbox_bytes
    }
}

/// Clears a noted deadline if it is before `end`. Returns true if it was cleared.
fn comes(noted: &mut Option<Duration>, end: Duration) -> bool {
    noted.take_if(|noted| *noted < end).is_some()
}

/// Returns the end of the millisecond that contains `now`. [`Timers::take`] returns the sessions of all deadlines
/// before it.
pub(super) fn end_of_millisecond(now: Duration) -> Duration {
    Duration::from_millis(millisecond(now).saturating_add(1))
}

/// Deadlines of sessions. The time that it takes to add a deadline hardly depends on their number.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// The sessions by the millisecond of their deadline, rounded down.
    due: BTreeMap<u64, Vec<Entity>>,
}

impl Timers {
    fn arm(&mut self, at: Duration, session: Entity) {
        self.due.entry(millisecond(at)).or_default().push(session);
    }

    /// Takes the sessions whose deadlines may have come by `now`, in the order of the deadlines.
    pub(super) fn take(&mut self, now: Duration) -> Vec<Entity> {
        let mut taken = Vec::new();
        while let Some(entry) = self.due.first_entry()
            && *entry.key() <= millisecond(now)
        {
            taken.extend(entry.remove());
        }
        taken
    }
}

fn millisecond(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

/// Copies the limits from the configuration, which a game may change.
pub(super) fn read_limits(mut agenda: ResMut<Agenda>, config: Res<SessionConfig>) {
    agenda.limits = Limits {
        link_timeout: config.link_timeout,
        unacked_max: config.unacked_max,
        control: Rate { per_second: config.control_per_second, burst: config.control_burst },
        inbox_max_frames: config.inbox_max_frames,
    };
}
