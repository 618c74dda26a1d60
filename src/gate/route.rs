//! Where what arrived belongs: to a guest, or to the session that the link is bound to.

use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;
use bytes::Bytes;

use super::probe::StatusParts;
use super::{GateConfig, Lobby, probe};
use crate::ident::LinkKey;
use crate::proxy::{Arrivals, Proxies, ProxyEventKind};
use crate::session::{
    DispatchQueue, Inbound, Inbox, LossCause, Overdue, SessionConfig, SessionCounts, SessionTable, Uplink,
};
use crate::tick::TickTime;
use crate::wire::v1::{Hello, Probe, Reason};
use crate::wire::{self, FRAME_MAX_BEFORE_WELCOME, Frame, FrameError, Lane, PROBE_EVERY, WireMessage as _};

/// What routing needs to know and may change.
#[derive(SystemParam)]
pub(super) struct Routing<'w, 's> {
    lobby: ResMut<'w, Lobby>,
    proxies: ResMut<'w, Proxies>,
    overdue: ResMut<'w, Overdue>,
    queue: ResMut<'w, DispatchQueue>,
    counts: ResMut<'w, SessionCounts>,
    table: Res<'w, SessionTable>,
    time: Res<'w, TickTime>,
    config: Res<'w, GateConfig>,
    limits: Res<'w, SessionConfig>,
    status: StatusParts<'w>,
    sessions: Query<'w, 's, (&'static mut Inbox, &'static mut Uplink)>,
}

/// Takes the tick's arrivals, in order.
pub(super) fn route(mut arrivals: ResMut<Arrivals>, mut routing: Routing) {
    for (proxy, event) in arrivals.0.drain(..) {
        let link = LinkKey { proxy, link: event.link };
        match event.kind {
            ProxyEventKind::Opened(info) => {
                routing.lobby.enter(link, info, routing.time.now(), &routing.config);
            }
            ProxyEventKind::Frame { lane, bytes } => routing.frame(link, event.at, lane, bytes),
            ProxyEventKind::Breach(what) => {
                tracing::debug!(%link, what, "protocol error");
                // A frame without an id is one too: it ends a session in its turn, behind what
                // arrived before it, and a guest at once.
                routing.frame(link, event.at, Lane::Reliable, Bytes::new());
            }
            // The room of links is kept by `Proxies`.
            ProxyEventKind::Room { .. } => {}
            ProxyEventKind::Closed(end) => {
                if routing.lobby.leave(link).is_none()
                    && let Some(session) = routing.table.bound_to(link)
                {
                    routing.overdue.lost.push((session, link, LossCause::Link(end)));
                }
            }
        }
    }
}

impl Routing<'_, '_> {
    fn frame(&mut self, link: LinkKey, at: std::time::Duration, lane: Lane, bytes: Bytes) {
        if let Some(entity) = self.table.bound_to(link)
            && let Ok((mut inbox, mut uplink)) = self.sessions.get_mut(entity)
        {
            let at = self.time.steady_at(at);
            uplink.bypass_change_detection().hear(at);
            let inbound = Inbound { order: self.queue.arrived(), at, lane, bytes };
            let is_first = inbox.frame_count() == 0;
            if !inbox.push(inbound, self.time.steady(), &self.limits) {
                self.counts.throttled_frame_count += 1;
            } else if is_first {
                self.queue.enter(entity);
            }
        } else if self.lobby.get_mut(link).is_some() {
            if lane == Lane::Unreliable || self.guest_frame(link, at, bytes).is_err() {
                // Nothing but Hello and Probe is understood here, both reliable, and one Hello at a time.
                self.lobby.leave(link);
                self.proxies.close(link, Reason::Protocol, "", self.time.now());
            }
        } else {
            self.counts.stale_frame_count += 1;
        }
    }

    fn guest_frame(
        &mut self,
        link: LinkKey,
        at: std::time::Duration,
        bytes: Bytes,
    ) -> Result<(), FrameError> {
        let length = bytes.len();
        let Some(guest) = self.lobby.get_mut(link) else {
            return Ok(());
        };
        let frame = Frame::parse(bytes)?;
        let answers_now = guest.asked.is_none() && length <= FRAME_MAX_BEFORE_WELCOME;
        if frame.id == Hello::ID && answers_now {
            guest.asked = Some((at, frame.decode()?));
            return Ok(());
        }
        // Probes are answered at their own pace; the rest is dropped.
        let probe: Probe = frame.decode()?;
        if answers_now && guest.probe_from <= self.time.now() {
            guest.probe_from = self.time.now() + PROBE_EVERY;
            self.proxies.send(link, wire::encode(&probe::answer(&probe, &self.status)));
        }
        Ok(())
    }
}
