//! Routing: what arrived on a link belongs to a guest, or to the session that the link is bound to.
//!
//! Link control of sessions is kept to take effect with the guests' Hellos, in order of arrival. What else a
//! session sends waits for dispatch.

use std::hint::black_box;
use std::time::Duration;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::{GateConfig, Lobby, probe};
use crate::ident::LinkKey;
use crate::proxy::{LinkInfo, Proxies, ProxyEventKind};
use crate::session::{self, Agenda, Dispatch, Inbound, LossCause, Overdue, SessionCounts, SessionTable};
use crate::tick::{TickInput, TickTime};
use crate::wire::v1::{Hello, Probe, Reason};
use crate::wire::{FRAME_MAX_BEFORE_WELCOME, Frame, FrameError, Lane, PROBE_EVERY, WireMessage as _};

/// Link control of sessions that has arrived in this tick.
#[derive(Resource, Debug, Default)]
pub(super) struct Controls(pub(super) Vec<Control>);

/// A frame of link control that has arrived.
#[derive(Debug)]
pub(super) struct Control {
    /// The time at which it arrived, on the uncapped clock.
    at: Duration,
    pub(super) link: LinkKey,
    pub(super) frame: Inbound,
}

impl Control {
    /// Returns when it arrived, and its place among all frames.
    pub(super) fn when(&self) -> (Duration, u64) {
        (self.at, self.frame.order)
    }
}

/// Takes the tick's arrivals, in order.
pub(super) fn route(world: &mut World) {
    let mut arrivals = std::mem::take(&mut world.resource_mut::<TickInput>().events);
    let mut controls = Vec::new();
    for (_, event) in &arrivals {
        // Frames are not in the processor's caches: reads of several in a row are waited for together.
        if let ProxyEventKind::Frame { bytes, .. } = &event.kind {
            black_box(bytes.first());
        }
    }
    for (proxy, event) in arrivals.drain(..) {
        let link = LinkKey { proxy, link: event.link };
        match event.kind {
            ProxyEventKind::Opened(info) => enter(world, link, info),
            ProxyEventKind::Frame { lane, bytes } => {
                if let Some(frame) = frame(world, link, event.at, lane, bytes) {
                    controls.push(Control { at: event.at, link, frame });
                }
            }
            ProxyEventKind::Breach(what) => {
                tracing::debug!(%link, what, "protocol error");
                // A frame without an id is one too: it ends a session in its turn, behind what
                // arrived before it, and a guest at once.
                frame(world, link, event.at, Lane::Reliable, Bytes::new());
            }
            // The room of links is kept by `Proxies`.
            ProxyEventKind::Room { .. } => {}
            ProxyEventKind::Closed(end) => {
                if world.resource_mut::<Lobby>().leave(link).is_none()
                    && let Some(session) = world.resource::<SessionTable>().bound_to(link)
                {
                    world.resource_mut::<Overdue>().lost.push((session, link, LossCause::Link(end)));
                }
            }
        }
    }
    world.resource_mut::<TickInput>().events = arrivals;
    world.resource_mut::<Controls>().0 = controls;
}

fn enter(world: &mut World, link: LinkKey, info: LinkInfo) {
    let now = world.resource::<TickTime>().now();
    world.resource_scope(|world, config: Mut<GateConfig>| {
        world.resource_mut::<Lobby>().enter(link, info, now, &config);
    });
}

/// Takes a frame. Returns it if it is link control, which takes effect in order with the Hellos.
fn frame(world: &mut World, link: LinkKey, at: Duration, lane: Lane, bytes: Bytes) -> Option<Inbound> {
    let order = world.resource_mut::<Agenda>().arrived();
    if world.resource_mut::<Lobby>().get_mut(link).is_some() {
        if lane == Lane::Unreliable || guest_frame(world, link, (at, order), bytes).is_err() {
            // Nothing but Hello and Probe is understood here, both reliable, and one Hello at a time.
            let now = world.resource::<TickTime>().now();
            world.resource_mut::<Lobby>().leave(link);
            world.resource_mut::<Proxies>().close(link, Reason::Protocol, "", now);
        }
        return None;
    }
    let at = world.resource::<TickTime>().steady_at(at);
    let inbound = Inbound { order, at, lane, length: bytes.len(), frame: Frame::parse(bytes) };
    let dispatch = world.resource::<Dispatch>();
    if inbound.frame.as_ref().is_ok_and(|frame| dispatch.is_control(frame.id)) {
        return Some(inbound);
    }
    let Some(session) = world.resource::<SessionTable>().bound_to(link) else {
        world.resource_mut::<SessionCounts>().stale_frame_count += 1;
        return None;
    };
    session::arrive(world, session, inbound);
    None
}

fn guest_frame(
    world: &mut World,
    link: LinkKey,
    (at, order): (Duration, u64),
    bytes: Bytes,
) -> Result<(), FrameError> {
    let now = world.resource::<TickTime>().now();
    let length = bytes.len();
    let mut lobby = world.resource_mut::<Lobby>();
    let Some(guest) = lobby.get_mut(link) else { return Ok(()) };
    let frame = Frame::parse(bytes)?;
    let answers_now = guest.asked.is_none() && length <= FRAME_MAX_BEFORE_WELCOME;
    if frame.id == Hello::ID && answers_now {
        guest.asked = Some((at, order, frame.decode()?));
        return Ok(());
    }
    // Probes are answered at their own pace; the rest is dropped.
    let probe: Probe = frame.decode()?;
    if answers_now && guest.probe_from <= now {
        guest.probe_from = now + PROBE_EVERY;
        probe::reply(world, link, &probe);
    }
    Ok(())
}
