//! Chooses the guests that are cut when there are too many: first the oldest guest of the network with the most
//! guests.
//!
//! An attacker with one network can cause only the links of that network to be cut. An attacker with many
//! networks can cause only the oldest silent links to be cut. A client that resumes sends its Hello as soon
//! as its link is open, and the Hellos of a tick are answered before guests are cut.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use crate::ident::LinkKey;
use crate::proxy::Network;

/// A guest that may be cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) link: LinkKey,
    /// Network of the guest. Guests without a network are cut last: they are exempt from limits, or their
    /// transport has no addresses.
    pub(super) network: Option<Network>,
    /// Time at which the link was opened.
    pub(super) since: Duration,
    /// True if the link was opened so recently that its Hello may not have arrived yet. Fresh guests are
    /// cut after all others.
    pub(super) is_fresh: bool,
}

/// The guests of one network, the oldest first.
#[derive(Debug, Default)]
struct Group {
    stale: VecDeque<(Duration, LinkKey)>,
    fresh: VecDeque<(Duration, LinkKey)>,
}

/// Rank of a network in the order of cutting: its number of guests, then the age of its oldest guest.
type Rank = (usize, Reverse<(Duration, LinkKey)>);

impl Group {
    fn queue(&mut self, is_fresh: bool) -> &mut VecDeque<(Duration, LinkKey)> {
        if is_fresh { &mut self.fresh } else { &mut self.stale }
    }

    /// Returns the rank of the group among the networks that have guests of this kind, or `None` if the
    /// group has no guest of this kind.
    fn rank(&mut self, network: Option<Network>, is_fresh: bool) -> Option<Rank> {
        let first = *self.queue(is_fresh).front()?;
        let count = if network.is_some() { self.stale.len() + self.fresh.len() } else { 0 };
        Some((count, Reverse(first)))
    }
}

/// Chooses `count` of the candidates, or all if there are fewer.
pub(super) fn choose(mut candidates: Vec<Candidate>, count: usize) -> Vec<LinkKey> {
    candidates.sort_unstable_by_key(|candidate| (candidate.since, candidate.link));
    let mut groups: BTreeMap<Option<Network>, Group> = BTreeMap::new();
    for Candidate { link, network, since, is_fresh } in candidates {
        groups.entry(network).or_default().queue(is_fresh).push_back((since, link));
    }
    let mut chosen = Vec::new();
    for is_fresh in [false, true] {
        let ranked = groups
            .iter_mut()
            .filter_map(|(network, group)| group.rank(*network, is_fresh).map(|rank| (rank, *network)));
        let mut order: BinaryHeap<(Rank, Option<Network>)> = ranked.collect();
        while chosen.len() < count
            && let Some((_, network)) = order.pop()
        {
            let Some(group) = groups.get_mut(&network) else { continue };
            chosen.extend(group.queue(is_fresh).pop_front().map(|(_, link)| link));
            order.extend(group.rank(network, is_fresh).map(|rank| (rank, network)));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::{LinkId, ProxyId};

    /// Returns a guest that was opened at `second`. Network 0 means no network.
    fn guest(link: u64, network: u8, second: u64, is_fresh: bool) -> Candidate {
        Candidate {
            link: LinkKey { proxy: ProxyId(0), link: LinkId(link) },
            network: (network > 0).then(|| Network::of([192, 0, 2, network].into())),
            since: Duration::from_secs(second),
            is_fresh,
        }
    }

    fn chosen(candidates: &[Candidate], count: usize) -> Vec<u64> {
        choose(candidates.to_vec(), count).iter().map(|link| link.link.0).collect()
    }

    #[test]
    fn the_oldest_guest_of_the_fullest_network_is_cut_first() {
        let guests = [
            guest(1, 1, 0, false),
            guest(2, 2, 3, false),
            guest(3, 2, 2, false),
            guest(4, 2, 1, false),
            guest(5, 0, 0, false),
            guest(6, 0, 0, false),
        ];

        assert_eq!(chosen(&guests, 2), [4, 3]);
        assert_eq!(chosen(&guests, 5), [4, 3, 1, 2, 5], "one of each network, then those without one");
        assert_eq!(chosen(&guests, 99).len(), 6);
        assert!(chosen(&guests, 0).is_empty());
    }

    #[test]
    fn a_fresh_guest_is_cut_after_all_others_even_in_the_fullest_network() {
        let guests =
            [guest(1, 1, 9, true), guest(2, 1, 9, true), guest(3, 1, 9, true), guest(4, 2, 0, false)];

        assert_eq!(chosen(&guests, 1), [4]);
        assert_eq!(chosen(&guests, 3), [4, 1, 2]);
    }
}
