//! Links over any transport, chosen by URL: one type for a game that does not care which.
//!
//! | URL | reaches a server |
//! | --- | --- |
//! | `http://host:7780`, `https://host` | by whatever its discovery (`GET /v1/connect`) offers, in the order UDP, QUIC, WebTransport, WebSocket |
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
//! Fall-back: the routes are tried in the order given, and of one discovery's in the order above. A
//! try over which no frame came moves on to the next; after the last comes the first. What worked
//! is tried first again when its link is lost. It is not a race: one try at a time, each bounded by
//! [`dial_timeout`](super::ClientConfig::dial_timeout); discovery has 8 s of its own. UDP, QUIC and
//! WebTransport share their fate where a network drops all datagrams, and a session does not wait for
//! ever: for players in such networks give `http://host:7780#udp` and then `http://host:7780#ws`.
//!
//! Nothing blocks, but for the look-up of a host name: the system does it, once a try and once
//! more for a name that discovery offers. An address in digits is never looked up.
//!
//! Data flow: URLs → routes → whose turn it is → discovery, if asked → a link of that transport →
//! whether a frame came → whose turn is next.

mod carrier;
mod detour;
mod fetch;
mod trust;
mod turns;
mod url;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::link::{Dial, DialError, Link, LinkStatus, Outlook};
use super::protocol::absence::{OPENING_ROUND_TRIPS, OPENING_TIMEOUT_MAX};
use crate::wire::Lane;
use crate::wire::discovery::Discovery;
use carrier::{Carrier, Target};
pub use detour::Detour;
pub use fetch::{Fetch, FetchError};
use turns::{Outcome, Route, Turns};
use url::{Kind, Place};
pub use url::{Transport, UrlError};

/// Dials over any transport, and falls back from one to the next.
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
    places: Vec<Place>,
    turns: Turns,
    bearer: Option<String>,
    /// The try at hand, and what its link noted of it.
    last: Option<Try>,
    /// What discovery offered on the route that worked: to resume, it need not be asked again.
    known: Option<(Route, Target)>,
    outlook: Outlook,
}

/// A link over whichever transport its dial chose.
pub struct AnyLink {
    state: State,
    note: Shared,
    opened: bool,
    worked: bool,
    /// Since discovery was asked or, after its answer, since the transport began to open.
    age: Duration,
    /// How long the transport took to open.
    opened_in: Duration,
    /// How long the transport may take to open.
    limit: Duration,
    /// What discovery or the URL gave for a new session.
    ticket: Option<String>,
}

enum State {
    /// Discovery is asked.
    Asking(Box<Asking>),
    /// A transport opens or carries the link.
    Carried(Transport, Carrier),
    /// Nothing can come of it any more, and why.
    Failed(String),
}

struct Asking {
    place: Place,
    fetch: Fetch,
    /// Best first.
    candidates: Vec<Route>,
    turn: usize,
}

struct Try {
    place: usize,
    /// It went by what was known from before.
    by_heart: bool,
    note: Shared,
}

/// What a link notes for its dial, which sees it no more.
#[derive(Default)]
struct Note {
    /// The route that was taken.
    route: Option<Route>,
    /// What would dial it once more.
    target: Option<Target>,
    /// A frame came.
    worked: bool,
}

type Shared = Arc<Mutex<Note>>;

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
        Ok(Self {
            turns: Turns::new(&places),
            places,
            bearer: None,
            last: None,
            known: None,
            outlook: Outlook::default(),
        })
    }

    /// Shows this bearer to discovery, where the server asks for one. It goes to each `http:` URL as
    /// it is, so outside a network of one's own use `https:`.
    #[must_use]
    pub fn bearer(mut self, bearer: impl Into<String>) -> Self {
        self.bearer = Some(bearer.into());
        self
    }

    /// Never dials a transport twice in a row if there is another: the first link goes over `first`,
    /// if it is offered, and each further one over what follows the last in the order given. For
    /// tests and bots; a player stays with what works.
    #[must_use]
    pub fn rotate_from(mut self, first: Transport) -> Self {
        self.turns.rotate_from(first);
        self
    }

    /// Goes through relays to every server that is asked by its discovery: for tests of bad networks.
    #[must_use]
    pub fn through(mut self, detour: Detour) -> Self {
        for place in &mut self.places {
            place.detour = detour;
        }
        self
    }

    /// Takes in what became of the last try.
    fn settle(&mut self) {
        let Some(last) = self.last.take() else { return };
        let note = std::mem::take(&mut *locked(&last.note));
        let outcome = match note.route {
            Some(route) if note.worked => Outcome::Worked(route),
            _ if last.by_heart => Outcome::Stale,
            Some(route) => Outcome::Failed(route),
            None => Outcome::NoAnswer(last.place),
        };
        self.known = match outcome {
            Outcome::Worked(route) if !self.turns.rotates() => {
                note.target.filter(Target::is_reusable).map(|target| (route, target))
            }
            _ => None,
        };
        self.turns.settle(outcome);
    }
}

impl Dial for AnyDial {
    type Link = AnyLink;

    fn dial(&mut self) -> Result<AnyLink, DialError> {
        self.settle();
        let first = self.turns.next().ok_or_else(|| DialError::Other(UrlError::None.to_string()))?;
        let place = &self.places[first.place];
        let turn = self.turns.failures();
        let direct = Target::direct(place);
        // A new session needs a ticket of its own, which discovery gives with its answer.
        let known = self.known.take().filter(|_| self.outlook.resumes);
        let known = known.filter(|(route, _)| direct.is_none() && *route == first);
        let note = Shared::default();
        self.last = Some(Try { place: first.place, by_heart: known.is_some(), note: Arc::clone(&note) });
        let mut link = AnyLink {
            state: State::Failed(String::new()),
            note,
            opened: false,
            worked: false,
            age: Duration::ZERO,
            opened_in: Duration::ZERO,
            limit: self.outlook.opening_timeout,
            ticket: place.ticket.clone(),
        };
        match direct.or(known.map(|(_, target)| target)) {
            Some(target) => link.carry(first, Ok(target), turn)?,
            None => {
                let fetch = Fetch::start(place, self.bearer.as_deref(), turn)
                    .map_err(|error| DialError::Other(error.to_string()))?;
                let candidates = self.turns.candidates();
                let asking = Asking { place: place.clone(), fetch, candidates, turn };
                link.state = State::Asking(Box::new(asking));
            }
        }
        Ok(link)
    }

    fn prepare(&mut self, _dt: Duration, outlook: &Outlook) {
        self.outlook = *outlook;
    }

    fn renews_tickets(&self) -> bool {
        self.places.iter().any(|place| matches!(place.kind, Kind::Discovery { .. }))
    }
}

impl fmt::Debug for AnyDial {
    /// Without the bearer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyDial")
            .field("places", &self.places)
            .field("next", &self.turns.next())
            .finish_non_exhaustive()
    }
}

impl AnyLink {
    /// The transport of this link; none while discovery is asked.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        match &self.state {
            State::Carried(transport, _) => Some(*transport),
            State::Asking(_) | State::Failed(_) => None,
        }
    }

    /// Moves a link over QUIC or WebTransport to another socket: for a game that learns that the
    /// machine's network has changed. The link goes on, and so does all that is under way on it. False
    /// for other transports, which cannot: there [`Client::cut`](super::Client::cut) resumes at once.
    ///
    /// # Errors
    ///
    /// The system gives no socket; the old one stays.
    pub fn rebind(&mut self) -> io::Result<bool> {
        match &mut self.state {
            State::Carried(_, carrier) => carrier.rebind(),
            State::Asking(_) | State::Failed(_) => Ok(false),
        }
    }

    /// Opens a link over a route; it is the route's failure if there is no target for it.
    fn carry(
        &mut self,
        route: Route,
        target: Result<Target, DialError>,
        turn: usize,
    ) -> Result<(), DialError> {
        locked(&self.note).route = Some(route);
        let target = target?;
        let carrier = Carrier::open(&target, turn)?;
        locked(&self.note).target = Some(target);
        self.state = State::Carried(route.transport, carrier);
        Ok(())
    }

    /// Asks on, and goes over to the transport that is chosen.
    fn ask(&mut self) {
        let State::Asking(asking) = &mut self.state else { return };
        let chosen = match asking.fetch.poll() {
            Ok(None) => return,
            Ok(Some(mut offer)) => {
                self.ticket = offer.ticket.take();
                asking.choose(&offer)
            }
            Err(error) => Err(error.to_string()),
        };
        let turn = asking.turn;
        let opened = chosen
            .and_then(|(route, target)| self.carry(route, target, turn).map_err(|error| error.to_string()));
        match opened {
            Ok(()) => {
                // The answer took two round trips or, under TLS, more.
                let measured = self.age.saturating_mul(OPENING_ROUND_TRIPS) / 2;
                self.limit = self.limit.max(measured.min(OPENING_TIMEOUT_MAX));
                self.age = Duration::ZERO;
            }
            Err(why) => self.state = State::Failed(why),
        }
    }

    /// Ends an opening, or the question before it, that takes too long.
    fn end_late(&mut self) {
        let limit = match &self.state {
            State::Asking(_) => DISCOVERY_TIMEOUT,
            State::Carried(_, carrier) if carrier.link().status() == LinkStatus::Opening => self.limit,
            State::Carried(..) | State::Failed(_) => return,
        };
        if self.age >= limit {
            let why = self.failure().unwrap_or_default();
            self.close();
            self.state = State::Failed(why);
        }
    }
}

impl Asking {
    /// The best of the routes that are offered.
    fn choose(&self, offer: &Discovery) -> Result<(Route, Result<Target, DialError>), String> {
        let offered = self
            .candidates
            .iter()
            .find_map(|route| Some((*route, Target::offered(&self.place, offer, route.transport)?)));
        offered.ok_or_else(|| {
            let wanted: Vec<&str> = self.candidates.iter().map(|route| route.transport.name()).collect();
            format!("{} offers none of {}; enable one at the server", self.place, wanted.join(", "))
        })
    }
}

impl Link for AnyLink {
    fn update(&mut self, dt: Duration) {
        self.age = self.age.saturating_add(dt);
        self.ask();
        if let State::Carried(_, carrier) = &mut self.state {
            carrier.link_mut().update(dt);
            if !self.opened && carrier.link().status() == LinkStatus::Open {
                self.opened = true;
                self.opened_in = self.age;
            }
        }
        self.end_late();
    }

    fn status(&self) -> LinkStatus {
        match &self.state {
            State::Asking(_) => LinkStatus::Opening,
            State::Carried(_, carrier) => carrier.link().status(),
            State::Failed(_) => LinkStatus::Closed,
        }
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        let State::Carried(_, carrier) = &mut self.state else { return None };
        let frame = carrier.link_mut().receive()?;
        if !self.worked {
            self.worked = true;
            locked(&self.note).worked = true;
        }
        Some(frame)
    }

    fn send(&mut self, frame: Bytes) -> bool {
        let State::Carried(_, carrier) = &mut self.state else { return false };
        carrier.link_mut().send(frame)
    }

    fn flush(&mut self) {
        if let State::Carried(_, carrier) = &mut self.state {
            carrier.link_mut().flush();
        }
    }

    fn close(&mut self) {
        match &mut self.state {
            State::Asking(_) => self.state = State::Failed("it was closed before it opened".to_owned()),
            State::Carried(_, carrier) => carrier.link_mut().close(),
            State::Failed(_) => {}
        }
    }

    fn ticket(&self) -> Option<&str> {
        self.ticket.as_deref()
    }

    fn failure(&self) -> Option<String> {
        match &self.state {
            State::Asking(asking) => {
                Some(format!("{} does not say in time what it offers; is it reachable?", asking.place))
            }
            State::Carried(transport, carrier) => carrier.link().failure().or_else(|| {
                let closed =
                    || format!("no link could be opened over {transport}; another transport may get through");
                (!self.opened).then(closed)
            }),
            State::Failed(why) => Some(why.clone()),
        }
    }

    fn times_opening(&self) -> bool {
        true
    }

    fn round_trip(&self) -> Option<Duration> {
        let transport = self.transport().filter(|_| self.opened)?;
        Some(self.opened_in / transport.opening_round_trips())
    }

    fn breach(&self) -> Option<String> {
        let State::Carried(_, carrier) = &self.state else { return None };
        carrier.link().breach()
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

fn locked(note: &Shared) -> std::sync::MutexGuard<'_, Note> {
    note.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long discovery may take: five round trips of 1.5 s, for TCP, TLS and the question.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests;
