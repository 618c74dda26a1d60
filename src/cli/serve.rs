//! `waystation serve`: runs a server with the arena.

use std::process::ExitCode;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use bevy_app::App;
use clap::Args;
use waystation::arena::{AGENTS_MAX, ArenaPlugin};
use waystation::config::ServerConfig;
use waystation::server::ServerPlugins;
use waystation::telemetry::{Status, Summary, TelemetryPlugin};
use waystation::tick::{self, Clock, StopHandle, TickRate};

use super::bound::Bound;
use super::listen::ListenArgs;
use super::log::{LogTopic, log_to_stderr};
use super::say;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    listen: ListenArgs,
    /// Ticks per second, 4 to 240
    #[arg(long, value_name = "HZ", default_value_t = TickRate::default().hz())]
    tick_hz: u32,
    /// The number of agents in the arena, at most 1,043, so that places for players are left
    #[arg(long, value_name = "COUNT", default_value_t = ArenaPlugin::default().agents,
          value_parser = clap::value_parser!(u16).range(..=i64::from(AGENTS_MAX)))]
    agents: u16,
    /// How long sessions go on after the server is asked to stop, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    drain: u32,
    /// The most sessions of one network, which is an IPv4 address or an IPv6 prefix of 64 bits. Without it: 512, but
    /// at most a quarter of all sessions
    #[arg(long, value_name = "COUNT")]
    sessions_per_network: Option<usize>,
    /// Additional topics to log to standard error
    #[arg(long, value_name = "TOPIC", value_delimiter = ',')]
    log: Vec<LogTopic>,
}

/// Runs the server until it is asked to stop.
pub(crate) fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let clock = Clock::wall();
    log_to_stderr(&args.log, clock.clone())?;
    let rate = TickRate::new(args.tick_hz)?;
    let bound = Bound::new(&args.listen)?;
    if !args.listen.admits_anybody() {
        tracing::warn!(
            "discovery gives no client a ticket, because --bearer-file is missing: give it, or mint tickets \
             with `waystation token --ticket --key-file FILE`"
        );
    }
    let stop = stop_on_signals()?;

    let (status, printer) = print_lines()?;
    let mut app = App::new();
    let mut config = ServerConfig { rate, clock, ..ServerConfig::default() };
    config.gate.exempt_loopback = args.listen.is_dev();
    config.gate.policy = args.listen.policy();
    config.gate.tickets = Some(args.listen.tickets()?);
    config.gate.drain = Duration::from_secs(args.drain.into());
    config.gate.max_sessions_per_network = args.sessions_per_network;
    config.check()?;
    app.add_plugins(ServerPlugins::new(config))
        .add_plugins(ArenaPlugin { agents: args.agents, ..ArenaPlugin::default() })
        .add_plugins(TelemetryPlugin::new(move |line: &Status| {
            // If the terminal is too slow, lines are dropped. The tick does not wait.
            let _ = status.try_send(line.to_string());
        }));
    let greeting = format!("{}\n{}", bound.listening(), bound.advice());
    let listeners = bound.start(&mut app)?;
    say(&greeting);

    let exit = tick::run(&mut app, &stop);
    let summary = Summary::of(app.world());
    drop(app);
    drop(listeners);
    // The printer ends, because the app that held the sender was dropped.
    let _ = printer.join();
    say(&summary);
    Ok(if exit.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Installs a handler of Ctrl-C, SIGTERM and SIGHUP. The first signal asks the server to stop. The second one ends
/// the process at once.
pub(super) fn stop_on_signals() -> anyhow::Result<StopHandle> {
    let stop = StopHandle::default();
    let handle = stop.clone();
    ctrlc::set_handler(move || {
        if !handle.stop() {
            std::process::exit(EXIT_INTERRUPTED);
        }
    })
    .context("cannot install the signal handler")?;
    Ok(stop)
}

/// Starts a thread that prints lines, so that a stopped terminal does not stop the tick.
fn print_lines() -> anyhow::Result<(SyncSender<String>, JoinHandle<()>)> {
    let (sender, lines) = mpsc::sync_channel::<String>(LINES_WAITING_MAX);
    let thread = thread::Builder::new()
        .name("print".to_owned())
        .spawn(move || lines.iter().for_each(|line| say(&line)))
        .context("cannot start the thread that prints status lines")?;
    Ok((sender, thread))
}

/// The exit status of a process that was interrupted, as shells report it.
const EXIT_INTERRUPTED: i32 = 130;
/// The most status lines that wait for a slow terminal: those of ten seconds.
const LINES_WAITING_MAX: usize = 10;
