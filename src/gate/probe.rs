//! Answers Probes, which need no session.

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

/// The resources that a `status` reply is made of.
#[derive(SystemParam)]
pub(super) struct StatusParts<'w> {
    gate: Res<'w, GateConfig>,
    sessions: Res<'w, SessionConfig>,
    table: Res<'w, SessionTable>,
    zones: Res<'w, Zones>,
    draining: Res<'w, Drain>,
}

/// Registers the handler for Probes on links that have a session.
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

/// Sends the reply to a Probe.
fn reply(world: &mut World, link: LinkKey, probe: &Probe) {
    let mut state = SystemState::<(StatusParts, ResMut<Proxies>)>::new(world);
    let Ok((parts, mut proxies)) = state.get_mut(world) else { return };
    proxies.send(link, parts.reply(probe));
}

impl StatusParts<'_> {
    /// Returns the encoded reply to a Probe. The body is empty if the topic is unknown.
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

/// Topic whose reply is a `Status` message.
const STATUS: &str = "status";
/// Longest part of a topic that a reply repeats, in characters.
const TOPIC_MAX_CHARS: usize = 64;
/// Maximum size of the zone names in a reply, in bytes. Further zones are left out. A client without a
/// session can send four Probes per second, and this bounds what they cost.
const ZONE_NAMES_MAX_BYTES: usize = 4 * 1024;
