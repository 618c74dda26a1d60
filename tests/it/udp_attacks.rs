//! Tests attacks of hostile clients on the UDP adapter, over real sockets, while it serves other clients.

use std::time::Duration;

use waystation::proxy::LinkEnd;
use waystation::tick::Clock;
use waystation::wire::udp::{CHANNEL_RELIABLE, CHANNEL_UNRELIABLE};

use crate::stage::frame;
use crate::stage::udp::{RELIABLE_SLICE, SMALL_RELIABLE, SMALL_UNRELIABLE, Stage, UNRELIABLE_SLICE};

#[test]
fn a_slice_beyond_its_message_costs_the_attacker_its_link_and_affects_no_other() {
    for kind in [RELIABLE_SLICE, UNRELIABLE_SLICE] {
        for (index, count) in [(2, 2), (7, 3), (0, 0), (0, 65)] {
            assert_breach(&[slice(kind, 0, index, count)]);
        }
    }
}

#[test]
fn a_message_id_reused_with_more_slices_costs_the_attacker_its_link_and_affects_no_other() {
    for kind in [RELIABLE_SLICE, UNRELIABLE_SLICE] {
        assert_breach(&[slice(kind, 0, 0, 2), slice(kind, 0, 2, 3)]);
    }
}

#[test]
fn messages_of_no_bytes_cost_the_attacker_its_link_and_affect_no_other() {
    // The server holds these back for message 0, which is never sent.
    let mut packet = vec![SMALL_RELIABLE, 0, CHANNEL_RELIABLE, 0, 200];
    packet.extend((1..=200_u8).flat_map(|id| [0x40, id, 0]));
    assert_breach(&[packet]);
}

#[test]
fn messages_held_back_without_bound_cost_the_attacker_its_link_and_affect_no_other() {
    let packets: Vec<Vec<u8>> = (1..30_000_u16)
        .step_by(200)
        .map(|first| {
            let mut packet = vec![SMALL_RELIABLE, 0, CHANNEL_RELIABLE, 0, 200];
            for id in first..first + 200 {
                packet.extend((0x8000_0000 | u32::from(id)).to_be_bytes());
                packet.extend([1, 0xEE]);
            }
            packet
        })
        .collect();
    assert_breach(&packets);
}

#[test]
fn payloads_that_are_not_packets_cost_the_attacker_its_link_and_affect_no_other() {
    for payload in [vec![], vec![9; 40], vec![SMALL_RELIABLE, 0, 7, 0, 0], vec![0xFF; 1_300]] {
        assert_breach(&[payload]);
    }
}

#[test]
fn packets_numbered_backwards_cost_the_attacker_its_link_and_affect_no_other() {
    let mut stage = Stage::new(Clock::wall());
    let attacker = stage.connect("mallory");
    stage.clients[attacker].frozen = true;

    // renet stores each number as a separate range, and puts all ranges into its next acknowledgement.
    for number in (0..1_000_u64).rev() {
        let number = (0b11 << 62 | number << 32).to_be_bytes();
        let packet = [&[SMALL_UNRELIABLE][..], &number, &[CHANNEL_UNRELIABLE, 0, 1, 1, 0x80]].concat();
        stage.clients[attacker].throw_payload(&packet);
    }
    stage.until("the attacker's link has ended", |stage| stage.end_of(attacker).is_some());

    assert_eq!(stage.end_of(attacker), Some(LinkEnd::Failed));
    stage.assert_serves_others();
}

#[test]
fn crafted_datagrams_from_connected_and_connecting_addresses_are_dropped() {
    let mut stage = Stage::new(Clock::wall());
    let attacker = stage.connect("mallory");
    let pending = stage.client("eve");
    stage.clients[pending].frozen = true;
    stage.clients[pending].say_hello();
    stage.until("the second attacker was challenged", |stage| stage.clients[pending].is_challenged());
    let before = stage.counts();
    let sequence_at_the_end = [&[0x85][..], &[0xFF; 8], &[0; 40]].concat();
    let datagrams = [
        vec![0xF5; 18],
        vec![0xF5; 1_400],
        vec![0x95; 60],
        [&[0x85][..], &[1; 17]].concat(),
        vec![0x85; 24],
        sequence_at_the_end,
        vec![0x15; 17],
        vec![],
        vec![0x15; 1_401],
        vec![0x15; 9_000],
        vec![0x00; 1_077],
        vec![0x10; 1_078],
        vec![0xFF; 1_078],
    ];

    for who in [attacker, pending] {
        for datagram in &datagrams {
            stage.clients[who].throw(datagram);
        }
    }
    let thrown = 2 * datagrams.len() as u64;
    stage.until("all datagrams are dropped", |stage| {
        stage.counts().guard_dropped_count == before.guard_dropped_count + thrown
    });

    stage.assert_serves_others();
    assert_eq!(stage.end_of(attacker), None, "any sender can forge these datagrams");
    stage.clients[pending].frozen = false;
    stage.until("the second attacker's handshake goes on", |stage| {
        stage.clients[pending].netcode.is_connected()
    });
}

#[test]
fn forged_handshakes_do_not_keep_a_dead_client_alive() {
    let clock = Clock::manual();
    let mut stage = Stage::new(clock.clone());
    let victim = stage.connect("ada");
    let bystander = stage.connect("bob");
    stage.clients[victim].frozen = true;

    // An observer of the handshake can send it again from the client's address.
    let recorded = stage.clients[victim].handshake.clone();
    assert_eq!(recorded.len(), 2);
    for step in 1.. {
        assert!(step <= 100, "the link outlives its client");
        let heard = stage.counts().datagram_in_count + 2;
        for datagram in &recorded {
            stage.clients[victim].throw(datagram);
        }
        stage.clients[bystander].keep_alive();
        stage.until("the datagrams have arrived", |stage| stage.counts().datagram_in_count >= heard);
        if stage.end_of(victim).is_some() {
            break;
        }
        clock.advance(Duration::from_millis(250));
    }

    assert_eq!(stage.end_of(victim), Some(LinkEnd::Silent));
    assert_eq!(stage.end_of(bystander), None);
}

#[test]
fn a_recorded_link_cannot_be_replayed() {
    let mut stage = Stage::new(Clock::wall());
    let ada = stage.connect("ada");
    stage.clients[ada].send(CHANNEL_RELIABLE, frame(0x01, 1));
    stage.until("the frame has arrived", |stage| !stage.frames_of(ada).is_empty());
    stage.clients[ada].leave();
    stage.until("the link has ended", |stage| stage.end_of(ada).is_some());
    let before = stage.counts();

    let recorded = stage.clients[ada].sent.clone();
    let expected = before.datagram_in_count + recorded.len() as u64;
    for datagram in &recorded {
        stage.clients[ada].throw(datagram);
    }
    stage.until("all datagrams have arrived", |stage| stage.counts().datagram_in_count >= expected);

    assert_eq!(stage.counts().opened_count, before.opened_count);
    stage.assert_serves_others();
}

#[test]
fn noise_does_not_disturb_the_others() {
    let mut stage = Stage::new(Clock::wall());
    let attacker = stage.connect("mallory");
    let mut state = 1_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };

    for _ in 0..2_000 {
        let datagram: Vec<u8> = (0..next() % 1_500).map(|_| next() as u8).collect();
        stage.clients[attacker].throw(&datagram);
    }

    stage.assert_serves_others();
}

/// Sends payloads as a hostile client with valid keys. Asserts that its link ends with the last payload, and that
/// another link is not affected.
fn assert_breach(payloads: &[Vec<u8>]) {
    let mut stage = Stage::new(Clock::wall());
    let attacker = stage.connect("mallory");
    let bystander = stage.connect("bob");

    for payload in payloads {
        stage.clients[attacker].throw_payload(payload);
    }
    stage.until("the attacker's link has ended", |stage| stage.end_of(attacker).is_some());

    assert_eq!(stage.end_of(attacker), Some(LinkEnd::Failed), "{payloads:?}");
    stage.until_counted("the closed link is counted", |counts| counts.guard_closed_count, 1);
    stage.assert_echo(bystander);
    stage.assert_serves_others();
}

/// Encodes a slice of 1,200 bytes. All numbers are below 16,384.
fn slice(kind: u8, message: u16, index: u16, count: u16) -> Vec<u8> {
    let channel = if kind == RELIABLE_SLICE { CHANNEL_RELIABLE } else { CHANNEL_UNRELIABLE };
    let mut packet = vec![kind, 0, channel];
    for number in [message, index, count, 1_200] {
        packet.extend((0x4000 | number).to_be_bytes());
    }
    packet.extend([7; 1_200]);
    packet
}
