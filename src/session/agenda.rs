//! Lists of the sessions that have something to do, so that a session with nothing to do costs nothing.
//!
//! A core compares what the agenda knows of it with its state after each change, and gives
//! [`Notice`] of the difference. A deadline stays where it is while frames put it off: when it comes, the core
//! is asked, and noted anew.

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

/// What is to be done for sessions.
#[derive(Resource, Debug, Default)]
pub(crate) struct Agenda {
    pub(super) limits: Limits,
    /// Linked sessions that may have to lose their links, by the steady clock.
    pub(super) losses: Timers,
    /// Sessions without a link that may have to expire, by the steady clock.
    pub(super) expiries: Timers,
    /// Linked sessions that may have to send a Beacon, by the sampled clock.
    pub(super) beacons: Timers,
    /// Sessions that have something to send.
    pub(super) flush: Vec<Entity>,
    /// Sessions with frames that wait for dispatch, in the order in which the first of those arrived.
    dispatch: Vec<Entity>,
    /// Bytes of all outboxes.
    outbox_bytes: usize,
    /// Sessions of whose links a Beacon has changed the state. It is written in the next tick, before anybody looks.
    pub(super) link_states: Vec<Entity>,
    /// Sessions whose components are not what their cores say.
    pub(super) astray: Vec<Entity>,
    /// Sessions that have ended, and when. Their entities stay until the game has read of it.
    pub(super) closing: Vec<(Tick, Entity)>,
    /// Frames that have arrived from sessions so far.
    arrived: u64,
}

/// The limits of [`SessionConfig`] that deadlines and link control go by.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(super) link_timeout: Duration,
    pub(super) unacked_max: Duration,
    pub(super) control: Rate,
    pub(super) inbox_max_frames: usize,
}

/// What the agenda knows of a session.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Marks {
    loss: Option<Duration>,
    expiry: Option<Duration>,
    beacon: Option<Duration>,
    is_flushing: bool,
    is_dispatching: bool,
}

/// What the agenda has to know of a session since the last notice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub(super) struct Notice {
    loss: Option<Duration>,
    expiry: Option<Duration>,
    beacon: Option<Duration>,
    flush: bool,
    dispatch: bool,
    /// Bytes that the outbox held, and those that it holds.
    bytes: (usize, usize),
}

impl Notice {
    pub(super) fn with_bytes(self, before: usize, after: usize) -> Self {
        Self { bytes: (before, after), ..self }
    }
}

impl Marks {
    /// Compares the state of a client's session with what the agenda knows.
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

    /// As [`compare`](Self::compare), for a session with a link whose only change is that a frame was put: each
    /// recipient of a broadcast pays for what is looked at here.
    #[inline]
    pub(super) fn compare_put(&mut self, outbox: &Outbox, limits: &Limits) -> Notice {
        // The frames of an outbox are late from when the oldest one was put.
        let slow_at = if outbox.frame_count() <= 1 { outbox.slow_at(limits.unacked_max) } else { None };
        let loss = arm(&mut self.loss, slow_at);
        Notice { loss, flush: !std::mem::replace(&mut self.is_flushing, true), ..Notice::default() }
    }

    /// See `Core::warm`.
    pub(super) fn warm(&self) -> usize {
        usize::from(self.loss.is_some()) ^ usize::from(self.beacon.is_some()) ^ usize::from(self.is_flushing)
    }

    /// The link may have to go. Returns false if another deadline is noted.
    pub(super) fn loss_comes(&mut self, now: Duration) -> bool {
        comes(&mut self.loss, end_of_millisecond(now))
    }

    /// The session may have to expire. Returns false if another deadline is noted.
    pub(super) fn expiry_comes(&mut self, now: Duration) -> bool {
        comes(&mut self.expiry, end_of_millisecond(now))
    }

    /// The session is flushed. Returns true if a Beacon may be due before `end`, the
    /// [end](end_of_millisecond) of this millisecond.
    #[inline]
    pub(super) fn flushes(&mut self, end: Duration) -> bool {
        self.is_flushing = false;
        comes(&mut self.beacon, end)
    }

    /// The session's frames are dispatched.
    pub(super) fn dispatches(&mut self) {
        self.is_dispatching = false;
    }
}

/// Notes a deadline, unless an earlier one is noted. Returns it if it has to be.
#[inline]
fn arm(noted: &mut Option<Duration>, due: Option<Duration>) -> Option<Duration> {
    let due = due.filter(|due| noted.is_none_or(|noted| *due < noted))?;
    *noted = Some(due);
    Some(due)
}

impl Agenda {
    /// Takes notice of a session after a change.
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
        debug_assert!(self.outbox_bytes + after >= before, "all outboxes hold at least what one held");
        self.outbox_bytes = self.outbox_bytes.saturating_add(after).saturating_sub(before);
    }

    /// Looks at a core after a change.
    pub(crate) fn update(&mut self, session: Entity, core: &mut Core) {
        let notice = core.notice(&self.limits);
        self.take(session, notice);
    }

    /// Looks at a core after a frame was put and nothing else.
    #[inline]
    pub(super) fn update_put(&mut self, session: Entity, core: &mut Core) {
        let notice = core.notice_put(&self.limits);
        self.take(session, notice);
    }

    /// Returns true if no session is listed twice among those with something to send.
    pub(super) fn flushes_each_once(&self) -> bool {
        let mut seen = EntityHashSet::default();
        self.flush.iter().all(|session| seen.insert(*session))
    }

    /// A frame has arrived from a session. Returns its place among all, counted from 1.
    pub(crate) fn arrived(&mut self) -> u64 {
        self.arrived += 1;
        self.arrived
    }

    /// Returns how many frames have arrived from sessions so far.
    pub(crate) fn arrived_count(&self) -> u64 {
        self.arrived
    }

    /// Takes the sessions whose frames are to be dispatched.
    pub(super) fn take_dispatch(&mut self) -> Vec<Entity> {
        std::mem::take(&mut self.dispatch)
    }

    /// Returns true if components of sessions are to be put back.
    pub(crate) fn has_astray(&self) -> bool {
        !self.astray.is_empty()
    }

    /// Returns how many bytes all outboxes hold.
    pub(crate) fn outbox_bytes(&self) -> usize {
        self.outbox_bytes
    }
}

/// Clears a noted deadline that has come. Returns false if a later one is noted, which stays.
fn comes(noted: &mut Option<Duration>, end: Duration) -> bool {
    noted.take_if(|noted| *noted < end).is_some()
}

/// Returns the end of the millisecond that a moment is in: what is due before it is taken from [`Timers`].
pub(super) fn end_of_millisecond(now: Duration) -> Duration {
    Duration::from_millis(millisecond(now).saturating_add(1))
}

/// Deadlines, and whose they are. To arm one costs the same however many there are.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// By millisecond, rounded down.
    due: BTreeMap<u64, Vec<Entity>>,
}

impl Timers {
    fn arm(&mut self, at: Duration, session: Entity) {
        self.due.entry(millisecond(at)).or_default().push(session);
    }

    /// Takes the sessions with a deadline that may have come by now, in the order of the deadlines.
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

/// Reads the limits, which a game may change.
pub(super) fn read_limits(mut agenda: ResMut<Agenda>, config: Res<SessionConfig>) {
    agenda.limits = Limits {
        link_timeout: config.link_timeout,
        unacked_max: config.unacked_max,
        control: Rate { per_second: config.control_per_second, burst: config.control_burst },
        inbox_max_frames: config.inbox_max_frames,
    };
}
