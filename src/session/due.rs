//! Finds the sessions that must lose their links, the sessions that expire, and the outboxes to empty when all
//! outboxes together are too large.

use std::cmp::Reverse;
use std::time::Duration;

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;

use super::agenda::Agenda;
use super::{LossCause, SessionConfig, SessionCore};
use crate::ident::LinkKey;
use crate::tick::TickTime;

/// The sessions whose deadlines have come in this tick.
#[derive(Resource, Debug, Default)]
pub(crate) struct Overdue {
    /// Sessions that lose their link.
    pub(crate) lost: Vec<(Entity, LinkKey, LossCause)>,
    /// Sessions that expire.
    pub(crate) expired: Vec<Entity>,
}

/// Finds the sessions that must lose their link, because it was silent for too long or the client is too
/// slow.
pub(crate) fn watch(
    mut cores: Query<&mut SessionCore, Allow<Disabled>>,
    mut agenda: ResMut<Agenda>,
    mut overdue: ResMut<Overdue>,
    time: Res<TickTime>,
) {
    let now = time.steady();
    for session in agenda.losses.take(now) {
        let Ok(mut core) = cores.get_mut(session) else { continue };
        let core = core.bypass_change_detection();
        if !core.marks().is_some_and(|marks| marks.clear_due_loss(now)) {
            continue;
        }
        match core.overdue(now, &agenda.limits) {
            Some((link, cause)) => overdue.lost.push((session, link, cause)),
            None => agenda.update(session, core),
        }
    }
}

/// Finds the sessions without a link that expire now.
pub(crate) fn find_expired(
    mut cores: Query<&mut SessionCore, Allow<Disabled>>,
    mut agenda: ResMut<Agenda>,
    mut overdue: ResMut<Overdue>,
    time: Res<TickTime>,
) {
    let now = time.steady();
    for session in agenda.expiries.take(now) {
        let Ok(mut core) = cores.get_mut(session) else { continue };
        let core = core.bypass_change_detection();
        if !core.marks().is_some_and(|marks| marks.expiry_comes(now)) {
            continue;
        }
        if core.expires_at().is_some_and(|expires| expires <= now) {
            overdue.expired.push(session);
        } else {
            agenda.update(session, core);
        }
    }
}

/// Keeps the total size of all outboxes within its bound: treats outboxes as overflowed until the rest fits. The
/// outboxes whose clients have acknowledged nothing for two seconds come first. Among them, and among the others,
/// the largest come first. The session of an overflowed outbox loses its link as SLOW, if it has one, and its next
/// resume is a resync. Empty outboxes are skipped.
pub(super) fn bound_memory(
    mut cores: Query<(Entity, &mut SessionCore), Allow<Disabled>>,
    mut agenda: ResMut<Agenda>,
    time: Res<TickTime>,
    config: Res<SessionConfig>,
) {
    if agenda.outbox_bytes() <= config.outboxes_max_bytes {
        return;
    }
    let mut order: Vec<_> = cores
        .iter()
        .filter_map(|(session, core)| {
            let (bytes, since) = core.held()?;
            let is_recent = time.steady().saturating_sub(since) < RECENT_ACK;
            (bytes > 0).then_some((is_recent, Reverse(bytes), core.id(), session))
        })
        .collect();
    order.sort_unstable();
    for (.., session) in order {
        if agenda.outbox_bytes() <= config.outboxes_max_bytes {
            break;
        }
        if let Ok((_, mut core)) = cores.get_mut(session) {
            let core = core.bypass_change_detection();
            core.overflow();
            agenda.update(session, core);
        }
    }
}

/// Outboxes whose clients have acknowledged something within this time come last. Clients acknowledge once a
/// second.
const RECENT_ACK: Duration = Duration::from_secs(2);
