//! Measures joining and parting a zone that has many members.
//!
//! The cost of a tick depends on the number of sessions. So the server has 10,000 sessions besides the
//! movers in all cases, and those that are not in the zone are in another zone. The cost of one change is
//! the difference to the tick of `without_any`, divided by the number of movers.

use std::cell::RefCell;

use divan::Bencher;
use divan::counter::ItemsCount;
use waystation::wire::v1::Part;

use crate::stage::{Peer, Stage};

/// A zone with members, and players who join and part.
struct Hall {
    stage: Stage,
    movers: Vec<Peer>,
    _others: Vec<Peer>,
}

impl Hall {
    fn with(members: usize) -> RefCell<Self> {
        let mut stage = Stage::new(&["hall", "yard"]);
        let movers = stage.players(MOVERS);
        let mut others = stage.players(SESSIONS);
        let (inside, outside) = others.split_at_mut(members);
        stage.join(inside, "hall");
        stage.join(outside, "yard");
        RefCell::new(Self { stage, movers, _others: others })
    }

    fn ask_to_join(&mut self) {
        self.movers.iter().for_each(|mover| mover.join("hall"));
    }

    fn ask_to_part(&mut self) {
        self.movers.iter().for_each(|mover| mover.send(&Part::default()));
    }

    fn settle(&mut self) {
        self.stage.tick();
        self.stage.settle(&mut self.movers);
    }
}

#[divan::bench(args = [10, 1_000, 10_000], sample_count = 50, sample_size = 1)]
fn join_500(bencher: Bencher, members: usize) {
    let hall = Hall::with(members);

    bencher
        .counter(ItemsCount::new(MOVERS))
        .with_inputs(|| {
            let mut hall = hall.borrow_mut();
            hall.ask_to_part();
            hall.settle();
            hall.ask_to_join();
        })
        .bench_local_values(|()| hall.borrow_mut().stage.tick());
}

#[divan::bench(args = [10, 1_000, 10_000], sample_count = 50, sample_size = 1)]
fn part_500(bencher: Bencher, members: usize) {
    let hall = Hall::with(members);

    bencher
        .counter(ItemsCount::new(MOVERS))
        .with_inputs(|| {
            let mut hall = hall.borrow_mut();
            hall.ask_to_join();
            hall.settle();
            hall.ask_to_part();
        })
        .bench_local_values(|()| hall.borrow_mut().stage.tick());
}

#[divan::bench(args = [10, 1_000, 10_000], sample_count = 50, sample_size = 1)]
fn without_any(bencher: Bencher, members: usize) {
    let hall = Hall::with(members);

    bencher.bench_local(|| hall.borrow_mut().stage.tick());
}

/// Number of sessions besides the movers, in the zone or in the other one.
const SESSIONS: usize = 10_000;
/// Number of players who join or part in one tick.
const MOVERS: usize = 500;
