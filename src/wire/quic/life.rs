//! The phases of a link, and the exchange of events between a connection and its endpoint.

use quinn_proto::crypto::rustls::HandshakeData;
use quinn_proto::{Connection, ConnectionError, ConnectionHandle, Endpoint, StreamId};

use super::{ALPN_QUIC, ALPN_WEBTRANSPORT, Ended, QuicKind};

/// The phase of a link. Only [`advance`](Self::advance) changes the phase, and only to a later one.
#[derive(Debug)]
pub(super) struct Life {
    phase: Phase,
    has_opened: bool,
}

/// A phase of a link. The variants are in the order in which a link passes them. A link may skip any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The handshake, and the request for a WebTransport session.
    Opening,
    /// Frames can be sent.
    Open,
    /// The last frame is queued. This code is sent after it.
    Finishing(u32),
    /// The stream was finished after the last frame. This code is sent when the peer has acknowledged the stream.
    Flushing(u32),
    /// This stream carries the capsule that closes a WebTransport session, or the refusal of one. The peer has not
    /// acknowledged it yet.
    Closing(StreamId),
    /// The link has ended.
    Over,
}

impl Life {
    /// Returns the first phase, [`Phase::Opening`].
    pub(super) fn new() -> Self {
        Self { phase: Phase::Opening, has_opened: false }
    }

    /// Returns the present phase.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns true if the link has ended.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Returns true if the link is open, or was open before it ended.
    pub(super) fn has_opened(&self) -> bool {
        self.has_opened
    }

    /// Advances to a later phase. Returns false and changes nothing if the link is in `to` or a later phase.
    pub(super) fn advance(&mut self, to: Phase) -> bool {
        if to.rank() <= self.phase.rank() {
            return false;
        }
        self.phase = to;
        self.has_opened |= to == Phase::Open;
        true
    }
}

impl Phase {
    fn rank(self) -> u8 {
        match self {
            Self::Opening => 0,
            Self::Open => 1,
            Self::Finishing(_) => 2,
            Self::Flushing(_) => 3,
            Self::Closing(_) => 4,
            Self::Over => 5,
        }
    }
}

/// The result of [`exchange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchanged {
    /// The connection received no event.
    Nothing,
    /// The connection received an event, and may have packets to send.
    News,
    /// The connection is drained. The endpoint has removed it and may reuse its handle. Use neither the connection
    /// nor the handle again.
    Drained,
}

/// Passes events between a connection and its endpoint.
///
/// After this has returned [`Exchanged::Drained`], do not call it again for this connection: the endpoint would
/// take it for another connection, or panic.
pub fn exchange(endpoint: &mut Endpoint, handle: ConnectionHandle, connection: &mut Connection) -> Exchanged {
    let mut exchanged = Exchanged::Nothing;
    while let Some(event) = connection.poll_endpoint_events() {
        let is_drained = event.is_drained();
        if let Some(answer) = endpoint.handle_event(handle, event) {
            connection.handle_event(answer);
            exchanged = Exchanged::News;
        }
        if is_drained {
            return Exchanged::Drained;
        }
    }
    exchanged
}

/// Returns how a link has ended whose connection was lost for `reason`.
pub(super) fn end_of(reason: &ConnectionError, kind: Option<QuicKind>) -> Ended {
    match reason {
        ConnectionError::ApplicationClosed(close) => {
            let code = close.error_code.into_inner();
            Ended::ByPeer(match kind {
                Some(QuicKind::WebTransport) => web_transport_proto::error_from_http3(code),
                _ => u32::try_from(code).ok(),
            })
        }
        ConnectionError::ConnectionClosed(_) | ConnectionError::Reset => Ended::ByPeer(None),
        ConnectionError::TimedOut => Ended::Silent,
        _ => Ended::Failed,
    }
}

/// Returns the kind that the handshake has negotiated. `None` for another protocol, which TLS does not accept.
pub(super) fn kind_of(connection: &Connection) -> Option<QuicKind> {
    let data = connection.crypto_session().handshake_data()?.downcast::<HandshakeData>().ok()?;
    match data.protocol?.as_slice() {
        ALPN_QUIC => Some(QuicKind::Quic),
        ALPN_WEBTRANSPORT => Some(QuicKind::WebTransport),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use quinn_proto::{Dir, Side};

    use super::*;

    #[test]
    fn a_life_goes_forward_only() {
        let stream = StreamId::new(Side::Client, Dir::Bi, 0);
        let phases = [
            Phase::Opening,
            Phase::Open,
            Phase::Finishing(1),
            Phase::Flushing(1),
            Phase::Closing(stream),
            Phase::Over,
        ];
        for (at, from) in phases.into_iter().enumerate() {
            for (to_at, to) in phases.into_iter().enumerate() {
                let mut life = Life::new();
                life.advance(from);

                let advanced = life.advance(to);

                assert_eq!(advanced, to_at > at, "from {from:?} to {to:?}");
                assert_eq!(life.phase(), if advanced { to } else { from });
            }
        }
    }
}
