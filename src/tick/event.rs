//! Events of links as plain data, which adapters send and each tick takes as input.
//!
//! The types are public as items of [`proxy`](crate::proxy), whose adapters make them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::ident::LinkId;
use crate::wire::Lane;

/// An event that an adapter sends to the tick.
#[derive(Debug, Clone)]
pub struct ProxyEvent {
    /// The link that the event is about.
    pub link: LinkId,
    /// Time of the event: a reading of the [`Clock`](super::Clock) when the adapter received it.
    pub at: Duration,
    /// What happened.
    pub kind: ProxyEventKind,
}

/// What happened to a link.
#[derive(Debug, Clone)]
pub enum ProxyEventKind {
    /// The link is open, and frames may be sent. This is the first event of a link.
    Opened(LinkInfo),
    /// A frame arrived.
    Frame {
        /// Lane that the frame arrived on. An unreliable message may arrive on the reliable lane.
        lane: Lane,
        /// Message id and body.
        bytes: Bytes,
    },
    /// The peer broke the protocol in a way that no frame can show: a text message, a frame above the
    /// longest size, or a forbidden stream. The text is for the log. The adapter reads nothing more from
    /// the link, and the tick closes it as PROTOCOL.
    ProtocolViolation(&'static str),
    /// The adapter has passed on this many bytes of the frames that it got for the link, so the tick may
    /// send as many more. See [`AdapterPort`](crate::proxy::AdapterPort).
    Room {
        /// Total length of the frames, message ids included.
        bytes: usize,
    },
    /// The link is closed. This is the last event of a link.
    Closed(LinkEnd),
}

/// What the transport reports about a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkInfo {
    /// Address of the peer, if the transport has one.
    pub address: Option<SocketAddr>,
    /// User that the transport has authenticated, if any.
    pub identity: Option<String>,
    /// Name of the transport, if it is not the name of the proxy. An adapter with several transports sets it.
    pub transport: Option<&'static str>,
}

/// How a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkEnd {
    /// The peer closed the link.
    ByPeer,
    /// The server closed the link, after it had flushed its frames.
    ByServer,
    /// The transport received nothing for too long.
    Silent,
    /// The transport failed: the peer broke its rules, or did not take what was sent.
    Failed,
}
