//! The command line: the commands, and the exit status.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

use super::Launch;
use super::bots::{self, BotArgs};
use super::dev::{self, DevArgs};
use super::examine::{self, ConformanceCommand};
use super::key::{self, TokenArgs};
use super::new::{self, NewArgs};
use super::reload::{self, ReloadArgs};
use super::serve::{self, ServeArgs};
use super::show::{self, ConfigCommand};

#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server. This is the default command
    Serve(Box<ServeArgs>),
    /// Plays with many clients and checks that no message is lost. Exits with 1 if a check fails
    Bot(BotArgs),
    /// Checks or shows the configuration: waystation.toml, environment variables, and flags
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Asks a running server to reload its configuration, as SIGHUP does
    Reload(ReloadArgs),
    /// Prints a connect token, which opens one link over UDP within five minutes, or a ticket, which opens one
    /// new session
    Token(TokenArgs),
    /// Prints a script that completes the commands and options in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Writes a new game into a folder with its name
    New(NewArgs),
    /// Builds and runs the server of the game in the working directory, and does so again after each change of its
    /// files
    Dev(DevArgs),
    /// Examines a client, to help authors of clients in other languages
    #[command(subcommand)]
    Conformance(ConformanceCommand),
}

/// Runs the command of the arguments. Prints an error to standard error.
pub(super) fn run(game: Launch, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse(&game, arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // If the output is closed, the exit status still reports the error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE));
        }
    };
    let result = match cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))) {
        Command::Serve(args) => serve::serve(game, &args),
        Command::Bot(args) => bots::play(game, &args),
        Command::Config(command) => show::run(game, &command),
        Command::Reload(args) => reload::reload(&args),
        Command::Token(args) => key::print_token(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut command(&game), game.name, &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::New(args) => new::new(&args),
        Command::Dev(args) => dev::dev(&args),
        Command::Conformance(command) => examine::run(&command),
    };
    super::exit(result.map_err(|error| text_of(&error)))
}

fn parse(game: &Launch, arguments: impl IntoIterator<Item = OsString>) -> clap::error::Result<Cli> {
    let matches = command(game).try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

/// Returns the command line of a game. The options of `serve` are also accepted without a command, but `--help` does
/// not list them there.
fn command(game: &Launch) -> clap::Command {
    Cli::command()
        .mut_args(|arg| arg.hide(true))
        .name(game.name)
        .version(game.version)
        .about(game.about)
        .mut_subcommand("bot", |bot| bot.hide(game.bot.is_none()))
        // These commands are the same for all games, so only the binary of this crate lists them.
        .mut_subcommand("new", |new| new.hide(game.name != env!("CARGO_PKG_NAME")))
        .mut_subcommand("dev", |dev| dev.hide(game.name != env!("CARGO_PKG_NAME")))
}

/// Returns an error and its causes. A cause whose text is already part of the result is left out.
pub(super) fn text_of(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |mut text, cause| {
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
        text
    })
}

/// Prints a line to standard output. Errors are ignored.
pub(super) fn say(text: &impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// The exit status after a wrong command line.
const EXIT_USAGE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::super::launch;
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_serves_without_a_command() {
        let game = || launch("dice", "1.2.3");
        let parsed = |words: &[&str]| {
            let words = ["dice"].iter().chain(words).map(OsString::from);
            parse(&game(), words)
        };
        command(&game()).debug_assert();

        assert!(parsed(&[]).expect("no arguments are needed").command.is_none());
        assert!(parsed(&["--log", "transitions,peers"]).is_ok());
        for transport in ["udp", "quic", "wt", "ws", "mix"] {
            let bot = ["bot", "--clients", "200", "--cut-every", "5", "--transport", transport];
            assert!(matches!(parsed(&bot).expect("a bot").command, Some(Command::Bot(_))));
        }
        assert!(parsed(&["bot", "--clients", "0"]).is_err());
        assert!(parsed(&["bot", "--transport", "tcp"]).is_err());
    }

    #[test]
    fn help_lists_the_commands_and_the_help_of_a_command_lists_its_options() {
        let help = |words: &[&str]| {
            let words = ["dice"].iter().chain(words).map(OsString::from);
            parse(&launch("dice", "1.2.3"), words).expect_err("help is not a command").to_string()
        };

        let (bare, serve, version) = (help(&["--help"]), help(&["serve", "--help"]), help(&["--version"]));

        assert!(bare.contains("token") && !bare.contains("--listen") && !bare.contains("  bot "), "{bare}");
        assert!(!bare.contains("  new ") && !bare.contains("  dev "), "{bare}");
        assert!(serve.contains("--listen"), "{serve}");
        assert_eq!(version, "dice 1.2.3\n");
    }

    #[test]
    fn the_text_of_an_error_has_each_cause_once() {
        let error = anyhow::anyhow!("in use").context("cannot listen: in use").context("no server");

        assert_eq!(text_of(&error), "no server: cannot listen: in use");
    }
}
