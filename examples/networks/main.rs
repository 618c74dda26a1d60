//! Plays the arena over bad networks, and prints a table.
//!
//! Run `cargo build --bins --example networks`, then `target/debug/examples/networks`. There is one run for each
//! network and transport. `--only n2` selects a network, `--transport quic` a transport, and `--short` the short runs
//! of `.ci/run`. Each run starts a `waystation` server and a relay. A run passes if every bot joins, every session is
//! kept, no reliable message is lost or doubled, and the server releases all links and sessions. Latency does not
//! count. The exit status is 1 if a run fails.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

mod networks;
mod play;
mod server;
mod status;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use clap::Parser;
use waystation::client::Transport;

use networks::NETWORKS;
use play::{Plan, Played};

/// Plays the arena over bad networks and prints a table.
#[derive(Debug, Parser)]
struct Args {
    /// For how long bots play in each run, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The seed of the networks and the bots
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The networks to play over, by name; by default all
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(NETWORKS.map(|(name, _)| name)))]
    only: Vec<String>,
    /// The transports to play over: udp, quic, wt, ws; by default all
    #[arg(long, value_delimiter = ',', value_parser = transport)]
    transport: Vec<Transport>,
    /// Bots in each run
    #[arg(long, default_value_t = 12)]
    clients: usize,
    /// Runs at the same time
    #[arg(long, default_value_t = 4)]
    at_once: usize,
    /// The short form: 12 s, 3 bots, 38 runs at the same time
    #[arg(long)]
    short: bool,
    /// The server's binary; by default the one in the folder above this program's
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

fn main() -> ExitCode {
    waystation::exit(run())
}

fn run() -> anyhow::Result<ExitCode> {
    let mut args = Args::parse();
    if args.short {
        (args.seconds, args.clients, args.at_once) = (12, 3, 38);
    }
    let binary = args.binary.clone().map_or_else(server::beside_this_program, Ok)?;
    let plans = plans(&args);
    let (next, played) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..args.at_once.clamp(1, plans.len().max(1)) {
            scope.spawn(|| {
                while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = plan.play(&binary);
                    println!("{}", table::row(plan, &outcome));
                    played.lock().unwrap_or_else(PoisonError::into_inner).push((plan, outcome));
                }
            });
        }
    });
    let mut played: Vec<(&Plan, Played)> = played.into_inner().unwrap_or_else(PoisonError::into_inner);
    played.sort_by_key(|(plan, _)| plan.index);
    println!("\n{}", table::table(&played));
    let held = played.len() == plans.len() && played.iter().all(|(_, outcome)| outcome.failures().is_empty());
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the runs that the arguments select, in the order of the table.
fn plans(args: &Args) -> Vec<Plan> {
    let transports = if args.transport.is_empty() { &Transport::ALL[..] } else { &args.transport[..] };
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let runs = NETWORKS.into_iter().filter(|(name, _)| wanted(name));
    let runs = runs.flat_map(|network| transports.iter().map(move |transport| (network, *transport)));
    let holds = |name: &str, transport| !args.short || !LEFT_OUT_IN_SHORT.contains(&(name, transport));
    runs.filter(|((name, _), transport)| holds(name, *transport))
        .enumerate()
        .map(|(index, ((name, network), transport))| Plan {
            index,
            name,
            network: network(),
            transport,
            seed: args.seed,
            clients: args.clients,
            duration: Duration::from_secs(args.seconds),
        })
        .collect()
}

fn transport(name: &str) -> Result<Transport, String> {
    let named = Transport::ALL.into_iter().find(|transport| transport.name() == name);
    named.ok_or_else(|| "use udp, quic, wt or ws".to_owned())
}

/// Runs in which a bot may need longer to join than the short form lasts, on a loaded machine: the handshakes of
/// WebSocket and WebTransport have more round trips than others, each of which may wait for an outage to end. The long
/// form has them.
const LEFT_OUT_IN_SHORT: [(&str, Transport); 2] =
    [("n2", Transport::WebSocket), ("n2", Transport::WebTransport)];
