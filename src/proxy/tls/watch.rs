//! The thread that looks for new certificates.

use std::io;
use std::sync::Weak;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Shared;

/// Looks every so often, until nobody needs it any more, which `ended` says at once.
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
                        tracing::info!("the next handshakes see a new certificate");
                    }
                }
                Err(error) => {
                    // A file that stays away is one line in the log, not one every few seconds.
                    let error = error.to_string();
                    if error != last {
                        tracing::warn!(%error, "no new certificate; the old one stays in use");
                        last = error;
                    }
                }
            }
        }
    })
}

/// How often: soon enough for whoever has replaced the files and watches, and next to no work.
pub(super) const EVERY: Duration = Duration::from_secs(5);
