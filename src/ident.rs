//! Identifiers of sessions, zones, links, ticks and messages.
//!
//! Identifiers are plain values that can be copied. Each kind has its own type, so that they cannot be
//! confused. This module does not depend on entities, transports or messages.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(", $format, ")"), self.0)
            }
        }
    };
}

id!(
    /// Id of a session over all its links: 64 random bits, never 0.
    SessionId(u64), "{:016x}"
);
id!(
    /// Id of a zone while the server runs, counted from 1.
    ZoneId(u64), "{}"
);
id!(
    /// Id of a proxy, counted from 0. Ports are drained in the order of these ids.
    ProxyId(u16), "{}"
);
id!(
    /// Id of a link within its proxy. It is not used again while the server runs.
    LinkId(u64), "{}"
);
id!(
    /// Number of a tick of the server, counted from 1.
    Tick(u64), "{}"
);
id!(
    /// Number of times that a session was bound to a link. What belongs to an older epoch is stale.
    Epoch(u32), "{}"
);

/// Id of a link among all proxies. Links of two proxies may have the same [`LinkId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey {
    /// Id of the proxy that has the link.
    pub proxy: ProxyId,
    /// Id of the link within that proxy.
    pub link: LinkId,
}

impl fmt::Display for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.proxy, self.link)
    }
}

/// Id that precedes the body of a message in a frame. Its range shows whether the message belongs to the
/// core or to the game, and bit 15 is its lane: see [`wire::Lane`](crate::wire::Lane).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u16);

impl MessageId {
    /// Returns the id with this number.
    #[must_use]
    pub const fn new(id: u16) -> Self {
        Self(id)
    }

    /// Returns the number of the id.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}
