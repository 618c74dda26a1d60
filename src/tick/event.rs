//! What happens to links, as plain data: the adapters tell it, and each tick takes it as input.
//!
//! The types are public as items of [`proxy`](crate::proxy), whose adapters make them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::ident::LinkId;
use crate::wire::Lane;

/// What an adapter tells the tick.
#[derive(Debug, Clone)]
pub struct ProxyEvent {
    /// The link it is about.
    pub link: LinkId,
    /// When it happened, read from the [`Clock`](super::Clock) where it was received.
    pub at: Duration,
    /// What happened.
    pub kind: ProxyEventKind,
}

/// What happened to a link.
#[derive(Debug, Clone)]
pub enum ProxyEventKind {
    /// It is open: frames may be sent. The first event of a link.
    Opened(LinkInfo),
    /// A frame arrived.
    Frame {
        /// The lane it came on. An unreliable message may come on the reliable one.
        lane: Lane,
        /// Message id and body.
        bytes: Bytes,
    },
    /// The peer did what no frame can show, and what ends its session: a text where a frame should
    /// be, a frame longer than any may be, a stream that should not be there. Words for the log.
    /// Nothing more is read from the link, and the tick closes it, as PROTOCOL.
    Breach(&'static str),
    /// The adapter has passed on this many bytes of the frames that it was sent for the link, so the link
    /// may take as many more. See [`AdapterPort`](crate::proxy::AdapterPort).
    Room {
        /// Lengths of frames: message id and body.
        bytes: usize,
    },
    /// It is gone. The last event of a link.
    Closed(LinkEnd),
}

/// What is known of a link from its transport.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkInfo {
    /// The peer's address, where there is one.
    pub address: Option<SocketAddr>,
    /// Who the transport says the peer is, where it has authenticated it.
    pub identity: Option<String>,
}

/// How a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkEnd {
    /// The peer closed it.
    ByPeer,
    /// The server closed it, after flushing what it had sent.
    ByServer,
    /// The transport heard nothing for too long.
    Silent,
    /// The transport gave up: the peer broke its rules or did not take what was sent.
    Failed,
}
