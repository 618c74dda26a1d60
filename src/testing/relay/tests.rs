//! Tests the decisions of the network on virtual time, and the relay between real sockets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::counts::Tally;
use super::path::{Event, Moment, Path, SegmentFate};
use super::{Direction, Network, Outages, Relay, RelayConfig, RelayError, Route};

const MS: Duration = Duration::from_millis(1);

/// Returns the arrivals of datagrams that are sent every 10 ms over one flow.
fn arrivals(seed: u64, ordinal: u64, network: Network, count: u32) -> (Vec<[Option<Duration>; 2]>, Tally) {
    let (mut path, mut tally) = (Path::of_flow(ordinal), Tally::default());
    let arrive = |number| {
        let moment = Moment { network, seed, now: 10 * MS * number };
        path.datagram(Direction::Up, 72, moment, &mut tally)
    };
    ((0..count).map(arrive).collect(), tally)
}

fn bad() -> Network {
    Network {
        loss: 0.2,
        delay: 180 * MS,
        jitter: 40 * MS,
        reordered: 0.1,
        doubled: 0.05,
        ..Network::default()
    }
}

#[test]
fn a_faultless_network_delivers_each_datagram_once_and_at_once() {
    let (arrivals, tally) = arrivals(1, 0, Network::default(), 100);

    let at_once: Vec<_> = (0..100).map(|number| [Some(10 * MS * number), None]).collect();
    assert_eq!(arrivals, at_once);
    assert_eq!(tally.counts.up.datagram_count, 100);
    assert_eq!(tally.counts.down.datagram_count, 0);
}

#[test]
fn the_same_seed_decides_the_same_for_the_same_flow_and_packet() {
    let fates = |seed, ordinal| arrivals(seed, ordinal, bad(), 500).0;

    assert_eq!(fates(1, 0), fates(1, 0));
    assert_ne!(fates(1, 0), fates(2, 0));
    assert_ne!(fates(1, 0), fates(1, 1));
}

#[test]
fn losses_duplicates_and_delays_match_the_network() {
    let (arrivals, tally) = arrivals(1, 0, bad(), 10_000);

    let up = tally.counts.up;
    assert!(up.lost_count.abs_diff(2_000) < 150, "{up:?}");
    assert!(up.reordered_count.abs_diff(800) < 120 && up.doubled_count.abs_diff(400) < 80, "{up:?}");
    let delays = arrivals.iter().enumerate().filter_map(|(number, [first, _])| {
        Some(first.as_ref()?.saturating_sub(10 * MS * u32::try_from(number).expect("few")))
    });
    for delay in delays {
        assert!(delay >= 180 * MS && delay <= (220 + 100) * MS, "{delay:?}");
    }
}

#[test]
fn jitter_alone_keeps_the_order_and_reordering_breaks_it() {
    let overtaken = |network| {
        let (arrivals, _) = arrivals(1, 0, network, 1_000);
        let firsts: Vec<Duration> = arrivals.iter().filter_map(|[first, _]| *first).collect();
        firsts.windows(2).filter(|pair| pair[1] < pair[0]).count()
    };

    assert_eq!(overtaken(Network { jitter: 200 * MS, ..Network::default() }), 0);
    assert!(overtaken(Network { reordered: 0.3, ..Network::default() }) > 100);
}

#[test]
fn a_rate_delays_what_its_queue_holds_and_drops_the_rest() {
    let network = Network { rate: Some(1_000), queue: 1_000 * MS, ..Network::default() };
    let (mut path, mut tally) = (Path::of_flow(0), Tally::default());
    let mut send = |now| path.datagram(Direction::Down, 72, Moment { network, seed: 1, now }, &mut tally)[0];

    let burst: Vec<_> = (0..12).map(|_| send(Duration::ZERO)).collect();
    let later = send(1_000 * MS);

    let sent: Vec<_> = (1..=10).map(|number| Some(100 * MS * number)).collect();
    assert_eq!(burst[..10], sent, "100 bytes, headers included, take 100 ms");
    assert_eq!(burst[10..], [None, None]);
    assert_eq!(later, Some(1_100 * MS), "the queue is empty again");
    assert_eq!((tally.counts.down.dropped_count, tally.counts.up.dropped_count), (2, 0));
}

#[test]
fn outages_cut_their_direction_and_are_half_a_period_apart() {
    let outages = Outages { every: 1_000 * MS, shortest: 200 * MS, longest: 400 * MS };
    let blackouts = Network { blackouts: Some(outages), ..Network::default() };
    let one_way = Network { one_way: Some(outages), ..Network::default() };
    let cut = |network: Network, direction, ms| network.outage(3, direction, ms * MS).is_some();

    let mut lengths = Vec::new();
    let (mut up_only, mut down_only, mut open_for) = (0, 0, 500);
    for ms in 0..60_000 {
        let is_cut = cut(blackouts, Direction::Up, ms);
        assert_eq!(is_cut, cut(blackouts, Direction::Down, ms), "a blackout cuts both");
        if is_cut && open_for > 0 {
            assert!(open_for >= 500 || ms < 500, "only {open_for} ms before {ms} ms");
            lengths.push(0);
        }
        open_for = if is_cut { 0 } else { open_for + 1 };
        if let (true, Some(length)) = (is_cut, lengths.last_mut()) {
            *length += 1;
        }
        match (cut(one_way, Direction::Up, ms), cut(one_way, Direction::Down, ms)) {
            (true, true) => panic!("{ms}: both at once"),
            (true, false) => up_only += 1,
            (false, true) => down_only += 1,
            (false, false) => {}
        }
    }

    assert_eq!(lengths.len(), 60);
    assert!(lengths.iter().all(|length| (199..=401).contains(length)), "{lengths:?}");
    assert!(up_only > 5_000 && down_only > 5_000, "{up_only} and {down_only} ms of 18,000");
}

#[test]
fn an_outage_is_counted_once_for_all_packets() {
    let outages = Outages { every: 1_000 * MS, shortest: 300 * MS, longest: 300 * MS };
    let network = Network { blackouts: Some(outages), ..Network::default() };

    let (arrivals, tally) = arrivals(1, 0, network, 1_000);

    let lost = arrivals.iter().filter(|arrival| arrival[0].is_none()).count();
    assert_eq!((tally.counts.blackout_count, tally.counts.one_way_count), (10, 0));
    assert!(lost.abs_diff(300) <= 10, "{lost}");
    assert_eq!(tally.counts.up.cut_count, lost as u64);
}

#[test]
fn a_lost_tcp_segment_arrives_later_and_delays_the_segments_behind_it() {
    let network = Network { loss: 0.3, delay: 50 * MS, ..Network::default() };
    let (mut path, mut tally) = (Path::of_connection(0), Tally::default());
    let mut last = Duration::ZERO;
    let mut late_count = 0;

    for number in 0..1_000 {
        let now = 10 * MS * number;
        let moment = Moment { network, seed: 1, now };
        let fate = path.segment(Direction::Down, 100, moment, &mut tally);
        let SegmentFate::Arrives(at) = fate else { panic!("{fate:?}") };
        assert!(at >= last && at >= now + 50 * MS);
        late_count += u32::from(at > now + 50 * MS);
        last = at;
    }

    assert!(tally.counts.down.retransmitted_count > 250, "{:?}", tally.counts);
    assert!(late_count > 500, "{late_count} segments were late");
}

#[test]
fn a_tcp_segment_waits_for_the_end_of_a_blackout_and_gives_up_if_all_is_lost() {
    let outages = Outages { every: 4_000 * MS, shortest: 2_000 * MS, longest: 2_000 * MS };
    let network = Network { blackouts: Some(outages), ..Network::default() };
    let (mut path, mut tally) = (Path::of_connection(0), Tally::default());

    let moment = Moment { network, seed: 1, now: 1_500 * MS };
    let fate = path.segment(Direction::Up, 100, moment, &mut tally);
    let lossy = Moment { network: Network { loss: 0.9, ..Network::default() }, ..moment };
    let mut often_lost = Path::of_connection(1);
    let by_chance = often_lost.segment(Direction::Up, 100, lossy, &mut Tally::default());
    let nothing = Moment { network: Network { loss: 1.0, ..Network::default() }, ..moment };
    let given_up = path.segment(Direction::Up, 100, nothing, &mut tally);

    assert_eq!(fate, SegmentFate::Arrives((1_500 + 200 + 400 + 800 + 1_600) * MS));
    let SegmentFate::Arrives(at) = by_chance else { panic!("{by_chance:?}") };
    let late = (at - moment.now).as_millis();
    assert!(late > 0 && late.is_multiple_of(200), "each random loss costs the same time: {late} ms");
    assert!(matches!(given_up, SegmentFate::GivesUp(at) if at > 200_000 * MS), "{given_up:?}");
    assert_eq!(tally.counts.blackout_count, 1);
}

#[test]
fn a_reset_overtakes_segments_that_wait_and_has_the_delay_of_the_network() {
    let outages = Outages { every: 4_000 * MS, shortest: 2_000 * MS, longest: 2_000 * MS };
    let network = Network { delay: 50 * MS, blackouts: Some(outages), ..Network::default() };
    let (mut path, mut tally) = (Path::of_connection(0), Tally::default());
    let moment = |now| Moment { network, seed: 1, now: now * MS };

    let held_up = path.segment(Direction::Down, 100, moment(2_900), &mut tally);
    let reset = path.reset(Direction::Down, moment(3_100), &mut tally);
    let in_blackout = path.reset(Direction::Down, moment(2_900), &mut tally);

    assert!(matches!(held_up, SegmentFate::Arrives(at) if at > 3_150 * MS), "{held_up:?}");
    assert_eq!(reset, 3_150 * MS);
    assert_eq!(in_blackout, (2_900 + 300 + 50) * MS);
}

#[test]
fn a_flow_is_rebound_at_the_rate_of_the_network_and_only_while_it_sends() {
    let (mut path, network) = (Path::of_flow(0), Network::default());
    let mut is_rebound =
        |ms| path.is_due(Event::Rebind, Some(1_000 * MS), Moment { network, seed: 1, now: ms * MS });

    let count = (0..20_000).filter(|ms| is_rebound(*ms)).count();

    assert!((14..=26).contains(&count), "{count}");
    assert!(is_rebound(60_000), "after a silence");
    assert!(!is_rebound(60_001), "only once");
}

#[test]
fn a_network_out_of_range_is_refused_with_field_and_range() {
    let outages = Outages { every: 1_000 * MS, shortest: 100 * MS, longest: 600 * MS };
    let wrong = [
        ("loss", Network { loss: 1.5, ..Network::default() }),
        ("doubled", Network { doubled: f64::NAN, ..Network::default() }),
        ("queue", Network { queue: 90_000 * MS, ..Network::default() }),
        ("rebind_every", Network { rebind_every: Some(Duration::ZERO), ..Network::default() }),
        ("rate", Network { rate: Some(0), ..Network::default() }),
        ("blackouts", Network { blackouts: Some(outages), ..Network::default() }),
    ];

    for (field, network) in wrong {
        let error = Relay::start(RelayConfig { network, ..RelayConfig::default() }).expect_err(field);
        assert!(matches!(&error, RelayError::Range { field: named, .. } if *named == field), "{error}");
    }
}

/// Starts a relay.
fn relay(routes: Vec<Route>, network: Network) -> Relay {
    Relay::start(RelayConfig { seed: 1, routes, network, ..RelayConfig::default() }).expect("free ports")
}

fn udp() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}

/// Sends a datagram. Returns what arrived, and the address of its sender.
fn pass(from: &UdpSocket, to: SocketAddr, receiver: &UdpSocket, text: &[u8]) -> (Vec<u8>, SocketAddr) {
    from.send_to(text, to).expect("loopback");
    let mut buffer = [0; 64];
    let (length, from) = receiver.recv_from(&mut buffer).expect("it arrives");
    (buffer[..length].to_vec(), from)
}

#[test]
fn datagrams_pass_in_both_directions_and_each_client_has_its_own_port() {
    let (server, server_address) = udp();
    let relay = relay(vec![Route::udp(server_address)], Network::default());
    let listener = relay.addresses()[0];
    let clients = [udp().0, udp().0];

    let outer = clients.each_ref().map(|client| pass(client, listener, &server, b"up").1);
    for (client, outer) in clients.iter().zip(outer) {
        assert_eq!(pass(&server, outer, client, b"down"), (b"down".to_vec(), listener));
    }

    assert_ne!(outer[0], outer[1]);
    let counts = relay.stop();
    assert_eq!((counts.flow_count, counts.up.delivered_count, counts.down.delivered_count), (2, 2, 2));
    assert!(counts.to_string().lines().all(|line| line.len() <= 130), "{counts}");
}

#[test]
fn a_change_of_the_network_applies_to_present_flows() {
    let (server, server_address) = udp();
    let relay = relay(vec![Route::udp(server_address)], Network::default());
    let (client, listener) = (udp().0, relay.addresses()[0]);
    let outer = pass(&client, listener, &server, b"before").1;

    relay.change(Network { loss: 1.0, ..Network::default() }).expect("in range");
    client.send_to(b"lost", listener).expect("loopback");
    until(|| relay.counts().up.lost_count == 1);
    relay.change(Network::default()).expect("in range");

    assert_eq!(pass(&client, listener, &server, b"after"), (b"after".to_vec(), outer));
    assert!(relay.change(Network { loss: 2.0, ..Network::default() }).is_err());
}

#[test]
fn a_client_that_is_rebound_sends_from_another_port_and_receives_there() {
    let (server, server_address) = udp();
    let network = Network { rebind_every: Some(1_000 * MS), ..Network::default() };
    let relay = relay(vec![Route::udp(server_address)], network);
    let (client, listener) = (udp().0, relay.addresses()[0]);
    let first = pass(&client, listener, &server, b"one").1;

    let mut outer = first;
    until(|| {
        outer = pass(&client, listener, &server, b"more").1;
        outer != first
    });

    assert_eq!(pass(&server, outer, &client, b"down").0, b"down");
    assert_eq!(relay.stop().rebind_count, 1);
}

/// Opens a connection through a relay. Returns the client's end, the server's end, and the relay.
fn connected(network: Network) -> (TcpStream, TcpStream, Relay) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let relay = relay(vec![Route::tcp(server.local_addr().expect("bound"))], network);
    let client = TcpStream::connect(relay.addresses()[0]).expect("it listens");
    let (accepted, _) = server.accept().expect("the relay connects");
    for stream in [&client, &accepted] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    }
    (client, accepted, relay)
}

#[test]
fn a_stream_passes_whole_and_in_order_over_a_bad_network() {
    let network = Network { loss: 0.1, jitter: MS, reordered: 0.3, doubled: 0.3, ..Network::default() };
    let (mut client, mut server, relay) = connected(network);
    let sent: Vec<u8> = (0..20_000_u32).flat_map(|number| number.to_le_bytes()).collect();

    let writing = sent.clone();
    let writer = std::thread::spawn(move || client.write_all(&writing).map(|()| client));
    let mut received = vec![0; sent.len()];
    server.read_exact(&mut received).expect("all arrives");
    let mut client = writer.join().expect("no panic").expect("all is written");
    drop(server);
    let end = client.read(&mut [0; 1]).expect("the end arrives");

    assert!(received == sent, "the received bytes differ from those that were sent");
    assert_eq!(end, 0);
    let counts = relay.stop();
    assert_eq!(counts.up.byte_count, sent.len() as u64);
    assert!(counts.up.segment_count >= 57 && counts.up.retransmitted_count > 0, "{counts}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "real sockets take real time")]
fn the_reset_of_an_end_reaches_the_other_end_after_the_delay_of_the_network() {
    let network = Network { delay: 200 * MS, ..Network::default() };
    let (mut client, mut server, relay) = connected(network);
    server.write_all(b"last words").expect("room");

    let gone_at = Instant::now();
    SockRef::from(&server).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(server);
    let mut heard = Vec::new();
    let error = client.read_to_end(&mut heard).expect_err("a reset is an error");

    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    assert!(gone_at.elapsed() >= 200 * MS, "the reset arrived too early");
    assert_eq!(heard, b"last words");
    assert_eq!(relay.stop().reset_count, 0, "the network has reset no connection");
}

#[test]
fn the_sender_of_a_stream_without_a_reader_has_to_wait() {
    let network = Network { rate: Some(1_000), queue: 60_000 * MS, ..Network::default() };
    let (client, server, relay) = connected(network);
    client.set_nonblocking(true).expect("a socket");

    let mut taken = 0;
    until(|| match (&client).write(&[7; 4_096]) {
        Ok(length) => {
            taken += length;
            false
        }
        Err(_) => relay.counts().up.segment_count >= 40,
    });
    let counts = relay.counts();

    assert!(counts.up.segment_count <= 60, "{counts}");
    assert!(taken < 16 << 20, "{taken} bytes were written, most of them into the client's own buffer");
    drop(server);
}

#[test]
fn a_reset_resets_both_ends_and_a_rebinding_resets_the_client_alone() {
    for (is_rebound, every) in [(false, 1_000 * MS), (true, 1_000 * MS)] {
        let network = Network {
            reset_every: (!is_rebound).then_some(every),
            rebind_every: is_rebound.then_some(every),
            ..Network::default()
        };
        let (mut client, mut server, relay) = connected(network);

        // A write or a read reports the reset.
        until(|| client.write_all(b"more").is_err());
        server.set_read_timeout(Some(200 * MS)).expect("a socket");
        let mut end = Ok(1);
        while matches!(end, Ok(1..)) {
            end = server.read(&mut [0; 64]);
        }

        let counts = relay.stop();
        if is_rebound {
            let error = end.expect_err("the server's end is open");
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
            assert_eq!((counts.reset_count, counts.rebind_count), (0, 1));
        } else {
            let error = end.expect_err("a reset is an error");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
            assert_eq!((counts.reset_count, counts.rebind_count), (1, 0));
        }
    }
}

#[test]
fn a_connection_without_a_server_ends_and_a_port_in_use_is_an_error() {
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let relay = relay(vec![Route::tcp(gone)], Network::default());
    let listener = relay.addresses()[0];
    let mut client = TcpStream::connect(listener).expect("the relay listens");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");

    let read = client.read(&mut [0; 1]);
    let second =
        Relay::start(RelayConfig { routes: vec![Route::tcp(gone).at(listener)], ..RelayConfig::default() });

    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let error = second.expect_err("the port is taken").to_string();
    assert!(error.contains(&listener.to_string()) && error.contains("in use"), "{error}");
}

/// Waits until `done` returns true.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "real sockets take real time; the bound is generous")]
fn until(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "not done within a minute");
        std::thread::sleep(5 * MS);
    }
}

/// The longest wait, which is long enough for slow machines.
const PATIENCE: Duration = Duration::from_secs(60);
