//! Implements the client's side of the protocol, without I/O.
//!
//! [`Core`] holds no link. Its owner holds the link, reports the link's status and frames to the core, and
//! closes or drops the link when [`Core::take_release`] returns a [`Release`].
//!
//! Data flow: [`advance`](Core::advance) lets time pass → [`opened`](Core::opened) and
//! [`receive`](Core::receive) take events of the link → [`check`](Core::check) finds timeouts and ended links →
//! [`transmit`](Core::transmit) sends what is due.

pub(super) mod absence;
mod bound;
mod greeting;
mod in_flight;
mod proof;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::backoff::Backoff;
use super::config::ClientConfig;
use super::event::{ClientEvent, Events, SendError};
use super::link::LinkStatus;
use super::outbox::Outbox;
use crate::ident::{MessageId, SessionId};
use crate::wire::v1::{Reason, Welcome};
use crate::wire::{CLOSE_TIMEOUT, FRAME_MAX_CLIENT, FRAME_MAX_SERVER, Frame, Lane, Range};
use bound::Bound;
use proof::Proof;

/// The state of a client without its link.
#[derive(Debug)]
pub(super) struct Core {
    config: ClientConfig,
    phase: Phase,
    session: Option<Session>,
    /// The ticket for the Hello of a new session.
    proof: Proof,
    backoff: Backoff,
    /// Time since the session lost its link. `None` while it has a link.
    absence: Option<Duration>,
    /// True if the last link was lost because it was silent.
    was_silent: bool,
    /// True if the newest Beacon had the field `echoed`.
    reports_echoes: bool,
    /// True if the link is a stream and the server fills `echoed`, so the client can detect that the server
    /// receives nothing.
    may_be_deaf: bool,
    /// Tries since the last Welcome that failed while no session could be resumed.
    failed_tries: u32,
    /// The round-trip time of the last link that opened.
    round_trip: Duration,
    events: Events,
    /// The way in which the owner must give up the current link. `None` if the link is kept.
    release: Option<Release>,
    /// Set once `bye` was called.
    leaving: Option<Leaving>,
    /// The last Welcome.
    welcome: Option<Welcome>,
    /// Why the last try has failed. `None` if no try has failed since the last Welcome.
    failure: Option<String>,
    latency: Option<Duration>,
    resume_count: u64,
    request: u32,
}

/// The stage of the client's current link.
#[derive(Debug)]
enum Phase {
    /// There is no link; the next try begins in `left`.
    Waiting { left: Duration },
    /// A link is opening.
    Dialling { elapsed: Duration },
    /// The link is open; the Hello is not answered yet.
    Greeting { elapsed: Duration, timeout: Duration, said: bool },
    /// The link drives the session.
    Bound(Bound),
    /// The client has stopped.
    Stopped,
}

/// The state of a session over all its links.
struct Session {
    /// `None` until the Welcome if the client has kept only the token.
    id: Option<SessionId>,
    /// The newest resume token.
    token: Bytes,
    /// A Hello on a link that was given up, which may still arrive at the server.
    unanswered: Option<UnansweredHello>,
    /// Number of counted frames that were received.
    received: u64,
    outbox: Outbox,
    /// True if the client has kept only the token of the session.
    token_only: bool,
}

impl fmt::Debug for Session {
    /// Omits the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("received", &self.received)
            .field("outbox", &self.outbox)
            .field("token_only", &self.token_only)
            .finish_non_exhaustive()
    }
}

/// A Hello without an answer, on a link that was given up.
struct UnansweredHello {
    /// The token in the Hello.
    token: Bytes,
    /// Remaining time in which the network may still deliver the Hello.
    left: Duration,
}

/// The way in which a link is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    /// The link is closed, and the peer is informed.
    Close,
    /// The link is dropped, and the peer is not informed.
    Drop,
}

/// The end of a session by `bye`.
#[derive(Debug, Default)]
struct Leaving {
    /// Time since the call.
    elapsed: Duration,
    /// True once the Bye was sent.
    said: bool,
}

/// The state of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// The client has no session and is trying to open one.
    Connecting,
    /// The session has a link.
    Connected,
    /// The session has no link, and the client is trying to resume it.
    Away,
    /// The session is ending after [`Client::bye`](super::Client::bye).
    Leaving,
    /// The client has stopped for good. [`ClientEvent::Closed`] has the reason.
    Stopped,
}

impl Core {
    pub(super) fn new(config: ClientConfig, token: Option<Bytes>, renews_tickets: bool) -> Self {
        let backoff = Backoff::new(config.backoff_min, config.backoff_max, config.tries, config.seed);
        Self {
            backoff,
            config,
            absence: None,
            was_silent: false,
            reports_echoes: false,
            may_be_deaf: false,
            failed_tries: 0,
            round_trip: Duration::ZERO,
            phase: Phase::Waiting { left: Duration::ZERO },
            session: token.map(|token| Session {
                id: None,
                token,
                unanswered: None,
                received: 0,
                outbox: Outbox::default(),
                token_only: true,
            }),
            proof: Proof::new(renews_tickets),
            events: Events::default(),
            release: None,
            leaving: None,
            welcome: None,
            failure: None,
            latency: None,
            resume_count: 0,
            request: 0,
        }
    }

    /// Lets time pass. Timeouts take effect later, in [`check`](Self::check), after the frames that arrived in
    /// the meantime were read, so a client that slept for less than `link_timeout` can keep its link. After a
    /// longer sleep the link is lost at once and is not read.
    pub(super) fn advance(&mut self, dt: Duration) {
        self.absence = self.absence.map(|absence| absence.saturating_add(dt));
        if let Some(session) = &mut self.session {
            session.pass(dt);
        }
        let is_paused = self.is_paused();
        match &mut self.phase {
            Phase::Waiting { left } => *left = left.saturating_sub(dt),
            Phase::Dialling { elapsed } | Phase::Greeting { elapsed, .. } => {
                *elapsed = elapsed.saturating_add(dt);
            }
            Phase::Bound(bound) => bound.advance(dt, is_paused),
            Phase::Stopped => {}
        }
        if let Some(leaving) = &mut self.leaving {
            leaving.elapsed = leaving.elapsed.saturating_add(dt);
        }
        if dt >= self.config.link_timeout {
            self.wake();
        }
    }

    /// Returns true if a link should be dialled now.
    pub(super) fn wants_link(&self) -> bool {
        matches!(self.phase, Phase::Waiting { left } if left.is_zero()) && !self.is_paused()
    }

    /// Notes that a link was dialled.
    pub(super) fn dialled(&mut self) {
        self.phase = Phase::Dialling { elapsed: Duration::ZERO };
    }

    /// Notes that the dialled link is open. `round_trip` is what its transport has measured.
    pub(super) fn opened(&mut self, round_trip: Option<Duration>) {
        if let Phase::Dialling { elapsed } = self.phase {
            // Most transports open in two round trips.
            self.round_trip = round_trip.unwrap_or(elapsed / 2);
            let timeout = self.welcome_timeout();
            self.phase = Phase::Greeting { elapsed: Duration::ZERO, timeout, said: false };
        }
    }

    /// Returns true if the link should not be read, because the game has not polled its events.
    pub(super) fn is_paused(&self) -> bool {
        self.events.is_full()
    }

    /// Returns true if the link should be read.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. } | Phase::Bound(_)) && !self.is_paused()
    }

    /// Takes a frame that has arrived.
    pub(super) fn receive(&mut self, lane: Lane, bytes: Bytes) {
        let length = bytes.len();
        let frame = Frame::parse(bytes);
        match &mut self.phase {
            Phase::Greeting { .. } => {
                if let Ok(frame) = frame {
                    self.take_greeting(&frame);
                }
            }
            Phase::Bound(bound) => {
                bound.received(self.config.link_timeout);
                match frame {
                    Ok(frame) if length <= FRAME_MAX_SERVER => self.take_bound(lane, frame),
                    Ok(frame) => self.broken(format!("message {} takes {length} bytes", frame.id)),
                    Err(error) => self.broken(error.to_string()),
                }
            }
            Phase::Waiting { .. } | Phase::Dialling { .. } | Phase::Stopped => {}
        }
    }

    /// Applies timeouts and the link's status. `times_opening` is true if the transport itself limits the time of
    /// the opening, and `is_stream` if all its frames share one stream. `failure` returns why the link has ended.
    pub(super) fn check(
        &mut self,
        status: LinkStatus,
        times_opening: bool,
        is_stream: bool,
        failure: impl FnOnce() -> Option<String>,
    ) {
        self.may_be_deaf = is_stream && self.reports_echoes;
        let closed = status == LinkStatus::Closed;
        // Silence means nothing while the client itself does not read the link.
        let paused = self.is_paused();
        match &self.phase {
            Phase::Dialling { elapsed }
                if closed || (!times_opening && *elapsed >= self.opening_timeout()) =>
            {
                let why = failure().unwrap_or_else(|| "no link could be opened".to_owned());
                self.fail(Duration::ZERO, &why);
            }
            Phase::Greeting { .. } if closed => {
                let why = failure().unwrap_or_else(|| "the link closed before its Welcome".to_owned());
                self.fail(Duration::ZERO, &why);
            }
            Phase::Greeting { elapsed, timeout, .. } if elapsed >= timeout => {
                self.fail(Duration::ZERO, "the Hello was not answered");
            }
            Phase::Bound(_) if closed => {
                tracing::debug!(why = failure(), "the link is lost");
                self.lose_link(Duration::ZERO);
            }
            Phase::Bound(bound) if !paused && bound.silence(self.may_be_deaf) >= self.config.link_timeout => {
                self.lose_link(Duration::ZERO);
                self.was_silent = true;
            }
            _ => {}
        }
        let overdue = self.leaving.as_ref().is_some_and(|leaving| leaving.elapsed >= CLOSE_TIMEOUT);
        if overdue && !matches!(self.phase, Phase::Stopped) {
            self.give_up("the Bye was not answered");
        }
    }

    /// Passes the frames that are due to `send`, which returns true if the link has taken the frame. A frame that
    /// the link does not take is passed again in the next update.
    pub(super) fn transmit(&mut self, send: &mut impl FnMut(Bytes) -> bool) {
        match self.phase {
            Phase::Greeting { said: false, .. } => self.say_hello(send),
            Phase::Bound(_) => self.transmit_bound(send),
            _ => {}
        }
    }

    /// Drops or closes the link in any phase, and dials again after `hold`.
    pub(super) fn cut(&mut self, release: Release, hold: Duration) {
        if matches!(self.phase, Phase::Stopped) {
            return;
        }
        if matches!(self.phase, Phase::Bound(_)) {
            self.lose_link(Duration::ZERO);
        }
        if !matches!(self.phase, Phase::Stopped) {
            self.backoff.reset();
            self.release = Some(release);
            self.phase = Phase::Waiting { left: hold };
        }
    }

    /// Ends the session, if there is one, and reports the number of its unacknowledged messages.
    fn lose_session(&mut self, reason: Option<Reason>) {
        if let Some(session) = self.session.take() {
            self.events.push(ClientEvent::SessionLost { unacked_count: session.outbox.len() as u64, reason });
        }
    }

    fn stop(&mut self, reason: Option<Reason>, detail: String) {
        self.release = Some(Release::Close);
        self.phase = Phase::Stopped;
        self.latency = None;
        self.events.push(ClientEvent::Closed { reason, detail });
    }

    fn give_up(&mut self, why: &str) {
        self.lose_session(None);
        self.stop(None, why.to_owned());
    }

    /// Ends the session after the transport has detected that the server broke the protocol. Before Welcome this
    /// does nothing: another program may have answered, and the closed link fails the try.
    pub(super) fn violated(&mut self, what: String) {
        if matches!(self.phase, Phase::Bound(_)) {
            self.broken(what);
        }
    }

    /// Ends the session after the server broke the protocol. A resume would repeat the violation.
    fn broken(&mut self, detail: String) {
        tracing::error!(detail, "the server broke the protocol: report this as a bug");
        self.lose_session(Some(Reason::Protocol));
        self.stop(Some(Reason::Protocol), detail);
    }

    /// Returns an error if this frame may not be sent.
    pub(super) fn admit(&self, id: MessageId, frame: &Bytes) -> Result<(), SendError> {
        if self.leaving.is_some() {
            return Err(SendError::Leaving);
        }
        if self.session.is_none() {
            return Err(SendError::NoSession);
        }
        if id.range() == Range::LinkControl {
            return Err(SendError::LinkControl(id));
        }
        if frame.len() > FRAME_MAX_CLIENT {
            return Err(SendError::TooLong { id, length: frame.len() });
        }
        Ok(())
    }

    /// Queues an admitted reliable frame.
    pub(super) fn queue(&mut self, frame: Bytes) -> Result<(), SendError> {
        let session = self.session.as_mut().ok_or(SendError::NoSession)?;
        session.outbox.push(frame).map_err(|_| SendError::Full)
    }

    /// Returns the request id of the next Join or Part, which is never 0.
    pub(super) fn next_request(&mut self) -> u32 {
        self.request = self.request.checked_add(1).unwrap_or(1);
        self.request
    }

    /// Ends the session by a Bye behind all queued frames. Without a link the client stops at once.
    pub(super) fn leave(&mut self) {
        match self.phase {
            Phase::Stopped => {}
            Phase::Bound(_) => {
                self.leaving.get_or_insert_default();
            }
            _ => self.give_up("the session was ended while it had no link for a Bye"),
        }
    }

    pub(super) fn poll(&mut self) -> Option<ClientEvent> {
        self.events.pop()
    }

    pub(super) fn take_release(&mut self) -> Option<Release> {
        self.release.take()
    }

    pub(super) fn state(&self) -> ClientState {
        match (&self.phase, &self.session) {
            (Phase::Stopped, _) => ClientState::Stopped,
            (Phase::Bound(_), _) if self.leaving.is_some() => ClientState::Leaving,
            (Phase::Bound(_), _) => ClientState::Connected,
            (_, Some(_)) => ClientState::Away,
            (_, None) => ClientState::Connecting,
        }
    }

    pub(super) fn session_id(&self) -> Option<SessionId> {
        self.session.as_ref()?.id
    }

    pub(super) fn token(&self) -> Option<&Bytes> {
        self.session.as_ref().map(|session| &session.token)
    }

    pub(super) fn welcome(&self) -> Option<&Welcome> {
        self.welcome.as_ref()
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn latency(&self) -> Option<Duration> {
        self.latency
    }

    pub(super) fn resume_count(&self) -> u64 {
        self.resume_count
    }

    pub(super) fn sent_count(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.outbox.total())
    }

    pub(super) fn acked_count(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.outbox.trimmed())
    }

    pub(super) fn received_count(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.received)
    }
}
