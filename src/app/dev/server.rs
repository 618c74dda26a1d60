//! The process of a game's server.

use std::fs;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use super::WAIT;
use crate::app::cli::say;

/// A running server. It is killed when this value is dropped.
#[derive(Debug)]
pub(super) struct Server(Child);

impl Server {
    /// Starts a copy of a binary with the command `serve`. On some systems, cargo cannot replace a running binary.
    pub(super) fn start(binary: &str, options: &[String]) -> anyhow::Result<Self> {
        let copy = format!(
            "{}-dev{}",
            binary.trim_end_matches(std::env::consts::EXE_SUFFIX),
            std::env::consts::EXE_SUFFIX
        );
        fs::copy(binary, &copy).with_context(|| format!("cannot copy {binary} to {copy}"))?;
        let mut command = Command::new(&copy);
        command.arg("serve").args(options).stdin(Stdio::null());
        // Ctrl-C in the terminal then reaches only the command `dev`, which asks the server to stop.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().map(Self).with_context(|| format!("cannot run {copy}"))
    }

    /// Returns the exit status, or `None` while the server runs.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }

    /// Asks the server to stop, and waits for its end. Kills it if that takes too long, or if `is_urgent` returns true.
    pub(super) fn stop(mut self, is_urgent: impl Fn() -> bool) -> anyhow::Result<()> {
        self.ask_to_stop();
        let mut waited = Duration::ZERO;
        while self.ended().is_none() {
            if waited >= STOP_MAX || is_urgent() {
                say(&"dev: the server has not stopped yet and is killed");
                break;
            }
            thread::sleep(WAIT);
            waited += WAIT;
        }
        self.end().context("cannot wait for the server")
    }

    #[cfg(unix)]
    fn ask_to_stop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};

        // This fails if the process has ended in the meantime.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
    }

    #[cfg(not(unix))]
    fn ask_to_stop(&mut self) {
        // There is no signal that asks a process to stop.
        let _ = self.0.kill();
    }

    fn end(&mut self) -> std::io::Result<()> {
        // This fails if the process has ended.
        let _ = self.0.kill();
        self.0.wait().map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Time that a server has to stop before it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);
