//! The names of things: plain, copyable identifiers without behaviour.
//!
//! An identifier says which, never what: it knows nothing of entities, transports or messages,
//! and no two kinds can be mistaken for each other.

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
    /// A session, across all its links: 64 random bits, never 0.
    SessionId(u64), "{:016x}"
);
id!(
    /// A zone, for the life of the server: counted from 1.
    ZoneId(u64), "{}"
);
id!(
    /// An adapter that owns links of one kind; ports are drained in this order.
    ProxyId(u16), "{}"
);
id!(
    /// A link within its proxy; never used again while the server runs.
    LinkId(u64), "{}"
);
id!(
    /// A server tick, counted from 1.
    Tick(u64), "{}"
);
id!(
    /// How many times a session was bound to a link; what belongs to an older epoch is stale.
    Epoch(u32), "{}"
);

/// A link, named in full: links of two proxies may have the same [`LinkId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey {
    /// The proxy that owns the link.
    pub proxy: ProxyId,
    /// The link within that proxy.
    pub link: LinkId,
}

impl fmt::Display for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.proxy, self.link)
    }
}

/// The id that precedes a message's body in a frame. Its range says who owns the message and
/// bit 15 which lane it takes; see [`wire::Lane`](crate::wire::Lane).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u16);

impl MessageId {
    /// Wraps the number as it stands on the wire.
    #[must_use]
    pub const fn new(id: u16) -> Self {
        Self(id)
    }

    /// The number as it stands on the wire.
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
