//! Arrivals: frames of clients on their way from links to sessions.
//!
//! Data flow: the gate → [`Arrivals`] → the inbox of the session that the link is bound to, for dispatch; link
//! control goes back to the gate, which lets it take effect in order with the Hellos of guests.

use std::hint::black_box;

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;

use super::agenda::Agenda;
use super::delivery::{READ_AHEAD_FROM, WARM_COUNT, read_ahead};
use super::inbox::Inbound;
use super::{Dispatch, Latency, SessionCore, SessionCounts, SessionTable};
use crate::ident::LinkKey;

/// Where frames of clients go.
#[derive(SystemParam)]
pub(crate) struct Arrivals<'w, 's> {
    cores: Query<'w, 's, &'static mut SessionCore, Allow<Disabled>>,
    agenda: ResMut<'w, Agenda>,
    counts: ResMut<'w, SessionCounts>,
    table: Res<'w, SessionTable>,
    dispatch: Res<'w, Dispatch>,
}

impl Arrivals<'_, '_> {
    /// Counts a frame, of a guest or of a session. Returns its place among all, counted from 1.
    pub(crate) fn count(&mut self) -> u64 {
        self.agenda.arrived()
    }

    /// The session that a link is bound to.
    pub(crate) fn bound_to(&self, link: LinkKey) -> Option<Entity> {
        self.table.bound_to(link)
    }

    /// Takes a frame on the link of a session. Returns it if it is link control. What else there is waits for
    /// dispatch; a frame for which there is no room is dropped and counted, as is one of a link without a session.
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
        core.hear(frame.at);
        if !core.arrive(frame, &self.agenda.limits) {
            self.counts.throttled_frame_count += 1;
        }
        self.agenda.update(session, core);
        None
    }
}

/// Reads what these frames of link control, on these links, will touch.
pub(crate) fn warm<'a>(world: &World, controls: impl Iterator<Item = (LinkKey, &'a Inbound)>) {
    let table = world.resource::<SessionTable>();
    if table.session_count() < READ_AHEAD_FROM {
        return;
    }
    let mut sessions = Vec::with_capacity(WARM_COUNT);
    for (link, inbound) in controls {
        sessions.extend(table.bound_to(link));
        black_box(inbound.frame.as_ref().map(|frame| frame.body.first()).ok());
    }
    read_ahead(&sessions, |session| world.get::<SessionCore>(session));
    for session in sessions {
        let latency = world.get_entity(session).ok().and_then(|session| session.get_ref::<Latency>());
        black_box(latency.map(|latency| (latency.last_changed(), latency.round_trip())));
    }
}
