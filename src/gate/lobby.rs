//! Links that have no session yet.

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::GateConfig;
use crate::ident::LinkKey;
use crate::proxy::{LinkInfo, Network};
use crate::session::{SessionTable, TokenHash};
use crate::wire::v1::Hello;

/// Links that have no session yet.
#[derive(Resource, Debug, Default)]
pub struct Lobby {
    guests: BTreeMap<LinkKey, Guest>,
    addresses: BTreeMap<Network, Address>,
}

/// What comes from one address.
#[derive(Debug, Default)]
struct Address {
    guest_count: usize,
    /// Links that it opened in this second, and when that began.
    connect_count: u32,
    second: Duration,
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

    /// Takes a new link in, if there is room for it and for one more from its address.
    pub(super) fn enter(
        &mut self,
        link: LinkKey,
        info: LinkInfo,
        now: Duration,
        config: &GateConfig,
    ) -> bool {
        if self.guests.len() >= config.max_guests {
            return false;
        }
        if let Some(ip) = limited(&info, config) {
            let address = self.addresses.entry(ip).or_default();
            if now.saturating_sub(address.second) >= SECOND {
                (address.second, address.connect_count) = (now, 0);
            }
            address.connect_count += 1;
            let too_many = address.connect_count > config.max_connects_per_address
                || address.guest_count >= config.max_guests_per_address;
            if too_many {
                return false;
            }
            address.guest_count += 1;
        }
        self.guests.insert(link, Guest::new(info, now.saturating_add(config.hello_timeout)));
        true
    }

    /// A guest is one no more.
    pub(super) fn leave(&mut self, link: LinkKey) -> Option<Guest> {
        let guest = self.guests.remove(&link)?;
        if let Some(address) = guest.info.address
            && let Some(address) = self.addresses.get_mut(&Network::of(address.ip()))
        {
            address.guest_count = address.guest_count.saturating_sub(1);
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

    /// Shows all guests out.
    pub(super) fn clear(&mut self) -> Vec<LinkKey> {
        let links = self.guests.keys().copied().collect();
        self.guests.clear();
        self.addresses.clear();
        links
    }

    /// Forgets addresses that nobody came from lately.
    pub(super) fn forget_addresses(&mut self, now: Duration) {
        self.addresses
            .retain(|_, address| address.guest_count > 0 || now.saturating_sub(address.second) < SECOND);
    }
}

/// The network that a link's limits go by, if there are any for it.
fn limited(info: &LinkInfo, config: &GateConfig) -> Option<Network> {
    let network = Network::of(info.address?.ip());
    (!(config.exempt_loopback && network.is_loopback())).then_some(network)
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

/// Connects are counted by the second.
const SECOND: Duration = Duration::from_secs(1);
