//! What the game despawned: sessions, and zones under their members. It is made good before
//! anything else settles.

use bevy_ecs::prelude::*;

use super::settle::{is_linked, zone_of};
use super::{Orphan, ZoneParted, Zones};
use crate::session::lifecycle::{announce, announce_of};
use crate::session::{self, EndCause, SessionState, SessionTable, tell, transition};
use crate::wire::v1::{Parted, Reason};

/// Ends the sessions whose entities are gone, as by a kick, and parts the members of zones that
/// are gone, as of ZONE_CLOSED.
pub(super) fn settle_orphans(world: &mut World) {
    let mut zones = world.resource_mut::<Zones>();
    let orphans = std::mem::take(&mut zones.orphans);
    let left = std::mem::take(&mut zones.left);
    for gone in world.resource_mut::<SessionTable>().take_despawned() {
        let whose = (gone.session, gone.entity, gone.principal.clone());
        let was_in = left.iter().find(|(session, ..)| *session == gone.entity);
        if let Some((_, zone, zone_id)) = was_in {
            announce_of(world, whose, |of| ZoneParted::new(of, *zone, *zone_id, Reason::Kicked));
        }
        session::bury(world, gone, EndCause::Kicked);
    }
    for Orphan { session, zone, id, name } in orphans {
        if SessionState::at(world, session).is_none() || zone_of(world, session).is_some() {
            continue;
        }
        tell(
            world,
            session,
            Parted { zone: name.to_string(), reason: Reason::ZoneClosed.into(), ..Parted::default() },
        );
        if is_linked(world, session) {
            transition(&mut world.entity_mut(session), SessionState::Connected);
        }
        announce(world, session, |of| ZoneParted::new(of, zone, id, Reason::ZoneClosed));
    }
}
