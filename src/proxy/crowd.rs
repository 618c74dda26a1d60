//! What is there at a time, by where it comes from: one bounded pool, in which the fullest group gives way.
//!
//! No group has a share of its own. When there are too many members, the one that goes is the first of the group
//! that has most of them: an attacker with one network only ever puts out its own. How many are too many, and
//! what becomes of the one that goes, its owner decides. It is not a limit of how often something is done:
//! [`NetworkRates`](super::rates::NetworkRates) is.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Members by group, as a rule a [`Network`](super::Network), and in it in the order in which they came.
#[derive(Debug)]
pub(crate) struct Crowd<G, T> {
    groups: BTreeMap<G, BTreeMap<u64, T>>,
    count: usize,
    /// The number of the last member.
    last: u64,
}

/// Where a member stands, until it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot<G> {
    group: G,
    number: u64,
}

impl<G, T> Default for Crowd<G, T> {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), count: 0, last: 0 }
    }
}

impl<G: Copy + Ord, T> Crowd<G, T> {
    /// How many members there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Takes a member in, as the last of its group.
    pub(crate) fn enter(&mut self, group: G, member: T) -> Spot<G> {
        self.last += 1;
        self.count += 1;
        self.groups.entry(group).or_default().insert(self.last, member);
        Spot { group, number: self.last }
    }

    /// Lets a member go. Returns `None` if it has left before.
    pub(crate) fn leave(&mut self, spot: Spot<G>) -> Option<T> {
        let members = self.groups.get_mut(&spot.group)?;
        let member = members.remove(&spot.number)?;
        self.count -= 1;
        if members.is_empty() {
            self.groups.remove(&spot.group);
        }
        Some(member)
    }

    /// The member that gives way to others: the first of the fullest group. Of groups that are as full, it is the
    /// one that came first.
    pub(crate) fn first_of_fullest(&self) -> Option<(Spot<G>, &T)> {
        let firsts = self.groups.iter().filter_map(|(group, members)| {
            let (number, member) = members.first_key_value()?;
            Some(((members.len(), Reverse(*number)), Spot { group: *group, number: *number }, member))
        });
        firsts.max_by_key(|(rank, ..)| *rank).map(|(_, spot, member)| (spot, member))
    }

    /// The groups that have members.
    #[cfg(test)]
    pub(crate) fn groups(&self) -> Vec<G> {
        self.groups.keys().copied().collect()
    }

    /// Whether a member has not left yet.
    #[cfg(test)]
    pub(crate) fn holds(&self, spot: Spot<G>) -> bool {
        self.groups.get(&spot.group).is_some_and(|members| members.contains_key(&spot.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_fullest_group_gives_way() {
        let mut crowd = Crowd::default();
        for (group, member) in [("a", 1), ("b", 2), ("b", 3), ("c", 4), ("c", 5)] {
            crowd.enter(group, member);
        }

        let mut order = Vec::new();
        while let Some((spot, _)) = crowd.first_of_fullest() {
            order.extend(crowd.leave(spot));
        }

        assert_eq!(order, [2, 4, 1, 3, 5]);
        assert!(crowd.count() == 0 && crowd.groups().is_empty());
    }

    #[test]
    fn a_member_leaves_once() {
        let mut crowd = Crowd::default();
        let (first, second) = (crowd.enter("a", 1), crowd.enter("a", 2));

        assert_eq!([crowd.leave(first), crowd.leave(first)], [Some(1), None]);
        assert_eq!((crowd.count(), crowd.holds(first), crowd.holds(second)), (1, false, true));
        assert_eq!([crowd.leave(second), crowd.leave(second)], [Some(2), None]);
    }
}
