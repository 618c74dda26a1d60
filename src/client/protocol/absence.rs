//! Handles lost links and failed tries, and decides when the client dials again.

use std::time::Duration;

use super::{Core, Phase, Release, Session, UnansweredHello};
use crate::client::event::ClientEvent;
use crate::client::link::DialState;

impl Core {
    /// Notes a failed try. Another try follows, unless this was the last one. While the session can still be
    /// resumed, the number of tries is not limited.
    pub(in crate::client) fn fail(&mut self, retry_after: Duration, why: &str) {
        tracing::debug!(why, "a try to connect failed");
        self.failure = Some(why.to_owned());
        self.keep_unanswered();
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

    /// Notes the loss of the bound link. The session is resumed after a pause.
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

    /// Gives up the link after the client was not updated for `link_timeout`: the server has probably closed the link
    /// in the meantime. Frames that are still in it are not read. The next link is dialled at once.
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

    /// Closes the link and dials again after a pause.
    fn wait(&mut self, retry_after: Duration) {
        let pause = match self.absence.filter(|_| self.window_is_open()) {
            Some(absence) => self.backoff.pause_in_window(absence),
            None => self.backoff.pause(),
        };
        self.release = Some(Release::Close);
        self.phase = Phase::Waiting { left: pause.max(retry_after) };
    }

    /// Returns the state that a transport receives before it opens the next link.
    pub(in crate::client) fn dial_state(&self) -> DialState {
        let silence = match &self.phase {
            // Silence means nothing while the client itself does not read the link.
            Phase::Bound(_) if self.is_paused() => Some(Duration::ZERO),
            Phase::Bound(bound) => Some(bound.silence_before(self.may_be_deaf)),
            _ => None,
        };
        let unanswered = match &self.phase {
            Phase::Greeting { elapsed, said: true, .. } if self.window_is_open() => Some(*elapsed),
            _ => None,
        };
        DialState {
            silence,
            unanswered,
            link_timeout: self.config.link_timeout,
            was_silent: self.was_silent,
            resumes: self.session.is_some(),
            is_urgent: self.window_is_open(),
            opening_timeout: self.opening_timeout(),
        }
    }

    /// Returns the time that a link may take to open. Failed tries and measured round trips lengthen it.
    pub(super) fn opening_timeout(&self) -> Duration {
        let first = self.config.dial_timeout;
        let measured = self.round_trip.saturating_mul(OPENING_ROUND_TRIPS);
        self.doubled(first).max(measured).min(OPENING_TIMEOUT_MAX.max(first))
    }

    /// Returns the time within which the Hello must be answered. Failed tries lengthen it only for a new session,
    /// which may have to wait for authentication.
    pub(super) fn welcome_timeout(&self) -> Duration {
        let first = match &self.session {
            Some(_) => WELCOME_TIMEOUT,
            None => self.doubled(WELCOME_TIMEOUT).min(self.config.link_timeout.max(WELCOME_TIMEOUT)),
        };
        first.max(self.round_trip.saturating_mul(WELCOME_ROUND_TRIPS))
    }

    /// Doubles a time for each failed try.
    fn doubled(&self, time: Duration) -> Duration {
        time.saturating_mul(1u32.checked_shl(self.failed_tries).unwrap_or(u32::MAX))
    }

    /// Keeps the token of a Hello whose link is given up without an answer. The Hello may still arrive after
    /// the Hello on the next link, and then it takes the session over from that link.
    fn keep_unanswered(&mut self) {
        if let (Phase::Greeting { said: true, .. }, Some(session)) = (&self.phase, &mut self.session) {
            session.unanswered = Some(UnansweredHello { token: session.token.clone(), left: UNANSWERED_MAX });
        }
    }

    /// Returns true if a late Hello of this client itself has probably taken the session over. The session is then
    /// resumed with the token of that Hello, because the server has voided the token of the Welcome.
    pub(super) fn take_unanswered(&mut self) -> bool {
        let (Phase::Bound(_), Some(session)) = (&self.phase, &mut self.session) else { return false };
        let Some(unanswered) = session.unanswered.take() else { return false };
        session.token = unanswered.token;
        true
    }

    /// Notes that the Hello was answered, so it cannot arrive later.
    pub(super) fn answered(&mut self) {
        if let Phase::Greeting { said, .. } = &mut self.phase {
            *said = false;
        }
    }

    /// Returns true if the session can probably still be resumed.
    fn window_is_open(&self) -> bool {
        let kept = self.welcome.as_ref().map_or(0, |welcome| welcome.timeout_ms);
        let window = Duration::from_millis(kept.into()).saturating_add(WINDOW_SLACK);
        kept > 0 && self.session.is_some() && self.absence.is_some_and(|absence| absence < window)
    }
}

impl Session {
    /// Lets time pass.
    pub(super) fn pass(&mut self, dt: Duration) {
        if let Some(unanswered) = &mut self.unanswered {
            unanswered.left = unanswered.left.saturating_sub(dt);
        }
        self.unanswered = self.unanswered.take().filter(|unanswered| !unanswered.left.is_zero());
    }
}

/// The most round trips in which a link opens: WebTransport to a server that validates the client's address
/// first.
pub(in crate::client) const OPENING_ROUND_TRIPS: u32 = 4;
/// The longest opening: [`OPENING_ROUND_TRIPS`] of 1.5 s, the longest round trip in which a game is playable.
pub(in crate::client) const OPENING_TIMEOUT_MAX: Duration = Duration::from_secs(6);
/// The shortest time within which a Hello must be answered: several ticks of the slowest server, and half of
/// the default link timeout.
const WELCOME_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Round trips within which a Hello must be answered: one for the Hello, and two for lost packets.
const WELCOME_ROUND_TRIPS: u32 = 3;
/// Time within which a delayed Hello may still arrive: 6 s for the longest opening, and the 5 s for which a
/// server waits for a Hello on an open link.
const UNANSWERED_MAX: Duration = Duration::from_secs(11);
/// Time by which the server may notice the loss of a link later than the client: frames may have been in flight for
/// a round trip, and the last tick of the server may have been late.
const WINDOW_SLACK: Duration = Duration::from_secs(2);
