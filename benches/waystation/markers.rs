//! The state of a session as a marker: in a table, or in a sparse set.
//!
//! The real markers can only be swapped by the server, so these are others of the same shape, on
//! entities with components that sessions have. Half of the sessions change their state, in
//! no order, as the server does it: one marker off, one on. The sweeps are what a game does in each tick.

use bevy_ecs::prelude::*;
use divan::Bencher;
use divan::counter::ItemsCount;
use waystation::identity::Principal;
use waystation::session::{LinkState, ResumeTimeout};

/// A way to keep two markers.
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

/// A game's component.
#[derive(Component, Default)]
struct Avatar([f32; 8]);

/// Sessions, half of which were active at some time, in an order that nobody chose.
struct Crowd {
    world: World,
    order: Vec<Entity>,
}

impl Crowd {
    fn of<S: Storage>(count: usize) -> Self {
        let mut world = World::new();
        let sessions: Vec<Entity> = (0..count)
            .map(|_| {
                let seen = (LinkState::Ok, Principal::anonymous("ada"), ResumeTimeout(Default::default()));
                world.spawn((seen, Avatar::default(), S::Connected::default())).id()
            })
            .collect();
        // A step that has no divisor in common with the count visits all, each once.
        let order = (0..count).map(|index| sessions[index * STEP % count]).collect();
        let mut crowd = Self { world, order };
        crowd.swap_half::<S>();
        crowd
    }

    /// Every second session of the order, to the other state.
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
    let mut crowd = Crowd::of::<S>(count);

    bencher.counter(ItemsCount::new(count / 2)).bench_local(|| crowd.swap_half::<S>());
}

/// All sessions, whatever their state.
#[divan::bench(types = [Table, SparseSet], args = [1_000, 100_000])]
fn sweep_of_all<S: Storage>(bencher: Bencher, count: usize) {
    let Crowd { mut world, .. } = Crowd::of::<S>(count);
    let mut sessions = world.query::<(&LinkState, &Avatar)>();

    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        sessions.iter(&world).filter(|(state, avatar)| **state == LinkState::Ok || avatar.0[0] > 0.0).count()
    });
}

/// The sessions of one state.
#[divan::bench(types = [Table, SparseSet], args = [1_000, 100_000])]
fn sweep_of_the_active<S: Storage>(bencher: Bencher, count: usize) {
    let Crowd { mut world, .. } = Crowd::of::<S>(count);
    let mut sessions = world.query_filtered::<(&LinkState, &Avatar), With<S::Active>>();

    bencher.counter(ItemsCount::new(count / 2)).bench_local(|| {
        sessions.iter(&world).filter(|(state, avatar)| **state == LinkState::Ok || avatar.0[0] > 0.0).count()
    });
}

/// A prime, and no divisor of any count here.
const STEP: usize = 7_919;
