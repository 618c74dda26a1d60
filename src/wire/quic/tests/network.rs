//! Tests links over networks that lose, delay, reorder, duplicate and limit datagrams, with a seed and on virtual
//! time.

use std::collections::BTreeMap;
use std::fmt;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::wire::encode;
use crate::wire::v1::Beacon;

/// The faults of a network.
#[derive(Clone)]
struct Faults {
    loss: f64,
    delay_ms: std::ops::Range<u64>,
    reordered: f64,
    doubled: f64,
    /// The time between the beginnings of two outages, and the length of an outage.
    outages_ms: Option<(u64, u64)>,
    /// Bytes per second in each direction. A datagram that would wait for more than half a second is lost.
    bytes_per_second: Option<u64>,
}

/// Both directions of a network.
struct Network {
    faults: Faults,
    rng: SmallRng,
    /// Datagrams in flight, by their time of arrival and a unique number.
    way: [BTreeMap<(u64, u64), Vec<u8>>; 2],
    last_at: [u64; 2],
    free_at: [u64; 2],
    count: u64,
}

impl Network {
    fn new(faults: Faults, seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self { faults, rng, way: Default::default(), last_at: [0; 2], free_at: [0; 2], count: 0 }
    }

    fn send(&mut self, direction: usize, datagram: &[u8], now: u64) {
        let is_out = self.faults.outages_ms.is_some_and(|(every, long)| now % every >= every - long);
        if is_out || self.rng.random_bool(self.faults.loss) {
            return;
        }
        for copy in 0..1 + usize::from(self.rng.random_bool(self.faults.doubled)) {
            let mut at = now + self.rng.random_range(self.faults.delay_ms.clone());
            if let Some(rate) = self.faults.bytes_per_second {
                let free_at = self.free_at[direction].max(now) + (datagram.len() as u64 + 28) * 1_000 / rate;
                if free_at > now + 500 {
                    continue;
                }
                self.free_at[direction] = free_at;
                at = at.max(free_at);
            }
            if copy == 0 && !self.rng.random_bool(self.faults.reordered) {
                at = at.max(self.last_at[direction]);
                self.last_at[direction] = at;
            }
            self.count += 1;
            self.way[direction].insert((at, self.count), datagram.to_vec());
        }
    }

    fn arrived(&mut self, direction: usize, now: u64) -> Vec<Vec<u8>> {
        let later = self.way[direction].split_off(&(now + 1, 0));
        std::mem::replace(&mut self.way[direction], later).into_values().collect()
    }
}

/// The results of a run.
#[derive(Default)]
struct Played {
    /// How long each reliable frame of the server took, in milliseconds.
    took_ms: Vec<u64>,
    beacons_sent: u64,
    beacons_heard: u64,
    states_sent: u64,
    states_heard: u64,
    /// The highest age of a state when it was received.
    state_age_max_ms: u64,
    /// The longest time in which the client received no frame, and that of the server.
    silence_max_ms: [u64; 2],
    dropped_count: u64,
    bytes_sent: u64,
}

impl fmt::Debug for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Played")
            .field("p50_ms", &self.percentile_ms(50))
            .field("p99_ms", &self.percentile_ms(99))
            .field("beacons", &(self.beacons_heard, self.beacons_sent))
            .field("states", &(self.states_heard, self.states_sent))
            .field("state_age_max_ms", &self.state_age_max_ms)
            .field("silence_max_ms", &self.silence_max_ms)
            .field("dropped_count", &self.dropped_count)
            .field("bytes_sent", &self.bytes_sent)
            .finish_non_exhaustive()
    }
}

impl Played {
    fn percentile_ms(&self, percent: usize) -> u64 {
        let mut took = self.took_ms.clone();
        took.sort_unstable();
        took[(took.len() - 1) * percent / 100]
    }
}

/// Runs a link with the traffic of the arena. The server sends `state_bytes` of state at 20 Hz, a reliable frame
/// of 100 bytes at 5 Hz, and a Beacon per second. The client sends an input at 20 Hz and a reliable frame at 5 Hz.
/// In the last 20 s nothing new is sent, so that all frames in flight arrive.
fn play(mut pair: Pair, faults: Faults, seed: u64, state_bytes: usize, seconds: u64) -> Played {
    let mut network = Network::new(faults, seed);
    let mut played = Played::default();
    let (start, mut heard_at) = (pair.now, [0, 0]);
    let (mut sent_ms, mut came): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
    for now in (0..seconds * 1_000).step_by(5) {
        pair.now = start + Duration::from_millis(now);
        for datagram in network.arrived(0, now) {
            pair.server.take(pair.now, &datagram, 0);
        }
        for datagram in network.arrived(1, now) {
            pair.client.take(pair.now, &datagram, 1);
        }
        let is_over = now + 20_000 > seconds * 1_000;
        if now.is_multiple_of(50) && pair.is_open() && !is_over {
            say(&mut pair, now, state_bytes, &mut sent_ms, &mut played);
        }
        // Each end sends in each step.
        for datagram in pair.client.turn(pair.now, 200) {
            network.send(0, &datagram, now);
        }
        for datagram in pair.server.turn(pair.now, 200) {
            played.bytes_sent += datagram.len() as u64;
            network.send(1, &datagram, now);
        }
        for (end, heard) in [&mut pair.client, &mut pair.server].into_iter().zip(&mut heard_at) {
            if !end.received.is_empty() || sent_ms.is_empty() {
                *heard = now;
            }
        }
        for (silence, heard) in played.silence_max_ms.iter_mut().zip(heard_at) {
            *silence = (*silence).max(if is_over { 0 } else { now - heard });
        }
        hear(&mut pair, now, &mut came, &mut played);
        pair.server.received.clear();
    }
    assert!(came.is_sorted() && came.len() == sent_ms.len(), "{} of {}", came.len(), sent_ms.len());
    assert!(!pair.server.happened.iter().any(|what| matches!(what, LaneEvent::Ended(_))));
    played.dropped_count = pair.server.lanes.take_counts().unreliable_dropped_count;
    played
}

fn stamped(high: u8, length: usize, now: u64) -> Bytes {
    let mut frame = frame(high, length).to_vec();
    frame[1] = 1;
    frame[2..10].copy_from_slice(&now.to_be_bytes());
    frame.into()
}

fn stamp(frame: &[u8]) -> u64 {
    frame[2..10].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn say(pair: &mut Pair, now: u64, state_bytes: usize, sent_ms: &mut Vec<u64>, played: &mut Played) {
    if now.is_multiple_of(200) {
        assert!(pair.server.send(&stamped(1, 100, now)) && pair.client.send(&stamped(1, 30, now)));
        sent_ms.push(now);
    }
    if now.is_multiple_of(1_000) {
        assert!(pair.server.send(&encode(&Beacon { id: now, ..Beacon::default() })));
        played.beacons_sent += 1;
    }
    assert!(pair.server.send(&stamped(0x81, state_bytes, now)) && pair.client.send(&stamped(0x81, 20, now)));
    played.states_sent += 1;
}

fn hear(pair: &mut Pair, now: u64, came: &mut Vec<u64>, played: &mut Played) {
    for (lane, frame) in pair.client.received.drain(..) {
        match (lane, frame[0], frame[1]) {
            (Lane::Reliable, 1, _) => {
                came.push(stamp(&frame));
                played.took_ms.push(now - stamp(&frame));
            }
            (_, 0x80, _) => played.beacons_heard += 1,
            (_, 0x81, _) => {
                played.states_heard += 1;
                played.state_age_max_ms = played.state_age_max_ms.max(now - stamp(&frame));
            }
            _ => panic!("{lane:?} {frame:?}"),
        }
    }
}

impl Pair {
    fn is_open(&self) -> bool {
        [&self.client, &self.server]
            .iter()
            .all(|end| end.happened.iter().any(|happened| matches!(happened, LaneEvent::Opened(_))))
    }
}

/// Returns a pair of each kind, which opens on the network.
fn pairs() -> [Pair; 2] {
    [quic(), webtransport()]
}

/// A network that loses one datagram in five, in both directions, with a round trip of 400 ms and
/// outages of 3 s.
fn bad() -> Faults {
    Faults {
        loss: 0.2,
        delay_ms: 180..220,
        reordered: 0.1,
        doubled: 0.05,
        outages_ms: Some((12_000, 3_000)),
        bytes_per_second: None,
    }
}

/// A network of 3 KB/s.
fn narrow() -> Faults {
    Faults {
        loss: 0.0,
        delay_ms: 15..25,
        reordered: 0.0,
        doubled: 0.0,
        outages_ms: None,
        bytes_per_second: Some(3_000),
    }
}

#[test]
fn a_link_survives_a_loss_of_a_fifth_and_outages_of_three_seconds() {
    for seed in 1..6 {
        for pair in pairs() {
            let played = play(pair, bad(), seed, 650, 140);

            let report = format!("seed {seed}: {played:?}");
            assert!(played.silence_max_ms.iter().all(|silence| *silence < 5_000), "{report}");
            // An outage, and up to six retransmissions after it.
            assert!(played.percentile_ms(99) < 9_000, "{report}");
            assert!(played.states_heard * 5 > played.states_sent, "{report}");
        }
    }
}

#[test]
fn a_narrow_link_drops_state_and_delivers_reliable_frames() {
    for seed in 1..3 {
        for pair in pairs() {
            let played = play(pair, narrow(), seed, 650, 80);

            let report = format!("seed {seed}: {played:?}");
            assert!(played.silence_max_ms.iter().all(|silence| *silence < 3_000), "{report}");
            assert!(played.percentile_ms(50) < 1_000, "{report}");
            assert!(played.percentile_ms(99) < 4_500, "{report}");
            assert!(played.state_age_max_ms < 1_500, "old state is not sent: {report}");
            assert!(played.dropped_count * 2 > played.states_sent, "{report}");
            assert!(played.states_heard > played.states_sent / 20, "state is not starved: {report}");
            assert!(played.beacons_heard * 3 > played.beacons_sent, "{report}");
            assert!(played.bytes_sent < 80 * 3_000 * 3 / 2, "the server keeps to the rate: {report}");
        }
    }
}

#[test]
fn state_too_long_for_a_datagram_does_not_starve_reliable_frames() {
    for pair in pairs() {
        let faults = Faults { bytes_per_second: Some(20_000), ..narrow() };

        let played = play(pair, faults, 7, 4_000, 80);

        assert!(played.percentile_ms(99) < 3_000, "{played:?}");
        assert!(played.dropped_count * 2 > played.states_sent, "{played:?}");
        assert!(played.states_heard > played.states_sent / 20, "{played:?}");
    }
}
