//! A tick with a hundred thousand sessions that do nothing.

use std::cell::RefCell;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;

use crate::stage::{Peer, Stage};

/// What idle sessions are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Idle {
    /// Linked, between two beacons.
    Still,
    /// Linked, and a twentieth of a second passes: five thousand beacons leave, and as many echoes
    /// arrive.
    Beating,
    /// Waiting to be resumed.
    Disconnected,
}

#[divan::bench(args = [Idle::Still, Idle::Beating, Idle::Disconnected], sample_count = 60, sample_size = 1)]
fn sessions_100000(bencher: Bencher, idle: Idle) {
    let mut stage = Stage::new(&[]);
    let mut players = stage.players(SESSIONS);
    if idle == Idle::Disconnected {
        players.iter().for_each(Peer::close);
        // A tick takes 65,536 events of a port.
        stage.tick();
        stage.tick();
    }
    let stage = RefCell::new(stage);

    bencher
        .counter(ItemsCount::new(SESSIONS))
        .with_inputs(|| {
            if idle == Idle::Beating {
                players.iter_mut().for_each(Peer::read);
            }
        })
        .bench_local_values(|()| {
            let passes = if idle == Idle::Beating { TICK } else { Duration::ZERO };
            stage.borrow_mut().tick_after(passes);
        });
}

const SESSIONS: usize = 100_000;
const TICK: Duration = Duration::from_millis(50);
