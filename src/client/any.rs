//! Opens links over any transport to a server that is named by a URL.
//!
//! [`AnyDial`] documents the URLs.
//!
//! A dial is a race of openings, similar to Happy Eyeballs (RFC 8305). The best route begins first, WebSocket
//! 400 ms later, and each other route 400 ms after the one before it. The first link that is open carries the
//! Hello; the other links are closed before a frame is sent on them. If the Hello is not answered in time, its link
//! is closed and the next dial begins with another route. A route over which a frame has arrived is the best
//! route from then on. With several URLs, the routes are in the order of the URLs.
//!
//! A link that is silent for 2.5 s may be lost, and the network may drop all datagrams. So a WebSocket link is
//! opened in advance, and the next dial returns it if the silent link is lost. The same applies to a resume whose
//! Hello has had no answer for 1 s.
//!
//! The client asks discovery for each new session and for each link over UDP. For other resumes it uses the
//! last answer again, until no link can be opened with it.
//!
//! Only the look-up of a host name may block. The system looks up each name once, and the addresses are kept for
//! later dials. A name is looked up again after a dial in which no link opened, unless that dial was to resume a
//! session and no peer refused it. An IP address is never looked up.
//!
//! Data flow: URLs → routes → discovery, if it is needed → a race of openings → the open link → whether a frame
//! arrives on it → the order of the next race.

mod addresses;
mod fetch;
mod offers;
mod openers;
mod order;
mod race;
mod relay_addresses;
mod routes;
mod standby;
mod trust;
mod url;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::link::{Dial, DialError, DialState, Link, LinkStatus};
use crate::wire::Lane;
use crate::wire::discovery::Offer;
pub use fetch::{Fetch, FetchError};
use openers::BoxedLink;
pub use openers::DialContext;
use race::{Race, Standing, Won};
pub use relay_addresses::RelayAddresses;
use routes::Routes;
use standby::Standby;
use url::{Kind, ServerUrl};
pub use url::{Transport, UrlError};

/// Dials over several transports, and uses the first link that opens.
///
/// | URL | transport |
/// | --- | --- |
/// | `http://host:7780`, `https://host` | each transport that the server's discovery (`GET /v1/connect`) offers |
/// | the same with `#udp`, `#quic`, `#wt` or `#ws` | only the named transport, as discovery offers it |
/// | `quic://host:7778` | raw QUIC, without discovery |
/// | `webtransport://host:7778` | WebTransport, without discovery; the default path is `/wt` |
/// | `ws://host:7780`, `wss://host` | WebSocket, without discovery; the default path is `/ws` |
///
/// Offers of discovery are preferred in this order: [custom transports](Self::transport), UDP, QUIC, WebTransport,
/// WebSocket. UDP works only with discovery, because each link needs a fresh connect token.
///
/// Under TLS, the client accepts a certificate that a public authority has signed for the host. If the URL has a
/// SHA-256, as in `quic://127.0.0.1:7778?cert_sha256=…`, the client accepts only the certificate with this hash. If
/// an offer of discovery has a hash, this hash applies to the offer. If the offer has no hash and is on the host of
/// the URL, the hash of the URL applies.
///
/// Except in a server's `dev` profile, a new session needs a ticket. Discovery gives one with each answer, and the
/// client asks discovery for each new session. To a URL without discovery, add a ticket that
/// `waystation token --ticket` prints: `quic://play.example:7778?ticket=…`. A ticket opens one session. The client
/// sends it in the Hello, never in a path.
///
/// Only the look-up of a host name may block.
///
/// ```no_run
/// use waystation::client::{AnyDial, Client, ClientConfig};
///
/// let dial = AnyDial::new(["http://127.0.0.1:7780"])?;
/// let client = Client::new(dial, ClientConfig::default());
///
/// // The transports that the server offers, and WebSocket through a relay if they do not work.
/// let dial = AnyDial::new(["https://play.example", "wss://relay.example/ws"])?;
/// # drop((client, dial));
/// # Ok::<(), waystation::client::UrlError>(())
/// ```
pub struct AnyDial {
    routes: Shared,
    standby: Standby<BoxedLink>,
    state: DialState,
}

/// A link over the transport that opened first.
pub struct AnyLink {
    state: State,
    routes: Shared,
    /// The time that the link took to open.
    opened_in: Duration,
    /// The ticket of discovery's answer or of the URL.
    ticket: Option<String>,
    /// True once a frame was received.
    worked: bool,
}

enum State {
    /// Discovery is asked, or transports are opening.
    Racing(Box<Race<BoxedLink>>),
    /// A link over this transport has opened.
    Carried(Transport, BoxedLink),
    /// No link can be opened, for this reason.
    Failed(String),
}

/// The dial and its links run on one thread, so the lock is always free.
type Shared = Arc<Mutex<Routes>>;

impl AnyDial {
    /// Creates a dial for the servers of these URLs, the preferred one first.
    ///
    /// # Errors
    ///
    /// Returns a [`UrlError`] if one of the URLs cannot be dialled, or if there are no URLs.
    pub fn new<I>(urls: I) -> Result<Self, UrlError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let places: Vec<ServerUrl> =
            urls.into_iter().map(|url| url.as_ref().parse()).collect::<Result<_, _>>()?;
        if places.is_empty() {
            return Err(UrlError::None);
        }
        let routes = Arc::new(Mutex::new(Routes::new(places)));
        Ok(Self { routes, standby: Standby::Idle, state: DialState::default() })
    }

    /// Sends this bearer token to discovery, for a server that requires one. It is sent in plain text to `http:`
    /// URLs, so use `https:` outside a private network.
    #[must_use]
    pub fn bearer(self, bearer: impl Into<String>) -> Self {
        locked(&self.routes).show_bearer(bearer.into());
        self
    }

    /// Adds a custom transport, which is preferred to all others if discovery offers it. `open` begins to open a
    /// link to an offer of this name, and must not block for long. A transport of the same name is replaced. The
    /// example `custom_transport` shows both ends of a custom transport.
    #[must_use]
    pub fn transport<F>(self, name: &'static str, open: F) -> Self
    where
        F: FnMut(&Offer, &mut DialContext<'_>) -> Result<Box<dyn Link + Send>, DialError> + Send + 'static,
    {
        locked(&self.routes).add_transport(Transport::named(name), Box::new(open));
        self
    }

    /// Changes the transport with each link, for tests and bots. The first link uses `first`, if it is offered, and
    /// each further link uses the next offered transport in the order of preference. There is no race.
    #[must_use]
    pub fn rotate_from(self, first: Transport) -> Self {
        locked(&self.routes).turns_mut().rotate_from(first);
        self
    }

    /// Reaches each server that has discovery through these relays, for tests of bad networks.
    #[must_use]
    pub fn through(self, relays: RelayAddresses) -> Self {
        for place in locked(&self.routes).places_mut() {
            place.relays = relays;
        }
        self
    }
}

impl Dial for AnyDial {
    type Link = AnyLink;

    fn dial(&mut self) -> Result<AnyLink, DialError> {
        let mut routes = locked(&self.routes);
        let (order, rules) = routes.begin(&self.state);
        let (mut opened_in, mut ticket) = (Duration::ZERO, None);
        let state = match self.standby.take() {
            Standby::Open(Won { route, link, opened_in: took }, _) => {
                ticket = routes.opened(route);
                opened_in = took;
                State::Carried(route.transport, link)
            }
            Standby::Opening(opening) => {
                let mut race = Race::new(order, rules);
                race.adopt(opening);
                State::Racing(Box::new(race))
            }
            Standby::Idle | Standby::Resting(_) => State::Racing(Box::new(Race::new(order, rules))),
        };
        drop(routes);
        Ok(AnyLink { state, routes: Arc::clone(&self.routes), opened_in, ticket, worked: false })
    }

    fn prepare(&mut self, dt: Duration, state: &DialState) {
        self.state = *state;
        let routes = &mut *locked(&self.routes);
        routes.grow_old(dt);
        let order = routes.order().standby();
        self.standby.update(dt, state, order, |route| routes.open(route));
        if matches!(self.standby, Standby::Opening(_)) {
            routes.advance(dt);
        }
    }

    fn renews_tickets(&self) -> bool {
        locked(&self.routes).places().iter().any(|place| matches!(place.kind, Kind::Discovery { .. }))
    }
}

impl Drop for AnyDial {
    /// Closes the link that was opened in advance, so that the server does not wait for its timeout.
    fn drop(&mut self) {
        self.standby.close();
    }
}

impl fmt::Debug for AnyDial {
    /// Omits the bearer token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes = locked(&self.routes);
        f.debug_struct("AnyDial")
            .field("places", &routes.places())
            .field("next", &routes.order().next())
            .finish_non_exhaustive()
    }
}

impl AnyLink {
    /// Returns the transport of this link, or `None` until one is open.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        match &self.state {
            State::Carried(transport, _) => Some(*transport),
            State::Racing(_) | State::Failed(_) => None,
        }
    }

    /// Advances the race, and switches to the transport that wins it.
    fn race(&mut self, dt: Duration) {
        let State::Racing(race) = &mut self.state else { return };
        let routes = &mut *locked(&self.routes);
        routes.advance(dt);
        race.allow(routes.measured_limit());
        match race.update(dt, |route| routes.open(route)) {
            Standing::Running => {}
            Standing::Won(Won { route, link, opened_in }) => {
                tracing::debug!(transport = %route.transport, ?opened_in, "a link is open");
                self.ticket = routes.opened(route);
                self.opened_in = opened_in;
                self.state = State::Carried(route.transport, link);
            }
            Standing::Lost => {
                routes.lost(race.is_silent());
                let why = race.failure().map_or_else(|| routes.nothing_offered(), str::to_owned);
                self.state = State::Failed(why);
            }
        }
    }
}

impl Link for AnyLink {
    fn update(&mut self, dt: Duration) {
        match &mut self.state {
            State::Racing(_) => self.race(dt),
            State::Carried(_, carrier) => carrier.update(dt),
            State::Failed(_) => {}
        }
    }

    fn status(&self) -> LinkStatus {
        match &self.state {
            State::Racing(_) => LinkStatus::Opening,
            State::Carried(_, carrier) => carrier.status(),
            State::Failed(_) => LinkStatus::Closed,
        }
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        let State::Carried(_, carrier) = &mut self.state else { return None };
        let frame = carrier.receive()?;
        if !self.worked {
            self.worked = true;
            locked(&self.routes).worked();
        }
        Some(frame)
    }

    fn send(&mut self, frame: Bytes) -> bool {
        let State::Carried(_, carrier) = &mut self.state else { return false };
        carrier.send(frame)
    }

    fn flush(&mut self) {
        if let State::Carried(_, carrier) = &mut self.state {
            carrier.flush();
        }
    }

    fn is_stream(&self) -> bool {
        matches!(&self.state, State::Carried(_, carrier) if carrier.is_stream())
    }

    fn close(&mut self) {
        match &mut self.state {
            State::Racing(race) => {
                race.close();
                self.state = State::Failed("the link was closed before it opened".to_owned());
            }
            State::Carried(_, carrier) => carrier.close(),
            State::Failed(_) => {}
        }
    }

    fn ticket(&self) -> Option<&str> {
        self.ticket.as_deref()
    }

    fn failure(&self) -> Option<String> {
        match &self.state {
            State::Racing(race) => race.failure().map(str::to_owned),
            State::Carried(_, carrier) => carrier.failure(),
            State::Failed(why) => Some(why.clone()),
        }
    }

    fn times_opening(&self) -> bool {
        true
    }

    fn round_trip(&self) -> Option<Duration> {
        let trips = self.transport()?.opening_round_trips();
        Some(self.opened_in / trips)
    }

    fn rebind(&mut self) -> io::Result<bool> {
        match &mut self.state {
            State::Carried(_, carrier) => carrier.rebind(),
            State::Racing(_) | State::Failed(_) => Ok(false),
        }
    }

    fn violation(&self) -> Option<String> {
        let State::Carried(_, carrier) = &self.state else { return None };
        carrier.violation()
    }
}

impl fmt::Debug for AnyLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyLink")
            .field("transport", &self.transport())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

fn locked(routes: &Shared) -> MutexGuard<'_, Routes> {
    routes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
