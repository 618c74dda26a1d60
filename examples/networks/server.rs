//! A server in a process of its own, and what its status lines report.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::status;

/// Returns the path of the binary that was built with this program.
pub(crate) fn beside_this_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let binary = program.ancestors().nth(2).unwrap_or(&program).join("waystation");
    anyhow::ensure!(binary.exists(), "{} does not exist: run cargo build --bins", binary.display());
    Ok(binary)
}

/// A server of the `dev` profile on free ports. The process is killed when the value is dropped.
pub(crate) struct Server {
    process: Child,
    /// The lines of its standard output.
    lines: Receiver<String>,
    /// Collects the errors that it logs, until the process ends.
    errors: Option<JoinHandle<Vec<String>>>,
    /// The number of its open file descriptors before the first client. `None` where the system does not report it.
    descriptors: Option<usize>,
    /// The first line of its standard output.
    listening: String,
}

impl Server {
    pub(crate) fn start(binary: &Path) -> anyhow::Result<Self> {
        let free = "127.0.0.1:0";
        let mut process = Command::new(binary)
            .args(["serve", "--listen", free, "--quic-listen", free, "--http-listen", free])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let out = BufReader::new(process.stdout.take().context("no pipe")?);
        let log = BufReader::new(process.stderr.take().context("no pipe")?);
        let is_error = |line: &String| line.contains(" ERROR ") || line.contains("panicked");
        let errors = thread::spawn(move || log.lines().map_while(Result::ok).filter(is_error).collect());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut server =
            Self { process, lines, errors: Some(errors), descriptors: None, listening: String::new() };
        server.listening = server.lines.recv_timeout(STARTS_WITHIN).context("the server does not start")?;
        // After the first status line the server has opened all files that it needs without players.
        server.lines.iter().find(|line| status::left_of(line).is_some()).context("the server has ended")?;
        server.descriptors = server.descriptors();
        Ok(server)
    }

    /// Returns the address on which the server listens for `udp`, `quic` or `http`.
    pub(crate) fn address(&self, what: &str) -> anyhow::Result<SocketAddr> {
        let parts = self.listening.trim_start_matches("listening ").split(',');
        let found = parts.filter_map(|part| part.trim().split_once(' ')).find(|(name, _)| *name == what);
        let (_, address) = found.with_context(|| format!("no {what} in {:?}", self.listening))?;
        Ok(address.trim().parse()?)
    }

    /// Waits until the server has released all links and sessions, `patience` at most. Returns what is left.
    #[allow(clippy::disallowed_methods, reason = "this program does not run in a tick")]
    pub(crate) fn left_after(&self, patience: Duration) -> anyhow::Result<Option<String>> {
        let begun = Instant::now();
        // Lines from before the players have left do not count.
        while self.lines.try_recv().is_ok() {}
        let mut left = Some("the server printed no status line".to_owned());
        while let Some(rest) = patience.checked_sub(begun.elapsed()) {
            match self.lines.recv_timeout(rest) {
                Ok(line) => {
                    let Some(mut rest) = status::left_of(&line) else { continue };
                    if self.descriptors() > self.descriptors {
                        rest.push(format!("descriptors={:?}", self.descriptors()));
                    }
                    if rest.is_empty() {
                        return Ok(None);
                    }
                    left = Some(rest.join(" "));
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => bail!("the server has ended"),
            }
        }
        Ok(left)
    }

    /// Returns the number of open file descriptors, or `None` where the system does not report it.
    fn descriptors(&self) -> Option<usize> {
        Some(std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).ok()?.count())
    }

    /// Kills the server and returns the errors that it has logged.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.end();
        self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default()
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// The time within which a server starts. It is long because many servers may start at the same time.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
