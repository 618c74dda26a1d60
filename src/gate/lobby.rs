//! Links that have no session yet: one bounded pool.
//!
//! The pool refuses no link, since a link may be about to resume a session. When it holds too many, guests
//! are put out instead: see [`surplus`](super::surplus).

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::GateConfig;
use super::surplus::{Candidate, choose};
use crate::ident::{LinkKey, ProxyId};
use crate::proxy::{LinkInfo, Network};
use crate::session::{SessionTable, TokenHash};
use crate::wire::v1::Hello;

/// Links that have no session yet.
#[derive(Resource, Debug, Default)]
pub struct Lobby {
    guests: BTreeMap<LinkKey, Guest>,
    /// How many of them each proxy has.
    counts: BTreeMap<ProxyId, usize>,
}

/// A link that has no session yet.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) info: LinkInfo,
    /// The network that its limits go by, if it has any.
    network: Option<Network>,
    /// When it came, on the uncapped clock.
    since: Duration,
    /// When it is closed, unless a Hello of it is accepted; on the uncapped clock.
    pub(super) deadline: Duration,
    /// Its Hello, when that arrived, and its place among all frames.
    pub(super) asked: Option<(Duration, u64, Hello)>,
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

    /// How many links of a proxy have no session yet.
    pub(super) fn count_on(&self, proxy: ProxyId) -> usize {
        self.counts.get(&proxy).copied().unwrap_or_default()
    }

    /// Takes a new link in.
    pub(super) fn enter(&mut self, link: LinkKey, info: LinkInfo, now: Duration, config: &GateConfig) {
        let guest = Guest::new(info, now, config);
        if self.guests.insert(link, guest).is_none() {
            *self.counts.entry(link.proxy).or_default() += 1;
        }
    }

    /// Lets a guest go: it has a session now, or its link ends.
    pub(super) fn leave(&mut self, link: LinkKey) -> Option<Guest> {
        let guest = self.guests.remove(&link)?;
        if let Some(count) = self.counts.get_mut(&link.proxy) {
            *count -= 1;
        }
        Some(guest)
    }

    pub(super) fn get_mut(&mut self, link: LinkKey) -> Option<&mut Guest> {
        self.guests.get_mut(&link)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (LinkKey, &mut Guest)> {
        self.guests.iter_mut().map(|(link, guest)| (*link, guest))
    }

    /// All guests whose time is up.
    pub(super) fn overdue(&self, now: Duration) -> Vec<LinkKey> {
        let overdue = self.guests.iter().filter(|(_, guest)| guest.asked.is_none() && guest.deadline <= now);
        overdue.map(|(link, _)| *link).collect()
    }

    /// Chooses guests to put out, of all proxies or of one.
    pub(super) fn surplus(&self, of: Option<ProxyId>, count: usize, now: Duration) -> Vec<LinkKey> {
        if count == 0 {
            return Vec::new();
        }
        let guests = self.guests.iter().filter(|(link, _)| of.is_none_or(|proxy| proxy == link.proxy));
        let candidates = guests.map(|(link, guest)| Candidate {
            link: *link,
            network: guest.network,
            since: guest.since,
            is_fresh: guest.denied_count == 0 && now.saturating_sub(guest.since) < FRESH_FOR,
        });
        choose(candidates.collect(), count)
    }

    /// Lets all guests go.
    pub(super) fn clear(&mut self) -> Vec<LinkKey> {
        let links = self.guests.keys().copied().collect();
        self.guests.clear();
        self.counts.clear();
        links
    }
}

/// The network that a link's limits go by, if there are any for it.
pub(super) fn limited(info: &LinkInfo, config: &GateConfig) -> Option<Network> {
    let network = Network::of(info.address?.ip());
    (!(config.exempt_loopback && network.is_loopback())).then_some(network)
}

impl Guest {
    fn new(info: LinkInfo, now: Duration, config: &GateConfig) -> Self {
        Self {
            network: limited(&info, config),
            info,
            since: now,
            deadline: now.saturating_add(config.hello_timeout),
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
            Some((.., Hello { resume: Some(resume), .. })) => {
                self.resume_from <= now || table.by_token(TokenHash::of(&resume.token)).is_some()
            }
            Some(_) => true,
            None => false,
        }
    }
}

/// A guest is fresh for this long, and put out only after all that are not: a client says Hello as soon as
/// its link is open, and on a slow network that takes a round trip of 1.5 s to arrive.
const FRESH_FOR: Duration = Duration::from_secs(2);
