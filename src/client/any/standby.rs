//! Opens a link in advance while the session's link is silent, or while the Hello of a resume has no answer.
//!
//! No frame is sent on the link that was opened in advance. If a frame arrives on the session's link, the other link
//! is closed. If the session's link is lost, the next dial returns the other link.

use std::time::Duration;

use super::order::Route;
use super::race::{Race, Rules, Standing, Start, Won};
use crate::client::link::{DialState, Link, LinkStatus};

/// A link opened in advance, or the race for one.
#[derive(Debug)]
pub(super) enum Standby<L> {
    /// No link is needed.
    Idle,
    /// Links are opening.
    Opening(Race<L>),
    /// A link has been open for this time.
    Open(Won<L>, Duration),
    /// No link could be opened. The next race begins after this time.
    Resting(Duration),
}

impl<L: Link> Standby<L> {
    /// Lets time pass. `order` holds the routes to open, and `start` begins to open one.
    pub(super) fn update(
        &mut self,
        dt: Duration,
        state: &DialState,
        order: Vec<Route>,
        start: impl FnMut(Route) -> Start<L>,
    ) {
        match state.silence {
            Some(silence) if silence < begins_after(state.link_timeout) => self.close(),
            None if state.unanswered.is_none_or(|time| time < UNANSWERED_MIN) => {}
            _ if matches!(self, Self::Idle) && !order.is_empty() => {
                let rules = Rules { limit: state.opening_timeout, is_urgent: true, is_single: false };
                *self = Self::Opening(Race::new(order, rules));
            }
            _ => {}
        }
        match std::mem::replace(self, Self::Idle) {
            Self::Idle => {}
            Self::Opening(mut race) => {
                *self = match race.update(dt, start) {
                    Standing::Running => Self::Opening(race),
                    Standing::Won(won) => Self::Open(won, Duration::ZERO),
                    Standing::Lost => Self::Resting(REST),
                };
            }
            Self::Open(mut won, age) => {
                let age = age + dt;
                won.link.update(dt);
                won.link.flush();
                if won.link.status() == LinkStatus::Open && age < OPEN_MAX {
                    *self = Self::Open(won, age);
                } else {
                    won.link.close();
                    *self = Self::Resting(REST);
                }
            }
            Self::Resting(left) if left > dt => *self = Self::Resting(left - dt),
            Self::Resting(_) => {}
        }
    }

    /// Returns the current state for the next dial, and resets it to `Idle`.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Idle)
    }

    /// Closes all links, and resets the state to `Idle`.
    pub(super) fn close(&mut self) {
        match self.take() {
            Self::Opening(mut race) => race.close(),
            Self::Open(mut won, _) => won.link.close(),
            Self::Idle | Self::Resting(_) => {}
        }
    }
}

/// Returns the silence after which a link is opened in advance.
fn begins_after(link_timeout: Duration) -> Duration {
    link_timeout.saturating_sub(AHEAD).max(SILENCE_MIN)
}

/// Time without an answer to the Hello of a resume after which another link is opened: about a tick and two
/// round trips of 400 ms. The next Hello leaves after 2.5 s at the earliest. Measured round trips are not used,
/// because they are too long on a network that loses packets.
const UNANSWERED_MIN: Duration = Duration::from_secs(1);
/// The shortest silence after which a link is opened in advance. A server sends a Beacon each second, so two
/// Beacons are missing by then; shorter silences are common.
const SILENCE_MIN: Duration = Duration::from_millis(2_500);
/// Time between the opening of a link in advance and the link timeout. Even over a slow network, a link opens within
/// this time. The server waits 5 s for a Hello, so it does not close the link before the link timeout.
const AHEAD: Duration = Duration::from_millis(2_500);
/// Time for which an open link is kept: less than the time that a server waits for a Hello.
const OPEN_MAX: Duration = Duration::from_secs(4);
/// The pause after a race in which no link opened.
const REST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
