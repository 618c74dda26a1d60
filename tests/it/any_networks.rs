//! Clients over bad networks: long round trips, blocked datagrams, and outages. The client's clock never runs
//! faster than real time, so a busy machine makes the tests slower but does not make them fail.

use std::thread;
use std::time::Duration;

use waystation::client::{AnyDial, RelayAddresses, Transport};
use waystation::testing::{Network, Relay, RelayConfig, Route};

use crate::any::{Ada, Server};

/// A relay in front of a server's datagrams, and one in front of its HTTP.
struct Relays {
    datagrams: Relay,
    http: Relay,
}

impl Relays {
    fn start(server: &Server, network: Network) -> Self {
        let relay = |routes| {
            let config = RelayConfig { seed: 1, routes, network, ..RelayConfig::default() };
            Relay::start(config).expect("free ports")
        };
        let http = relay(vec![Route::tcp(server.http.local_addr())]);
        Self { datagrams: relay(server.datagrams.map(Route::udp).to_vec()), http }
    }

    /// Returns a dial over these transports. Each transport is given as the fragment of a URL.
    fn dial<const N: usize>(&self, server: &Server, transports: [&str; N]) -> AnyDial {
        let [udp, quic] = [0, 1].map(|index| Some(self.datagrams.addresses()[index]));
        let relays = RelayAddresses { udp, quic, http: Some(self.http.addresses()[0]) };
        let urls = transports.map(|transport| format!("{}{transport}", server.url()));
        AnyDial::new(urls).expect("URLs").through(relays)
    }
}

/// A network without faults.
fn open() -> Network {
    Network::default()
}

/// A network that loses every packet.
fn blocked() -> Network {
    Network { loss: 1.0, ..Network::default() }
}

/// Updates the server and all clients until `done` returns true for each client. Panics after a minute of the
/// clients' time.
fn together(server: &mut Server, clients: &mut [Ada], what: &str, done: impl Fn(&Ada) -> bool) {
    let begun = clients[0].time;
    while !clients.iter().all(&done) {
        assert!(clients[0].time - begun < Duration::from_secs(60), "did not happen within a minute: {what}");
        thread::sleep(clients[0].step);
        server.app.update();
        clients.iter_mut().for_each(Ada::update);
    }
}

#[test]
fn n1_every_transport_opens_over_round_trips_of_1_5_s() {
    let mut server = Server::new();
    let network = Network { delay: Duration::from_millis(750), ..Network::default() };
    let relays = Relays::start(&server, network);
    let over = Transport::ALL.map(|transport| format!("#{transport}"));
    let mut clients = over.each_ref().map(|only| Ada::new(relays.dial(&server, [only])));

    together(&mut server, &mut clients, "all clients have a session", |ada| {
        ada.client.session_id().is_some()
    });

    for (ada, transport) in clients.iter().zip(Transport::ALL) {
        assert_eq!(ada.over, [Some(transport)]);
        assert!(ada.time >= Duration::from_millis(1_500), "the relay delays packets");
    }
}

#[test]
fn n4_if_datagrams_are_blocked_from_the_start_a_client_joins_over_the_stream_at_once() {
    let mut server = Server::new();
    let relays = Relays::start(&server, open());
    relays.datagrams.change(blocked()).expect("in range");

    let mut ada = Ada::new(relays.dial(&server, [""]));
    ada.join(&mut server);

    assert_eq!(ada.over, [Some(Transport::WebSocket)]);
    assert!(ada.time < Duration::from_millis(1_500), "joined after {:?}", ada.time);
}

#[test]
fn n4_when_all_datagrams_are_blocked_the_session_goes_on_over_the_stream() {
    for transport in ["#udp", "#quic", "#wt"] {
        let mut server = Server::new();
        let relays = Relays::start(&server, open());
        let mut ada = Ada::new(relays.dial(&server, [transport, "#ws"]));
        ada.step /= 10;
        let session = ada.join(&mut server);
        assert_ne!(ada.over, [Some(Transport::WebSocket)]);
        ada.step *= 10;

        relays.datagrams.change(blocked()).expect("in range");
        let begun = ada.time;
        ada.until(&mut server, "the client has resumed", |ada, _| ada.over.len() == 2);

        assert_eq!(ada.over[1], Some(Transport::WebSocket));
        let away = ada.time - begun;
        assert!(away < Duration::from_millis(7_000), "resumed after {away:?}");
        assert_eq!(ada.client.session_id(), Some(session));
    }
}

#[test]
fn n6_after_an_outage_a_client_resumes_within_the_last_second_of_a_window_of_10_s() {
    let mut server = Server::new();
    let relays = Relays::start(&server, open());
    let mut clients = ["", "#udp", "#quic", "#wt", "#ws"].map(|only| Ada::new(relays.dial(&server, [only])));
    together(&mut server, &mut clients, "all clients have a session", |ada| {
        ada.client.session_id().is_some()
    });
    together(&mut server, &mut clients, "all clients have measured their latency", |ada| {
        ada.client.latency().is_some()
    });
    let sessions = clients.each_ref().map(|ada| ada.client.session_id());

    for relay in [&relays.datagrams, &relays.http] {
        relay.change(blocked()).expect("in range");
    }
    let begun = clients[0].time;
    together(&mut server, &mut clients, "the outage is over", |ada| {
        ada.time - begun >= Duration::from_millis(8_800)
    });
    for relay in [&relays.datagrams, &relays.http] {
        relay.change(open()).expect("in range");
    }
    let healed = clients[0].time;
    together(&mut server, &mut clients, "all clients have resumed", |ada| ada.over.len() == 2);

    let back = clients[0].time - healed;
    assert!(back < Duration::from_millis(1_200), "the last client resumed {back:?} after the outage");
    assert_eq!(clients.each_ref().map(|ada| ada.client.session_id()), sessions);
}
