//! Compares two storages for the markers of session states: a table and a sparse set.
//!
//! Only the server can change the real markers. So the benchmarks use markers of the same shape, on
//! entities with components of sessions. Half of the sessions change their state in a scattered order. As
//! in the server, each change removes one marker and inserts another. The sweeps show what a game does in
//! each tick.

use bevy_ecs::prelude::*;
use divan::Bencher;
use divan::counter::ItemsCount;
use waystation::identity::Principal;
use waystation::session::{LinkState, ResumeTimeout};

/// A storage for two markers.
trait Storage {
    type Connected: Component + Default;
    type Active: Component + Default;
}

struct Table;
struct SparseSet;

#[derive(Component, Default)]
struct TableConnected(());
#[derive(Component, Default)]
struct TableActive(());

#[derive(Component, Default)]
#[component(storage = "SparseSet")]
struct SparseConnected(());
#[derive(Component, Default)]
#[component(storage = "SparseSet")]
struct SparseActive(());

impl Storage for Table {
    type Connected = TableConnected;
    type Active = TableActive;
}

impl Storage for SparseSet {
    type Connected = SparseConnected;
    type Active = SparseActive;
}

/// A component of the game.
#[derive(Component, Default)]
struct Avatar([f32; 8]);

/// Sessions in a scattered order. Half of them have been active.
struct Grouped {
    world: World,
    order: Vec<Entity>,
}

impl Grouped {
    fn of<S: Storage>(count: usize) -> Self {
        let mut world = World::new();
        let sessions: Vec<Entity> = (0..count)
            .map(|_| {
                let seen = (LinkState::Ok, Principal::anonymous("ada"), ResumeTimeout(Default::default()));
                world.spawn((seen, Avatar::default(), S::Connected::default())).id()
            })
            .collect();
        // The step and the count have no common divisor, so the order contains each session once.
        let order = (0..count).map(|index| sessions[index * STEP % count]).collect();
        let mut grouped = Self { world, order };
        grouped.swap_half::<S>();
        grouped
    }

    /// Moves every second session of the order to the other state.
    fn swap_half<S: Storage>(&mut self) {
        for entity in self.order.iter().step_by(2) {
            let mut session = self.world.entity_mut(*entity);
            if session.contains::<S::Active>() {
                session.remove::<S::Active>();
                session.insert(S::Connected::default());
            } else {
                session.remove::<S::Connected>();
                session.insert(S::Active::default());
            }
        }
    }
}

#[divan::bench(types = [Table, SparseSet], args = [1_000, 100_000])]
fn transition<S: Storage>(bencher: Bencher, count: usize) {
    let mut grouped = Grouped::of::<S>(count);

    bencher.counter(ItemsCount::new(count / 2)).bench_local(|| grouped.swap_half::<S>());
}

/// Visits all sessions, in any state.
#[divan::bench(types = [Table, SparseSet], args = [1_000, 100_000])]
fn sweep_of_all<S: Storage>(bencher: Bencher, count: usize) {
    let Grouped { mut world, .. } = Grouped::of::<S>(count);
    let mut sessions = world.query::<(&LinkState, &Avatar)>();

    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        sessions.iter(&world).filter(|(state, avatar)| **state == LinkState::Ok || avatar.0[0] > 0.0).count()
    });
}

/// Visits the sessions in one state.
#[divan::bench(types = [Table, SparseSet], args = [1_000, 100_000])]
fn sweep_of_the_active<S: Storage>(bencher: Bencher, count: usize) {
    let Grouped { mut world, .. } = Grouped::of::<S>(count);
    let mut sessions = world.query_filtered::<(&LinkState, &Avatar), With<S::Active>>();

    bencher.counter(ItemsCount::new(count / 2)).bench_local(|| {
        sessions.iter(&world).filter(|(state, avatar)| **state == LinkState::Ok || avatar.0[0] > 0.0).count()
    });
}

/// A prime that divides no count in this file.
const STEP: usize = 7_919;
