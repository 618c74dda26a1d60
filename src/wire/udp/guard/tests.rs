use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use renet::{DisconnectReason, RenetClient, RenetServer};
use renetcode::{
    ClientAuthentication, NetcodeClient, NetcodeServer, ServerAuthentication, ServerConfig, ServerResult,
};

use super::*;
use crate::wire::udp::{DEV_KEY, NETCODE_PROTOCOL_ID, TokenMint, connection_config};

#[test]
fn datagrams_with_which_netcode_cannot_calculate_are_dropped() {
    let with_first = |first: u8, length: usize| {
        let mut datagram = vec![1; length];
        datagram[0] = first;
        datagram
    };
    let last_sequence = |sequence: u64| {
        let mut datagram = with_first(0x85, 100);
        datagram[1..9].copy_from_slice(&sequence.to_le_bytes());
        datagram
    };

    assert!(admits_from_client(&with_first(0x15, 18), true));
    assert!(admits_from_client(&with_first(0x85, 1_400), true));
    assert!(!admits_from_client(&with_first(0x15, 17), true), "shorter than any");
    assert!(!admits_from_client(&with_first(0x15, 1_401), true), "longer than any");
    assert!(!admits_from_client(&with_first(0xF5, 18), true), "fifteen bytes of sequence");
    assert!(!admits_from_client(&with_first(0x85, 24), true), "no room for a MAC");
    assert!(admits_from_client(&with_first(0x85, 25), true));
    assert!(!admits_from_client(&with_first(0x12, 100), true), "only servers send challenges");
    assert!(!admits_from_client(&with_first(0x17, 100), true), "no such kind");
    assert!(!admits_from_client(&last_sequence(u64::MAX - 256), true));
    assert!(admits_from_client(&last_sequence(u64::MAX - 257), true));
    assert!(!admits_from_client(&[], false));
    assert!(admits_from_server(&with_first(0x12, 100)), "servers send challenges");
    assert!(!admits_from_server(&with_first(0x13, 100)), "servers send no responses");
    assert!(!admits_from_server(&with_first(0xF5, 64)), "fifteen bytes of sequence");
    assert!(!admits_from_server(&last_sequence(u64::MAX - 256)));
    assert!(!admits_from_server(&[]));
}

#[test]
fn handshakes_from_an_address_with_a_link_are_dropped() {
    let mut request = vec![1; REQUEST_BYTES];
    request[0] = REQUEST;
    let mut response = vec![1; 400];
    response[0] = 0x10 | RESPONSE;

    assert!(admits_from_client(&request, false) && !admits_from_client(&request, true));
    assert!(admits_from_client(&response, false) && !admits_from_client(&response, true));
    assert!(!admits_from_client(&request[1..], false));
    request[0] = 0x10;
    assert!(!admits_from_client(&request, false), "a request has no sequence");
}

#[test]
fn a_slice_lies_within_a_message_of_a_constant_number_of_slices() {
    let check = |guard: &mut PeerGuard, kind, message, index, count, length| {
        guard.check(&slice(kind, u8::from(kind == UNRELIABLE_SLICE), message, index, count, length))
    };
    for kind in [RELIABLE_SLICE, UNRELIABLE_SLICE] {
        let guard = &mut PeerGuard::default();

        assert!(check(guard, kind, 0, 0, 2, 1_200).is_ok());
        assert_eq!(check(guard, kind, 0, 2, 3, 7), Err(ProtocolViolation::SliceCount(0)));
        assert!(check(guard, kind, 0, 1, 2, 7).is_ok());
        assert!(check(guard, kind, 1, 63, 64, 1).is_ok());
        for (index, count, length) in
            [(2, 2, 1_200), (0, 0, 1), (0, 65, 1_200), (0, 2, 1_199), (0, 1, 1_201), (0, 1, 0)]
        {
            let violation = Err(ProtocolViolation::Slice { index, count });
            assert_eq!(check(guard, kind, 2, index, count, length), violation);
        }
    }
}

#[test]
fn a_sliced_unreliable_message_that_was_displaced_does_not_come_back() {
    let mut guard = PeerGuard::default();
    let window = UNRELIABLE_WINDOW as u64;
    let first = slice(UNRELIABLE_SLICE, 1, 0, 0, 2, 1_200);
    assert_eq!(guard.check(&first), Ok(Content::Unreliable));

    let next = slice(UNRELIABLE_SLICE, 1, window, 0, 3, 1_200);
    assert_eq!(guard.check(&next), Ok(Content::Unreliable));

    assert_eq!(guard.check(&first), Ok(Content::Stale));
    assert_eq!(guard.check(&next), Ok(Content::Unreliable));
}

#[test]
fn reliable_messages_are_held_back_no_further_than_the_window() {
    let mut guard = PeerGuard::default();
    let last = RELIABLE_WINDOW;

    assert!(guard.check(&small(0, 0, &[(last - 1, 1)])).is_ok());
    assert_eq!(guard.check(&small(0, 0, &[(last, 1)])), Err(ProtocolViolation::Window(last)));
    assert!(guard.check(&slice(RELIABLE_SLICE, 0, 0, 0, 2, 1_200)).is_ok());
    guard.note_read();

    assert!(guard.check(&small(0, 0, &[(last, 1)])).is_ok());
    assert!(guard.reliable.is_empty(), "messages that were read are removed");
}

#[test]
fn small_messages_have_a_byte_at_least_and_a_bound() {
    let mut guard = PeerGuard::default();
    let many = |count: u64| (0..count).map(|id| (id, 1)).collect::<Vec<_>>();

    assert_eq!(guard.check(&small(0, 0, &many(256))), Ok(Content::Reliable));
    assert_eq!(guard.check(&small(1, 1, &many(256))), Ok(Content::Unreliable));
    assert_eq!(guard.check(&small(0, 0, &many(257))), Err(ProtocolViolation::Messages(257)));
    assert_eq!(guard.check(&small(0, 0, &[(0, 0)])), Err(ProtocolViolation::Messages(1)));
    assert_eq!(guard.check(&small(1, 1, &[(0, 0)])), Err(ProtocolViolation::Messages(1)));
    assert_eq!(guard.check(&small(0, 1, &[(0, 1)])), Err(ProtocolViolation::Channel(1)));
    assert_eq!(guard.check(&small(1, 2, &[(0, 1)])), Err(ProtocolViolation::Channel(2)));
    assert_eq!(guard.check(&[]), Err(ProtocolViolation::Malformed));
    let mut trailing = small(0, 0, &[(0, 1)]);
    trailing.push(0);
    assert_eq!(guard.check(&trailing), Err(ProtocolViolation::Malformed));
}

#[test]
fn all_packets_of_a_renet_client_pass() {
    let mut client = RenetClient::new(connection_config());
    client.set_connected();
    let mut guard = PeerGuard::default();
    let mut contents = Vec::new();

    // Lengths near that of a slice, where renet also sends packets without messages; and full outboxes.
    for length in (2..40).chain(1_190..1_210).chain([2_400, 16_384, 65_536]) {
        client.send_message(CHANNEL_RELIABLE, vec![1; length]);
        client.send_message(CHANNEL_UNRELIABLE, vec![1; length]);
    }
    for _ in 0..OUTBOX_MAX_FRAMES {
        client.send_message(CHANNEL_RELIABLE, vec![1; 2]);
    }
    for sequence in (0..60).map(|n| n * 3) {
        // Every third packet arrives, so the acknowledgement has many ranges.
        let sent = small(1, 1, &[(0, 1)]);
        let packet = [&sent[..1], &varint(sequence), &sent[2..]].concat();
        client.process_packet(&packet);
    }
    for packet in client.get_packets_to_send() {
        contents.push(guard.check(&packet).expect("a client's packet"));
    }

    for content in [Content::Reliable, Content::Unreliable, Content::Ack] {
        assert!(contents.contains(&content), "{content:?}");
    }
}

proptest! {
    #[test]
    fn no_payload_that_passes_makes_renet_fail(
        steps in prop::collection::vec((payload(), any::<bool>()), 1..150)
    ) {
        let mut server = RenetServer::new(connection_config());
        server.add_connection(1);
        let mut guard = PeerGuard::default();
        for (payload, read) in steps {
            if matches!(guard.check(&payload), Err(_) | Ok(Content::Stale)) {
                continue;
            }
            server.process_packet_from(&payload, 1).expect("a connection");
            while read && server.receive_message(1, CHANNEL_RELIABLE).is_some() {
                guard.note_read();
            }
            while server.receive_message(1, CHANNEL_UNRELIABLE).is_some() {}
            if read {
                server.update(Duration::from_secs(1));
                server.send_message(1, CHANNEL_RELIABLE, vec![1; 1_300]);
                server.get_packets_to_send(1).expect("a connection");
            }
            // The guard finds all errors that renet would find, apart from full channels.
            prop_assert!(matches!(
                server.disconnect_reason(1),
                None | Some(
                    DisconnectReason::ReceiveChannelError { error: renet::ChannelError::ReliableChannelMaxMemoryReached, .. }
                    | DisconnectReason::SendChannelError { .. }
                )
            ), "{:?}", server.disconnect_reason(1));
        }
    }

    #[test]
    fn no_datagram_that_passes_hurts_netcode_or_keeps_a_dead_client_alive(
        datagrams in prop::collection::vec((datagram(), 0..3_usize), 1..60)
    ) {
        let mut netcode = Netcode::new();
        let linked = address(1);
        netcode.connect(linked, true);
        netcode.connect(address(2), false);

        netcode.server.update(Duration::from_secs(3));
        for (mut datagram, source) in datagrams {
            let from = address([1, 2, 3][source]);
            if admits_from_client(&datagram, from == linked) {
                netcode.server.process_packet(from, &mut datagram);
            }
        }

        prop_assert_eq!(
            netcode.server.time_since_last_received_packet(1),
            Some(Duration::from_secs(3))
        );
    }
}

/// A netcode server whose clients are fed by hand.
struct Netcode {
    server: NetcodeServer,
}

impl Netcode {
    fn new() -> Self {
        Self {
            server: NetcodeServer::new(ServerConfig {
                current_time: Duration::ZERO,
                max_clients: 4,
                protocol_id: NETCODE_PROTOCOL_ID,
                public_addresses: vec![address(0)],
                authentication: ServerAuthentication::Secure { private_key: DEV_KEY },
            }),
        }
    }

    /// Takes a client to the challenge, or to the end of the handshake if `wholly`.
    fn connect(&mut self, from: SocketAddr, wholly: bool) {
        let token = TokenMint::new(DEV_KEY, vec![address(0)])
            .mint(Duration::ZERO, u64::from(from.port()), None)
            .expect("a token");
        let secure = ClientAuthentication::Secure { connect_token: token };
        let mut client = NetcodeClient::new(Duration::ZERO, secure).expect("a client");
        for _ in 0..=usize::from(wholly) {
            let (packet, _) = client.update(Duration::ZERO).expect("a packet");
            assert!(admits_from_client(packet, false), "the handshake of a client passes");
            match self.server.process_packet(from, packet) {
                ServerResult::PacketToSend { payload, .. }
                | ServerResult::ClientConnected { payload, .. } => {
                    client.process_packet(payload);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(client.is_connected(), wholly);
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Generates datagrams of each kind and length, most of them near a bound.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let length =
        prop_oneof![16..30_usize, 300..340_usize, 1_076..1_080_usize, 1_398..1_403_usize, 0..1_500_usize];
    let first = prop_oneof![Just(0_u8), Just(0x85), Just(0xF5), Just(0x13), any::<u8>()];
    let fill = prop_oneof![Just(0_u8), Just(0xFF), any::<u8>()];
    (length, first, fill, any::<[u8; 8]>()).prop_map(|(length, first, fill, head)| {
        let mut datagram = vec![fill; length];
        for (byte, value) in datagram.iter_mut().skip(9).zip(head) {
            *byte = value;
        }
        if let Some(byte) = datagram.first_mut() {
            *byte = first;
        }
        datagram
    })
}

/// Generates payloads that are renet packets or almost are, with few ids so that ids repeat; and noise.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let number = || prop_oneof![4 => 0..6_u64, 1 => 60..70_u64, 1 => 4_090..4_100_u64, 1 => 0..1_u64 << 62];
    let count = || prop_oneof![6 => 0..4_u64, 1 => 60..70_u64, 1 => 0..1_u64 << 62];
    let length = prop_oneof![4 => Just(1_200_usize), 1 => 0..1_202_usize];
    let channel = || prop_oneof![6 => Just(None), 1 => (0..3_u8).prop_map(Some)];
    let lengths = prop_oneof![20 => Just(1_usize), 1 => 0..40_usize];
    prop_oneof![
        4 => (2..4_u8, channel(), 0..6_u64, count(), count(), length)
            .prop_map(|(kind, channel, message, index, count, length)| {
                slice(kind, channel.unwrap_or(kind % 2), message, index, count, length)
            }),
        2 => (0..2_u8, channel(), prop::collection::vec((number(), lengths), 0..30))
            .prop_map(|(kind, channel, messages)| small(kind, channel.unwrap_or(kind), &messages)),
        1 => (number(), prop::collection::vec(number(), 0..40))
            .prop_map(|(sequence, numbers)| {
                let mut packet = vec![ACK];
                packet.extend(varint(sequence));
                packet.extend(numbers.into_iter().flat_map(varint));
                packet
            }),
        1 => prop::collection::vec(any::<u8>(), 0..1_300),
    ]
}

fn small(kind: u8, channel: u8, messages: &[(u64, usize)]) -> Vec<u8> {
    let mut packet = vec![kind, 0, channel];
    packet.extend(u16::try_from(messages.len()).expect("few").to_be_bytes());
    for (id, length) in messages {
        if kind == SMALL_RELIABLE {
            packet.extend(varint(*id));
        }
        packet.extend(varint(*length as u64));
        packet.extend(vec![7; *length]);
    }
    packet
}

fn slice(kind: u8, channel: u8, message: u64, index: u64, count: u64, length: usize) -> Vec<u8> {
    let mut packet = vec![kind, 0, channel];
    for number in [message, index, count, length as u64] {
        packet.extend(varint(number));
    }
    packet.extend(vec![7; length]);
    packet
}

fn varint(value: u64) -> Vec<u8> {
    let (bytes, tag) = match value {
        0..0x40 => (1, 0),
        0x40..0x4000 => (2, 1),
        0x4000..0x4000_0000 => (4, 2),
        _ => (8, 3),
    };
    let mut encoded = value.to_be_bytes()[8 - bytes..].to_vec();
    encoded[0] |= tag << 6;
    encoded
}
