//! Routes the events of links to guests and to sessions.
//!
//! Link control of sessions is collected, and takes effect in order of arrival with the Hellos of guests.
//! The other frames of a session wait for dispatch in its inbox.

use std::hint::black_box;
use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;
use bytes::Bytes;

use super::guests::{PendingHello, Stage};
use super::probe::StatusParts;
use super::{GateConfig, Guests, hello};
use crate::ident::LinkKey;
use crate::proxy::{Proxies, ProxyEventKind};
use crate::session::{Arrivals, Inbound, LossCause, Overdue};
use crate::tick::{TickInput, TickTime};
use crate::wire::v1::{Hello, Probe, Reason};
use crate::wire::{FRAME_MAX_BEFORE_WELCOME, Frame, FrameError, Lane, PROBE_EVERY, WireMessage as _};

/// Link control that arrived for sessions in this tick.
#[derive(Resource, Debug, Default)]
pub(super) struct Controls(pub(super) Vec<Control>);

/// A frame of link control that has arrived.
#[derive(Debug)]
pub(super) struct Control {
    /// Arrival time, on the sampled clock.
    at: Duration,
    pub(super) link: LinkKey,
    pub(super) frame: Inbound,
}

impl Control {
    /// Returns the arrival time and the position among all frames.
    pub(super) fn when(&self) -> (Duration, u64) {
        (self.at, self.frame.order)
    }
}

/// The resources that events of links may change.
#[derive(SystemParam)]
pub(super) struct Links<'w, 's> {
    guests: ResMut<'w, Guests>,
    sessions: Arrivals<'w, 's>,
    overdue: ResMut<'w, Overdue>,
    proxies: ResMut<'w, Proxies>,
    status: StatusParts<'w>,
    config: Res<'w, GateConfig>,
    time: Res<'w, TickTime>,
}

/// Routes the events of the tick, in order.
pub(super) fn route(mut input: ResMut<TickInput>, mut controls: ResMut<Controls>, mut links: Links) {
    for (_, event) in &input.events {
        // The frames are not in the caches of the processor. Reading one byte of each first lets the
        // processor wait for several of them at once.
        if let ProxyEventKind::Frame { bytes, .. } = &event.kind {
            black_box(bytes.first());
        }
    }
    for (proxy, event) in input.events.drain(..) {
        let link = LinkKey { proxy, link: event.link };
        match event.kind {
            ProxyEventKind::Opened(info) => links.guests.enter(link, info, links.time.now(), &links.config),
            ProxyEventKind::Frame { lane, bytes } => {
                let frame = links.take_frame(link, event.at, lane, bytes);
                controls.0.extend(frame.map(|frame| Control { at: event.at, link, frame }));
            }
            ProxyEventKind::ProtocolViolation(what) => {
                tracing::debug!(%link, what, "protocol error");
                // This is handled like a frame without an id, which is a protocol error too: it ends a guest at
                // once, and a session after the frames before it were dispatched.
                links.take_frame(link, event.at, Lane::Reliable, Bytes::new());
            }
            // `Proxies` tracks the room of links.
            ProxyEventKind::Room { .. } => {}
            ProxyEventKind::Closed(end) => {
                if links.guests.leave(link).is_none()
                    && let Some(session) = links.sessions.bound_to(link)
                {
                    links.overdue.lost.push((session, link, LossCause::Link(end)));
                }
            }
        }
    }
}

impl Links<'_, '_> {
    /// Takes a frame. Returns it if it is link control of a session, which takes effect in order with the
    /// Hellos.
    fn take_frame(&mut self, link: LinkKey, at: Duration, lane: Lane, bytes: Bytes) -> Option<Inbound> {
        let order = self.sessions.count();
        if self.guests.get_mut(link).is_some() {
            if lane == Lane::Unreliable || self.take_guest_frame(link, (at, order), bytes).is_err() {
                // A guest may only send Hello and Probe, on the reliable lane, and one Hello at a time.
                self.guests.leave(link);
                self.proxies.close(link, Reason::Protocol, "", self.time.now());
            }
            return None;
        }
        let at = self.time.steady_at(at);
        let inbound =
            Inbound { order, at, lane, length: bytes.len(), is_replayed: false, frame: Frame::parse(bytes) };
        self.sessions.take(link, inbound)
    }

    fn take_guest_frame(
        &mut self,
        link: LinkKey,
        (at, order): (Duration, u64),
        bytes: Bytes,
    ) -> Result<(), FrameError> {
        let now = self.time.now();
        let length = bytes.len();
        let Some(guest) = self.guests.get_mut(link) else { return Ok(()) };
        let frame = Frame::parse(bytes)?;
        let answers_now = guest.stage.is_silent() && length <= FRAME_MAX_BEFORE_WELCOME;
        if frame.id == Hello::ID && answers_now {
            let request = hello::parse(frame.decode()?, &guest.info, &self.config);
            guest.stage = Stage::PendingHello(PendingHello { when: (at, order), request });
            return Ok(());
        }
        // Probes are answered at a limited rate. The others are dropped.
        let probe: Probe = frame.decode()?;
        if answers_now && guest.probe_from <= now {
            guest.probe_from = now + PROBE_EVERY;
            self.proxies.send(link, self.status.reply(&probe));
        }
        Ok(())
    }
}
