//! The command `serve`: runs a server with the game.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, bail};
use bevy_app::App;
use clap::Args;

use super::bound::{Bound, Site};
use super::cli::say;
use super::config::{ConfigArgs, LaunchConfig, told};
use super::log::Log;
use super::pid::PidFile;
use super::reload::Reloader;
use super::signals;
use super::{Launch, Setup};
use crate::config::{GameConfig, GameReload, ServerConfig};
use crate::server::ServerPlugins;
use crate::settings::{GameTable, Loaded, Source};
use crate::telemetry::{Status, Summary, TelemetryPlugin};
use crate::tick::{self, Clock, StopHandle, TickSummary};

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the server until it is asked to stop.
pub(super) fn serve(game: Launch, args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let loaded = args.config.load()?;
    let config = loaded.value.clone();
    let clock = Clock::wall();
    let log = Log::to_stderr(game.crates, &config.log, clock.clone())?;
    let site = Site {
        name: game.name,
        pages: game.pages.transpose()?,
        routes: game.routes,
        has_bot: game.bot.is_some(),
    };
    let bound = Bound::new(&config, site)?;
    if !config.admits_anybody() {
        tracing::warn!(
            "discovery gives no client a ticket, because there is no bearer_file: set it (--bearer-file), or mint \
             tickets with `{} token --ticket --key-file FILE`",
            game.name
        );
    }

    let (status, printer) = print_lines()?;
    let mut app = build(game.name, &loaded, clock, game.setups)?;
    app.add_plugins(TelemetryPlugin::new(move |line: &Status| {
        // If the terminal is too slow, lines are dropped. The tick does not wait.
        let _ = status.try_send(*line);
    }));
    let stop = StopHandle::default();
    let reloader = Reloader::new(args.config.clone(), loaded, log, GameReload::install(&mut app));
    signals::handle(stop.clone(), move || reloader.reload())?;
    let _pid_file = config.pid_file.as_deref().map(PidFile::write).transpose()?;
    let greeting = format!("{}\n{}", bound.listening(), bound.advice());
    bound.start(&mut app)?;
    say(&greeting);

    let exit = tick::run(&mut app, &stop);
    let summary = Summary::of(app.world());
    drop(app);
    // The printer ends because the app, which held the sender, was dropped.
    let _ = printer.join();
    say(&summary);
    Ok(if exit.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns an app with the plugins of the server and of the game, without listeners.
///
/// # Errors
///
/// Returns an error if the table `[game]` has a mistake.
pub(super) fn build(
    name: &str,
    loaded: &Loaded<LaunchConfig>,
    clock: Clock,
    setups: Vec<Setup>,
) -> anyhow::Result<App> {
    let config = &loaded.value;
    let mut server = ServerConfig { clock, ..config.server.clone() };
    server.gate.exempt_loopback |= config.is_dev();
    if *loaded.source("gate.policy") == Source::Default {
        server.gate.policy = config.policy();
    }
    if *loaded.source("gate.name") == Source::Default {
        server.gate.name = name.to_owned();
    }
    server.gate.tickets = Some(config.tickets()?);
    let mut app = App::new();
    app.insert_resource(GameConfig { table: config.game.clone(), ..GameConfig::default() });
    app.add_plugins(ServerPlugins::new(server));
    setups.into_iter().for_each(|setup| setup(&mut app));
    let game = app.world().resource::<GameConfig>();
    let mistakes: Vec<String> = game.mistakes.iter().map(ToString::to_string).collect();
    if !mistakes.is_empty() {
        bail!("{}", told(&mistakes.join("\n")));
    }
    if !game.is_read && game.table != GameTable::default() {
        bail!("{}", told(&"there is a table [game], and this game does not read it: remove the table"));
    }
    Ok(app)
}

/// The status line that was printed last. A program that reads the output gets each line. A person at a terminal gets a
/// line when something has changed apart from the ticks and the traffic, and each minute.
#[derive(Debug)]
struct Shown {
    is_terminal: bool,
    last: Option<Status>,
    /// Number of lines that were left out since the last one.
    left_out: u32,
}

impl Shown {
    fn new(is_terminal: bool) -> Self {
        Self { is_terminal, last: None, left_out: 0 }
    }

    /// Returns true if a line is to be printed.
    fn is_due(&mut self, line: &Status) -> bool {
        let steady = Status { ticks: TickSummary::default(), in_count: 0, out_count: 0, ..*line };
        if self.is_terminal && self.last == Some(steady) && self.left_out < LEFT_OUT_MAX {
            self.left_out += 1;
            return false;
        }
        (self.last, self.left_out) = (Some(steady), 0);
        true
    }
}

/// Starts a thread that prints lines, so that a stopped terminal does not stop the tick.
fn print_lines() -> anyhow::Result<(SyncSender<Status>, JoinHandle<()>)> {
    let (sender, lines) = mpsc::sync_channel::<Status>(LINES_WAITING_MAX);
    let mut shown = Shown::new(io::stdout().is_terminal());
    let thread = thread::Builder::new()
        .name("print".to_owned())
        .spawn(move || lines.iter().filter(|line| shown.is_due(line)).for_each(|line| say(&line)))
        .context("cannot start the thread that prints status lines")?;
    Ok((sender, thread))
}

/// Maximum number of status lines in a row that a terminal does not get: those of a minute.
const LEFT_OUT_MAX: u32 = 59;
/// Maximum number of status lines that wait for a slow terminal: the lines of ten seconds.
const LINES_WAITING_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_a_line_when_something_has_changed_and_each_minute() {
        let status = |active_count, in_count| Status { active_count, in_count, ..Status::default() };
        let mut terminal = Shown::new(true);
        let mut pipe = Shown::new(false);

        let printed: Vec<u64> =
            (0..70).filter(|second| terminal.is_due(&status(usize::from(*second >= 5), *second))).collect();

        assert_eq!(printed, [0, 5, 65]);
        assert!((0..70).all(|second| pipe.is_due(&status(0, second))));
    }
}
