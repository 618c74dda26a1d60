//! The bots.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use waystation::bot::{self, BotOptions, Transports};
use waystation::client::Detour;

use super::descriptors;
use super::key::read_secret;
use super::say;

#[derive(Debug, Args)]
pub(crate) struct BotArgs {
    /// The server's HTTP port, whose discovery says what there is
    #[arg(long, value_name = "URL", default_value_t = BotOptions::default().server)]
    server: String,
    /// What discovery is shown, where it wants to know who asks: a file with one line
    #[arg(long, value_name = "FILE")]
    bearer_file: Option<PathBuf>,
    /// The relays through which to connect, like udp=127.0.0.1:17777,quic=127.0.0.1:17778,http=127.0.0.1:17780;
    /// what is left out is reached directly
    #[arg(long, value_name = "RELAYS")]
    through: Option<Detour>,
    /// What to connect over: udp, quic, wt, ws, or mix: all that there are, and each time another
    /// than the last
    #[arg(long, value_name = "TRANSPORT", default_value_t = BotOptions::default().transports)]
    transport: Transports,
    /// How many clients, 1 to 1,000
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: u16,
    /// How long they play, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How often each of them is cut off on average, in seconds; without it: never
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    cut_every: Option<u32>,
    /// Where the jitter of the cuts comes from
    #[arg(long, default_value_t = BotOptions::default().seed)]
    seed: u64,
}

/// Runs bots and prints what they saw; fails if anything went amiss.
pub(crate) fn play(args: &BotArgs) -> anyhow::Result<ExitCode> {
    // Each client has a socket of its own.
    let _ = descriptors::raise();
    let report = bot::run(&BotOptions {
        server: args.server.clone(),
        bearer: args.bearer_file.as_deref().map(read_secret).transpose()?,
        through: args.through.unwrap_or_default(),
        transports: args.transport,
        clients: usize::from(args.clients),
        duration: Duration::from_secs(args.seconds.into()),
        cut_every: args.cut_every.map(|seconds| Duration::from_secs(seconds.into())),
        seed: args.seed,
    })?;
    say(&report);
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
