//! A relay between a server and its clients that behaves like a bad network.
//!
//! Run `cargo run --release` in one terminal, `cargo run --release --example relay -- --loss 20 --delay 180`
//! in a second one, and bots in a third one, with the addresses that the relay prints:
//! `cargo run --release -- bot --through udp=127.0.0.1:17777,quic=127.0.0.1:17778,http=127.0.0.1:17780`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use waystation::testing::{Network, Outages, Relay, RelayConfig, Route};

/// Relays UDP, QUIC and HTTP to a server, with the faults of a network.
#[derive(Debug, Parser)]
struct Args {
    /// The seed of the random faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The addresses of the server for UDP, QUIC and HTTP
    #[arg(long, value_delimiter = ',', num_args = 1, default_value = SERVER)]
    server: Vec<SocketAddr>,
    /// The addresses of the relay for UDP, QUIC and HTTP
    #[arg(long, value_delimiter = ',', num_args = 1, default_value = LISTEN)]
    listen: Vec<SocketAddr>,
    /// Lost packets, in percent
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Delay in each direction, in milliseconds
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Highest additional random delay, in milliseconds
    #[arg(long, default_value_t = 0)]
    jitter: u64,
    /// Reordered datagrams, in percent
    #[arg(long, default_value_t = 0.0)]
    reordered: f64,
    /// Duplicated datagrams, in percent
    #[arg(long, default_value_t = 0.0)]
    doubled: f64,
    /// Outages of both directions: the period, and the shortest and longest outage, in milliseconds
    #[arg(long, value_name = "EVERY,SHORTEST,LONGEST", value_parser = outages)]
    blackouts: Option<Outages>,
    /// Outages of one direction, with the same three numbers
    #[arg(long, value_name = "EVERY,SHORTEST,LONGEST", value_parser = outages)]
    one_way: Option<Outages>,
    /// The mean interval at which a client's outer port changes, in seconds
    #[arg(long)]
    rebind_every: Option<u64>,
    /// The mean interval at which a TCP connection is reset, in seconds
    #[arg(long)]
    reset_every: Option<u64>,
    /// Bytes per second for each client and direction
    #[arg(long)]
    rate: Option<u32>,
    /// The longest time that a packet waits for the rate, in milliseconds
    #[arg(long, default_value_t = 500)]
    queue: u64,
    /// The duration in seconds; without it, the relay runs until Ctrl-C
    #[arg(long)]
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    waystation::exit(run())
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    let ms = Duration::from_millis;
    let network = Network {
        loss: args.loss / 100.0,
        delay: ms(args.delay),
        jitter: ms(args.jitter),
        reordered: args.reordered / 100.0,
        doubled: args.doubled / 100.0,
        blackouts: args.blackouts,
        one_way: args.one_way,
        rebind_every: args.rebind_every.map(Duration::from_secs),
        reset_every: args.reset_every.map(Duration::from_secs),
        rate: args.rate,
        queue: ms(args.queue),
    };
    let (&[udp, quic, http], &[at_udp, at_quic, at_http]) = (&args.server[..], &args.listen[..]) else {
        anyhow::bail!("--server and --listen need three addresses each: for UDP, QUIC and HTTP");
    };
    let routes = vec![Route::udp(udp).at(at_udp), Route::udp(quic).at(at_quic), Route::tcp(http).at(at_http)];
    let relay = Relay::start(RelayConfig { seed: args.seed, routes, network, heals_after: None })?;
    let [udp, quic, http] = [0, 1, 2].map(|route| relay.addresses()[route]);
    println!("through udp={udp},quic={quic},http={http}\n{network:?}");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stopped = tokio::signal::ctrl_c();
        match args.seconds {
            // A timeout is the regular end.
            Some(s) => tokio::time::timeout(Duration::from_secs(s), stopped).await.unwrap_or(Ok(())),
            None => stopped.await,
        }
    })?;
    println!("{}", relay.stop());
    Ok(())
}

fn outages(text: &str) -> Result<Outages, String> {
    let times: Result<Vec<u64>, _> = text.split(',').map(str::parse).collect();
    let times = times.map_err(|error| format!("{error}: write three numbers, like 12000,1000,3000"))?;
    let [every, shortest, longest] = times[..] else { return Err("write three numbers".to_owned()) };
    let [every, shortest, longest] = [every, shortest, longest].map(Duration::from_millis);
    Ok(Outages { every, shortest, longest })
}

const SERVER: &str = "127.0.0.1:7777,127.0.0.1:7778,127.0.0.1:7780";
const LISTEN: &str = "127.0.0.1:17777,127.0.0.1:17778,127.0.0.1:17780";
