//! The networks of the table.

use std::time::Duration;

use waystation::testing::{Network, Outages};

/// A name, and a function that returns the network.
type Named = (&'static str, fn() -> Network);

/// All networks.
pub(crate) const NETWORKS: [Named; 10] = [
    ("clean", Network::default),
    ("loss1", || lossy(0.01)),
    ("loss5", || lossy(0.05)),
    ("loss20", || lossy(0.2)),
    ("disorder", disorder),
    ("blackouts", blackouts),
    ("rebinding", rebinding),
    ("one-way", one_way),
    ("3kB/s", narrow),
    ("n2", n2),
];

fn lossy(loss: f64) -> Network {
    Network { loss, ..delayed() }
}

/// The delay of a player on the same continent.
fn delayed() -> Network {
    Network { delay: Duration::from_millis(20), jitter: Duration::from_millis(10), ..Network::default() }
}

fn disorder() -> Network {
    Network { reordered: 0.3, doubled: 0.1, ..delayed() }
}

/// Outages that are shorter than the link timeout.
fn blackouts() -> Network {
    Network { blackouts: Some(every_12_s()), ..delayed() }
}

fn rebinding() -> Network {
    Network { rebind_every: Some(Duration::from_secs(6)), ..delayed() }
}

fn one_way() -> Network {
    Network { one_way: Some(every_12_s()), ..delayed() }
}

/// A rate below what the arena's state needs, and a queue of 6 kB.
fn narrow() -> Network {
    Network { rate: Some(3_000), queue: Duration::from_secs(2), ..delayed() }
}

/// All faults at once, as on a moving train.
fn n2() -> Network {
    Network {
        loss: 0.2,
        delay: Duration::from_millis(180),
        jitter: Duration::from_millis(40),
        reordered: 0.1,
        doubled: 0.05,
        blackouts: Some(every_12_s()),
        ..Network::default()
    }
}

fn every_12_s() -> Outages {
    let [every, shortest, longest] = [12, 1, 3].map(Duration::from_secs);
    Outages { every, shortest, longest }
}
