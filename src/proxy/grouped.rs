//! A pool of members in groups, which finds the oldest member of the largest group.
//!
//! Groups have no fixed shares. When the pool has too many members, its owner removes the oldest member of the
//! largest group. So an attacker with one network displaces only its own members. The owner defines how many
//! members are too many. The pool limits simultaneous members; [`NetworkRates`](super::rates::NetworkRates) limits
//! rates.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Members by group, ordered by age within a group. A group is usually a [`Network`](super::Network).
#[derive(Debug)]
pub(crate) struct Grouped<G, T> {
    groups: BTreeMap<G, BTreeMap<u64, T>>,
    count: usize,
    /// The number of the youngest member.
    last: u64,
}

/// The position of a member in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot<G> {
    group: G,
    number: u64,
}

impl<G, T> Default for Grouped<G, T> {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), count: 0, last: 0 }
    }
}

impl<G: Copy + Ord, T> Grouped<G, T> {
    /// Returns the number of members.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Adds a member as the youngest of its group.
    pub(crate) fn enter(&mut self, group: G, member: T) -> Spot<G> {
        self.last += 1;
        self.count += 1;
        self.groups.entry(group).or_default().insert(self.last, member);
        Spot { group, number: self.last }
    }

    /// Removes and returns a member. Returns `None` if it was removed before.
    pub(crate) fn leave(&mut self, spot: Spot<G>) -> Option<T> {
        let members = self.groups.get_mut(&spot.group)?;
        let member = members.remove(&spot.number)?;
        self.count -= 1;
        if members.is_empty() {
            self.groups.remove(&spot.group);
        }
        Some(member)
    }

    /// Returns the oldest member of the largest group. If several groups are the largest, returns the oldest member
    /// of all of them.
    pub(crate) fn first_of_fullest(&self) -> Option<(Spot<G>, &T)> {
        let firsts = self.groups.iter().filter_map(|(group, members)| {
            let (number, member) = members.first_key_value()?;
            Some(((members.len(), Reverse(*number)), Spot { group: *group, number: *number }, member))
        });
        firsts.max_by_key(|(rank, ..)| *rank).map(|(_, spot, member)| (spot, member))
    }

    /// Returns the groups that have members.
    #[cfg(test)]
    pub(crate) fn groups(&self) -> Vec<G> {
        self.groups.keys().copied().collect()
    }

    /// Returns true if a member has not been removed.
    #[cfg(test)]
    pub(crate) fn holds(&self, spot: Spot<G>) -> bool {
        self.groups.get(&spot.group).is_some_and(|members| members.contains_key(&spot.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_member_of_the_largest_group_is_found() {
        let mut grouped = Grouped::default();
        for (group, member) in [("a", 1), ("b", 2), ("b", 3), ("c", 4), ("c", 5)] {
            grouped.enter(group, member);
        }

        let mut order = Vec::new();
        while let Some((spot, _)) = grouped.first_of_fullest() {
            order.extend(grouped.leave(spot));
        }

        assert_eq!(order, [2, 4, 1, 3, 5]);
        assert!(grouped.count() == 0 && grouped.groups().is_empty());
    }

    #[test]
    fn a_member_leaves_once() {
        let mut grouped = Grouped::default();
        let (first, second) = (grouped.enter("a", 1), grouped.enter("a", 2));

        assert_eq!([grouped.leave(first), grouped.leave(first)], [Some(1), None]);
        assert_eq!((grouped.count(), grouped.holds(first), grouped.holds(second)), (1, false, true));
        assert_eq!([grouped.leave(second), grouped.leave(second)], [Some(2), None]);
    }
}
