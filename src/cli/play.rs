//! The bots.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use waystation::bot::{self, BotOptions};

use super::key::{ServerArgs, token};
use super::say;

#[derive(Debug, Args)]
pub(crate) struct BotArgs {
    #[command(flatten)]
    server: ServerArgs,
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
    let options = BotOptions {
        clients: usize::from(args.clients),
        duration: Duration::from_secs(args.seconds.into()),
        cut_every: args.cut_every.map(|seconds| Duration::from_secs(seconds.into())),
        seed: args.seed,
    };
    let mint = args.server.mint()?;
    let report = bot::run(&options, || {
        let mint = mint.clone();
        move || token(&mint)
    });
    say(&report);
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
