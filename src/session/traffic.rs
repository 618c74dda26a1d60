//! Frames to sessions: queued by class, flushed once a tick; and what keeps links honest.

use std::sync::Arc;
use std::time::Duration;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::agent::deliver_native;
use super::{Agent, Inbox, Latency, Outbox, SessionConfig, SessionCounts, Uplink, is_closing};
use crate::ident::LinkKey;
use crate::proxy::{Proxies, ProxyCommand};
use crate::tick::TickTime;
use crate::wire::v1::{Ack, Beacon};
use crate::wire::{self, ACK_EVERY_FRAMES, BEACON_EVERY, FRAME_MAX_SERVER, Lane, Range, WireMessage};

/// Puts a frame where its id belongs: a reliable one into the outbox, an unreliable one onto the
/// link if there is one.
pub(crate) fn put(
    frame: Bytes,
    (outbox, uplink): (&mut Outbox, &mut Uplink),
    now: Duration,
    config: &SessionConfig,
    counts: &mut SessionCounts,
) {
    match wire::lane_of(&frame) {
        Lane::Unreliable if uplink.link.is_some() => uplink.unreliable.push(frame),
        Lane::Unreliable => counts.dropped_unreliable_count += 1,
        Lane::Reliable => {
            // What does not fit ends in a resync; a linked session is dropped for it by `watch`.
            if outbox.awaits_resync() || outbox.push(frame, now, config).is_err() {
                counts.undelivered_count += 1;
            }
        }
    }
}

/// Sends one message to one session, in values if it is an agent. To a session that has ended,
/// nothing is sent, and that is counted.
pub(crate) fn tell<M: WireMessage>(world: &mut World, entity: Entity, message: M) {
    tell_all(world, &[entity], message);
}

/// Sends one message to many sessions; it is encoded once.
pub(crate) fn tell_all<M: WireMessage>(world: &mut World, entities: &[Entity], message: M) {
    let now = world.resource::<TickTime>().steady();
    let frame = wire::encode(&message);
    if frame.len() > FRAME_MAX_SERVER {
        tracing::error!(message = M::NAME, bytes = frame.len(), "not sent: a frame has at most 64 KiB");
        return;
    }
    let message = Arc::new(message);
    world.resource_scope(|world, mut counts: Mut<SessionCounts>| {
        world.resource_scope(|world, config: Mut<SessionConfig>| {
            for entity in entities {
                if world.get::<Agent>(*entity).is_some() && !is_closing(world, *entity) {
                    deliver_native(world, *entity, Arc::clone(&message));
                    continue;
                }
                let mut session = world.get_entity_mut(*entity).ok();
                let boxes = session
                    .as_mut()
                    .and_then(|session| session.get_components_mut::<(&mut Outbox, &mut Uplink)>().ok());
                match boxes {
                    Some((mut outbox, mut uplink)) => {
                        put(frame.clone(), (&mut outbox, &mut uplink), now, &config, &mut counts);
                    }
                    None => counts.undelivered_count += 1,
                }
            }
        });
    });
}

/// Sends each linked session its Beacon, once a second, staggered by session.
pub(super) fn send_beacons(mut sessions: Query<(&mut Uplink, &Inbox, &Latency)>, time: Res<TickTime>) {
    let now = time.steady();
    for (mut uplink, inbox, latency) in &mut sessions {
        let uplink = uplink.bypass_change_detection();
        // Clients go by the time between two Beacons, so slow ticks do not make it longer.
        if uplink.link.is_none() || uplink.beacons.due > time.now() {
            continue;
        }
        uplink.beacons.due = time.now() + BEACON_EVERY;
        // A client whose link is left unread is not given up, whatever of it has arrived.
        let echoed = if uplink.paused { uplink.beacons.next } else { uplink.beacons.echoed };
        let beacon = Beacon {
            id: uplink.beacons.send(now),
            tick: time.tick().0,
            received: inbox.received,
            latency_ms: latency.round_trip_ms(),
            echoed: Some(echoed),
        };
        uplink.unreliable.push(wire::encode(&beacon));
    }
}

/// Hands every link what is queued for it: link control, then what is counted, then the rest.
pub(super) fn flush(
    mut sessions: Query<(&mut Uplink, &mut Outbox, &mut Inbox)>,
    mut proxies: ResMut<Proxies>,
    mut counts: ResMut<SessionCounts>,
    config: Res<SessionConfig>,
) {
    for (mut uplink, mut outbox, mut inbox) in &mut sessions {
        let Some(link) = uplink.link else { continue };
        let (uplink, outbox) = (uplink.bypass_change_detection(), outbox.bypass_change_detection());
        if inbox.received - inbox.acked >= ACK_EVERY_FRAMES {
            inbox.acked = inbox.received;
            uplink.control.push(wire::encode(&Ack { received: inbox.received }));
        }
        pause(uplink, link, &inbox, config.inbox_max_frames, &mut proxies);
        send_all(uplink, outbox, link, &mut proxies, &mut counts);
    }
}

/// Hands one session's link what is queued for it, before it is closed.
pub(super) fn flush_one(world: &mut World, entity: Entity) {
    world.resource_scope(|world, mut proxies: Mut<Proxies>| {
        world.resource_scope(|world, mut counts: Mut<SessionCounts>| {
            let Ok(mut session) = world.get_entity_mut(entity) else { return };
            let Ok((mut uplink, mut outbox)) = session.get_components_mut::<(&mut Uplink, &mut Outbox)>()
            else {
                return;
            };
            if let Some(link) = uplink.link {
                send_all(&mut uplink, &mut outbox, link, &mut proxies, &mut counts);
            }
        });
    });
}

fn send_all(
    uplink: &mut Uplink,
    outbox: &mut Outbox,
    link: LinkKey,
    proxies: &mut Proxies,
    counts: &mut SessionCounts,
) {
    for frame in uplink.control.drain(..) {
        proxies.send(link, frame);
    }
    while proxies.has_room(link.proxy)
        && proxies.room(link) > 0
        && let Some(frame) = outbox.next_unsent()
    {
        proxies.send(link, frame);
    }
    for frame in uplink.unreliable.drain(..) {
        // Beacons are few, and without them the client takes a slow link for a dead one.
        let is_control = wire::id_of(&frame).is_some_and(|id| id.range() == Range::LinkControl);
        if proxies.has_room(link.proxy) && (is_control || proxies.room(link) > 0) {
            proxies.send(link, frame);
        } else {
            counts.dropped_unreliable_count += 1;
        }
    }
}

/// Stops reading a link whose frames pile up, and reads on when half of them are gone.
fn pause(uplink: &mut Uplink, link: LinkKey, inbox: &Inbox, max: usize, proxies: &mut Proxies) {
    let LinkKey { proxy, link } = link;
    if !uplink.paused && inbox.is_full(max) {
        uplink.paused = true;
        proxies.command(proxy, ProxyCommand::Pause { link });
    } else if uplink.paused && !inbox.is_full(max / 2) {
        uplink.paused = false;
        proxies.command(proxy, ProxyCommand::Unpause { link });
    }
}
