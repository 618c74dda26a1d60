//! Tests bots that play on the binary through a relay, over each transport.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use waystation::bot::{self, ArenaBot, BotOptions, BotReport, Transports};
use waystation::client::{RelayAddresses, Transport};
use waystation::testing::{Network, Relay, RelayConfig, RelayCounts, Route};

/// A server process that is killed when the test ends, and its addresses for UDP, QUIC and HTTP.
struct Server {
    process: Child,
    addresses: [SocketAddr; 3],
}

impl Server {
    fn start() -> Self {
        let free = "127.0.0.1:0";
        let mut process = Command::new(env!("CARGO_BIN_EXE_waystation"))
            .args(["serve", "--listen", free, "--quic-listen", free, "--http-listen", free])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut out = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        // Keep reading the output: the server reports lines that it cannot write.
        thread::spawn(move || out.lines().map_while(Result::ok).for_each(drop));
        let addresses = ["udp ", "quic ", "http "].map(|name| {
            let at = line.find(name).unwrap_or_else(|| panic!("no {name}in {line}")) + name.len();
            let rest = line[at..].trim_end();
            rest.split(',').next().expect("a part").parse().expect("an address")
        });
        Self { process, addresses }
    }

    /// Plays bots over a network, and returns their report and the relay's counts.
    fn play(&self, transport: Transport, network: Network) -> (BotReport, RelayCounts) {
        let [udp, quic, http] = self.addresses;
        let relay = Relay::start(RelayConfig {
            seed: 1,
            routes: vec![Route::udp(udp), Route::udp(quic), Route::tcp(http)],
            network,
            heals_after: Some(PLAY_FOR),
        });
        let relay = relay.expect("free ports");
        let [udp, quic, http] = [0, 1, 2].map(|route| Some(relay.addresses()[route]));
        let options = BotOptions {
            // The bots reach the server only through the relays. No server listens on this port.
            server: "http://127.0.0.1:9".to_owned(),
            through: RelayAddresses { udp, quic, http },
            transports: Transports::One(transport),
            clients: CLIENTS,
            duration: PLAY_FOR,
            ..BotOptions::default()
        };
        let report = bot::run(&options, |_| ArenaBot::default());
        (report.expect("discovery answers through the relay"), relay.stop())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn bots_play_through_relays_over_every_transport_and_lose_nothing_on_a_bad_network() {
    let server = Server::start();
    let network = Network {
        loss: 0.05,
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(10),
        reordered: 0.3,
        doubled: 0.1,
        ..Network::default()
    };

    let played = thread::scope(|scope| {
        let server = &server;
        let play = |transport| scope.spawn(move || server.play(transport, network));
        Transport::ALL.map(play).map(|playing| playing.join().expect("no panic"))
    });

    for (transport, (report, relayed)) in Transport::ALL.into_iter().zip(played) {
        assert!(report.passed(), "{transport}: {report}\n{relayed}");
        let clients = CLIENTS as u64;
        // Each client fetches discovery, and the run fetched it once before.
        assert!(relayed.connection_count > clients, "{transport}: {relayed}");
        let (up, down) = (relayed.up, relayed.down);
        if transport == Transport::WebSocket {
            assert_eq!(relayed.flow_count, 0, "{relayed}");
            assert!(
                relayed.connection_count > 2 * clients,
                "each client opens one connection for discovery and one for its link: {relayed}"
            );
            assert!(up.retransmitted_count > 0 && down.retransmitted_count > 0, "{relayed}");
        } else {
            assert!(relayed.flow_count >= clients, "{transport}: {relayed}");
            assert!(up.delivered_count > 20 * clients && down.delivered_count > 20 * clients, "{relayed}");
            assert!(up.lost_count > 0 && down.reordered_count > 0 && down.doubled_count > 0, "{relayed}");
        }
    }
}

#[test]
fn a_session_outlives_a_client_whose_address_changes_over_every_transport() {
    let server = Server::start();
    let network = Network { rebind_every: Some(Duration::from_secs(1)), ..Network::default() };

    let played = thread::scope(|scope| {
        let server = &server;
        let play = |transport| scope.spawn(move || server.play(transport, network));
        Transport::ALL.map(play).map(|playing| playing.join().expect("no panic"))
    });

    for (transport, (report, relayed)) in Transport::ALL.into_iter().zip(played) {
        assert!(report.passed(), "{transport}: {report}\n{relayed}");
        assert!(relayed.rebind_count >= CLIENTS as u64, "{transport}: {relayed}");
        let migrates = matches!(transport, Transport::Quic | Transport::WebTransport);
        assert!(!migrates || report.unasked.cuts == 0, "a migration is no loss: {transport}: {report}");
    }
}

/// The number of bots per transport.
const CLIENTS: usize = 2;
/// The time of a run: long enough for each bot to be rebound.
const PLAY_FOR: Duration = Duration::from_secs(4);
