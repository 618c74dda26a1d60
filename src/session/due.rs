//! What is due in a tick: links that must go, sessions that expire, and outboxes that give way when
//! all of them together hold too much.

use std::cmp::Reverse;
use std::time::Duration;

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;

use super::agenda::Agenda;
use super::{LossCause, SessionConfig, SessionCore};
use crate::ident::LinkKey;
use crate::tick::TickTime;

/// What is due in this tick.
#[derive(Resource, Debug, Default)]
pub(crate) struct Overdue {
    /// Linked sessions that lose their link.
    pub(crate) lost: Vec<(Entity, LinkKey, LossCause)>,
    /// Sessions without a link that expire.
    pub(crate) expired: Vec<Entity>,
}

/// Finds sessions whose link must go: silent for too long, or too slow to take what they are sent.
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
        if !core.marks().is_some_and(|marks| marks.loss_comes(now)) {
            continue;
        }
        match core.overdue(now, &agenda.limits) {
            Some((link, cause)) => overdue.lost.push((session, link, cause)),
            None => agenda.update(session, core),
        }
    }
}

/// Finds sessions without a link whose time is up.
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

/// Keeps all outboxes together within their bound: the largest are given up, those first whose
/// clients have not acknowledged anything for two seconds. A session with a link then loses it as a slow
/// consumer, and its client resumes with a resync. A session that holds nothing is left alone.
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

/// An outbox whose client acknowledged something within this time gives way last: clients
/// acknowledge each second.
const RECENT_ACK: Duration = Duration::from_secs(2);
