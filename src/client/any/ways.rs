//! What a dial and its links know of the ways to a server: routes, offers, addresses, and what worked.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fetch::{Fetch, FetchError};
use super::names::Names;
use super::offers::{AskRules, Found, Offers};
use super::openers::{Carrier, DialContext, Opener, Openers};
use super::race::{Rules, Start};
use super::turns::{Outcome, Route, Turns};
use super::url::{Place, Transport};
use crate::client::link::Outlook;
use crate::client::protocol::absence::{OPENING_ROUND_TRIPS, OPENING_TIMEOUT_MAX};
use crate::wire::discovery::Offer;

/// All that outlives a link: it belongs to the dial and to each of its links.
#[derive(Debug)]
pub(super) struct Ways {
    places: Vec<Place>,
    /// One for each place.
    offers: Vec<Offers>,
    turns: Turns,
    openers: Openers,
    names: Names,
    bearer: Option<Bearer>,
    /// For each route, which of the host's addresses is next: another one after each opening that did
    /// not win.
    addresses: BTreeMap<(usize, Transport), usize>,
    /// The route of the last opening.
    last: Option<Route>,
    /// The route of the last link that opened, until a frame comes over it.
    unproven: Option<Route>,
    is_urgent: bool,
    opening_timeout: Duration,
}

/// What discovery is shown; never printed.
struct Bearer(String);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(..)")
    }
}

impl Ways {
    pub(super) fn new(places: Vec<Place>) -> Self {
        let outlook = Outlook::default();
        let openers = Openers::default();
        Self {
            offers: places.iter().map(|_| Offers::default()).collect(),
            turns: Turns::new(&places, &openers.transports()),
            openers,
            places,
            names: Names::default(),
            bearer: None,
            addresses: BTreeMap::new(),
            last: None,
            unproven: None,
            is_urgent: false,
            opening_timeout: outlook.opening_timeout,
        }
    }

    pub(super) fn show_bearer(&mut self, bearer: String) {
        self.bearer = Some(Bearer(bearer));
    }

    pub(super) fn add_transport(&mut self, transport: Transport, opener: Opener) {
        self.openers.add(transport, opener);
        self.turns.set_known(&self.places, &self.openers.transports());
    }

    pub(super) fn turns_mut(&mut self) -> &mut Turns {
        &mut self.turns
    }

    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    pub(super) fn places_mut(&mut self) -> &mut [Place] {
        &mut self.places
    }

    /// Begins a try: takes in what became of the last one, and says what the race is to open.
    pub(super) fn begin(&mut self, outlook: &Outlook) -> (Vec<Route>, Rules) {
        if let Some(route) = self.unproven.take() {
            self.turns.settle(Outcome::Mute(route));
        }
        for offers in &mut self.offers {
            offers.begin(outlook.resumes);
        }
        self.last = None;
        self.is_urgent = outlook.is_urgent;
        self.opening_timeout = outlook.opening_timeout;
        let rules = Rules {
            limit: outlook.opening_timeout,
            is_urgent: outlook.is_urgent,
            is_single: self.turns.rotates(),
        };
        (self.turns.order(outlook.was_silent), rules)
    }

    /// Lets the age of what is known grow.
    pub(super) fn grow_old(&mut self, dt: Duration) {
        for offers in &mut self.offers {
            offers.grow_old(dt);
        }
    }

    /// Lets questions to discoveries go on.
    pub(super) fn advance(&mut self, dt: Duration) {
        let rules = AskRules { limit: self.opening_timeout, is_urgent: self.is_urgent };
        for (place, offers) in self.places.iter().zip(&mut self.offers) {
            let (names, bearer) = (&mut self.names, self.bearer.as_ref());
            offers.advance(dt, rules, place, |turn| ask(place, bearer, names, turn));
        }
    }

    /// Begins to open a route.
    pub(super) fn open(&mut self, route: Route) -> Start<Carrier> {
        let offer = match self.offer(route) {
            Start::Link(offer) => offer,
            Start::Asking => return Start::Asking,
            Start::NotOffered => return Start::NotOffered,
            Start::Failed(why) => return Start::Failed(why),
        };
        self.last = Some(route);
        let address = self.addresses.entry((route.place, route.transport)).or_default();
        let turn = *address;
        *address = turn.wrapping_add(1);
        let mut context = DialContext::new(&self.places[route.place], &mut self.names, turn);
        match self.openers.open(route.transport, &offer, &mut context) {
            Ok(carrier) => Start::Link(carrier),
            Err(error) => Start::Failed(error.to_string()),
        }
    }

    /// What the URL of a route or its discovery offers.
    fn offer(&mut self, route: Route) -> Start<Offer> {
        let (Some(place), Some(offers)) = (self.places.get(route.place), self.offers.get_mut(route.place))
        else {
            return Start::NotOffered;
        };
        if let Some(offer) = place.offer() {
            return Start::Link(offer);
        }
        let (names, bearer) = (&mut self.names, self.bearer.as_ref());
        match offers.find(route.transport, |turn| ask(place, bearer, names, turn)) {
            Found::Answer(answer) => match answer.offer(route.transport.offered_as()) {
                Some(offer) => Start::Link(offer.clone()),
                None => Start::NotOffered,
            },
            Found::Asking => Start::Asking,
            Found::Failed(why) => Start::Failed(why),
        }
    }

    /// How long an opening may take by the round trips that discoveries measured.
    pub(super) fn measured_limit(&self) -> Duration {
        let longest = self.offers.iter().filter_map(Offers::round_trip).max().unwrap_or_default();
        longest.saturating_mul(OPENING_ROUND_TRIPS).min(OPENING_TIMEOUT_MAX)
    }

    /// A link over this route is open, and carries the Hello. Returns the ticket for a new session: of
    /// the URL, or of an answer of discovery with which no link was opened before.
    pub(super) fn opened(&mut self, route: Route) -> Option<String> {
        let of_url = self.places.get(route.place).and_then(|place| place.ticket.clone());
        let ticket = of_url.or_else(|| self.offers.get(route.place)?.ticket());
        self.unproven = Some(route);
        if let Some(address) = self.addresses.get_mut(&(route.place, route.transport)) {
            *address = address.wrapping_sub(1);
        }
        for offers in &mut self.offers {
            offers.opened();
        }
        ticket
    }

    /// A frame came over the route of the open link.
    pub(super) fn worked(&mut self) {
        if let Some(route) = self.unproven.take() {
            self.turns.settle(Outcome::Worked(route));
        }
    }

    /// Nothing could be opened. What was known may be out of date, unless a short outage explains it.
    pub(super) fn lost(&mut self, is_silent: bool) {
        if let Some(route) = self.last.take() {
            self.turns.settle(Outcome::NotOpened(route));
        }
        if is_silent && self.is_urgent {
            return;
        }
        self.names.doubt();
        for offers in &mut self.offers {
            offers.forget(is_silent);
        }
    }

    /// What to say where no route is offered.
    pub(super) fn nothing_offered(&self) -> String {
        let Some(place) = self.places.first() else { return String::new() };
        let known = self.openers.transports();
        let wanted: Vec<&str> = place.transports(&known).iter().map(|transport| transport.name()).collect();
        format!("{place} offers none of {}; enable one at the server", wanted.join(", "))
    }
}

/// Asks the discovery of a place.
fn ask(place: &Place, bearer: Option<&Bearer>, names: &mut Names, turn: usize) -> Result<Fetch, FetchError> {
    let reach = |cause| FetchError::Reach { place: place.text.clone(), cause };
    let addresses = match place.detour.http {
        Some(relay) => vec![relay],
        None => names.addresses(&place.host, place.port, turn).map_err(reach)?,
    };
    Fetch::start(place, bearer.map(|bearer| bearer.0.as_str()), &addresses)
}

#[cfg(test)]
mod tests;
