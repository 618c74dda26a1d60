//! Limits how often the thread of an adapter restarts after a failure.

use std::time::{Duration, Instant};

/// The times of the recent restarts of a thread.
#[derive(Debug, Default)]
pub(crate) struct Restarts(Vec<Instant>);

impl Restarts {
    /// Returns true and notes the restart if the thread may restart now.
    #[allow(clippy::disallowed_methods, reason = "a measure of the adapter; no tick reads it")]
    pub(crate) fn admit(&mut self) -> bool {
        let now = Instant::now();
        self.0.retain(|at| now.saturating_duration_since(*at) < RESTARTS_WINDOW);
        let admitted = self.0.len() < RESTARTS_MAX;
        if admitted {
            self.0.push(now);
        }
        admitted
    }

    /// Returns the reason for [giving up](super::AdapterPort::give_up), for a thread that may not restart.
    pub(crate) fn refusal(failure: &str) -> String {
        format!("its thread failed {RESTARTS_MAX} times within a minute and has failed again: {failure}")
    }
}

/// Largest number of restarts within [`RESTARTS_WINDOW`]. After a rare failure the clients resume. If a failure
/// repeats at once, the server cannot serve its clients, so it has to stop.
pub(super) const RESTARTS_MAX: usize = 5;
const RESTARTS_WINDOW: Duration = Duration::from_secs(60);
