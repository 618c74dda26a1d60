//! The open channel: questions that need no session.

use bevy_ecs::prelude::*;
use bevy_ecs::system::{SystemParam, SystemState};
use bytes::Bytes;
use prost::Message as _;

use super::{Drain, GateConfig};
use crate::ident::LinkKey;
use crate::proxy::Proxies;
use crate::session::{self, Dispatch, Next, SessionConfig, SessionTable};
use crate::wire::v1::{Probe, ProbeReply, Status};
use crate::wire::{self, WireMessage as _};
use crate::zone::Zones;

/// What a server says of itself.
#[derive(SystemParam)]
pub(super) struct StatusParts<'w> {
    gate: Res<'w, GateConfig>,
    sessions: Res<'w, SessionConfig>,
    table: Res<'w, SessionTable>,
    zones: Res<'w, Zones>,
    draining: Res<'w, Drain>,
}

/// Registers Probes of sessions.
pub(super) fn register(dispatch: &mut Dispatch) {
    dispatch.register_control(Probe::ID, |world, sent| {
        let (session, at) = (sent.session, sent.at);
        let probe: Probe = sent.read()?;
        let link = session::edit(world, session, |core| core.may_probe(at)).flatten();
        if let Some(link) = link {
            reply(world, link, &probe);
        }
        Ok(Next::Go)
    });
}

/// Answers a Probe.
fn reply(world: &mut World, link: LinkKey, probe: &Probe) {
    let mut state = SystemState::<(StatusParts, ResMut<Proxies>)>::new(world);
    let Ok((parts, mut proxies)) = state.get_mut(world) else { return };
    proxies.send(link, parts.reply(probe));
}

impl StatusParts<'_> {
    /// The answer to a Probe; to a topic that nobody knows, an empty one.
    pub(super) fn reply(&self, probe: &Probe) -> Bytes {
        let body = match probe.topic.as_str() {
            STATUS => self.status().encode_to_vec().into(),
            _ => Bytes::new(),
        };
        wire::encode(&ProbeReply { topic: probe.topic.chars().take(TOPIC_MAX_CHARS).collect(), body })
    }

    fn status(&self) -> Status {
        Status {
            name: self.gate.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sessions: u32::try_from(self.table.player_count()).unwrap_or(u32::MAX),
            capacity: u32::try_from(self.sessions.max_sessions).unwrap_or(u32::MAX),
            zones: self.zones.names(ZONE_NAMES_MAX_BYTES),
            draining: self.draining.is_draining(),
        }
    }
}

/// What the server says of itself: a `Status`.
const STATUS: &str = "status";
/// Longest topic that is repeated in a reply, in characters.
const TOPIC_MAX_CHARS: usize = 64;
/// Bytes of zone names in a reply; further zones are left out. A stranger can ask four times a
/// second, and gets no more than that.
const ZONE_NAMES_MAX_BYTES: usize = 4 * 1024;
