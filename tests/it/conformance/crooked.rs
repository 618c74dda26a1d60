//! Links that do what no client's link does: each offence is a frame that stands for it.

use std::time::Duration;

use bytes::Bytes;
use waystation::arena::v1::Say;
use waystation::client::{Link, LinkStatus};
use waystation::wire::udp::{CHANNEL_RELIABLE, CHANNEL_UNRELIABLE};
use waystation::wire::{self, Lane, lane_of};

use crate::udp_stage;

/// What a link does that no frame shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offence {
    /// A frame whose id is reliable goes on the unreliable lane.
    Misplaced,
}

impl Offence {
    /// What a player says for its link to do it.
    pub(crate) fn word(self) -> Bytes {
        Bytes::from(format!("\x01\x7Foffence: {self:?}"))
    }

    fn of(frame: &Bytes) -> Option<Self> {
        [Self::Misplaced].into_iter().find(|offence| offence.word() == frame)
    }
}

fn misplaced() -> Bytes {
    wire::encode(&Say { number: 1 })
}

/// A link over UDP.
pub(crate) struct CrookedUdp(pub(crate) udp_stage::Client);

impl Link for CrookedUdp {
    fn update(&mut self, _dt: Duration) {
        self.0.step();
    }

    fn status(&self) -> LinkStatus {
        if self.0.netcode.is_disconnected() || self.0.renet.is_disconnected() {
            LinkStatus::Closed
        } else if self.0.netcode.is_connected() {
            LinkStatus::Open
        } else {
            LinkStatus::Opening
        }
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        let (channel, frame) = (!self.0.received.is_empty()).then(|| self.0.received.remove(0))?;
        Some((if channel == CHANNEL_RELIABLE { Lane::Reliable } else { Lane::Unreliable }, frame))
    }

    fn send(&mut self, frame: Bytes) -> bool {
        match (Offence::of(&frame), lane_of(&frame)) {
            (Some(Offence::Misplaced), _) => self.0.send(CHANNEL_UNRELIABLE, misplaced()),
            (None, Lane::Reliable) => self.0.send(CHANNEL_RELIABLE, frame),
            (None, Lane::Unreliable) => self.0.send(CHANNEL_UNRELIABLE, frame),
        }
        true
    }

    fn flush(&mut self) {}

    fn close(&mut self) {
        self.0.leave();
    }
}
