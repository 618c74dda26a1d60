//! `waystation conformance`: examines a client.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::admin::Health;
use crate::conformance::{Exam, ROWS};
use crate::proxy::Offers;
use crate::tick::{Clock, StopHandle, TickRate};
use clap::{Args, Subcommand};

use super::bound::{Bound, Site};
use super::cli::say;
use super::config::ConfigArgs;
use super::log::Log;
use super::signals;

/// The subcommands of `waystation conformance`.
#[derive(Debug, Subcommand)]
pub(super) enum ConformanceCommand {
    /// Runs a scripted server, examines the first client that connects, and reports which rows of the protocol the
    /// client keeps. Exits with 1 unless the client keeps all rows
    Serve(Box<ExamArgs>),
    /// Prints the rows of the protocol that are examined
    List,
}

#[derive(Debug, Args)]
pub(super) struct ExamArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// How long to wait for the client's first link and for each later one, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(10..=3_600))]
    timeout: u32,
}

/// Runs the subcommand.
pub(super) fn run(command: &ConformanceCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConformanceCommand::Serve(args) => examine(args),
        ConformanceCommand::List => {
            ROWS.iter().for_each(|row| say(&format!("{:<16} {}", row.name, row.says)));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn examine(args: &ExamArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?.value;
    let clock = Clock::wall();
    Log::to_stderr(Vec::new(), &config.log, clock.clone())?;
    let bound = Bound::new(&config, Site { name: NAME, ..Site::default() })?;
    let stop = StopHandle::default();
    signals::handle(stop.clone(), || tracing::warn!("the examiner does not reload its configuration"))?;
    let mut exam = Exam::new(clock.clone(), Duration::from_secs(args.timeout.into()));
    let greeting = format!("{}\n{INSTRUCTION}", bound.listening());
    let health = Health::new(clock, TickRate::default());
    let listeners = bound.start_with(Offers::default(), health.clone(), |name| exam.attach(name))?;
    say(&greeting);

    let mut turn = 0;
    let report = exam.run(|| {
        thread::sleep(TURN);
        turn += 1;
        health.beat(turn, false);
        !stop.is_requested()
    });
    drop(listeners);
    say(&report);
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The name of the examiner in discovery.
const NAME: &str = "waystation";
/// A line for the user: what the client must do.
const INSTRUCTION: &str = "waiting for one client: it must connect, send Hello, join `arena` in each new \
                           session, and go on until it receives Closed(KICKED), which takes half a minute";
/// The time between two turns of the examiner. It is well below the times that the examiner measures.
const TURN: Duration = Duration::from_millis(2);
