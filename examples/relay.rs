//! A bad network between a server and its clients, on this machine.
//!
//! Run `cargo run --release` in one terminal, `cargo run --release --example relay -- --loss 20 --delay 180`
//! in a second, and in a third the bots, with the line that the relay prints:
//! `cargo run --release -- bot --through udp=127.0.0.1:17777,quic=127.0.0.1:17778,http=127.0.0.1:17780`.

#![allow(clippy::print_stdout, reason = "an example prints for the person who runs it")]

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use clap::Parser;
use waystation::testing::{Network, Outages, Relay, RelayConfig, Route};

/// Relays UDP, QUIC and HTTP to a server, with the faults of a network.
#[derive(Debug, Parser)]
struct Args {
    /// The seed of all that happens by chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The server's addresses for UDP, QUIC and HTTP
    #[arg(
        long,
        value_delimiter = ',',
        num_args = 1,
        default_value = "127.0.0.1:7777,127.0.0.1:7778,127.0.0.1:7780"
    )]
    server: Vec<SocketAddr>,
    /// Where the relay listens for them
    #[arg(
        long,
        value_delimiter = ',',
        num_args = 1,
        default_value = "127.0.0.1:17777,127.0.0.1:17778,127.0.0.1:17780"
    )]
    listen: Vec<SocketAddr>,
    /// Packets lost, in percent
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Delay in each direction, in milliseconds
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Random delay besides, up to this, in milliseconds
    #[arg(long, default_value_t = 0)]
    jitter: u64,
    /// Datagrams that others overtake, in percent
    #[arg(long, default_value_t = 0.0)]
    reordered: f64,
    /// Datagrams that arrive twice, in percent
    #[arg(long, default_value_t = 0.0)]
    doubled: f64,
    /// Blackouts: the length of a period, of the shortest and of the longest, in milliseconds
    #[arg(long, value_name = "EVERY,SHORTEST,LONGEST", value_parser = outages)]
    blackouts: Option<Outages>,
    /// Outages of one direction, in the same way
    #[arg(long, value_name = "EVERY,SHORTEST,LONGEST", value_parser = outages)]
    one_way: Option<Outages>,
    /// How often a client gets another outer port, in seconds
    #[arg(long)]
    rebind_every: Option<u64>,
    /// How often a TCP connection is reset, in seconds
    #[arg(long)]
    reset_every: Option<u64>,
    /// Bytes a second and client, in each direction
    #[arg(long)]
    rate: Option<u32>,
    /// How long a packet may wait for the rate, in milliseconds
    #[arg(long, default_value_t = 500)]
    queue: u64,
    /// How long it relays, in seconds; until Ctrl-C without it
    #[arg(long)]
    seconds: Option<u64>,
}

fn main() -> anyhow::Result<()> {
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
        anyhow::bail!("--server and --listen take three addresses each: of UDP, QUIC and HTTP");
    };
    let routes = vec![Route::udp(udp).at(at_udp), Route::udp(quic).at(at_quic), Route::tcp(http).at(at_http)];
    let relay = Relay::start(RelayConfig { seed: args.seed, routes, network, heals_after: None })?;
    let [udp, quic, http] = [0, 1, 2].map(|route| relay.addresses()[route]);
    println!("through udp={udp},quic={quic},http={http}\n{network:?}");

    let (stop, stopped) = mpsc::channel();
    // After the end nobody waits for it.
    ctrlc::set_handler(move || stop.send(()).unwrap_or_default())?;
    match args.seconds {
        // The time is up when nobody has pressed Ctrl-C.
        Some(seconds) => drop(stopped.recv_timeout(Duration::from_secs(seconds))),
        None => stopped.recv()?,
    }
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
