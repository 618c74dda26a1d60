//! Which guests are put out when there are too many: those of the fullest network that have been there for
//! the longest time.
//!
//! An attacker with one network can so put out its own links only, and one with many networks those that
//! have said nothing for the longest time. A client that resumes says Hello as soon as its link is open, and
//! a Hello is answered before anything is put out in its tick.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use crate::ident::LinkKey;
use crate::proxy::Network;

/// A guest that may be put out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) link: LinkKey,
    /// Its network. Guests without one are put out after all others: they are exempt from limits, or their
    /// transport knows no addresses.
    pub(super) network: Option<Network>,
    /// When it came.
    pub(super) since: Duration,
    /// It came so recently that its Hello may be on its way. Those that are not fresh are put out first.
    pub(super) is_fresh: bool,
}

/// The guests of one network, the longest silent first.
#[derive(Debug, Default)]
struct Group {
    stale: VecDeque<(Duration, LinkKey)>,
    fresh: VecDeque<(Duration, LinkKey)>,
}

/// A place in the order in which networks give way: the number of guests, then how long the first waits.
type Rank = (usize, Reverse<(Duration, LinkKey)>);

impl Group {
    fn queue(&mut self, is_fresh: bool) -> &mut VecDeque<(Duration, LinkKey)> {
        if is_fresh { &mut self.fresh } else { &mut self.stale }
    }

    /// Where the network stands among those that have guests of this kind.
    fn rank(&mut self, network: Option<Network>, is_fresh: bool) -> Option<Rank> {
        let first = *self.queue(is_fresh).front()?;
        let count = if network.is_some() { self.stale.len() + self.fresh.len() } else { 0 };
        Some((count, Reverse(first)))
    }
}

/// Chooses this many of the candidates, or all if there are fewer.
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

    /// A guest of a network, or of none if that is 0, that came in this second.
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
    fn the_fullest_network_gives_way_and_in_it_the_longest_silent_guest() {
        let guests = [
            guest(1, 1, 0, false),
            guest(2, 2, 3, false),
            guest(3, 2, 2, false),
            guest(4, 2, 1, false),
            guest(5, 0, 0, false),
            guest(6, 0, 0, false),
        ];

        assert_eq!(chosen(&guests, 2), [4, 3]);
        assert_eq!(chosen(&guests, 5), [4, 3, 1, 2, 5], "then all have one, and those without a network");
        assert_eq!(chosen(&guests, 99).len(), 6);
        assert!(chosen(&guests, 0).is_empty());
    }

    #[test]
    fn a_fresh_guest_stays_while_there_are_others_even_in_the_fullest_network() {
        let guests =
            [guest(1, 1, 9, true), guest(2, 1, 9, true), guest(3, 1, 9, true), guest(4, 2, 0, false)];

        assert_eq!(chosen(&guests, 1), [4]);
        assert_eq!(chosen(&guests, 3), [4, 1, 2]);
    }
}
