//! Tests the queues of one link, and two ends over a slow network on virtual time.

use std::collections::VecDeque;

use renet::{RenetClient, RenetServer};

use super::super::{CHANNEL_RELIABLE, CHANNEL_UNRELIABLE, connection_config};
use super::*;
use crate::wire::v1::Beacon;
use crate::wire::{LINK_TIMEOUT, encode};

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn frame(high: u8, number: u64, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    (bytes[0], bytes[1]) = (high, 0x50);
    bytes[2..10].copy_from_slice(&number.to_le_bytes());
    bytes.into()
}

fn state(number: u64, length: usize) -> Bytes {
    frame(0x81, number, length)
}

fn reliable(number: u64, length: usize) -> Bytes {
    frame(0x01, number, length)
}

/// Returns a packet with the header of a renet packet.
fn packet(number: u8, length: usize) -> Vec<u8> {
    let mut packet = vec![1; length];
    packet[1] = number;
    packet
}

#[test]
fn reliable_frames_leave_first_and_state_gets_a_share_of_a_long_replay() {
    let mut queues = SendQueues::new(at(0));
    for number in 0..20 {
        assert!(queues.push(reliable(number, 1_000), 0));
        assert!(queues.push(state(number, 500), 0));
    }

    let first = queues.take(at(0), 0).expect("the window is empty");
    assert!(!first.is_empty() && first.iter().all(|frame| lane_of(frame) == Lane::Reliable));
    let held = first.iter().map(Bytes::len).sum::<usize>();
    assert!(held <= 12_000, "{held} bytes in the first window");
    let second = queues.take(at(50), 0).expect("nothing was sent yet");
    assert_eq!(lane_of(&second[0]), Lane::Unreliable, "a state follows three packets of reliable frames");
    assert_eq!(lane_of(&second[1]), Lane::Reliable);
}

#[test]
fn while_the_window_is_full_only_beacons_leave_and_an_outage_lets_a_packet_through_now_and_then() {
    let mut queues = SendQueues::new(at(0));
    for number in 0..10 {
        queues.note_sent(at(0), &packet(number, 1_190));
    }
    queues.push(state(1, 300), 0);
    queues.push(reliable(1, 300), 0);

    assert_eq!(queues.take(at(50), 0), None);
    let beacon = encode(&Beacon { id: 1, ..Beacon::default() });
    queues.push(beacon.clone(), 0);
    assert_eq!(queues.take(at(100), 0), Some(vec![beacon]));
    assert_eq!(queues.take(at(150), 0), None);
    assert_eq!(queues.take(at(250), 0), Some(vec![reliable(1, 300)]), "one packet leaves");
    assert_eq!(queues.take(at(300), 0), None);
    assert!(queues.is_empty(), "the state has become stale");
    assert_eq!(queues.take_dropped_count(), 1);
    assert!(queues.take(at(1_300), 0).is_some(), "unacknowledged packets are taken for lost after a while");
}

#[test]
fn memory_is_bounded_whatever_a_peer_acknowledges() {
    let mut queues = SendQueues::new(at(0));
    let mut taken = 0;
    while queues.push(reliable(taken, 16_384), 100_000) {
        taken += 1;
        queues.push(state(taken, 16_384), 0);
    }
    assert_eq!(taken, (CHANNEL_MEMORY_MAX as u64 - 100_000) / 16_384);

    for number in 0..10_000_u64 {
        let packet = [vec![1], (0xC0_u64 << 56 | number).to_be_bytes().to_vec()].concat();
        queues.note_sent(at(0), &packet);
    }
    assert_eq!(queues.sent.len(), SENT_MAX);
    // 0 to 2^62 - 1 in one range, and payloads that are not acknowledgements.
    let all = [vec![4, 0], vec![0xFF; 8], vec![0xFF; 8], vec![0]].concat();
    queues.note_acks(at(100), &all);
    for payload in [&[][..], &[4], &[4, 0, 1, 2, 0], &[1, 2, 3]] {
        queues.note_acks(at(100), payload);
    }
    assert_eq!((queues.sent.len(), queues.in_flight), (0, 0));
    assert_eq!(queues.take_all().len() as u64, taken + 4);
}

/// One direction of a network.
struct Way {
    network: Network,
    random: u64,
    packets: VecDeque<(u64, Vec<u8>)>,
    free_at: u64,
}

/// The properties of a network.
#[derive(Clone, Copy)]
struct Network {
    bytes_per_second: u64,
    delay_ms: u64,
    /// How many of ten packets are lost.
    lost: u64,
    /// The length of the outage that occurs every 12 s.
    outage_ms: u64,
}

impl Way {
    fn new(network: Network, seed: u64) -> Self {
        Self { network, random: seed, packets: VecDeque::new(), free_at: 0 }
    }

    /// Sends a packet. A packet that would wait for more than half a second is lost.
    fn send(&mut self, packet: Vec<u8>, now: u64) {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let is_out = now % 12_000 >= 12_000 - self.network.outage_ms;
        if is_out || (self.random >> 33) % 10 < self.network.lost {
            return;
        }
        let cost = (packet.len() as u64 + OVERHEAD_BYTES) * 1_000 / self.network.bytes_per_second;
        let free_at = self.free_at.max(now) + cost;
        if free_at <= now + 500 {
            self.free_at = free_at;
            self.packets.push_back((free_at + self.network.delay_ms, packet));
        }
    }

    fn arrived(&mut self, now: u64) -> Option<Vec<u8>> {
        self.packets.pop_front_if(|(at, _)| *at <= now).map(|(_, packet)| packet)
    }
}

/// The results of two minutes on a link.
#[derive(Debug, Default)]
struct Played {
    /// How long each of the server's 240 reliable frames took, in milliseconds, in ascending order.
    took_ms: Vec<u64>,
    /// How long each of the server's 2,400 states took, in milliseconds, in ascending order.
    ages_ms: Vec<u64>,
    /// The longest time without a Beacon, in milliseconds.
    longest_ms: u64,
    /// How many of 2,400 inputs the server received.
    inputs: usize,
}

fn play(network: Network, seed: u64) -> Played {
    let mut server = RenetServer::new(connection_config());
    server.add_connection(1);
    let mut client = RenetClient::new(connection_config());
    client.set_connected();
    let mut queues = [SendQueues::new(at(0)), SendQueues::new(at(0))];
    let (mut down, mut up) = (Way::new(network, seed), Way::new(network, seed + 1_000));
    let (mut played, mut beacon_at) = (Played::default(), 0);

    for tick in 0..120 * 20_u64 {
        let now = tick * 50;
        server.update(at(50));
        client.update(at(50));
        while let Some(packet) = up.arrived(now) {
            queues[0].note_acks(at(now), &packet);
            server.process_packet_from(&packet, 1).expect("a connection");
        }
        while let Some(packet) = down.arrived(now) {
            queues[1].note_acks(at(now), &packet);
            client.process_packet(&packet);
        }
        // The server sends 12 KB of state per second.
        queues[0].push(state(now, 600), 0);
        queues[1].push(state(now, 30), 0);
        let unacked = CHANNEL_MEMORY_MAX - server.channel_available_memory(1, CHANNEL_RELIABLE);
        if tick % 10 == 0 {
            assert!(queues[0].push(reliable(now, 30), unacked));
        }
        if tick % 20 == 0 {
            queues[0].push(encode(&Beacon { id: now + 1, ..Beacon::default() }), 0);
        }
        if let Some(frames) = queues[0].take(at(now), unacked) {
            frames.into_iter().for_each(|frame| server.send_message(1, channel(&frame), frame));
            for packet in server.get_packets_to_send(1).expect("a connection") {
                queues[0].note_sent(at(now), &packet);
                down.send(packet, now);
            }
        }
        if let Some(frames) = queues[1].take(at(now), 0) {
            frames.into_iter().for_each(|frame| client.send_message(channel(&frame), frame));
            for packet in client.get_packets_to_send() {
                queues[1].note_sent(at(now), &packet);
                up.send(packet, now);
            }
        }
        while let Some(bytes) = client.receive_message(CHANNEL_RELIABLE) {
            played.took_ms.push(now - number(&bytes));
        }
        while let Some(bytes) = client.receive_message(CHANNEL_UNRELIABLE) {
            if bytes.len() == 600 {
                played.ages_ms.push(now - number(&bytes));
            } else {
                beacon_at = now;
            }
        }
        played.longest_ms = played.longest_ms.max(now - beacon_at);
        while server.receive_message(1, CHANNEL_UNRELIABLE).is_some() {
            played.inputs += 1;
        }
    }
    played.took_ms.sort_unstable();
    played.ages_ms.sort_unstable();
    played
}

#[test]
fn a_link_of_3_kilobytes_a_second_delivers_reliable_frames_and_beacons_and_drops_state() {
    let narrow = Network { bytes_per_second: 3_000, delay_ms: 20, lost: 0, outage_ms: 0 };

    let Played { took_ms, ages_ms, longest_ms, inputs } = play(narrow, 1);

    let p99 = took_ms[took_ms.len() * 99 / 100];
    assert!(took_ms.len() >= 235 && p99 <= 2_500, "{} of 240 arrived, p99 {p99} ms", took_ms.len());
    assert!(at(longest_ms) < LINK_TIMEOUT, "{longest_ms} ms without a Beacon");
    assert!(ages_ms.len() >= 100 && ages_ms[ages_ms.len() - 1] <= 1_000, "{} states", ages_ms.len());
    assert!(inputs >= 600, "{inputs} of 2,400 inputs");
}

#[test]
fn a_link_that_loses_a_fifth_and_has_outages_sends_on_and_drops_little_state() {
    for seed in 1..=3 {
        let bad = Network { bytes_per_second: 1_000_000, delay_ms: 200, lost: 2, outage_ms: 2_000 };

        let Played { took_ms, ages_ms, longest_ms, inputs } = play(bad, seed);

        let p99 = took_ms[took_ms.len() * 99 / 100];
        assert!(took_ms.len() >= 230 && p99 <= 4_000, "{} of 240 arrived, p99 {p99} ms", took_ms.len());
        assert!(at(longest_ms) < 2 * LINK_TIMEOUT, "{longest_ms} ms without a Beacon");
        // Two thirds of the frames arrive: a fifth of the packets are lost, and a sixth are sent in outages.
        assert!(ages_ms.len() >= 1_200, "{} of 2,400 states", ages_ms.len());
        assert!(inputs >= 1_200, "{inputs} of 2,400 inputs");
    }
}

fn channel(frame: &Bytes) -> u8 {
    if lane_of(frame) == Lane::Reliable { CHANNEL_RELIABLE } else { CHANNEL_UNRELIABLE }
}

fn number(frame: &Bytes) -> u64 {
    u64::from_le_bytes(*frame[2..].first_chunk().expect("a number"))
}
