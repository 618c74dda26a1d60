//! Plays the arena over bad networks, one run for each network and transport, and prints a table.
//!
//! `cargo build --bins --example networks`, then `target/debug/examples/networks`, with `--only n2`
//! for one network and `--transport quic` for one transport; `--short` is what the checks run. Each
//! run has a server of its own, the `waystation` binary beside this one, and a relay of its own.
//! The verdict does not depend on latency: every bot joins, every session is kept, no reliable
//! message is lost or doubled, and the server is left without links and sessions. Exits 1 otherwise.

#![allow(clippy::print_stdout, reason = "an example prints for the person who runs it")]

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
    /// How long the bots of a run play, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The seed of the networks and the bots
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The networks to play over, by name; all without it
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(NETWORKS.map(|(name, _)| name)))]
    only: Vec<String>,
    /// The transports to play over: udp, quic, wt, ws; all without it
    #[arg(long, value_delimiter = ',', value_parser = transport)]
    transport: Vec<Transport>,
    /// Bots of a run
    #[arg(long, default_value_t = 12)]
    clients: usize,
    /// Runs at the same time
    #[arg(long, default_value_t = 4)]
    at_once: usize,
    /// A short form: 12 s, 3 bots, 38 runs at the same time
    #[arg(long)]
    short: bool,
    /// The server; the one beside this program without it
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
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

/// All runs that the arguments ask for, in the order of the table.
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
    named.ok_or_else(|| "write udp, quic, wt or ws".to_owned())
}

/// Runs in which a bot may need longer to join than the short form lasts, on a loaded machine: the handshakes of
/// WebSocket and WebTransport have more round trips than others, each of which may wait for an outage to end. The long
/// form has them.
const LEFT_OUT_IN_SHORT: [(&str, Transport); 2] =
    [("n2", Transport::WebSocket), ("n2", Transport::WebTransport)];
