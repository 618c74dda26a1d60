//! Links over any transport, chosen by URL: one type for a game that does not care which.
//!
//! | URL | reaches a server |
//! | --- | --- |
//! | `http://host:7780`, `https://host` | by what its discovery (`GET /v1/connect`) offers, in the order [a game's own](AnyDial::transport), UDP, QUIC, WebTransport, WebSocket |
//! | the same with `#udp`, `#quic`, `#wt` or `#ws` | by that transport alone |
//! | `quic://host:7778` | by raw QUIC, without discovery |
//! | `webtransport://host:7778` | by WebTransport; the path is `/wt` unless given |
//! | `ws://host:7780`, `wss://host` | by WebSocket; the path is `/ws` unless given |
//!
//! Under TLS a certificate is trusted if a public authority signed it for the host, or if its SHA-256
//! is the one that the URL names: `quic://127.0.0.1:7778?cert_sha256=…`. What discovery offers
//! names its own, or is held to the URL's if it is on the same host. UDP is reached by discovery alone, because each link takes a fresh connect token.
//!
//! Outside a server's dev profile a new session needs a ticket. Discovery gives one with its answer, and
//! is asked anew for each new session. A URL without discovery names one, as from
//! `waystation token --ticket`: `quic://play.example:7778?ticket=…`. It opens one session; it goes into
//! the Hello, and is not sent as a part of a path.
//!
//! A dial is a race of openings, in the manner of Happy Eyeballs (RFC 8305). The best route is opened
//! first, WebSocket 400 ms later, and each other route 400 ms after the one before it. The first link
//! that is open carries the Hello; the others are closed, and nothing was sent on them. If the Hello is
//! not answered in time, that link is closed and the next dial begins with another route. What worked
//! is the best route from then on. A server that is given by several URLs is reached by the first of
//! them whose link opens; the order of the URLs is the order of the race.
//!
//! A link that is silent for 2.5 s may be lost, and a network that drops one datagram may drop them
//! all. So a WebSocket link is opened in advance, and used if the loss is decided. The same is done for
//! a resume whose Hello has had no answer for a second.
//!
//! Discovery is asked for each new session, and for each link over UDP. Its other offers are kept and
//! used again by resumes, until nothing can be opened with them.
//!
//! Nothing blocks, except the look-up of a host name, which the system does once for each name.
//! Addresses are kept for later dials. A name is looked up again after a dial that opened nothing
//! while no session waited to be resumed. An address in digits is never looked up.
//!
//! Data flow: URLs → routes → discovery, if it is needed → a race of openings → the open link →
//! whether a frame came → the order of the next race.

mod detour;
mod fetch;
mod names;
mod offers;
mod openers;
mod race;
mod standby;
mod trust;
mod turns;
mod url;
mod ways;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::link::{Dial, DialError, Link, LinkStatus, Outlook};
use crate::wire::Lane;
use crate::wire::discovery::Offer;
pub use detour::Detour;
pub use fetch::{Fetch, FetchError};
use openers::Carrier;
pub use openers::DialContext;
use race::{Race, Standing, Won};
use standby::Standby;
use url::{Kind, Place};
pub use url::{Transport, UrlError};
use ways::Ways;

/// Dials over any transport, and takes the first that gets through.
///
/// ```no_run
/// use waystation::client::{AnyDial, Client, ClientConfig};
///
/// let dial = AnyDial::new(["http://127.0.0.1:7780"])?;
/// let client = Client::new(dial, ClientConfig::default());
///
/// // What the server offers, and where that does not get through, WebSocket by way of a relay.
/// let dial = AnyDial::new(["https://play.example", "wss://relay.example/ws"])?;
/// # drop((client, dial));
/// # Ok::<(), waystation::client::UrlError>(())
/// ```
pub struct AnyDial {
    ways: Shared,
    standby: Standby<Carrier>,
    outlook: Outlook,
}

/// A link over the transport that opened first.
pub struct AnyLink {
    state: State,
    ways: Shared,
    /// How long the transport took to open.
    opened_in: Duration,
    /// What discovery or the URL gave for a new session.
    ticket: Option<String>,
    /// A frame came.
    worked: bool,
}

enum State {
    /// Discovery is asked, or transports open.
    Racing(Box<Race<Carrier>>),
    /// A transport carries the link.
    Carried(Transport, Carrier),
    /// Nothing can be opened, for this reason.
    Failed(String),
}

/// The dial and its links run on one thread, so the lock is always free.
type Shared = Arc<Mutex<Ways>>;

impl AnyDial {
    /// Dials the servers of these URLs, the preferred one first.
    ///
    /// # Errors
    ///
    /// [`UrlError`]: one of them is no server's, or there is none.
    pub fn new<I>(urls: I) -> Result<Self, UrlError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let places: Vec<Place> =
            urls.into_iter().map(|url| url.as_ref().parse()).collect::<Result<_, _>>()?;
        if places.is_empty() {
            return Err(UrlError::None);
        }
        let ways = Arc::new(Mutex::new(Ways::new(places)));
        Ok(Self { ways, standby: Standby::Idle, outlook: Outlook::default() })
    }

    /// Shows this bearer to discovery, where the server asks for one. It goes to each `http:` URL as
    /// it is, so outside a network of one's own use `https:`.
    #[must_use]
    pub fn bearer(self, bearer: impl Into<String>) -> Self {
        locked(&self.ways).show_bearer(bearer.into());
        self
    }

    /// Adds a transport of a game's own. `open` begins to open a link to an offer of this name, and must not block for
    /// long. Where discovery offers the transport, it is preferred to all others. A name that is there already is
    /// replaced. The example `custom_transport` has both ends of such a transport.
    #[must_use]
    pub fn transport<F>(self, name: &'static str, open: F) -> Self
    where
        F: FnMut(&Offer, &mut DialContext<'_>) -> Result<Box<dyn Link + Send>, DialError> + Send + 'static,
    {
        locked(&self.ways).add_transport(Transport::named(name), Box::new(open));
        self
    }

    /// Never dials a transport twice in a row if there is another: the first link goes over `first`,
    /// if it is offered, and each further one over what follows the last in the order given. There is
    /// no race. For tests and bots; a player stays with what works.
    #[must_use]
    pub fn rotate_from(self, first: Transport) -> Self {
        locked(&self.ways).turns_mut().rotate_from(first);
        self
    }

    /// Goes through relays to every server that is asked by its discovery: for tests of bad networks.
    #[must_use]
    pub fn through(self, detour: Detour) -> Self {
        for place in locked(&self.ways).places_mut() {
            place.detour = detour;
        }
        self
    }
}

impl Dial for AnyDial {
    type Link = AnyLink;

    fn dial(&mut self) -> Result<AnyLink, DialError> {
        let mut ways = locked(&self.ways);
        let (order, rules) = ways.begin(&self.outlook);
        let (mut opened_in, mut ticket) = (Duration::ZERO, None);
        let state = match self.standby.take() {
            Standby::Open(Won { route, link, opened_in: took }, _) => {
                ticket = ways.opened(route);
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
        drop(ways);
        Ok(AnyLink { state, ways: Arc::clone(&self.ways), opened_in, ticket, worked: false })
    }

    fn prepare(&mut self, dt: Duration, outlook: &Outlook) {
        self.outlook = *outlook;
        let ways = &mut *locked(&self.ways);
        ways.grow_old(dt);
        let order = ways.turns().standby();
        self.standby.update(dt, outlook, order, |route| ways.open(route));
        if matches!(self.standby, Standby::Opening(_)) {
            ways.advance(dt);
        }
    }

    fn renews_tickets(&self) -> bool {
        locked(&self.ways).places().iter().any(|place| matches!(place.kind, Kind::Discovery { .. }))
    }
}

impl Drop for AnyDial {
    /// A link that was opened in advance is not left to the server's timeout.
    fn drop(&mut self) {
        self.standby.close();
    }
}

impl fmt::Debug for AnyDial {
    /// Without the bearer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ways = locked(&self.ways);
        f.debug_struct("AnyDial")
            .field("places", &ways.places())
            .field("next", &ways.turns().next())
            .finish_non_exhaustive()
    }
}

impl AnyLink {
    /// The transport of this link; `None` until one is open.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        match &self.state {
            State::Carried(transport, _) => Some(*transport),
            State::Racing(_) | State::Failed(_) => None,
        }
    }

    /// Lets the race go on, and goes over to the transport that wins it.
    fn race(&mut self, dt: Duration) {
        let State::Racing(race) = &mut self.state else { return };
        let ways = &mut *locked(&self.ways);
        ways.advance(dt);
        race.allow(ways.measured_limit());
        match race.update(dt, |route| ways.open(route)) {
            Standing::Running => {}
            Standing::Won(Won { route, link, opened_in }) => {
                tracing::debug!(transport = %route.transport, ?opened_in, "a link is open");
                self.ticket = ways.opened(route);
                self.opened_in = opened_in;
                self.state = State::Carried(route.transport, link);
            }
            Standing::Lost => {
                ways.lost(race.is_silent());
                let why = race.failure().map_or_else(|| ways.nothing_offered(), str::to_owned);
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
            locked(&self.ways).worked();
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
                self.state = State::Failed("it was closed before it opened".to_owned());
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

    fn breach(&self) -> Option<String> {
        let State::Carried(_, carrier) = &self.state else { return None };
        carrier.breach()
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

fn locked(ways: &Shared) -> MutexGuard<'_, Ways> {
    ways.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
