//! The command `bot`: runs bots and prints their report.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::bot::{self, BotOptions, Transports};
use crate::client::RelayAddresses;

use super::Launch;
use super::cli::say;
use super::descriptors;
use super::key::read_secret;

#[derive(Debug, Args)]
pub(super) struct BotArgs {
    /// The URL of the server's HTTP port, which answers discovery
    #[arg(long, value_name = "URL", default_value_t = BotOptions::default().server)]
    server: String,
    /// A file with one line: the bearer token for discovery, if the server requires one
    #[arg(long, value_name = "FILE")]
    bearer_file: Option<PathBuf>,
    /// The relays through which to connect, as in
    /// udp=127.0.0.1:17777,quic=127.0.0.1:17778,http=127.0.0.1:17780. Without a relay the bots connect directly
    #[arg(long, value_name = "RELAYS")]
    through: Option<RelayAddresses>,
    /// The transport: udp, quic, wt, ws, or mix. With mix, the bots use all transports that the server offers, and
    /// change the transport with each link
    #[arg(long, value_name = "TRANSPORT", default_value_t = BotOptions::default().transports)]
    transport: Transports,
    /// The number of clients, 1 to 1,000
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: u16,
    /// How long the bots play, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// The average time between two cuts of a bot's link, in seconds. Without it, no link is cut
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    cut_every: Option<u32>,
    /// The seed of the times of the cuts and of the bots' random numbers
    #[arg(long, default_value_t = BotOptions::default().seed)]
    seed: u64,
}

/// Runs bots and prints their report. Returns a failure if a check has failed.
pub(super) fn play(game: Launch, args: &BotArgs) -> anyhow::Result<ExitCode> {
    let make = game.bot.context("this game has no bot: give it one with Launch::bot")?;
    // Each client needs an open file for its socket.
    let _ = descriptors::raise();
    let options = BotOptions {
        server: args.server.clone(),
        bearer: args.bearer_file.as_deref().map(read_secret).transpose()?,
        through: args.through.unwrap_or_default(),
        transports: args.transport,
        clients: usize::from(args.clients),
        duration: Duration::from_secs(args.seconds.into()),
        cut_every: args.cut_every.map(|seconds| Duration::from_secs(seconds.into())),
        seed: args.seed,
    };
    let report = bot::run(&options, make)?;
    say(&report);
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
