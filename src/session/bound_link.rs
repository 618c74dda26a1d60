//! The component that shows a game the link of a session.

use std::net::SocketAddr;

use bevy_ecs::prelude::*;

use super::{Core, mirror};
use crate::ident::LinkKey;

/// The link that drives a session: its transport, and the address of the client.
///
/// Only sessions with a link have this component. It is removed when the session loses its link, and replaced when the
/// session is bound to another link. Agents never have it.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::identity::Principal;
/// use waystation::session::BoundLink;
///
/// fn log_moves(moved: Query<(&Principal, &BoundLink), Changed<BoundLink>>) {
///     for (player, link) in &moved {
///         println!("{} plays over {} from {:?}", player.name(), link.transport(), link.address());
///     }
/// }
/// ```
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
#[component(storage = "SparseSet", immutable, clone_behavior = Ignore)]
#[component(on_insert = mirror::inserted::<Self>, on_remove = mirror::removed::<Self>)]
pub struct BoundLink {
    key: LinkKey,
    transport: &'static str,
    address: Option<SocketAddr>,
}

impl BoundLink {
    pub(crate) fn new(key: LinkKey, transport: &'static str, address: Option<SocketAddr>) -> Self {
        Self { key, transport, address }
    }

    /// Returns the proxy and the number of the link, as logs show them.
    #[must_use]
    pub fn key(&self) -> LinkKey {
        self.key
    }

    /// Returns the name of the transport: the name that the adapter reports, or else the name under which the proxy was
    /// attached.
    #[must_use]
    pub fn transport(&self) -> &'static str {
        self.transport
    }

    /// Returns the address of the client when the link was opened. Returns `None` if the transport has no addresses.
    /// With a trusted relay, it is the address that the relay reports.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Core {
    /// Returns the component for the link that drives the session, or `None` if there is no link.
    pub(super) fn bound_link(&self) -> Option<BoundLink> {
        Some(self.player()?.link()?.bound())
    }
}
