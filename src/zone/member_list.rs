//! The collection of a zone's members. Adding, finding and removing a member take constant time, and the
//! order depends only on which members joined and left.

use std::iter::Copied;
use std::slice;

use bevy_ecs::entity::{EntityHashMap, EntityHashSet, EntityMapper, MapEntities};
use bevy_ecs::prelude::*;
use bevy_ecs::relationship::RelationshipSourceCollection;

/// The sessions of a zone. A session that joins is added at the end. When a session leaves, the last session
/// takes its place.
///
/// A hash set is not used, because its order depends on entity ids, which differ between two apps with the
/// same inputs. A plain list is not used, because finding a member in it takes linear time.
#[derive(Debug, Clone, Default)]
pub struct MemberList {
    members: Vec<Entity>,
    places: EntityHashMap<usize>,
    /// The members that are agents.
    agents: EntityHashSet,
}

impl MemberList {
    /// Returns true if a session is in the list.
    #[must_use]
    pub fn contains(&self, session: Entity) -> bool {
        self.places.contains_key(&session)
    }

    /// Adds an agent.
    pub(super) fn add_agent(&mut self, agent: Entity) {
        self.add(agent);
        self.agents.insert(agent);
    }

    /// Returns the number of agents in the list.
    pub(super) fn agent_count(&self) -> usize {
        self.agents.len()
    }
}

impl RelationshipSourceCollection for MemberList {
    type SourceIter<'a> = Copied<slice::Iter<'a, Entity>>;

    fn new() -> Self {
        Self::default()
    }

    fn with_capacity(capacity: usize) -> Self {
        let mut list = Self::default();
        list.reserve(capacity);
        list
    }

    fn reserve(&mut self, additional: usize) {
        self.members.reserve(additional);
        self.places.reserve(additional);
    }

    fn add(&mut self, entity: Entity) -> bool {
        let place = self.members.len();
        let is_new = self.places.try_insert(entity, place).is_ok();
        if is_new {
            self.members.push(entity);
        }
        is_new
    }

    fn remove(&mut self, entity: Entity) -> bool {
        let Some(place) = self.places.remove(&entity) else { return false };
        self.members.swap_remove(place);
        self.agents.remove(entity);
        if let Some(moved) = self.members.get(place) {
            self.places.insert(*moved, place);
        }
        true
    }

    fn iter(&self) -> Self::SourceIter<'_> {
        <[Entity]>::iter(&self.members).copied()
    }

    fn len(&self) -> usize {
        self.members.len()
    }

    fn clear(&mut self) {
        self.members.clear();
        self.places.clear();
        self.agents.clear();
    }

    fn shrink_to_fit(&mut self) {
        self.members.shrink_to_fit();
        self.places.shrink_to_fit();
        self.agents.shrink_to_fit();
    }

    fn extend_from_iter(&mut self, entities: impl IntoIterator<Item = Entity>) {
        entities.into_iter().for_each(|entity| _ = self.add(entity));
    }
}

impl MapEntities for MemberList {
    fn map_entities<M: EntityMapper>(&mut self, mapper: &mut M) {
        let Self { members, agents, .. } = std::mem::take(self);
        self.extend_from_iter(members.into_iter().map(|member| mapper.get_mapped(member)));
        self.agents = agents.into_iter().map(|agent| mapper.get_mapped(agent)).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The list holds the same members as a set, and its order does not depend on the entities.
        #[test]
        fn it_is_a_set_whose_order_does_not_depend_on_entity_ids(
            steps in prop::collection::vec((0_u32..12, any::<bool>()), 0..80),
        ) {
            let entity = |number: u32| Entity::from_raw_u32(number).expect("a small number");
            let (mut list, mut other, mut set) = (MemberList::new(), MemberList::new(), BTreeSet::new());
            for (number, is_coming) in steps {
                let (member, twin) = (entity(number), entity(1_000 - number * 7));
                let changed = if is_coming { set.insert(member) } else { set.remove(&member) };
                let step = |list: &mut MemberList, member| {
                    if is_coming { list.add(member) } else { list.remove(member) }
                };
                prop_assert_eq!(step(&mut list, member), changed);
                prop_assert_eq!(step(&mut other, twin), changed);
            }
            prop_assert_eq!(list.iter().collect::<BTreeSet<_>>(), set.clone());
            prop_assert!(set.iter().all(|member| list.contains(*member)) && list.len() == set.len());
            let numbers = other.iter().map(|twin| (1_000 - twin.index_u32()) / 7);
            prop_assert!(list.iter().map(Entity::index_u32).eq(numbers));
        }
    }
}
