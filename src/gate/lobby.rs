//! Links that have no session yet.

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_ecs::prelude::*;

use crate::ident::LinkKey;
use crate::proxy::LinkInfo;
use crate::session::{SessionTable, TokenHash};
use crate::wire::v1::Hello;

/// Links that have no session yet.
#[derive(Resource, Debug, Default)]
pub struct Lobby {
    pub(super) guests: BTreeMap<LinkKey, Guest>,
}

/// A link that has no session yet.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) info: LinkInfo,
    /// When it is closed, unless a Hello of it is accepted; on the uncapped clock.
    pub(super) deadline: Duration,
    /// Its Hello, and when that arrived.
    pub(super) asked: Option<(Duration, Hello)>,
    pub(super) denied_count: u32,
    pub(super) bad_token_count: u32,
    /// Another bad token is not answered before.
    pub(super) resume_from: Duration,
    /// A Probe is not answered before.
    pub(super) probe_from: Duration,
}

impl Lobby {
    /// How many links have no session yet.
    #[must_use]
    pub fn guest_count(&self) -> usize {
        self.guests.len()
    }
}

impl Guest {
    pub(super) fn new(info: LinkInfo, deadline: Duration) -> Self {
        Self {
            info,
            deadline,
            asked: None,
            denied_count: 0,
            bad_token_count: 0,
            resume_from: Duration::ZERO,
            probe_from: Duration::ZERO,
        }
    }

    /// Whether its Hello may be answered. Only a bad token is slowed: a good one must not miss its
    /// deadline for the bad ones before it.
    pub(super) fn is_ready(&self, now: Duration, table: &SessionTable) -> bool {
        match &self.asked {
            Some((_, Hello { resume: Some(resume), .. })) => {
                self.resume_from <= now || table.by_token(TokenHash::of(&resume.token)).is_some()
            }
            Some(_) => true,
            None => false,
        }
    }
}
