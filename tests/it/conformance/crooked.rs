//! Defines links that break the rules of their transports. A special frame triggers each offence.

use std::time::Duration;

use bytes::Bytes;
use quinn_proto::Dir;
use tungstenite::Message;
use waystation::arena::v1::Say;
use waystation::client::{Link, LinkStatus};
use waystation::wire::quic::{LaneEvent, QuicKind};
use waystation::wire::udp::CHANNEL_UNRELIABLE;
use waystation::wire::{self, Lane, lane_of};

use crate::stage::{Client as _, now, quic, udp, websocket};

/// A violation that a link can commit and that is not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offence {
    /// A frame with a reliable id is sent on the unreliable lane.
    Misplaced,
    /// A second stream is opened on the connection.
    Stream,
    /// A text message is sent instead of a binary message.
    Text,
}

impl Offence {
    /// Returns the frame that makes a link commit the offence. The frame itself is not sent.
    pub(crate) fn word(self) -> Bytes {
        Bytes::from(format!("\x01\x7Foffence: {self:?}"))
    }

    fn of(frame: &Bytes) -> Option<Self> {
        [Self::Misplaced, Self::Stream, Self::Text].into_iter().find(|offence| offence.word() == frame)
    }
}

fn misplaced() -> Bytes {
    wire::encode(&Say { number: 1 })
}

/// A link over UDP.
pub(crate) struct CrookedUdp(pub(crate) udp::Client);

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
        (!self.0.received.is_empty()).then(|| self.0.received.remove(0))
    }

    fn send(&mut self, frame: Bytes) -> bool {
        match Offence::of(&frame) {
            None => self.0.say(frame),
            Some(_) => self.0.send(CHANNEL_UNRELIABLE, misplaced()),
        }
        true
    }

    fn flush(&mut self) {}

    fn close(&mut self) {
        self.0.leave();
    }
}

/// A link over QUIC, raw or inside a WebTransport session.
pub(crate) struct CrookedQuic(pub(crate) quic::Client);

impl Link for CrookedQuic {
    fn update(&mut self, _dt: Duration) {
        self.0.step();
    }

    fn status(&self) -> LinkStatus {
        let has_ended = |happened: &LaneEvent| matches!(happened, LaneEvent::Ended(_));
        match self.0.is_open() {
            _ if self.0.happened.iter().any(has_ended) => LinkStatus::Closed,
            true => LinkStatus::Open,
            false => LinkStatus::Opening,
        }
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        (!self.0.received.is_empty()).then(|| self.0.received.remove(0))
    }

    fn send(&mut self, frame: Bytes) -> bool {
        match Offence::of(&frame) {
            None => self.0.send(&frame),
            Some(Offence::Misplaced | Offence::Text) => {
                // A datagram of a WebTransport session begins with the session's id: here that of the first stream.
                let session =
                    if self.0.lanes.kind() == Some(QuicKind::WebTransport) { &[0][..] } else { &[] };
                let datagram = Bytes::from([session, &misplaced()].concat());
                self.0
                    .connection
                    .datagrams()
                    .send(datagram, true)
                    .expect("the connection has room for the datagram");
            }
            // A stream of a WebTransport session begins with a header.
            Some(Offence::Stream) => drop(self.0.open_stream(Dir::Uni, &[0x40, 0x54, 0])),
        }
        true
    }

    fn flush(&mut self) {}

    fn close(&mut self) {
        self.0.lanes.close(0, &mut self.0.connection, now());
        self.0.flush();
    }
}

/// A link over WebSocket.
pub(crate) struct CrookedWebSocket(pub(crate) websocket::Client);

impl Link for CrookedWebSocket {
    fn update(&mut self, _dt: Duration) {
        self.0.step();
    }

    fn status(&self) -> LinkStatus {
        if self.0.is_over { LinkStatus::Closed } else { LinkStatus::Open }
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        let frame = (!self.0.received.is_empty()).then(|| self.0.received.remove(0))?;
        Some((lane_of(&frame), frame))
    }

    fn send(&mut self, frame: Bytes) -> bool {
        if self.0.closed.is_some() || self.0.is_over {
            return false;
        }
        match Offence::of(&frame) {
            None => self.0.say(frame),
            Some(_) => self.0.send(Message::text("a text")),
        }
        true
    }

    fn flush(&mut self) {}

    fn close(&mut self) {
        // The server may have closed the connection already, so an error is ignored.
        let _ = self.0.socket.close(None);
        let _ = self.0.socket.flush();
    }

    fn failure(&self) -> Option<String> {
        self.0.closed.map(|code| format!("closed with {code}"))
    }
}
