//! Measures one broadcast to 1,000 members, from the game's call to the proxy's port: time and allocations.
//!
//! Both numbers are for a whole tick. To get the cost of one recipient, subtract the numbers of `Nothing`
//! and divide by 1,000. The players' reads are not measured. This is a separate benchmark because of the
//! counting allocator.

#[path = "../waystation/stage.rs"]
#[allow(dead_code, reason = "the other benchmarks use the rest")]
mod stage;

use std::cell::RefCell;

use bevy_app::Update;
use bevy_ecs::prelude::*;
use divan::Bencher;
use divan::counter::ItemsCount;
use waystation::arena::v1::{Pellets, Snapshot};
use waystation::rpc::Sender;
use waystation::zone::Zone;

use stage::{Peer, Stage};

#[global_allocator]
static ALLOC: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

/// What the game broadcasts in its next tick.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Nothing,
    Reliable,
    Unreliable,
}

fn broadcast(next: Res<Next>, zone: Single<Entity, With<Zone>>, mut sender: Sender) {
    let ids = || (0..100).collect();
    let places = || (0..100).map(|index| index * 90).collect();
    match *next {
        Next::Nothing => {}
        Next::Reliable => sender.broadcast(*zone, &Pellets { id: ids(), x: places(), y: places() }),
        Next::Unreliable => {
            sender.broadcast(*zone, &Snapshot { id: ids(), x: places(), y: places(), ..Snapshot::default() })
        }
    }
}

#[divan::bench(args = [Next::Nothing, Next::Reliable, Next::Unreliable], sample_count = 200, sample_size = 1)]
fn to_1000(bencher: Bencher, next: Next) {
    let mut stage = Stage::new(&["hall"]);
    stage.app.insert_resource(Next::Nothing).add_systems(Update, broadcast);
    let mut members: Vec<Peer> = stage.players(MEMBERS);
    stage.join(&mut members, "hall");
    let stage = RefCell::new(stage);

    bencher
        .counter(ItemsCount::new(MEMBERS))
        .with_inputs(|| {
            let mut stage = stage.borrow_mut();
            stage.app.insert_resource(Next::Nothing);
            stage.settle(&mut members);
            stage.app.insert_resource(next);
        })
        .bench_local_values(|()| stage.borrow_mut().tick());
}

/// Number of members of the zone.
const MEMBERS: usize = 1_000;
