//! Measures a tick with 100,000 idle sessions.

use std::cell::RefCell;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;

use crate::stage::{Peer, Stage};

/// State of the idle sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Idle {
    /// All sessions have a link, and no Beacon is due.
    Still,
    /// All sessions have a link, and 50 ms pass in each tick. So each tick sends 5,000 Beacons and receives
    /// as many Pings.
    Beating,
    /// No session has a link.
    Disconnected,
}

#[divan::bench(args = [Idle::Still, Idle::Beating, Idle::Disconnected], sample_count = 60, sample_size = 1)]
fn sessions_100000(bencher: Bencher, idle: Idle) {
    let mut stage = Stage::new(&[]);
    let mut players = stage.players(SESSIONS);
    if idle == Idle::Disconnected {
        players.iter().for_each(Peer::close);
        // One tick takes at most 65,536 events from a port, so the links need two.
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
