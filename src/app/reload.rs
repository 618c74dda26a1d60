//! Reloads the configuration of a running server: after SIGHUP, and with the command `reload`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::cli::say;
use super::config::{ConfigArgs, LaunchConfig};
use super::log::Log;
use crate::config::GameReload;
use crate::settings::Loaded;

/// Loads the configuration again, and applies what a running server can change: the topics of the log and the table
/// of the game.
#[derive(Debug)]
pub(super) struct Reloader {
    args: ConfigArgs,
    started: Loaded<LaunchConfig>,
    log: Log,
    game: GameReload,
}

impl Reloader {
    /// Returns a reloader for a server that was started with this configuration.
    pub(super) fn new(args: ConfigArgs, started: Loaded<LaunchConfig>, log: Log, game: GameReload) -> Self {
        Self { args, started, log, game }
    }

    /// Reloads. If the configuration has a mistake, nothing changes.
    pub(super) fn reload(&self) {
        let new = match self.args.load() {
            Ok(new) => new,
            Err(error) => {
                tracing::warn!(%error, "the configuration was not reloaded: mend it and reload again");
                return;
            }
        };
        self.log.set_topics(&new.value.log);
        self.game.send(new.value.game.clone());
        tracing::info!("the configuration was reloaded");
        let fixed: Vec<String> = self
            .started
            .changed_keys(&new)
            .into_iter()
            .filter(|key| !RELOADED.contains(&key.as_str()))
            .collect();
        if !fixed.is_empty() {
            tracing::warn!(
                keys = fixed.join(", "),
                "these keys have changed and cannot be reloaded: restart the server to apply them"
            );
        }
    }
}

/// The options of the command `reload`.
#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Asks a running server to reload its configuration.
pub(super) fn reload(args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    let loaded = args.config.load()?;
    let file = loaded.value.pid_file.context(
        "there is no pid_file that names the server: set pid_file (--pid-file) for the server and for this command, \
         or send SIGHUP to the server",
    )?;
    hang_up(&file)?;
    say(&"the server was asked to reload its configuration: see the result in its log");
    Ok(ExitCode::SUCCESS)
}

#[cfg(unix)]
fn hang_up(pid_file: &Path) -> anyhow::Result<()> {
    let id = super::pid::running(pid_file)?;
    rustix::process::kill_process(id, rustix::process::Signal::HUP)
        .with_context(|| format!("cannot send SIGHUP to the process {id} of {}", pid_file.display()))
}

#[cfg(not(unix))]
fn hang_up(_pid_file: &Path) -> anyhow::Result<()> {
    anyhow::bail!("this system has no SIGHUP: restart the server to apply the configuration")
}

/// The keys whose new values a running server applies.
const RELOADED: [&str; 2] = ["log", "game"];
