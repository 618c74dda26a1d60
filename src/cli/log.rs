//! Sets up logging to standard error.

use std::fmt;
use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::prelude::*;
use waystation::tick::Clock;

/// A topic that is logged on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogTopic {
    /// A line for each change of a session's state
    Transitions,
    /// The errors of peers
    Peers,
}

/// Writes the log of this crate to standard error. The logs of other crates are discarded: netcode logs an error
/// for each bad datagram.
pub(crate) fn log_to_stderr(topics: &[LogTopic], clock: Clock) -> anyhow::Result<()> {
    let chosen = |topic, yes, no| if topics.contains(&topic) { yes } else { no };
    let filter = Targets::new()
        .with_target("waystation", chosen(LogTopic::Peers, LevelFilter::DEBUG, LevelFilter::INFO))
        .with_target(
            "waystation::transitions",
            chosen(LogTopic::Transitions, LevelFilter::INFO, LevelFilter::OFF),
        );
    let lines = tracing_subscriber::fmt::layer()
        .with_timer(SinceStart(clock))
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .log_internal_errors(false);
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    tracing::subscriber::set_global_default(subscriber).context("cannot set up the log")
}

/// A timer that writes the seconds since the start with three decimals.
struct SinceStart(Clock);

impl FormatTime for SinceStart {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = self.0.now();
        write!(writer, "{:>8}.{:03}", now.as_secs(), now.subsec_millis())
    }
}
