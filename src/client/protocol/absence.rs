//! Without a link: how one is lost, and when the next is dialled.

use std::time::Duration;

use super::{Core, Phase, Release, Session, Stray};
use crate::client::event::ClientEvent;
use crate::client::link::Outlook;

impl Core {
    /// A try failed: the next one follows, unless it was the last. While the session can still be
    /// resumed there is no last try.
    pub(in crate::client) fn fail(&mut self, retry_after: Duration, why: &str) {
        tracing::debug!(why, "a try to connect failed");
        self.note_stray();
        if self.window_is_open() {
            self.wait(retry_after);
            return;
        }
        self.failed_tries = self.failed_tries.saturating_add(1);
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
        self.was_silent = false;
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

    /// What a transport needs to know before it opens the next link.
    pub(in crate::client) fn outlook(&self) -> Outlook {
        let silence = match &self.phase {
            // While the game leaves the link unread, silence says nothing about it.
            Phase::Bound(_) if self.is_paused() => Some(Duration::ZERO),
            Phase::Bound(bound) => Some(bound.silence_before(self.may_be_deaf)),
            _ => None,
        };
        let unanswered = match &self.phase {
            Phase::Greeting { elapsed, said: true, .. } if self.window_is_open() => Some(*elapsed),
            _ => None,
        };
        Outlook {
            silence,
            unanswered,
            link_timeout: self.config.link_timeout,
            was_silent: self.was_silent,
            resumes: self.session.is_some(),
            is_urgent: self.window_is_open(),
            opening_timeout: self.opening_timeout(),
        }
    }

    /// How long a link may take to open. Failed tries and measured round trips lengthen it.
    pub(super) fn opening_timeout(&self) -> Duration {
        let first = self.config.dial_timeout;
        let measured = self.round_trip.saturating_mul(OPENING_ROUND_TRIPS);
        self.doubled(first).max(measured).min(OPENING_TIMEOUT_MAX.max(first))
    }

    /// How long the Hello may go unanswered. Only a new session may have to wait for authentication.
    pub(super) fn welcome_timeout(&self) -> Duration {
        let first = match &self.session {
            Some(_) => WELCOME_TIMEOUT,
            None => self.doubled(WELCOME_TIMEOUT).min(self.config.link_timeout.max(WELCOME_TIMEOUT)),
        };
        first.max(self.round_trip.saturating_mul(WELCOME_ROUND_TRIPS))
    }

    /// A time that doubles with each failed try.
    fn doubled(&self, time: Duration) -> Duration {
        time.saturating_mul(1u32.checked_shl(self.failed_tries).unwrap_or(u32::MAX))
    }

    /// The link is given up while its Hello has no answer: the Hello may still arrive, after the one
    /// that follows on the next link, and then it takes the session over from that link.
    fn note_stray(&mut self) {
        if let (Phase::Greeting { said: true, .. }, Some(session)) = (&self.phase, &mut self.session) {
            session.stray = Some(Stray { token: session.token.clone(), left: STRAY_MAX });
        }
    }

    /// Returns true if the link was replaced by a Hello of this client's own. The token that it
    /// presented is the one that resumes the session: the server has voided the one of the Welcome.
    pub(super) fn take_stray(&mut self) -> bool {
        let (Phase::Bound(_), Some(session)) = (&self.phase, &mut self.session) else { return false };
        let Some(stray) = session.stray.take() else { return false };
        session.token = stray.token;
        true
    }

    /// The Hello has an answer: it is not under way any longer.
    pub(super) fn answered(&mut self) {
        if let Phase::Greeting { said, .. } = &mut self.phase {
            *said = false;
        }
    }

    /// Whether the server still keeps the session, as far as its client can tell.
    fn window_is_open(&self) -> bool {
        let kept = self.welcome.as_ref().map_or(0, |welcome| welcome.timeout_ms);
        let window = Duration::from_millis(kept.into()).saturating_add(WINDOW_SLACK);
        kept > 0 && self.session.is_some() && self.absence.is_some_and(|absence| absence < window)
    }
}

impl Session {
    /// Lets time pass.
    pub(super) fn pass(&mut self, dt: Duration) {
        if let Some(stray) = &mut self.stray {
            stray.left = stray.left.saturating_sub(dt);
        }
        self.stray = self.stray.take().filter(|stray| !stray.left.is_zero());
    }
}

/// Round trips that an opening takes at most: those of WebTransport to a server that validates the
/// client's address first.
pub(in crate::client) const OPENING_ROUND_TRIPS: u32 = 4;
/// [`OPENING_ROUND_TRIPS`] of 1.5 s, the longest round trip that a game can use.
pub(in crate::client) const OPENING_TIMEOUT_MAX: Duration = Duration::from_secs(6);
/// How long a Hello may go unanswered where round trips are short: several ticks of the slowest
/// server, and half of the time after which a link counts as silent.
const WELCOME_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Round trips within which a Hello is answered: one for the Hello, two for frames that are lost.
const WELCOME_ROUND_TRIPS: u32 = 3;
/// How long a network may hold back a Hello: as long as a server waits for one on an open link, and
/// the longest opening before.
const STRAY_MAX: Duration = Duration::from_secs(11);
/// How much later than its client the server may find that a link is lost: it has heard what was
/// under way for a round trip, and its last tick may have been late.
const WINDOW_SLACK: Duration = Duration::from_secs(2);
