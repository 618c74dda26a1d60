//! A client of a Waystation server: one session that outlives its links.
//!
//! [`Client::update`] in a plain loop does all that the protocol asks of a client: it dials, says
//! Hello, counts, acknowledges, echoes, keeps what the server has not counted, and resumes by
//! itself with growing pauses. Its only clock is the `dt` that it is given.
//!
//! A server is found by its URL: [`AnyDial`] asks its discovery and opens a link over what it offers
//! and what gets through. A session moves from one transport to another without losing anything.
//! [`UdpDial`], [`QuicDial`] and [`WebSocketDial`] each dial one of them, for tools and tests; a transport of one's own
//! implements [`Dial`].
//!
//! It is no ECS and no async runtime, it starts no thread, and it knows no game: messages are
//! whatever implements [`WireMessage`]. Nothing but the dials touches a socket.
//!
//! Data flow: link → counting and acks → [`Client::poll`]; [`Client::send`] → outbox → link. Reliable
//! messages stay in the outbox until the server has counted them, over as many links as it takes.
//! Events wait in a bounded queue: a game that does not poll stops the reading of its link, and the
//! server ends a link that is not read.
//!
//! ```no_run
//! use std::time::Duration;
//! use waystation::client::v1::Joined;
//! use waystation::client::{AnyDial, AnyLink, Client, ClientConfig, ClientEvent};
//!
//! let dial = AnyDial::new(["http://127.0.0.1:7780"])?;
//! let mut client = Client::new(dial, ClientConfig::default());
//! loop {
//!     client.update(Duration::from_millis(16));
//!     while let Some(event) = client.poll() {
//!         match event {
//!             ClientEvent::Connected { .. } => { client.join("arena", "").expect("room for one"); }
//!             ClientEvent::Message(frame) => if let Ok(joined) = frame.decode::<Joined>() {
//!                 println!("in {}", joined.zone);
//!             },
//!             ClientEvent::Closed { detail, .. } => panic!("over: {detail}"),
//!             _ => {}
//!         }
//!     }
//!     let over = client.link().and_then(AnyLink::transport); // for a corner of the screen
//!     std::thread::sleep(Duration::from_millis(16));
//! }
//! # Ok::<(), waystation::client::UrlError>(())
//! ```

mod any;
mod backoff;
mod check;
mod config;
mod event;
mod link;
mod outbox;
mod protocol;
mod quic;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod trust;
pub(crate) mod udp;
mod websocket;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

pub use crate::wire::Credentials;
pub use any::{AnyDial, AnyLink, Detour, DialContext, Fetch, FetchError, Transport, UrlError};
pub use config::ClientConfig;
pub use event::{ClientEvent, EVENTS_MAX, EVENTS_MAX_BYTES, SendError};
pub use link::{Dial, DialError, Link, LinkStatus, Outlook};
pub use protocol::ClientState;
use protocol::{Core, Release};
pub use quic::{QuicDial, QuicLink, QuicRoute, QuicTarget};
pub use trust::{Trust, TrustError};
pub use udp::{ConnectToken, UdpDial, UdpLink};
pub use websocket::{WebSocketDial, WebSocketLink};

pub use crate::ident::SessionId;
pub use crate::wire::discovery::{Discovery, Offer};
use crate::wire::v1::{Join, Part, Welcome};
pub use crate::wire::{Frame, Lane, WireMessage, v1};

/// A session with a server, over the links that `D` dials.
///
/// Dropping it loses the link silently and the server lets the session expire; [`bye`](Self::bye)
/// ends it at once.
pub struct Client<D: Dial> {
    dial: D,
    link: Option<D::Link>,
    /// A link that was cut silently, which nobody serves any more. A socket that is let go of may
    /// tell the peer, as one of TCP does, so it is kept until the session has its next link.
    silent: Option<D::Link>,
    core: Core,
}

/// How a test, a bot, or an app that goes to the background loses its link. No Bye is sent: the
/// session lives, and the client resumes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The link falls silent and the server is not told, as if the cable were cut.
    Silent {
        /// When the next link is dialled; zero: with the next update.
        hold: Duration,
    },
    /// The link is closed the way its transport does it.
    Close {
        /// When the next link is dialled.
        hold: Duration,
    },
}

impl<D: Dial> Client<D> {
    /// A client that asks for a new session. The first update dials.
    ///
    /// # Panics
    ///
    /// Panics if the configuration does not pass [`ClientConfig::check`].
    #[must_use]
    pub fn new(dial: D, config: ClientConfig) -> Self {
        let core = Core::new(config.checked(), None, dial.renews_tickets());
        Self { dial, link: None, silent: None, core }
    }

    /// A client that has nothing left of its session but the [`token`](Self::token), such as a
    /// program that was restarted. It resumes the session, with `resync`, so that the game sends its
    /// snapshot anew; if the session is over, it reports it lost and asks for a new one.
    ///
    /// # Panics
    ///
    /// Panics if the configuration does not pass [`ClientConfig::check`].
    #[must_use]
    pub fn resume_with_token(dial: D, config: ClientConfig, token: impl Into<Bytes>) -> Self {
        let core = Core::new(config.checked(), Some(token.into()), dial.renews_tickets());
        Self { dial, link: None, silent: None, core }
    }

    /// Lets `dt` pass: receives, resumes, and sends what is due. Call it some 20 to 100 times a
    /// second, then [`poll`](Self::poll) until nothing is left.
    ///
    /// `dt` is the real time since the last call, sleep of the machine included. It is the client's
    /// only clock, so it must not be capped: bevy's `Time<Virtual>` passes at most 250 ms a frame,
    /// `Time<Real>` passes what it was.
    ///
    /// A single `dt` of [`link_timeout`](ClientConfig::link_timeout) or more means that the client
    /// slept, as an app in the background does. The server has given the link up by then, so the
    /// client treats it as lost: it discards the link unread and dials the next one in the same call.
    /// After a shorter sleep the link is kept, if something new arrives on it within 2 s.
    pub fn update(&mut self, dt: Duration) {
        self.core.advance(dt);
        self.release();
        self.dial.prepare(dt, &self.core.outlook());
        if self.core.wants_link() {
            match self.dial.dial() {
                Ok(link) => {
                    self.link = Some(link);
                    self.core.dialled();
                }
                Err(error) => self.core.fail(Duration::ZERO, &error.to_string()),
            }
        }
        if let Some(link) = &mut self.link {
            link.update(dt);
            if link.status() == LinkStatus::Open {
                self.core.opened(link.round_trip());
            }
            while self.core.is_reading()
                && let Some((lane, bytes)) = link.receive()
            {
                self.core.receive(lane, bytes);
            }
            if let Some(what) = link.breach() {
                self.core.breached(what);
            }
            self.core.check(link.status(), link.times_opening(), link.is_stream(), || link.failure());
            if self.core.is_greeting() {
                self.core.show(link.ticket());
            }
            self.core.transmit(&mut |frame| link.send(frame));
            link.flush();
        }
        self.release();
        if self.core.is_bound() || self.core.state() == ClientState::Stopped {
            self.silent = None;
        }
    }

    /// Lets go of a link that is over, unread: whatever it still holds comes again on the next one
    /// and would count twice.
    fn release(&mut self) {
        match self.core.take_release() {
            Some(Release::Close) => {
                if let Some(mut link) = self.link.take() {
                    link.close();
                }
            }
            Some(Release::Drop) => self.silent = self.link.take().or_else(|| self.silent.take()),
            None => {}
        }
    }

    /// What happened next; `None` if the game knows all.
    pub fn poll(&mut self) -> Option<ClientEvent> {
        self.core.poll()
    }

    /// Sends a message on its lane.
    ///
    /// A reliable one is kept until the server has counted it, in order and exactly once, also while
    /// the link is away; it leaves with the next update. An unreliable one may be lost, doubled or
    /// reordered, and is refused while there is no link.
    ///
    /// # Errors
    ///
    /// [`SendError`]; the message was not taken. [`SendError::Full`] is the only one that waiting
    /// for acks cures, and [`SendError::Dropped`] the usual one while the link is away.
    pub fn send<M: WireMessage>(&mut self, message: &M) -> Result<(), SendError> {
        let frame = self.core.admit(message)?;
        match M::ID.lane() {
            Lane::Reliable => self.core.queue(frame),
            Lane::Unreliable => {
                let link = self.link.as_mut().filter(|_| self.core.is_bound());
                let sent = link.is_some_and(|link| link.send(frame));
                sent.then_some(()).ok_or(SendError::Dropped)
            }
        }
    }

    /// Asks to join a zone. `Joined` or `Refused` answers with the request's number, which is
    /// returned.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn join(&mut self, zone: impl Into<String>, payload: impl Into<Bytes>) -> Result<u32, SendError> {
        let request = self.core.next_request();
        self.send(&Join { request, zone: zone.into(), payload: payload.into() })?;
        Ok(request)
    }

    /// Leaves the zone. `Parted` or `Refused` answers with the request's number, which is returned.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn part(&mut self, payload: impl Into<Bytes>) -> Result<u32, SendError> {
        let request = self.core.next_request();
        self.send(&Part { request, payload: payload.into() })?;
        Ok(request)
    }

    /// Ends the session, once all that was sent has left. Keep updating until
    /// [`ClientEvent::Closed`]: the server's answer, or 5 s, or at once if there is no link to say it
    /// on.
    pub fn bye(&mut self) {
        self.core.leave();
        self.release();
    }

    /// Loses the link on purpose and dials again after the cut's `hold`. What was sent but not
    /// flushed by an update may be lost with the link; reliable messages are sent again.
    pub fn cut(&mut self, cut: Cut) {
        match cut {
            Cut::Silent { hold } => self.core.cut(Release::Drop, hold),
            Cut::Close { hold } => self.core.cut(Release::Close, hold),
        }
        self.release();
    }

    /// The link at hand, open or not; none while the client pauses between two. A transport may have
    /// more to say than [`Link`] asks for.
    #[must_use]
    pub fn link(&self) -> Option<&D::Link> {
        self.link.as_ref()
    }

    /// The link at hand, to tell a transport what [`Link`] has no word for, such as
    /// [`QuicLink::rebind`]. Frames are the client's to send and to receive: one that is taken from
    /// the link here is never counted, and the session breaks.
    pub fn link_mut(&mut self) -> Option<&mut D::Link> {
        self.link.as_mut()
    }

    /// Where the client is in its life.
    #[must_use]
    pub fn state(&self) -> ClientState {
        self.core.state()
    }

    /// The session, from its Welcome until it is lost.
    #[must_use]
    pub fn session_id(&self) -> Option<SessionId> {
        self.core.session_id()
    }

    /// What resumes the session after a restart of the program. Each Welcome replaces it, so persist
    /// it after each [`Connected`](ClientEvent::Connected) and [`Resumed`](ClientEvent::Resumed), and
    /// as a secret.
    #[must_use]
    pub fn token(&self) -> Option<&[u8]> {
        self.core.token().map(|token| &**token)
    }

    /// The last Welcome, without its token: the server's tick and rate, the session's timeout, and
    /// the zone that it is in after a resume.
    #[must_use]
    pub fn welcome(&self) -> Option<&Welcome> {
        self.core.welcome()
    }

    /// The smoothed round-trip time of this link, as the server's beacons tell it.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        self.core.latency()
    }

    /// Reliable messages of this session so far, acknowledged or not. After a resume by token alone
    /// this starts from the server's count.
    #[must_use]
    pub fn sent_count(&self) -> u64 {
        self.core.sent_count()
    }

    /// Reliable messages of this session that the server has counted.
    #[must_use]
    pub fn acked_count(&self) -> u64 {
        self.core.acked_count()
    }

    /// Reliable messages of this session that the client has counted.
    #[must_use]
    pub fn received_count(&self) -> u64 {
        self.core.received_count()
    }

    /// How often a session was resumed.
    #[must_use]
    pub fn resume_count(&self) -> u64 {
        self.core.resume_count()
    }
}

impl<D: Dial> fmt::Debug for Client<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("state", &self.state())
            .field("session", &self.session_id())
            .field("sent", &self.sent_count())
            .field("acked", &self.acked_count())
            .field("received", &self.received_count())
            .finish_non_exhaustive()
    }
}
