//! The server: what it is told, what it says at its start, and how it ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bevy_app::App;
use clap::Args;
use waystation::arena::ArenaPlugin;
use waystation::config::ServerConfig;
use waystation::proxy;
use waystation::proxy::renet::{RenetConfig, RenetProxy};
use waystation::server::ServerPlugins;
use waystation::telemetry::{Status, Summary, TelemetryPlugin};
use waystation::tick::{self, Clock, StopHandle, TickRate};

use super::key::key;
use super::log::{LogTopic, log_to_stderr};
use super::say;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
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

/// Runs the arena until it is told to stop.
pub(crate) fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
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

/// Prints lines on a thread of its own, so that a terminal that is stopped does not stop the tick.
fn print_lines() -> anyhow::Result<(SyncSender<String>, JoinHandle<()>)> {
    let (sender, lines) = mpsc::sync_channel::<String>(LINES_WAITING_MAX);
    let thread = thread::Builder::new()
        .name("print".to_owned())
        .spawn(move || lines.iter().for_each(|line| say(&line)))
        .context("cannot start a thread")?;
    Ok((sender, thread))
}

/// What a shell calls a process that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;
/// Status lines that wait for a slow terminal: ten seconds.
const LINES_WAITING_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Cli;

    #[test]
    fn the_dev_profile_does_not_leave_this_machine() {
        let cli = Cli::try_parse_from(["waystation", "--listen", "0.0.0.0:0"]).expect("arguments");

        let error = cli.serve.listener().expect_err("everybody knows the key").to_string();

        assert!(error.contains("0.0.0.0:0") && error.contains("--key-file"), "{error}");
    }

    #[test]
    fn the_default_port_is_the_one_that_clients_expect() {
        let cli = Cli::try_parse_from(["waystation"]).expect("arguments");

        assert_eq!(cli.serve.listen.port(), 7_777);
    }
}
