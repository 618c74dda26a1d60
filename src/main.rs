//! The headless server, its bots, and its connect tokens.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};
use std::{fmt, fs};

use anyhow::{Context as _, bail, ensure};
use bevy_app::App;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::prelude::*;

use waystation::arena::ArenaPlugin;
use waystation::bot::{self, BotOptions};
use waystation::client::ConnectToken;
use waystation::config::ServerConfig;
use waystation::proxy;
use waystation::proxy::renet::{RenetConfig, RenetProxy};
use waystation::server::ServerPlugins;
use waystation::telemetry::{Status, Summary, TelemetryPlugin};
use waystation::tick::{self, Clock, Entropy, StopHandle, TickRate};
use waystation::wire::udp::{self, DEV_KEY, TokenError, TokenMint};

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
    /// Runs the arena; also what happens without a command
    Serve(ServeArgs),
    /// Plays the arena with real clients, and checks that nothing is lost; exits 1 if it is
    Bot(BotArgs),
    /// Prints a connect token, good for one link within five minutes
    Token(ServerArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// The server's secret: a file with 32 bytes in hex. Without it: the dev profile, on loopback
    /// only, with a key that everybody knows
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Where to listen for UDP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7777")]
    listen: SocketAddr,
    /// Where clients reach the server, if not there; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    public_addr: Vec<SocketAddr>,
    /// Ticks a second, 4 to 240
    #[arg(long, value_name = "HZ", default_value_t = TickRate::default().hz())]
    tick_hz: u32,
    /// Agents in the arena
    #[arg(long, value_name = "COUNT", default_value_t = ArenaPlugin::default().agents)]
    agents: u16,
    /// How long players may go on when the server is asked to stop, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    drain: u32,
    /// What to log besides warnings and the like, on standard error
    #[arg(long, value_name = "TOPIC", value_delimiter = ',')]
    log: Vec<LogTopic>,
}

/// What can be logged on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogTopic {
    /// A line whenever a session changes its state
    Transitions,
    /// What peers did wrong
    Peers,
}

/// Which server, for those who connect to it.
#[derive(Debug, Args)]
struct ServerArgs {
    /// The server's secret, as for `serve`; without it: the dev profile's
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Where the server is reached; may be given more than once
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7777")]
    public_addr: Vec<SocketAddr>,
}

#[derive(Debug, Args)]
struct BotArgs {
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve(&args),
        Command::Bot(args) => play(&args),
        Command::Token(args) => print_token(&args),
    };
    result.unwrap_or_else(|error| {
        // If standard error is gone as well, the status still says it.
        let _ = writeln!(io::stderr(), "error: {}", text_of(&error));
        ExitCode::FAILURE
    })
}

/// An error and its causes, each said once.
fn text_of(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |mut text, cause| {
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
        text
    })
}

fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let clock = Clock::wall();
    log_to_stderr(&args.log, clock.clone())?;
    let rate = TickRate::new(args.tick_hz)?;
    let udp = RenetProxy::bind(args.listener()?)?;
    let stop = stop_on_signals()?;

    let (status, printer) = print_lines()?;
    let mut app = App::new();
    let mut config = ServerConfig { rate, clock, ..ServerConfig::default() };
    config.gate.exempt_loopback = args.key_file.is_none();
    config.gate.drain = Duration::from_secs(args.drain.into());
    app.add_plugins(ServerPlugins::new(config))
        .add_plugins(ArenaPlugin { agents: args.agents, ..ArenaPlugin::default() })
        .add_plugins(TelemetryPlugin::new(move |line: &Status| {
            // A terminal that does not keep up misses lines; the tick does not wait for it.
            let _ = status.try_send(line.to_string());
        }));
    let udp = udp.start(proxy::attach(&mut app, "udp"))?;
    say(&listening(udp.local_addr(), args.key_file.is_none()));

    let exit = tick::run(&mut app, &stop);
    let summary = Summary::of(app.world());
    drop(app);
    udp.join();
    // It ends by itself: the sender of its lines went with the app.
    let _ = printer.join();
    say(&summary);
    Ok(if exit.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl ServeArgs {
    fn listener(&self) -> anyhow::Result<RenetConfig> {
        ensure!(
            self.key_file.is_some() || self.listen.ip().is_loopback(),
            "the dev profile's key is known to everybody, so it listens on loopback only, not on {}: give --key-file",
            self.listen
        );
        Ok(RenetConfig {
            listen: self.listen,
            public_addresses: self.public_addr.clone(),
            ..RenetConfig::new(key(self.key_file.as_deref())?)
        })
    }
}

/// What is said at the start; the first line is there for programs that wait for it.
fn listening(address: SocketAddr, is_dev: bool) -> String {
    if is_dev {
        let target =
            if address.port() == 7_777 { String::new() } else { format!(" --public-addr {address}") };
        format!(
            "listening udp {address}, profile dev: this machine only, and its key is no secret\n\
             connect with: waystation bot{target}, or a token of: waystation token{target}"
        )
    } else {
        format!(
            "listening udp {address}\n\
             connect with: waystation bot, or a token of: waystation token, both with this server's --key-file \
             and --public-addr"
        )
    }
}

fn play(args: &BotArgs) -> anyhow::Result<ExitCode> {
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

fn print_token(args: &ServerArgs) -> anyhow::Result<ExitCode> {
    let token = token(&args.mint()?)?;
    say(&udp::token_to_text(&token));
    Ok(ExitCode::SUCCESS)
}

impl ServerArgs {
    fn mint(&self) -> anyhow::Result<TokenMint> {
        let key = key(self.key_file.as_deref())?;
        Ok(TokenMint::new(key, self.public_addr.clone()))
    }
}

#[allow(clippy::disallowed_methods, reason = "connect tokens expire by Unix time")]
fn token(mint: &TokenMint) -> Result<ConnectToken, TokenError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    mint.mint(now, Entropy::system().id(), None)
}

/// The key in a file, or the dev profile's.
fn key(file: Option<&Path>) -> anyhow::Result<[u8; 32]> {
    let Some(file) = file else { return Ok(DEV_KEY) };
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read the key file {}", file.display()))?;
    parse_key(text.trim()).with_context(|| format!("in the key file {}", file.display()))
}

fn parse_key(hex: &str) -> anyhow::Result<[u8; 32]> {
    let mut key = [0; 32];
    ensure!(
        hex.len() == 2 * key.len() && hex.bytes().all(|digit| digit.is_ascii_hexdigit()),
        "a key is 64 hex digits: make one with `od -An -tx1 -N32 /dev/urandom | tr -d ' \\n'`"
    );
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16)?;
    }
    if key == [0; 32] || key == DEV_KEY {
        bail!("this key is no secret: make one with `od -An -tx1 -N32 /dev/urandom | tr -d ' \\n'`");
    }
    Ok(key)
}

/// The first Ctrl-C, SIGTERM or SIGHUP closes all sessions, the second ends the process at once.
fn stop_on_signals() -> anyhow::Result<StopHandle> {
    let stop = StopHandle::default();
    let handle = stop.clone();
    ctrlc::set_handler(move || {
        if !handle.stop() {
            std::process::exit(EXIT_INTERRUPTED);
        }
    })
    .context("cannot catch signals")?;
    Ok(stop)
}

/// Logs of this crate go to standard error. Other crates' are not collected: netcode's writes an
/// error for every bad datagram that anybody sends.
fn log_to_stderr(topics: &[LogTopic], clock: Clock) -> anyhow::Result<()> {
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
    tracing::subscriber::set_global_default(subscriber).context("cannot log")
}

/// Stamps log lines with the seconds since the start, to the millisecond.
struct SinceStart(Clock);

impl FormatTime for SinceStart {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = self.0.now();
        write!(writer, "{:>8}.{:03}", now.as_secs(), now.subsec_millis())
    }
}

/// Prints lines on a thread of its own, so that a terminal that is stopped does not stop the tick.
fn print_lines() -> anyhow::Result<(SyncSender<String>, JoinHandle<()>)> {
    let (sender, lines) = mpsc::sync_channel::<String>(LINES_WAITING_MAX);
    let thread = thread::Builder::new()
        .name("print".to_owned())
        .spawn(move || lines.iter().for_each(|line| say(&line)))
        .context("cannot start a thread")?;
    Ok((sender, thread))
}

/// Prints to standard output; whether anybody reads it is not our business.
fn say(text: &impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// What a shell calls a process that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;
/// Status lines that wait for a slow terminal: ten seconds.
const LINES_WAITING_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_bare_it_serves() {
        Cli::command().debug_assert();

        let bare = Cli::try_parse_from(["waystation"]).expect("no arguments are needed");
        assert!(bare.command.is_none() && bare.serve.listen.port() == 7_777);
        let bot = Cli::try_parse_from(["waystation", "bot", "--clients", "200", "--cut-every", "5"]);
        assert!(matches!(bot.expect("a bot").command, Some(Command::Bot(args)) if args.clients == 200));
        assert!(Cli::try_parse_from(["waystation", "--log", "transitions,peers"]).is_ok());
        assert!(Cli::try_parse_from(["waystation", "bot", "--clients", "0"]).is_err());
    }

    #[test]
    fn a_key_is_64_hex_digits_and_a_secret() {
        assert_eq!(parse_key(&"Ab".repeat(32)).expect("a key"), [0xAB; 32]);
        for bad in ["", "ab", &"+b".repeat(32), &"00".repeat(32), &"é".repeat(32), &"ab".repeat(33)] {
            let error = parse_key(bad).expect_err(bad).to_string();
            assert!(error.contains("/dev/urandom"), "{error}");
        }
        let dev: String = DEV_KEY.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(parse_key(&dev).is_err());
    }

    #[test]
    fn an_error_says_each_cause_once() {
        let error = anyhow::anyhow!("in use").context("cannot listen: in use").context("no server");

        assert_eq!(text_of(&error), "no server: cannot listen: in use");
    }

    #[test]
    fn the_dev_profile_does_not_leave_this_machine() {
        let cli = Cli::try_parse_from(["waystation", "--listen", "0.0.0.0:0"]).expect("arguments");

        let error = cli.serve.listener().expect_err("everybody knows the key").to_string();

        assert!(error.contains("0.0.0.0:0") && error.contains("--key-file"), "{error}");
    }
}
