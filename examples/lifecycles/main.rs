//! Connections that open and end in many ways, on a server on which bots play.
//!
//! Run `cargo build --bins --example lifecycles`, then `target/debug/examples/lifecycles --seconds 60 --seed 1`. Peers
//! open, close, rebind, pause and resume links over all transports, in a random order from the seed. Half of the peers
//! connect through a bad network. The exit status is 1 if a bot has lost a message or a session, if the server has
//! logged an error, or if the server still holds a link, session or file descriptor when all peers are gone.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

mod player;
#[path = "../networks/server.rs"]
mod server;
#[path = "../networks/status.rs"]
mod status;
mod stranger;
mod way;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use rand::{SeedableRng as _, rngs::StdRng};
use waystation::bot::{self, ArenaBot, BotOptions, Transports};
use waystation::client::{RelayAddresses, Transport};
use waystation::testing::{Relay, RelayConfig, Route};

use player::Player;
use stranger::Stranger;
use way::Way;

/// Opens and ends connections in many ways, on a server on which bots play.
#[derive(Debug, Parser)]
struct Args {
    /// The duration in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The seed of the peers' random acts
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 48)]
    peers: u64,
    #[arg(long, default_value_t = 8)]
    bots: usize,
    /// The server's binary; by default the one in the folder above this program's
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

pub(crate) type Done = BTreeMap<&'static str, u64>;

fn main() -> ExitCode {
    waystation::exit(run())
}

fn run() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let server = server::Server::start(&args.binary.clone().map_or_else(server::beside_this_program, Ok)?)?;
    let [udp, quic, http] = [server.address("udp")?, server.address("quic")?, server.address("http")?];
    let (url, seed) = (format!("http://{http}"), args.seed);
    let routes = vec![Route::udp(udp), Route::udp(quic), Route::tcp(http)];
    let relay = Relay::start(RelayConfig { seed, routes, network: way::bad(), heals_after: None })?;
    let [udp, quic, http] = [0, 1, 2].map(|route| Some(relay.addresses()[route]));
    let relays = RelayAddresses { udp, quic, http };

    let honest = BotOptions {
        server: url.clone(),
        transports: Transports::Mix,
        clients: args.bots,
        duration: Duration::from_secs(args.seconds),
        cut_every: Some(Duration::from_secs(5)),
        seed: args.seed,
        ..BotOptions::default()
    };
    let bots = thread::spawn(move || bot::run(&honest, |_| ArenaBot::default()));
    let peers: Vec<_> = (0..args.peers)
        .map(|index| {
            let through = if index.is_multiple_of(2) { RelayAddresses::default() } else { relays };
            let transport = Transport::ALL[(index / 2) as usize % Transport::ALL.len()];
            let way = Way { url: format!("{url}#{transport}"), through };
            let rng = StdRng::seed_from_u64(args.seed.wrapping_mul(1 << 20) + index);
            thread::spawn(move || live(index, rng, way, args.seconds))
        })
        .collect();

    let panicked = |_| anyhow::anyhow!("a peer or a bot panicked: seed {}", args.seed);
    let mut done = Done::new();
    for peer in peers {
        let peer = peer.join().map_err(panicked)??;
        peer.into_iter().for_each(|(what, count)| *done.entry(what).or_default() += count);
    }
    let report = bots.join().map_err(panicked)??;
    println!("{}\n", relay.stop());
    let left = server.left_after(LEFT_FOR_MAX)?;
    let errors = server.stop();
    println!("{report}\n\nseed {}, {} peers: {done:?}", args.seed, args.peers);
    println!("left at the server: {}; errors logged: {errors:#?}", left.as_deref().unwrap_or("nothing"));
    let held = report.passed() && left.is_none() && errors.is_empty();
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one peer. Two of three peers use links without a client, and the third one uses the client library.
#[allow(clippy::disallowed_methods, reason = "a peer does not run in a tick")]
fn live(index: u64, mut rng: StdRng, way: Way, seconds: u64) -> anyhow::Result<Done> {
    let (mut stranger, mut player) = (Stranger::new(way.dial()?), Player::new(way, index)?);
    let (begun, mut last) = (Instant::now(), Instant::now());
    while begun.elapsed() < Duration::from_secs(seconds) {
        let dt = last.elapsed();
        last = Instant::now();
        let paused = if index % 3 == 2 { player.step(dt, &mut rng) } else { stranger.step(dt, &mut rng) };
        thread::sleep(paused.unwrap_or(Duration::from_millis(10)));
    }
    Ok(player.done.into_iter().chain(stranger.done).collect())
}

/// The time within which the server releases all links and sessions after the peers are gone.
const LEFT_FOR_MAX: Duration = Duration::from_secs(40);
