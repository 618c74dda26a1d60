//! The table of open links.

use bevy_platform::collections::HashMap;

use super::budget::LinkBudget;
use crate::ident::LinkKey;

/// The tick's state of an open link.
#[derive(Debug)]
pub(super) struct OpenLink {
    key: LinkKey,
    pub(super) budget: LinkBudget,
    /// True if a Close was sent; no further frame may be sent on the link.
    pub(super) is_closing: bool,
    /// True if a Cut was sent; no further frame may be sent on the link.
    pub(super) is_cut: bool,
}

/// The position of a link in the table. It saves the look-up by key when the same link is used repeatedly. A
/// position is checked before use, so a link that has closed is not found by it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LinkSlot(usize);

/// All open links.
#[derive(Debug, Default)]
pub(super) struct OpenLinks {
    slots: Vec<Option<OpenLink>>,
    by_key: HashMap<LinkKey, LinkSlot>,
    free: Vec<LinkSlot>,
}

impl OpenLinks {
    /// Adds a link. Returns false if the link is open already.
    pub(super) fn open(&mut self, key: LinkKey) -> bool {
        if self.by_key.contains_key(&key) {
            return false;
        }
        let open = OpenLink { key, budget: LinkBudget::default(), is_closing: false, is_cut: false };
        let slot = self.free.pop().unwrap_or(LinkSlot(self.slots.len()));
        if slot.0 == self.slots.len() {
            self.slots.push(Some(open));
        } else {
            self.slots[slot.0] = Some(open);
        }
        self.by_key.insert(key, slot);
        true
    }

    /// Removes a link and returns it, or returns `None` if it is not open.
    pub(super) fn close(&mut self, key: LinkKey) -> Option<OpenLink> {
        let slot = self.by_key.remove(&key)?;
        self.free.push(slot);
        self.slots[slot.0].take()
    }

    /// Returns a link, or `None` if it is not open.
    pub(super) fn get(&self, key: LinkKey) -> Option<&OpenLink> {
        self.slots[self.by_key.get(&key)?.0].as_ref()
    }

    /// Returns a link for changes, or `None` if it is not open.
    pub(super) fn get_mut(&mut self, key: LinkKey) -> Option<&mut OpenLink> {
        self.slots[self.by_key.get(&key)?.0].as_mut()
    }

    /// Returns a link for changes, or `None` if it is not open. The method looks at `slot` first, and stores the
    /// position there if the link is elsewhere.
    #[inline]
    pub(super) fn get_at(&mut self, slot: &mut LinkSlot, key: LinkKey) -> Option<&mut OpenLink> {
        let is_there = |open: &Option<OpenLink>| open.as_ref().is_some_and(|open| open.key == key);
        if !self.slots.get(slot.0).is_some_and(is_there) {
            *slot = *self.by_key.get(&key)?;
        }
        self.slots[slot.0].as_mut()
    }

    /// Loads the link at a position into the CPU cache. The result has no meaning.
    pub(super) fn prefetch(&self, slot: LinkSlot) -> bool {
        self.slots.get(slot.0).is_some_and(|open| open.as_ref().is_some_and(|open| open.is_cut))
    }

    /// Returns the keys of all links, in no particular order.
    pub(super) fn keys(&self) -> impl Iterator<Item = LinkKey> {
        self.by_key.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ident::{LinkId, ProxyId};

    proptest! {
        /// For any sequence of opened and closed links, a link is found by its key and from any slot, exactly while
        /// it is open.
        #[test]
        fn a_link_is_found_from_any_slot_while_it_is_open(
            steps in prop::collection::vec((0_u64..8, any::<bool>(), 0_usize..10), 1..200),
        ) {
            let mut links = OpenLinks::default();
            let mut there = [false; 8];
            for (number, opens, slot) in steps {
                let key = LinkKey { proxy: ProxyId(0), link: LinkId(number) };
                let is_there = &mut there[number as usize];
                if opens {
                    prop_assert_eq!(links.open(key), !*is_there);
                } else {
                    prop_assert_eq!(links.close(key).is_some(), *is_there);
                }
                *is_there = opens;

                for (number, is_there) in (0..).zip(there) {
                    let key = LinkKey { proxy: ProxyId(0), link: LinkId(number) };
                    let mut slot = LinkSlot(slot);
                    let expected = is_there.then_some(key);
                    prop_assert_eq!(links.get(key).map(|open| open.key), expected);
                    prop_assert_eq!(links.get_at(&mut slot, key).map(|open| open.key), expected);
                    prop_assert_eq!(links.get_at(&mut slot, key).map(|open| open.key), expected);
                }
            }
        }
    }
}
