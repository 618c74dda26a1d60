//! Arrivals: moves frames of clients from links to sessions.
//!
//! Data flow: the gate → [`Arrivals`] → the inbox of the session that the link drives, for dispatch; link
//! control goes back to the gate, which applies it in the order of arrival, together with the Hellos of
//! guests.

use std::hint::black_box;

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;

use super::agenda::Agenda;
use super::delivery::{PREFETCH_COUNT, PREFETCH_FROM, prefetch_cores};
use super::inbox::Inbound;
use super::{Dispatch, Latency, SessionCore, SessionCounts, SessionTable};
use crate::ident::LinkKey;

/// Routes frames of clients to sessions.
#[derive(SystemParam)]
pub(crate) struct Arrivals<'w, 's> {
    cores: Query<'w, 's, &'static mut SessionCore, Allow<Disabled>>,
    agenda: ResMut<'w, Agenda>,
    counts: ResMut<'w, SessionCounts>,
    table: Res<'w, SessionTable>,
    dispatch: Res<'w, Dispatch>,
}

impl Arrivals<'_, '_> {
    /// Counts a frame of a guest or of a session. Returns its position among all frames that have arrived,
    /// counted from 1.
    pub(crate) fn count(&mut self) -> u64 {
        self.agenda.arrived()
    }

    /// Returns the session that a link drives.
    pub(crate) fn bound_to(&self, link: LinkKey) -> Option<Entity> {
        self.table.bound_to(link)
    }

    /// Takes a frame that arrived on a link. Returns the frame if it is link control. Puts any other frame
    /// into the inbox of its session, for dispatch. Drops and counts the frame if the link drives no session,
    /// or if the inbox has no room.
    pub(crate) fn take(&mut self, link: LinkKey, frame: Inbound) -> Option<Inbound> {
        if frame.frame.as_ref().is_ok_and(|frame| self.dispatch.is_control(frame.id)) {
            return Some(frame);
        }
        let session = self.table.bound_to(link);
        let Some((session, Ok(mut core))) = session.map(|session| (session, self.cores.get_mut(session)))
        else {
            self.counts.stale_frame_count += 1;
            return None;
        };
        let core = core.bypass_change_detection();
        core.note_received(frame.at);
        if !core.arrive(frame, &self.agenda.limits) {
            self.counts.throttled_frame_count += 1;
        }
        self.agenda.update(session, core);
        None
    }
}

/// Loads into the CPU cache the memory that the processing of these link control frames will use.
pub(crate) fn prefetch_controls<'a>(world: &World, controls: impl Iterator<Item = (LinkKey, &'a Inbound)>) {
    let table = world.resource::<SessionTable>();
    if table.session_count() < PREFETCH_FROM {
        return;
    }
    let mut sessions = Vec::with_capacity(PREFETCH_COUNT);
    for (link, inbound) in controls {
        sessions.extend(table.bound_to(link));
        black_box(inbound.frame.as_ref().map(|frame| frame.body.first()).ok());
    }
    prefetch_cores(&sessions, |session| world.get::<SessionCore>(session));
    for session in sessions {
        let latency = world.get_entity(session).ok().and_then(|session| session.get_ref::<Latency>());
        black_box(latency.map(|latency| (latency.last_changed(), latency.round_trip())));
    }
}
