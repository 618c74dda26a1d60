//! A server as a process of its own, and what its status lines say.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// The binary that was built with this program.
pub(crate) fn beside_this_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("this program does not know where it is")?;
    let binary = program.ancestors().nth(2).unwrap_or(&program).join("waystation");
    anyhow::ensure!(binary.exists(), "{} is not built: cargo build --bins", binary.display());
    Ok(binary)
}

/// A server of the dev profile on free ports. It ends with this value.
pub(crate) struct Server {
    process: Child,
    /// What it printed.
    lines: Receiver<String>,
    /// Its first line.
    listening: String,
}

impl Server {
    pub(crate) fn start(binary: &Path) -> anyhow::Result<Self> {
        let free = "127.0.0.1:0";
        let mut process = Command::new(binary)
            .args(["serve", "--listen", free, "--quic-listen", free, "--http-listen", free])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let out = BufReader::new(process.stdout.take().context("no pipe")?);
        let (sender, lines) = mpsc::channel();
        // It ends with the process, whose output ends.
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut server = Self { process, lines, listening: String::new() };
        server.listening = server.lines.recv_timeout(STARTS_WITHIN).context("the server does not start")?;
        Ok(server)
    }

    /// Where it listens for `udp`, `quic` or `http`.
    pub(crate) fn address(&self, what: &str) -> anyhow::Result<SocketAddr> {
        let parts = self.listening.trim_start_matches("listening ").split(',');
        let found = parts.filter_map(|part| part.trim().split_once(' ')).find(|(name, _)| *name == what);
        let (_, address) = found.with_context(|| format!("no {what} in {:?}", self.listening))?;
        Ok(address.trim().parse()?)
    }

    /// What it still has of links and sessions when it has been given this time to end them.
    #[allow(clippy::disallowed_methods, reason = "a server in another process goes by the machine's clock")]
    pub(crate) fn left_after(&self, patience: Duration) -> anyhow::Result<Option<String>> {
        let begun = Instant::now();
        // What it printed before its players left is no answer.
        while self.lines.try_recv().is_ok() {}
        let mut left = Some("it printed no status".to_owned());
        while let Some(rest) = patience.checked_sub(begun.elapsed()) {
            match self.lines.recv_timeout(rest) {
                Ok(line) => match left_of(&line) {
                    Some(Left::Nothing) => return Ok(None),
                    Some(Left::Something(what)) => left = Some(what),
                    None => {}
                },
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => bail!("the server has ended"),
            }
        }
        Ok(left)
    }
}

/// What a status line says that there is.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Something(String),
}

/// The links and sessions of a status line; none if it is another line.
fn left_of(line: &str) -> Option<Left> {
    let fields: Vec<(&str, &str)> = line.split(' ').filter_map(|field| field.split_once('=')).collect();
    let is_zero = |name: &str, value: &str| match name {
        "links" => value.split(',').all(|link| link.ends_with(":0")),
        _ => value == "0",
    };
    let wanted = ["connected", "active", "disconnected", "links"];
    let found: Vec<_> = fields.into_iter().filter(|(name, _)| wanted.contains(name)).collect();
    if found.len() < wanted.len() {
        return None;
    }
    let left: Vec<String> = found
        .into_iter()
        .filter(|(name, value)| !is_zero(name, value))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Some(if left.is_empty() { Left::Nothing } else { Left::Something(left.join(" ")) })
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A machine that starts all servers of the table at once takes its time.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
