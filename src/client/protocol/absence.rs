//! Without a link: how one is lost, and when the next is dialled.

use std::time::Duration;

use super::{Core, Phase, Release};
use crate::client::event::ClientEvent;

impl Core {
    /// A try failed: the next one follows, unless it was the last. While the session can still be
    /// resumed there is no last try.
    pub(in crate::client) fn fail(&mut self, retry_after: Duration, why: &str) {
        tracing::debug!(why, "a try to connect failed");
        if self.window_is_open() {
            self.wait(retry_after);
            return;
        }
        if self.backoff.fail() {
            self.give_up(why);
            return;
        }
        self.wait(retry_after);
    }

    /// The bound link is gone: the session is resumed after a pause.
    pub(super) fn lose_link(&mut self, retry_after: Duration) {
        self.events.push(ClientEvent::LinkLost);
        self.latency = None;
        self.absence = Some(Duration::ZERO);
        if self.leaving.is_some() {
            self.give_up("the link was lost before the Bye was answered");
            return;
        }
        self.wait(retry_after);
    }

    /// The client was not updated for `link_timeout`: the server has given its link up by now, and
    /// what waits in it says nothing about the present. It is let go of unread, and the next one is
    /// dialled at once.
    pub(super) fn wake(&mut self) {
        match self.phase {
            Phase::Bound(_) => self.lose_link(Duration::ZERO),
            Phase::Dialling { .. } | Phase::Greeting { .. } => {
                self.fail(Duration::ZERO, "the client was not updated for the link timeout");
            }
            Phase::Waiting { .. } | Phase::Stopped => return,
        }
        if let Phase::Waiting { left } = &mut self.phase {
            *left = Duration::ZERO;
        }
    }

    /// Lets go of the link, and dials again after a pause.
    fn wait(&mut self, retry_after: Duration) {
        let pause = match self.absence.filter(|_| self.window_is_open()) {
            Some(absence) => self.backoff.pause_in_window(absence),
            None => self.backoff.pause(),
        };
        self.release = Some(Release::Close);
        self.phase = Phase::Waiting { left: pause.max(retry_after) };
    }

    /// Whether the server still keeps the session, as far as its client can tell.
    fn window_is_open(&self) -> bool {
        let kept = self.welcome.as_ref().map_or(0, |welcome| welcome.timeout_ms);
        let window = Duration::from_millis(kept.into()).saturating_add(WINDOW_SLACK);
        kept > 0 && self.session.is_some() && self.absence.is_some_and(|absence| absence < window)
    }
}

/// How much later than its client the server may find that a link is lost: it has heard what was
/// under way for a round trip, and its last tick may have been late.
const WINDOW_SLACK: Duration = Duration::from_secs(2);
