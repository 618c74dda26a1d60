//! A link that is opened in advance while the session's own link, or the one that is to resume the
//! session, is silent.
//!
//! Nothing is sent on it until the loss is decided: it is closed when the session's link is heard
//! again, and handed to the next dial when it is not.

use std::time::Duration;

use super::race::{Race, Rules, Standing, Start, Won};
use super::turns::Route;
use crate::client::link::{Link, LinkStatus, Outlook};

/// A link opened in advance, or the race for one.
#[derive(Debug)]
pub(super) enum Standby<L> {
    /// No link is wanted.
    Idle,
    /// Links are opening.
    Opening(Race<L>),
    /// A link is open, for this long.
    Open(Won<L>, Duration),
    /// No link could be opened; the next race begins in this time.
    Resting(Duration),
}

impl<L: Link> Standby<L> {
    /// Lets time pass. `order` names the routes to open, if there are any, and `start` begins to open
    /// one.
    pub(super) fn update(
        &mut self,
        dt: Duration,
        outlook: &Outlook,
        order: Vec<Route>,
        start: impl FnMut(Route) -> Start<L>,
    ) {
        match outlook.silence {
            Some(silence) if silence < begins_after(outlook.link_timeout) => self.close(),
            None if outlook.unanswered.is_none_or(|time| time < UNANSWERED_MIN) => {}
            _ if matches!(self, Self::Idle) && !order.is_empty() => {
                let rules = Rules { limit: outlook.opening_timeout, is_urgent: true, is_single: false };
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

    /// Hands over what there is for the next dial.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Idle)
    }

    /// Closes what was opened.
    pub(super) fn close(&mut self) {
        match self.take() {
            Self::Opening(mut race) => race.close(),
            Self::Open(mut won, _) => won.link.close(),
            Self::Idle | Self::Resting(_) => {}
        }
    }
}

/// The silence after which a link is opened in advance.
fn begins_after(link_timeout: Duration) -> Duration {
    link_timeout.saturating_sub(AHEAD).max(SILENCE_MIN)
}

/// How long a resume goes without an answer before another link is opened for its next Hello, which leaves
/// after 2.5 s: a tick and two round trips of 400 ms. The round trips that were measured do not count: on a
/// network that loses packets they are too long.
const UNANSWERED_MIN: Duration = Duration::from_secs(1);
/// A server sends a Beacon each second, so two were lost; a shorter silence is common.
const SILENCE_MIN: Duration = Duration::from_millis(2_500);
/// How long before the loss is decided: a link opens within this time even over a slow network, and
/// the server, which waits 5 s for a Hello, still keeps it.
const AHEAD: Duration = Duration::from_millis(2_500);
/// How long an open link is kept: less than a server waits for a Hello.
const OPEN_MAX: Duration = Duration::from_secs(4);
/// The pause after a race in which nothing opened.
const REST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
