//! The command line: the options of each command, and the exit status.

mod bound;
mod descriptors;
mod examine;
mod key;
mod listen;
mod log;
mod play;
mod serve;

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use examine::ConformanceCommand;
use key::TokenArgs;
use play::BotArgs;
use serve::ServeArgs;

/// An authoritative game server whose sessions outlive their connections.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a server with the arena. This is the default command
    Serve(Box<ServeArgs>),
    /// Plays the arena with many clients and checks that no message is lost. Exits with 1 if a check fails
    Bot(BotArgs),
    /// Prints a connect token, which opens one link over UDP within five minutes, or a ticket, which opens one
    /// new session
    Token(TokenArgs),
    /// Examines a client, to help authors of clients in other languages
    #[command(subcommand)]
    Conformance(ConformanceCommand),
}

/// Runs the command of the arguments. Prints an error to standard error.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))) {
        Command::Serve(args) => serve::serve(&args),
        Command::Bot(args) => play::play(&args),
        Command::Token(args) => key::print_token(&args),
        Command::Conformance(command) => examine::run(&command),
    };
    result.unwrap_or_else(|error| {
        // If standard error is closed, the exit status still reports the error.
        let _ = writeln!(io::stderr(), "error: {}", text_of(&error));
        ExitCode::FAILURE
    })
}

/// Returns an error and its causes. A cause whose text is already part of the result is left out.
fn text_of(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |mut text, cause| {
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
        text
    })
}

/// Prints a line to standard output. Errors are ignored.
pub(crate) fn say(text: &impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_bare_it_serves() {
        Cli::command().debug_assert();

        let bare = Cli::try_parse_from(["waystation"]).expect("no arguments are needed");
        assert!(bare.command.is_none());
        assert!(Cli::try_parse_from(["waystation", "--log", "transitions,peers"]).is_ok());
        for transport in ["udp", "quic", "wt", "ws", "mix"] {
            let bot = ["waystation", "bot", "--clients", "200", "--cut-every", "5", "--transport", transport];
            assert!(matches!(Cli::try_parse_from(bot).expect("a bot").command, Some(Command::Bot(_))));
        }
        assert!(Cli::try_parse_from(["waystation", "bot", "--clients", "0"]).is_err());
        assert!(Cli::try_parse_from(["waystation", "bot", "--transport", "tcp"]).is_err());
        assert!(Cli::try_parse_from(["waystation", "serve", "--agents", "1043"]).is_ok());
        let crowded = Cli::try_parse_from(["waystation", "serve", "--agents", "2048"]);
        let error = crowded.expect_err("no place is left for players").to_string();
        assert!(error.contains("2048") && error.contains("1043"), "{error}");
    }

    #[test]
    fn an_error_says_each_cause_once() {
        let error = anyhow::anyhow!("in use").context("cannot listen: in use").context("no server");

        assert_eq!(text_of(&error), "no server: cannot listen: in use");
    }
}
