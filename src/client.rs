//! The client library: keeps one session with a Waystation server over any number of links.
//!
//! Call [`Client::update`] in a loop. It opens links, sends Hello, counts and acknowledges frames, echoes
//! Beacons, sends unacknowledged frames again, and resumes the session after a pause when a link is lost.
//! The `dt` that the caller passes is the only clock.
//!
//! [`AnyDial`] takes the URL of a server. It asks the server's discovery which transports the server offers, and
//! opens a link over one of them that works. The links of a session may use different transports. [`UdpDial`],
//! [`QuicDial`] and [`WebSocketDial`] each use one transport, for tools and tests. A custom transport implements
//! [`Dial`].
//!
//! The client needs no ECS and no async runtime, and is independent of the game: a message is any type that
//! implements [`WireMessage`]. Only the implementations of [`Dial`] and [`Link`] do I/O.
//!
//! Data flow: link → counting and acks → [`Client::poll`]; [`Client::send`] → outbox → link. Reliable
//! messages stay in the outbox until the server acknowledges them, over as many links as that takes.
//! The queue of events is bounded. If the game does not poll, the queue fills and the client stops reading its
//! link; the server closes a link that is not read.
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
//!             ClientEvent::Connected { .. } => { client.join("arena", "").expect("the outbox has room"); }
//!             ClientEvent::Message(frame) => if let Ok(joined) = frame.decode::<Joined>() {
//!                 println!("in {}", joined.zone);
//!             },
//!             ClientEvent::Closed { detail, .. } => panic!("the client has stopped: {detail}"),
//!             _ => {}
//!         }
//!     }
//!     let transport = client.link().and_then(AnyLink::transport); // to show to the player
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
pub use any::{AnyDial, AnyLink, DialContext, Fetch, FetchError, RelayAddresses, Transport, UrlError};
pub use config::ClientConfig;
pub use event::{ClientEvent, EVENTS_MAX, EVENTS_MAX_BYTES, SendError};
pub use link::{Dial, DialError, DialState, Link, LinkStatus};
pub use protocol::ClientState;
use protocol::{Core, Release};
pub use quic::{QuicDial, QuicLink, QuicRoute, QuicTarget};
pub use trust::{Trust, TrustError};
pub use udp::{ConnectToken, UdpDial, UdpLink};
pub use websocket::{WebSocketDial, WebSocketLink};

use crate::ident::MessageId;
pub use crate::ident::SessionId;
pub use crate::wire::discovery::{Discovery, Offer};
use crate::wire::encode;
use crate::wire::v1::{Join, Part, Welcome};
pub use crate::wire::{Frame, Lane, WireMessage, v1};

/// A client with one session at a time, over links that `D` opens.
///
/// Dropping the client sends no Bye: the server keeps the session until it expires. To end the session at once,
/// call [`bye`](Self::bye) before you drop the client.
pub struct Client<D: Dial> {
    dial: D,
    link: Option<D::Link>,
    /// A link that was cut silently and is no longer updated. It is kept until the session has its next link,
    /// because the peer would notice the drop of a TCP socket.
    silent: Option<D::Link>,
    core: Core,
}

/// The way in which [`Client::cut`] gives up a link. No Bye is sent, so the session goes on and the client resumes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The link sends nothing more and is not closed, as if the cable were cut.
    Silent {
        /// Time until the client dials again. If zero, the next update dials.
        hold: Duration,
    },
    /// The link is closed with [`Link::close`].
    Close {
        /// Time until the client dials again. If zero, the next update dials.
        hold: Duration,
    },
}

impl<D: Dial> Client<D> {
    /// Creates a client that opens a new session. The first update dials.
    ///
    /// # Panics
    ///
    /// Panics if the configuration does not pass [`ClientConfig::check`].
    #[must_use]
    pub fn new(dial: D, config: ClientConfig) -> Self {
        let core = Core::new(config.checked(), None, dial.renews_tickets());
        Self { dial, link: None, silent: None, core }
    }

    /// Creates a client that resumes a session by its [`token`](Self::token) alone, for example after a restart of
    /// the program.
    ///
    /// The client asks for a resync, so that the game sends its state anew. If the token resumes no session,
    /// the client reports [`SessionLost`](ClientEvent::SessionLost) and opens a new session.
    ///
    /// # Panics
    ///
    /// Panics if the configuration does not pass [`ClientConfig::check`].
    #[must_use]
    pub fn resume_with_token(dial: D, config: ClientConfig, token: impl Into<Bytes>) -> Self {
        let core = Core::new(config.checked(), Some(token.into()), dial.renews_tickets());
        Self { dial, link: None, silent: None, core }
    }

    /// Advances the client's clock by `dt`, receives and sends frames, and opens a link if one is due. Call it
    /// 20 to 100 times a second, and then [`poll`](Self::poll) until that returns `None`.
    ///
    /// `dt` is the real time since the last call, including sleep of the machine. Do not cap it: use bevy's
    /// `Time<Real>`, because `Time<Virtual>` advances by at most 250 ms a frame.
    ///
    /// If a single `dt` is [`link_timeout`](ClientConfig::link_timeout) or more, the client assumes that the
    /// process has slept, as an app in the background does. The server has then probably closed the link, so
    /// the client discards the link without reading it, and dials again in the same call. After a shorter
    /// sleep, the client keeps the link if a new frame arrives within 2 s, or within half of `link_timeout`
    /// if that is shorter.
    pub fn update(&mut self, dt: Duration) {
        self.core.advance(dt);
        self.release();
        self.dial.prepare(dt, &self.core.dial_state());
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
            if let Some(what) = link.violation() {
                self.core.violated(what);
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

    /// Discards a link that has ended. Frames that are still in it are not read: the server sends them again
    /// on the next link, so they would be counted twice.
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

    /// Returns the next event, or `None` if all events were returned.
    pub fn poll(&mut self) -> Option<ClientEvent> {
        self.core.poll()
    }

    /// Sends a message on its lane.
    ///
    /// A reliable message is queued in the outbox, even while there is no link. The next update with a link sends
    /// it, and the client sends it again over later links until the server acknowledges it. The server receives
    /// reliable messages in order and exactly once. An unreliable message is sent at once; it may be lost,
    /// duplicated or reordered.
    ///
    /// # Errors
    ///
    /// Returns a [`SendError`] if the message is not sent. After [`SendError::Full`], try again when the server
    /// has acknowledged messages. [`SendError::Dropped`] is normal while there is no link.
    pub fn send<M: WireMessage>(&mut self, message: &M) -> Result<(), SendError> {
        self.send_frame(M::ID, encode(message))
    }

    /// Sends an encoded message, for code that does not know the type of the dial.
    pub(crate) fn send_frame(&mut self, id: MessageId, frame: Bytes) -> Result<(), SendError> {
        self.core.admit(id, &frame)?;
        match id.lane() {
            Lane::Reliable => self.core.queue(frame),
            Lane::Unreliable => {
                let link = self.link.as_mut().filter(|_| self.core.is_bound());
                let sent = link.is_some_and(|link| link.send(frame));
                sent.then_some(()).ok_or(SendError::Dropped)
            }
        }
    }

    /// Sends a Join for the zone with this name and returns its request id. The game on the server receives
    /// `payload`. The server's `Joined` or `Refused` carries the same id.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`send`](Self::send).
    pub fn join(&mut self, zone: impl Into<String>, payload: impl Into<Bytes>) -> Result<u32, SendError> {
        let request = self.core.next_request();
        self.send(&Join { request, zone: zone.into(), payload: payload.into() })?;
        Ok(request)
    }

    /// Sends a Part, with which the session leaves its zone, and returns its request id. The game on the server
    /// receives `payload`. The server's `Parted` or `Refused` carries the same id.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`send`](Self::send).
    pub fn part(&mut self, payload: impl Into<Bytes>) -> Result<u32, SendError> {
        let request = self.core.next_request();
        self.send(&Part { request, payload: payload.into() })?;
        Ok(request)
    }

    /// Ends the session: sends Bye after all earlier messages. Call [`update`](Self::update) until
    /// [`ClientEvent::Closed`] arrives. It arrives with the server's answer, after 5 s without an answer, or at
    /// once if there is no link to send the Bye on.
    pub fn bye(&mut self) {
        self.core.leave();
        self.release();
    }

    /// Gives up the link and dials again after the cut's `hold`. Unreliable messages that were not flushed by an
    /// update may be lost; reliable messages are sent again. Use this method in tests and bots, and when an app
    /// moves to the background.
    pub fn cut(&mut self, cut: Cut) {
        match cut {
            Cut::Silent { hold } => self.core.cut(Release::Drop, hold),
            Cut::Close { hold } => self.core.cut(Release::Close, hold),
        }
        self.release();
    }

    /// Returns the current link, which may not be open yet. Returns `None` while the client waits to dial, and
    /// after the client has stopped.
    #[must_use]
    pub fn link(&self) -> Option<&D::Link> {
        self.link.as_ref()
    }

    /// Returns the current link as a mutable reference, for example for [`Link::rebind`]. Returns `None` if
    /// [`link`](Self::link) does.
    ///
    /// Do not send or receive frames on it. The client would not count a frame that is received here, and the
    /// session would become inconsistent.
    pub fn link_mut(&mut self) -> Option<&mut D::Link> {
        self.link.as_mut()
    }

    /// Returns the state of the client.
    #[must_use]
    pub fn state(&self) -> ClientState {
        self.core.state()
    }

    /// Returns why the last try to open or resume a session has failed, as a text for the log. Returns `None` if
    /// no try has failed since the last Welcome.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.core.failure()
    }

    /// Returns the session's id. Returns `None` before the first Welcome of the session, and when the
    /// session is over.
    #[must_use]
    pub fn session_id(&self) -> Option<SessionId> {
        self.core.session_id()
    }

    /// Returns the resume token, or `None` without a session. The token resumes the session after a restart of
    /// the program: see [`resume_with_token`](Self::resume_with_token).
    ///
    /// Each Welcome replaces the token, so store it after each [`Connected`](ClientEvent::Connected) and
    /// [`Resumed`](ClientEvent::Resumed). The token is a secret.
    #[must_use]
    pub fn token(&self) -> Option<&[u8]> {
        self.core.token().map(|token| &**token)
    }

    /// Returns the last Welcome without its token, or `None` before the first. It holds the server's tick and
    /// tick rate, the session's timeout, and the zone that a resumed session is in.
    #[must_use]
    pub fn welcome(&self) -> Option<&Welcome> {
        self.core.welcome()
    }

    /// Returns the smoothed round-trip time that the server reports in its Beacons, or `None` before the first
    /// report on this link.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        self.core.latency()
    }

    /// Returns the number of reliable messages that were sent in this session, acknowledged or not. After
    /// [`resume_with_token`](Self::resume_with_token) the number starts at the server's count.
    #[must_use]
    pub fn sent_count(&self) -> u64 {
        self.core.sent_count()
    }

    /// Returns the number of reliable messages of this session that the server has acknowledged.
    #[must_use]
    pub fn acked_count(&self) -> u64 {
        self.core.acked_count()
    }

    /// Returns the number of reliable messages of this session that the client has received.
    #[must_use]
    pub fn received_count(&self) -> u64 {
        self.core.received_count()
    }

    /// Returns the number of times that this client has resumed a session.
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
