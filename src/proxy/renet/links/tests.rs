use renet::RenetClient;

use super::*;
use crate::proxy::port::{Budget, port};
use crate::proxy::{LINK_BUDGET, ROOM_STEP};

const AT: Duration = Duration::ZERO;

fn frame(tag: u8) -> Vec<u8> {
    vec![1, 0, tag]
}

fn send(links: &mut Links, client: &mut RenetClient, id: LinkId) {
    for packet in client.get_packets_to_send() {
        assert!(links.payload(id, &packet, AT));
    }
}

/// Returns an open link and the client at its other end.
fn one_link() -> (Links, RenetClient, LinkId) {
    let mut links = Links::new();
    let mut client = RenetClient::new(connection_config());
    client.set_connected();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    links.open(7, address, None, AT);
    let id = links.at(address).expect("a link");
    (links, client, id)
}

#[test]
fn a_slow_tick_loses_no_event_and_no_reliable_frame() {
    let (sender, mut receiver) = port(Budget { count: 4, bytes: 1_000 });
    let (mut links, mut client, id) = one_link();

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

    assert_eq!(links.tally.guard_dropped_count, 1, "there is no room for unreliable frames");
    assert_eq!(links.events.len(), 7, "the rest waits in renet's channel");
    let mut events = Vec::new();
    while events.len() < 21 {
        let before = events.len();
        receiver.drain_all(|event| events.push(event));
        links.deliver(&sender, AT);
        assert!(events.len() > before, "more events follow");
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
fn a_link_that_is_read_may_send_forever() {
    let (sender, mut receiver) = port(Budget { count: 100, bytes: 100_000 });
    let (mut links, mut client, id) = one_link();

    let mut count = 0;
    for round in 0..6_000 {
        // Every eighth message is too long for one packet.
        client.send_message(CHANNEL_RELIABLE, vec![1; if round % 8 == 0 { 1_201 } else { 2 }]);
        send(&mut links, &mut client, id);
        links.begin_batch(AT);
        for packet in links.packets(id, AT, false) {
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
fn excess_unreliable_frames_are_dropped_and_excess_reliable_frames_end_the_link() {
    let mut links = Links::new();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    links.open(7, address, None, AT);
    let id = links.at(address).expect("a link");
    let sized = |high: u8, length: usize| Bytes::from([vec![high], vec![0; length - 1]].concat());

    assert!(links.send(id, sized(0x81, FRAME_MAX_SERVER)));
    assert!(links.send(id, sized(0x81, FRAME_MAX_SERVER)), "an older frame is dropped for it");
    assert!(links.send(id, sized(0x81, FRAME_MAX_SERVER + 1)));
    assert!(!links.packets(id, AT, false).is_empty());
    assert_eq!(links.tally.unreliable_dropped_count, 2);

    assert!(!links.send(id, sized(0x00, FRAME_MAX_SERVER + 1)));
    let mut taken = 0;
    while links.send(id, sized(0x00, FRAME_MAX_SERVER)) {
        taken += FRAME_MAX_SERVER;
    }
    assert_eq!(taken, links.reliable_room);
    assert!(links.is_alive(id), "renet was given no more than its capacity");
}

/// Opens two links of one adapter.
fn two_links(links: &mut Links) -> [(LinkId, RenetClient); 2] {
    [(7, 1), (8, 2)].map(|(client, port)| {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        links.open(client, address, None, AT);
        let mut renet = RenetClient::new(connection_config());
        renet.set_connected();
        (links.at(address).expect("a link"), renet)
    })
}

/// Takes all events and returns the number of frames of a link among them.
fn take_frames(links: &mut Links, id: LinkId) -> usize {
    let (sender, mut receiver) = port(Budget { count: 1_000_000, bytes: 100_000_000 });
    links.deliver(&sender, AT);
    let mut count = 0;
    receiver.drain_all(|event| {
        count += usize::from(event.link == id && matches!(event.kind, ProxyEventKind::Frame { .. }));
    });
    count
}

#[test]
fn unreliable_frames_of_one_link_leave_room_for_those_of_others() {
    let mut links = Links::new();
    let [(eve, mut flood), (ada, mut honest)] = two_links(&mut links);

    for _ in 0..300 {
        for _ in 0..252 {
            flood.send_message(CHANNEL_UNRELIABLE, vec![0x81, 0]);
        }
        send(&mut links, &mut flood, eve);
    }
    honest.send_message(CHANNEL_UNRELIABLE, vec![0x81, 0]);
    send(&mut links, &mut honest, ada);

    assert!(links.has_room(), "75,600 frames exceed the budget of all links");
    assert!(links.tally.guard_dropped_count > 0);
    let frames = links.events.len();
    assert!(frames < FRAMES_PER_BATCH_MAX + 256 + 4, "{frames}");
    assert_eq!(take_frames(&mut links, ada), 1);
    links.begin_batch(AT);
    flood.send_message(CHANNEL_UNRELIABLE, vec![0x81, 0]);
    send(&mut links, &mut flood, eve);
    assert_eq!(take_frames(&mut links, eve), 1, "its frames are accepted again in the next batch");
}

#[test]
fn excess_reliable_frames_of_a_batch_wait_for_the_next_one() {
    const LENGTH: usize = 16 * 1_024;
    let mut links = Links::new();
    let [(eve, mut flood), _] = two_links(&mut links);

    for _ in 0..20 {
        flood.send_message(CHANNEL_RELIABLE, vec![1; LENGTH]);
        send(&mut links, &mut flood, eve);
    }

    let first = take_frames(&mut links, eve);
    assert_eq!(first, BYTES_PER_BATCH_MAX / LENGTH);
    links.begin_batch(AT);
    assert_eq!(take_frames(&mut links, eve), 20 - first);
}

#[test]
fn a_client_without_acknowledgements_gets_little_room_until_it_acknowledges() {
    let (sender, mut receiver) = port(Budget { count: 1_000, bytes: 1_000_000 });
    let mut links = Links::new();
    let mut client = RenetClient::new(connection_config());
    client.set_connected();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    links.open(7, address, None, AT);
    let id = links.at(address).expect("a link");
    let frame = Bytes::from([vec![1, 0], vec![7; 8_000]].concat());
    let count = LINK_BUDGET.div_ceil(frame.len());
    for _ in 0..count {
        assert!(links.send(id, frame.clone()));
    }

    let mut turn = |is_deaf: bool| {
        let (mut room, mut heard) = (0, 0);
        for millis in (0..60_000).step_by(50) {
            let now = Duration::from_millis(millis + if is_deaf { 0 } else { 60_000 });
            links.renet.update(Duration::from_millis(50));
            for packet in links.packets(id, now, false) {
                if !is_deaf {
                    client.process_packet(&packet);
                }
            }
            heard += std::iter::from_fn(|| client.receive_message(CHANNEL_RELIABLE)).count();
            client.update(Duration::from_millis(50));
            if !is_deaf {
                for packet in client.get_packets_to_send() {
                    assert!(links.payload(id, &packet, now));
                }
            }
            links.begin_batch(now);
            links.deliver(&sender, now);
            receiver.drain_all(|event| {
                if let ProxyEventKind::Room { bytes } = event.kind {
                    room += bytes;
                }
            });
        }
        (room, heard)
    };
    let (deaf_room, _) = turn(true);
    let (room, heard) = turn(false);

    assert!(deaf_room < LINK_BUDGET / 2, "{deaf_room} bytes were restored without acknowledgements");
    assert_eq!(heard, count);
    assert!(deaf_room + room > count * frame.len() - ROOM_STEP, "{deaf_room} and {room} bytes were restored");
}
