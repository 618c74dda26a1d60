//! What is due in a tick, found by sweeps: links that must go, sessions whose time is up, and the
//! outboxes that give way when all of them together hold too much.

use std::cmp::Reverse;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::{Disconnected, ExpiresAt, LinkState, LossCause, Outbox, SessionConfig, Uplink};
use crate::ident::LinkKey;
use crate::tick::TickTime;

/// What is due in this tick, found by sweeps: sessions to disconnect and to expire.
#[derive(Resource, Debug, Default)]
pub(crate) struct Overdue {
    /// Linked sessions whose link must go.
    pub(crate) lost: Vec<(Entity, LinkKey, LossCause)>,
    /// Disconnected sessions whose time is up.
    pub(crate) expired: Vec<Entity>,
}

/// Finds sessions whose link must go: silent for too long, or too slow to take what they are sent.
/// A link that is not read is not silent: the server is behind, not the peer.
pub(crate) fn watch(
    mut sessions: Query<(Entity, &mut Uplink, &Outbox, &mut LinkState)>,
    time: Res<TickTime>,
    config: Res<SessionConfig>,
    mut overdue: ResMut<Overdue>,
) {
    let now = time.steady();
    for (entity, mut uplink, outbox, mut state) in &mut sessions {
        let Some(link) = uplink.link else { continue };
        if uplink.paused {
            uplink.bypass_change_detection().hear(now);
        }
        if outbox.awaits_resync() || outbox.is_slow(now, config.unacked_max) {
            overdue.lost.push((entity, link, LossCause::Slow));
        } else if now.saturating_sub(uplink.heard) >= config.link_timeout {
            overdue.lost.push((entity, link, LossCause::Silent));
        }
        let seen = uplink.beacons.state();
        if *state != seen {
            *state = seen;
        }
    }
}

/// Finds disconnected sessions whose time is up.
pub(crate) fn find_expired(
    sessions: Query<(Entity, &ExpiresAt), With<Disconnected>>,
    time: Res<TickTime>,
    mut overdue: ResMut<Overdue>,
) {
    let due = sessions.iter().filter(|(_, expires)| expires.0 <= time.steady());
    overdue.expired.extend(due.map(|(entity, _)| entity));
}

/// Keeps all outboxes together within their bound: the largest are given up, those first whose
/// clients have not acknowledged anything of late. A session whose link is there is then dropped as
/// a slow consumer, and resumes with a resync; one that holds nothing is left alone.
pub(super) fn bound_memory(
    mut outboxes: Query<(Entity, &mut Outbox)>,
    time: Res<TickTime>,
    config: Res<SessionConfig>,
) {
    let mut total_bytes: usize = outboxes.iter().map(|(_, outbox)| outbox.bytes()).sum();
    if total_bytes <= config.outboxes_max_bytes {
        return;
    }
    let mut order: Vec<_> = outboxes
        .iter()
        .filter(|(_, outbox)| outbox.bytes() > 0)
        .map(|(entity, outbox)| {
            let is_recent = time.steady().saturating_sub(outbox.since()) < RECENT_ACK;
            (is_recent, Reverse(outbox.bytes()), entity)
        })
        .collect();
    order.sort_unstable();
    for (_, Reverse(bytes), entity) in order {
        if total_bytes <= config.outboxes_max_bytes {
            break;
        }
        if let Ok((_, mut outbox)) = outboxes.get_mut(entity) {
            outbox.overflow();
            total_bytes -= bytes;
        }
    }
}

/// An outbox whose client acknowledged something within this time gives way last: clients
/// acknowledge each second.
const RECENT_ACK: Duration = Duration::from_secs(2);
