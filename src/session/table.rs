//! Look-ups of live sessions by id, by token and by link.

use bevy_ecs::prelude::*;
use bevy_platform::collections::HashMap;

use super::{Core, TokenHash};
use crate::ident::{LinkKey, SessionId};
use crate::proxy::Network;

/// Finds and counts live sessions. It does not include sessions that have ended.
#[derive(Resource, Debug, Default)]
pub struct SessionTable {
    by_id: HashMap<SessionId, Entity>,
    by_token: HashMap<TokenHash, Entity>,
    by_link: HashMap<LinkKey, Entity>,
    /// The network toward whose limits each session counts.
    networks: HashMap<SessionId, Network>,
    by_network: HashMap<Network, usize>,
    agent_count: usize,
    /// Sessions whose entities the game has despawned. They are ended when memberships settle.
    pub(super) despawned: Vec<(Entity, Core)>,
}

/// The error for a session that does not exist or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no session {0}: it has ended or never existed")]
pub struct UnknownSession(pub SessionId);

impl SessionTable {
    /// Returns the entity of a session.
    ///
    /// # Errors
    ///
    /// Returns [`UnknownSession`] if the session has ended or never existed.
    pub fn find(&self, id: SessionId) -> Result<Entity, UnknownSession> {
        self.by_id.get(&id).copied().ok_or(UnknownSession(id))
    }

    /// Returns the entity of the session that a link drives, or `None` if the link drives no session.
    #[must_use]
    pub fn bound_to(&self, link: LinkKey) -> Option<Entity> {
        self.by_link.get(&link).copied()
    }

    /// Returns the number of live sessions, agents included.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.by_id.len()
    }

    /// Returns the number of live sessions, without agents.
    #[must_use]
    pub fn player_count(&self) -> usize {
        self.by_id.len() - self.agent_count
    }

    /// Returns the number of live sessions that were opened from a network, including those without a link. A
    /// session whose first link was exempt from the limits by network does not count. Nor does a session that
    /// was restored from a record.
    #[must_use]
    pub fn count_from(&self, network: Network) -> usize {
        self.by_network.get(&network).copied().unwrap_or_default()
    }

    /// Returns the number of networks with live sessions.
    pub(crate) fn network_count(&self) -> usize {
        self.by_network.len()
    }

    /// Returns the number of links that drive a session.
    #[must_use]
    pub fn link_count(&self) -> usize {
        self.by_link.len()
    }

    /// Returns the number of resume tokens that are valid now.
    #[must_use]
    pub fn token_count(&self) -> usize {
        self.by_token.len()
    }

    /// Returns the session that a token resumes.
    pub(crate) fn by_token(&self, hash: TokenHash) -> Option<Entity> {
        self.by_token.get(&hash).copied()
    }

    /// Adds a client's session. It counts toward the limits of `network` until it is removed.
    pub(super) fn add(&mut self, id: SessionId, entity: Entity, network: Option<Network>) {
        self.by_id.insert(id, entity);
        if let Some(network) = network {
            self.networks.insert(id, network);
            *self.by_network.entry(network).or_default() += 1;
        }
    }

    /// Adds an agent's session.
    pub(super) fn add_agent(&mut self, id: SessionId, entity: Entity) {
        self.by_id.insert(id, entity);
        self.agent_count += 1;
    }

    pub(super) fn remove(&mut self, id: SessionId, is_agent: bool) {
        if self.by_id.remove(&id).is_some() {
            self.agent_count -= usize::from(is_agent);
        }
        if let Some(network) = self.networks.remove(&id)
            && let Some(count) = self.by_network.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                self.by_network.remove(&network);
            }
        }
    }

    /// Returns true if the game has despawned sessions that are not ended yet.
    pub(crate) fn has_despawned(&self) -> bool {
        !self.despawned.is_empty()
    }

    pub(crate) fn take_despawned(&mut self) -> Vec<(Entity, Core)> {
        std::mem::take(&mut self.despawned)
    }

    pub(super) fn link(&mut self, link: LinkKey, entity: Entity) {
        let before = self.by_link.insert(link, entity);
        debug_assert!(before.is_none_or(|before| before == entity), "a link drives one session");
    }

    pub(super) fn unlink(&mut self, link: LinkKey) {
        self.by_link.remove(&link);
    }

    pub(super) fn add_token(&mut self, hash: TokenHash, entity: Entity) {
        let before = self.by_token.insert(hash, entity);
        debug_assert!(before.is_none_or(|before| before == entity), "a token resumes one session");
    }

    pub(super) fn remove_token(&mut self, hash: TokenHash) {
        self.by_token.remove(&hash);
    }
}
