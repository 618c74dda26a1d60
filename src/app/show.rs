//! The command `config`: checks and shows the configuration.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Launch;
use super::cli::say;
use super::config::ConfigArgs;
use super::serve::build;
use crate::tick::Clock;

/// The subcommands of `config`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Checks the configuration, including the table of the game, and lists all mistakes
    Check(ShowArgs),
    /// Prints the configuration as a file with a comment for each key. Keys that are not set are commented out
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the subcommand.
pub(super) fn run(game: Launch, command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check(args) => {
            let loaded = args.config.load()?;
            drop(build(game.name, &loaded, Clock::manual(), game.setups)?);
            say(&"the configuration has no mistakes");
        }
        ConfigCommand::Show(args) => say(&args.config.load()?.show().trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}
