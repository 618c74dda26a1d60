use renet::RenetClient;

use super::*;
use crate::proxy::port::{Budget, port};

const AT: Duration = Duration::ZERO;

fn frame(tag: u8) -> Vec<u8> {
    vec![1, 0, tag]
}

fn send(links: &mut Links, client: &mut RenetClient, id: LinkId) {
    for packet in client.get_packets_to_send() {
        assert!(links.payload(id, &packet, AT));
    }
}

#[test]
fn a_tick_that_does_not_keep_up_loses_no_event_and_no_reliable_frame() {
    let (sender, mut receiver) = port(Budget { count: 4, bytes: 1_000 });
    let mut links = Links::new();
    let mut client = RenetClient::new(connection_config());
    client.set_connected();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    links.open(7, address, None, AT);
    let id = links.at(address).expect("a link");

    for tag in 0..10 {
        client.send_message(CHANNEL_RELIABLE, frame(tag));
    }
    send(&mut links, &mut client, id);
    links.deliver(&sender, AT);
    assert!(!links.has_room());
    for tag in 10..20 {
        client.send_message(CHANNEL_RELIABLE, frame(tag));
    }
    client.send_message(CHANNEL_UNRELIABLE, frame(99));
    send(&mut links, &mut client, id);

    assert_eq!(links.tally.guard_dropped_count, 1, "unreliable frames find no room");
    assert_eq!(links.events.len(), 7, "the rest waits in renet's channel");
    let mut events = Vec::new();
    while events.len() < 21 {
        let before = events.len();
        receiver.drain_all(|event| events.push(event));
        links.deliver(&sender, AT);
        assert!(events.len() > before, "there is more to come");
    }
    links.end(id, LinkEnd::Silent, AT);
    links.deliver(&sender, AT);
    receiver.drain_all(|event| events.push(event));
    assert!(matches!(events[0].kind, ProxyEventKind::Opened(_)));
    for (tag, event) in (0..20).zip(&events[1..]) {
        let ProxyEventKind::Frame { bytes, .. } = &event.kind else {
            panic!("{event:?}");
        };
        assert_eq!(bytes[..], frame(tag));
    }
    assert!(matches!(events[21].kind, ProxyEventKind::Closed(LinkEnd::Silent)));
    assert!(links.is_delivered() && links.iter().next().is_none());
}

#[test]
fn a_link_that_is_read_may_send_for_ever() {
    let (sender, mut receiver) = port(Budget { count: 100, bytes: 100_000 });
    let mut links = Links::new();
    let mut client = RenetClient::new(connection_config());
    client.set_connected();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    links.open(7, address, None, AT);
    let id = links.at(address).expect("a link");

    let mut count = 0;
    for round in 0..6_000 {
        // Each of a slice more than one packet holds, at times.
        client.send_message(CHANNEL_RELIABLE, vec![1; if round % 8 == 0 { 1_201 } else { 2 }]);
        send(&mut links, &mut client, id);
        links.begin_batch();
        for packet in links.renet.get_packets_to_send(id.0).expect("a connection") {
            client.process_packet(&packet);
        }
        links.deliver(&sender, AT);
        receiver.drain_all(|event| {
            count += usize::from(matches!(event.kind, ProxyEventKind::Frame { .. }));
        });
    }

    assert_eq!(count, 6_000);
}

#[test]
fn frames_beyond_what_a_link_takes_are_dropped_or_end_it_by_their_lane() {
    let mut links = Links::new();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    links.open(7, address, None, AT);
    let id = links.at(address).expect("a link");
    let sized = |high: u8, length: usize| Bytes::from([vec![high], vec![0; length - 1]].concat());

    assert!(links.send(id, sized(0x80, FRAME_MAX_SERVER)));
    assert!(links.send(id, sized(0x80, FRAME_MAX_SERVER)));
    assert_eq!(links.tally.unreliable_dropped_count, 0);
    assert!(links.send(id, sized(0x80, 2)), "more than a batch takes");
    assert!(links.send(id, sized(0x80, FRAME_MAX_SERVER + 1)));
    assert_eq!(links.tally.unreliable_dropped_count, 2);

    assert!(!links.send(id, sized(0x00, FRAME_MAX_SERVER + 1)));
    let mut taken = 0;
    while links.send(id, sized(0x00, FRAME_MAX_SERVER)) {
        taken += FRAME_MAX_SERVER;
    }
    assert_eq!(taken, links.reliable_room);
    assert!(links.is_alive(id), "renet was not asked for more than it holds");
}
