//! How often an adapter's thread may fail.

use std::time::{Duration, Instant};

/// When the thread began anew, of late.
#[derive(Debug, Default)]
pub(crate) struct Restarts(Vec<Instant>);

impl Restarts {
    /// Whether there may be another one now; if so, it is noted.
    #[allow(clippy::disallowed_methods, reason = "an adapter's own measure; no tick sees it")]
    pub(crate) fn admit(&mut self) -> bool {
        let now = Instant::now();
        self.0.retain(|at| now.saturating_duration_since(*at) < RESTARTS_WINDOW);
        let admitted = self.0.len() < RESTARTS_MAX;
        if admitted {
            self.0.push(now);
        }
        admitted
    }

    /// What to tell the server when there may not.
    pub(crate) fn refusal(failure: &str) -> String {
        format!("its thread failed {RESTARTS_MAX} times in a minute, and again: {failure}")
    }
}

/// The thread begins anew at most so often within [`RESTARTS_WINDOW`]: a rare fault costs its
/// clients a resume, but one that comes back at once is a server that serves nobody.
pub(super) const RESTARTS_MAX: usize = 5;
const RESTARTS_WINDOW: Duration = Duration::from_secs(60);
