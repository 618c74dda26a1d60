//! The command `dev`: builds and runs the server of the game in the working directory, and does so again after each
//! change of its files.
//!
//! If a build fails, the running server continues. When the server is replaced, its sessions end, and clients open new
//! sessions by themselves. Debug builds read the pages at each request, so a change of a page needs no build.
//!
//! Data flow: the times of the files → a change → `cargo build` → the path of the binary → the end of the running
//! server → a new server.

mod files;
mod server;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;

use super::cli::say;
use super::signals;
use files::Files;
use server::Server;

#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// The binary of the server, if the package has several binaries
    #[arg(long, value_name = "NAME")]
    bin: Option<String>,
    /// The options of the game's command `serve`
    #[arg(value_name = "OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    serve: Vec<String>,
}

/// Builds and runs the server until it is asked to stop.
pub(super) fn dev(args: &DevArgs) -> anyhow::Result<ExitCode> {
    let folder = Path::new(".");
    ensure!(folder.join("Cargo.toml").is_file(), "there is no Cargo.toml: run this in the folder of a game");
    let signals = Signals::install()?;
    let mut built = None;
    let mut server: Option<Server> = None;
    while !signals.is_stopping() {
        let files = Files::find(folder)?;
        match &built {
            None => rebuild(args, &signals, &mut server)?,
            Some(old) => match files.changed_since(old) {
                Some(changed) => {
                    say(&format!("dev: {} has changed", changed.display()));
                    rebuild(args, &signals, &mut server)?;
                }
                None => thread::sleep(POLL),
            },
        }
        built = Some(files);
        if let Some(status) = server.as_mut().and_then(Server::ended) {
            say(&format!("dev: the server has ended ({status}); the next change starts it again"));
            server = None;
        }
    }
    stop(server, &signals)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds the game. If that succeeds, replaces the server.
fn rebuild(args: &DevArgs, signals: &Signals, server: &mut Option<Server>) -> anyhow::Result<()> {
    say(&"dev: building");
    let Some(binary) = build(args, signals)? else {
        let state = if server.is_some() { "the running server goes on" } else { "no server is running" };
        if !signals.is_stopping() {
            say(&format!("dev: the build has failed; {state}, and the next change starts another build"));
        }
        return Ok(());
    };
    stop(server.take(), signals)?;
    if !signals.is_stopping() {
        *server = Some(Server::start(&binary, &args.serve)?);
        say(&"dev: the server is running");
    }
    Ok(())
}

fn stop(server: Option<Server>, signals: &Signals) -> anyhow::Result<()> {
    let Some(server) = server else { return Ok(()) };
    say(&"dev: stopping the server");
    server.stop(|| signals.is_urgent())
}

/// Runs `cargo build`. Returns the path of the binary, or `None` if the build has failed or was interrupted.
fn build(args: &DevArgs, signals: &Signals) -> anyhow::Result<Option<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--message-format=json-render-diagnostics"]);
    if let Some(bin) = &args.bin {
        command.args(["--bin", bin]);
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_cargo(name)) {
        command.env_remove(name);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo: install Rust, or set CARGO to the path of cargo")?;
    let out = child.stdout.take().context("cargo has no output")?;
    let reader = thread::spawn(move || std::io::read_to_string(out));
    let is_built = wait(&mut child, signals)?;
    let messages =
        reader.join().map_err(|_| anyhow::anyhow!("the thread that reads cargo's output has panicked"))??;
    if !is_built {
        return Ok(None);
    }
    let mut binaries: Vec<String> = messages.lines().filter_map(binary_of).collect();
    let binary = binaries.pop().context("the package has no binary: add src/main.rs")?;
    ensure!(binaries.is_empty(), "the package has several binaries: choose one with --bin NAME");
    Ok(Some(binary))
}

/// Returns true for the variables about a package, which cargo sets for the programs that it runs. Cargo runs build
/// scripts of dependencies again when these variables change.
fn is_of_cargo(variable: &OsStr) -> bool {
    let name = variable.to_string_lossy();
    name == "OUT_DIR" || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// Waits for the end of a build. Returns true if it has succeeded.
fn wait(build: &mut Child, signals: &Signals) -> anyhow::Result<bool> {
    loop {
        if let Some(status) = build.try_wait().context("cannot wait for cargo")? {
            return Ok(status.success());
        }
        if signals.is_stopping() {
            // This fails if cargo has ended in the meantime.
            let _ = build.kill();
        }
        thread::sleep(WAIT);
    }
}

/// Returns the path of the binary that a line of cargo's messages reports.
fn binary_of(line: &str) -> Option<String> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_binary = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "bin");
    message["executable"].as_str().filter(|_| is_binary).map(str::to_owned)
}

/// The number of signals so far. Ctrl-C, SIGTERM and SIGHUP count.
struct Signals(Arc<AtomicU32>);

impl Signals {
    fn install() -> anyhow::Result<Self> {
        let count = Arc::new(AtomicU32::new(0));
        let handler = Arc::clone(&count);
        signals::on_each(move |_| _ = handler.fetch_add(1, Ordering::Relaxed))?;
        Ok(Self(count))
    }

    fn is_stopping(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Returns true if the server must end at once.
    fn is_urgent(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

/// Time between two checks of the files.
const POLL: Duration = Duration::from_millis(300);
/// Time between two checks whether a process has ended.
const WAIT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_binary_comes_from_the_messages_of_cargo() {
        let message = |kind: &str, path: &str| {
            format!(r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"]}},"executable":{path}}}"#)
        };

        assert_eq!(binary_of(&message("bin", "\"/t/dice\"")).as_deref(), Some("/t/dice"));
        for other in
            [message("custom-build", "\"/t/build\""), message("lib", "null"), "{}".into(), "x".into()]
        {
            assert_eq!(binary_of(&other), None, "{other}");
        }
    }
}
