//! The thread that checks for new certificates.

use std::io;
use std::sync::Weak;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Shared;

/// Starts a thread that checks for a new certificate at an interval. The thread ends when the sender of `ended` is
/// dropped.
pub(super) fn spawn(
    shared: Weak<Shared>,
    ended: Receiver<()>,
    every: Duration,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("tls".to_owned()).spawn(move || {
        let mut last = String::new();
        while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            let Some(shared) = shared.upgrade() else { return };
            match shared.look() {
                Ok(found) => {
                    last.clear();
                    if found {
                        tracing::info!("new handshakes use a new certificate");
                    }
                }
                Err(error) => {
                    // A repeated error is logged once.
                    let error = error.to_string();
                    if error != last {
                        tracing::warn!(%error, "cannot load a new certificate; the old one stays in use");
                        last = error;
                    }
                }
            }
        }
    })
}

/// Interval between two checks.
pub(super) const EVERY: Duration = Duration::from_secs(5);
