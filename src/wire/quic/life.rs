//! Where a link is in its life: phases that follow each other and never come again.

use quinn_proto::crypto::rustls::HandshakeData;
use quinn_proto::{Connection, ConnectionError, ConnectionHandle, Endpoint, StreamId};

use super::{ALPN_QUIC, ALPN_WEBTRANSPORT, Ended, QuicKind};

/// The phase of a link. It changes by [`advance`](Self::advance) only, which goes forward only: what
/// is over stays over, whatever the peer still says.
#[derive(Debug)]
pub(super) struct Life {
    phase: Phase,
    has_opened: bool,
}

/// A phase, in the order in which a link passes them. It may leave any of them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The handshake, and the request for a WebTransport session.
    Opening,
    /// Frames may be sent.
    Open,
    /// The last frame is queued; then this code is told.
    Finishing(u32),
    /// The stream has ended behind the last frame, and the peer has to acknowledge it all.
    Flushing(u32),
    /// The capsule that closes a WebTransport session, or the refusal of one, is on this stream, and
    /// the peer has to acknowledge it.
    Closing(StreamId),
    /// The link has ended.
    Over,
}

impl Life {
    /// A link that is about to open.
    pub(super) fn new() -> Self {
        Self { phase: Phase::Opening, has_opened: false }
    }

    /// The present phase.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the link has ended.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Whether the link is open, or was before it ended.
    pub(super) fn has_opened(&self) -> bool {
        self.has_opened
    }

    /// Goes on to a later phase. Returns false, and changes nothing, if the link is as far already.
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

/// What a connection and its endpoint had to tell each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchanged {
    /// Nothing that the connection has to send.
    Nothing,
    /// The connection has something to send to its peer.
    News,
    /// The connection has ended for good. The endpoint has forgotten it, and may give its handle to
    /// another connection: neither is to be used again.
    Drained,
}

/// Lets a connection and its endpoint tell each other what they have to. Once it has returned
/// [`Exchanged::Drained`], it must not be called again for this connection: the endpoint would take
/// it for another one, or panic.
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

/// What the loss of a connection means to its link.
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

/// What the handshake has negotiated: `None` if it was neither of the two, which TLS refuses.
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
