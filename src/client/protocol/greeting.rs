//! Binds an open link: sends the Hello and handles its answers.

use std::time::Duration;

use bytes::Bytes;

use super::{Bound, Core, Phase, Session};
use crate::client::event::ClientEvent;
use crate::client::outbox::Outbox;
use crate::ident::SessionId;
use crate::wire::v1::{Closed, Denied, Hello, Reason, Resume, Welcome};
use crate::wire::{FRAME_MAX_BEFORE_WELCOME, Frame, PROTOCOL, WireMessage as _, encode};

impl Core {
    /// Returns true if a Hello is due.
    pub(in crate::client) fn is_greeting(&self) -> bool {
        matches!(self.phase, Phase::Greeting { said: false, .. })
    }

    /// Sets the ticket for the Hello of a new session.
    pub(in crate::client) fn show(&mut self, ticket: Option<&str>) {
        self.proof.take(ticket);
    }

    pub(super) fn say_hello(&mut self, send: &mut impl FnMut(Bytes) -> bool) {
        let hello = encode(&self.hello());
        if hello.len() > FRAME_MAX_BEFORE_WELCOME {
            let detail = format!(
                "the Hello takes {} bytes, at most {FRAME_MAX_BEFORE_WELCOME} are allowed: shorten the credentials",
                hello.len()
            );
            self.lose_session(None);
            self.stop(None, detail);
            return;
        }
        if let Phase::Greeting { said, .. } = &mut self.phase {
            *said = send(hello);
        }
    }

    fn hello(&self) -> Hello {
        let resume = self.session.as_ref().map(|session| Resume {
            token: session.token.clone(),
            received: session.received,
            trimmed: session.outbox.trimmed(),
            resync: session.token_only,
            sent: session.outbox.sent(),
        });
        Hello {
            protocol: PROTOCOL,
            client: CLIENT.to_owned(),
            // The token suffices for a resume, and the server would deny another name in the credentials.
            credentials: resume.is_none().then(|| (&self.config.credentials).into()),
            resume,
            game: self.config.game.clone(),
            // A resume needs no ticket.
            ticket: if self.session.is_none() { self.proof.ticket() } else { String::new() },
        }
    }

    /// Handles a frame before Welcome: only the answers to the Hello have an effect.
    pub(super) fn take_greeting(&mut self, frame: &Frame) {
        match frame.id {
            Welcome::ID => match frame.decode() {
                Ok(welcome) => self.welcomed(welcome),
                Err(error) => self.fail(Duration::ZERO, &error.to_string()),
            },
            Denied::ID => match frame.decode() {
                Ok(denied) => self.denied(denied),
                Err(error) => self.fail(Duration::ZERO, &error.to_string()),
            },
            Closed::ID => match frame.decode() {
                Ok(closed) => self.closed(closed),
                Err(error) => self.fail(Duration::ZERO, &error.to_string()),
            },
            _ => {}
        }
    }

    fn welcomed(&mut self, mut welcome: Welcome) {
        let token = std::mem::take(&mut welcome.token);
        let id = SessionId(welcome.session);
        if welcome.session == 0 {
            self.fail(Duration::ZERO, "the server's Welcome names no session");
        } else if welcome.resumed {
            self.resumed(id, token, welcome);
        } else {
            self.lose_session(None);
            self.session = Some(Session {
                id: Some(id),
                token,
                unanswered: None,
                received: 0,
                outbox: Outbox::default(),
                token_only: false,
            });
            self.events.push(ClientEvent::Connected { session: id });
            self.bind(welcome);
        }
    }

    /// Continues the session: adopts the server's `base`, and removes from the outbox the frames that the server has
    /// counted.
    fn resumed(&mut self, id: SessionId, token: Bytes, welcome: Welcome) {
        let Some(session) = &mut self.session else {
            self.fail(Duration::ZERO, "the server resumed a session, but a new one was requested");
            return;
        };
        session.id = Some(id);
        session.token = token;
        session.token_only = false;
        session.received = welcome.base;
        session.outbox.rebase(welcome.received);
        self.resume_count += 1;
        self.events.push(ClientEvent::Resumed { session: id, resync: welcome.resync });
        self.bind(welcome);
    }

    fn bind(&mut self, welcome: Welcome) {
        self.welcome = Some(welcome);
        self.failure = None;
        self.proof.accepted();
        self.backoff.reset();
        self.absence = None;
        self.was_silent = false;
        self.failed_tries = 0;
        self.phase = Phase::Bound(Bound::new());
    }

    fn denied(&mut self, denied: Denied) {
        let reason = denied.reason();
        let retry_after = Duration::from_millis(denied.retry_after_ms.into());
        match reason {
            Reason::Token if self.session.is_some() => {
                self.lose_session(Some(reason));
                let timeout = self.welcome_timeout();
                self.phase = Phase::Greeting { elapsed: Duration::ZERO, timeout, said: false };
            }
            Reason::Unauthenticated if self.session.is_none() && self.proof.refused() => {
                self.fail(retry_after, &format!("the server denied the Hello: {reason} {}", denied.detail));
            }
            Reason::Unauthenticated
            | Reason::Bye
            | Reason::Kicked
            | Reason::Conflict
            | Reason::Replaced
            | Reason::Version
            | Reason::Protocol => {
                self.lose_session(Some(reason));
                self.stop(Some(reason), denied.detail);
            }
            _ => {
                self.answered();
                self.fail(retry_after, &format!("the server denied the Hello: {reason} {}", denied.detail));
            }
        }
    }

    /// Handles the end of the link by the server. The reason decides whether the session goes on.
    pub(super) fn closed(&mut self, closed: Closed) {
        let reason = closed.reason();
        match reason {
            Reason::Bye if self.leaving.is_some() => {
                self.session = None;
                self.stop(Some(reason), closed.detail);
            }
            Reason::Replaced if self.take_unanswered() => self.lose_link(Duration::ZERO),
            Reason::Protocol => {
                self.broken(format!("the server reports an offence of the client: {}", closed.detail));
            }
            Reason::Bye
            | Reason::Kicked
            | Reason::Conflict
            | Reason::Replaced
            | Reason::Version
            | Reason::Unauthenticated => {
                self.lose_session(Some(reason));
                self.stop(Some(reason), closed.detail);
            }
            _ => {
                let retry_after = Duration::from_millis(closed.retry_after_ms.into());
                if matches!(self.phase, Phase::Bound(_)) {
                    self.lose_link(retry_after);
                } else {
                    self.answered();
                    self.fail(retry_after, &format!("the server closed the link: {reason}"));
                }
            }
        }
    }
}

/// The name and version of this library, for the server's log.
const CLIENT: &str = concat!("waystation-rust/", env!("CARGO_PKG_VERSION"));
