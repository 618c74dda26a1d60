//! Keeps what a dial and its links share about the routes to a server: offers, addresses, and results.

use std::collections::BTreeMap;
use std::time::Duration;

use super::addresses::AddressCache;
use super::fetch::{Fetch, FetchError};
use super::offers::{AskRules, Found, Offers};
use super::openers::{BoxedLink, DialContext, Opener, Openers};
use super::order::{Outcome, Route, RouteOrder};
use super::race::{Rules, Start};
use super::url::{ServerUrl, Transport};
use crate::client::link::DialState;
use crate::client::protocol::absence::{OPENING_ROUND_TRIPS, OPENING_TIMEOUT_MAX};
use crate::wire::discovery::Offer;

/// The state that a dial shares with its links, and that outlives each link.
#[derive(Debug)]
pub(super) struct Routes {
    places: Vec<ServerUrl>,
    /// One for each URL.
    offers: Vec<Offers>,
    order: RouteOrder,
    openers: Openers,
    cache: AddressCache,
    bearer: Option<Bearer>,
    /// For each route, the number that selects the address that is tried first. It advances with each opening that
    /// does not win.
    addresses: BTreeMap<(usize, Transport), usize>,
    /// The route of the last opening.
    last: Option<Route>,
    /// The route of the last link that opened, until a frame arrives on it.
    unproven: Option<Route>,
    is_urgent: bool,
    opening_timeout: Duration,
}

/// The bearer token for discovery, which is never printed.
struct Bearer(String);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(..)")
    }
}

impl Routes {
    pub(super) fn new(places: Vec<ServerUrl>) -> Self {
        let state = DialState::default();
        let openers = Openers::default();
        Self {
            offers: places.iter().map(|_| Offers::default()).collect(),
            order: RouteOrder::new(&places, &openers.transports()),
            openers,
            places,
            cache: AddressCache::default(),
            bearer: None,
            addresses: BTreeMap::new(),
            last: None,
            unproven: None,
            is_urgent: false,
            opening_timeout: state.opening_timeout,
        }
    }

    pub(super) fn show_bearer(&mut self, bearer: String) {
        self.bearer = Some(Bearer(bearer));
    }

    pub(super) fn add_transport(&mut self, transport: Transport, opener: Opener) {
        self.openers.add(transport, opener);
        self.order.set_known(&self.places, &self.openers.transports());
    }

    pub(super) fn turns_mut(&mut self) -> &mut RouteOrder {
        &mut self.order
    }

    pub(super) fn order(&self) -> &RouteOrder {
        &self.order
    }

    pub(super) fn places(&self) -> &[ServerUrl] {
        &self.places
    }

    pub(super) fn places_mut(&mut self) -> &mut [ServerUrl] {
        &mut self.places
    }

    /// Begins a try: notes the result of the last one, and returns the routes and the rules of the race.
    pub(super) fn begin(&mut self, state: &DialState) -> (Vec<Route>, Rules) {
        if let Some(route) = self.unproven.take() {
            self.order.note_outcome(Outcome::Mute(route));
        }
        for offers in &mut self.offers {
            offers.begin(state.resumes);
        }
        self.last = None;
        self.is_urgent = state.is_urgent;
        self.opening_timeout = state.opening_timeout;
        let rules = Rules {
            limit: state.opening_timeout,
            is_urgent: state.is_urgent,
            is_single: self.order.rotates(),
        };
        (self.order.order(state.was_silent), rules)
    }

    /// Advances the age of the offers.
    pub(super) fn grow_old(&mut self, dt: Duration) {
        for offers in &mut self.offers {
            offers.grow_old(dt);
        }
    }

    /// Advances the requests to discovery.
    pub(super) fn advance(&mut self, dt: Duration) {
        let rules = AskRules { limit: self.opening_timeout, is_urgent: self.is_urgent };
        for (place, offers) in self.places.iter().zip(&mut self.offers) {
            let (cache, bearer) = (&mut self.cache, self.bearer.as_ref());
            offers.advance(dt, rules, place, |turn| ask(place, bearer, cache, turn));
        }
    }

    /// Begins to open a route.
    pub(super) fn open(&mut self, route: Route) -> Start<BoxedLink> {
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
        let mut context = DialContext::new(&self.places[route.place], &mut self.cache, turn);
        match self.openers.open(route.transport, &offer, &mut context) {
            Ok(carrier) => Start::Link(carrier),
            Err(error) => Start::Failed(error.to_string()),
        }
    }

    /// Returns the offer for a route, from its URL or from discovery.
    fn offer(&mut self, route: Route) -> Start<Offer> {
        let (Some(place), Some(offers)) = (self.places.get(route.place), self.offers.get_mut(route.place))
        else {
            return Start::NotOffered;
        };
        if let Some(offer) = place.offer() {
            return Start::Link(offer);
        }
        let (cache, bearer) = (&mut self.cache, self.bearer.as_ref());
        match offers.find(route.transport, |turn| ask(place, bearer, cache, turn)) {
            Found::Answer(answer) => match answer.offer(route.transport.offered_as()) {
                Some(offer) => Start::Link(offer.clone()),
                None => Start::NotOffered,
            },
            Found::Asking => Start::Asking,
            Found::Failed(why) => Start::Failed(why),
        }
    }

    /// Returns the time that an opening may take, computed from the round trips of the requests to discovery.
    pub(super) fn measured_limit(&self) -> Duration {
        let longest = self.offers.iter().filter_map(Offers::round_trip).max().unwrap_or_default();
        longest.saturating_mul(OPENING_ROUND_TRIPS).min(OPENING_TIMEOUT_MAX)
    }

    /// Notes that a link over this route is open and will carry the Hello. Returns the ticket for a new session:
    /// the ticket of the URL, or of an answer of discovery with which no link was opened before.
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

    /// Notes that a frame has arrived on the open link.
    pub(super) fn worked(&mut self) {
        if let Some(route) = self.unproven.take() {
            self.order.note_outcome(Outcome::Worked(route));
        }
    }

    /// Notes that no link could be opened. Addresses and offers may be out of date and are discarded, unless a
    /// short outage explains the failure.
    pub(super) fn lost(&mut self, is_silent: bool) {
        if let Some(route) = self.last.take() {
            self.order.note_outcome(Outcome::NotOpened(route));
        }
        if is_silent && self.is_urgent {
            return;
        }
        self.cache.mark_stale();
        for offers in &mut self.offers {
            offers.forget(is_silent);
        }
    }

    /// Returns the error message for a server that offers no route.
    pub(super) fn nothing_offered(&self) -> String {
        let Some(place) = self.places.first() else { return String::new() };
        let known = self.openers.transports();
        let wanted: Vec<&str> = place.transports(&known).iter().map(|transport| transport.name()).collect();
        format!("{place} offers none of {}; enable one at the server", wanted.join(", "))
    }
}

/// Begins a request to the discovery of a server.
fn ask(
    place: &ServerUrl,
    bearer: Option<&Bearer>,
    cache: &mut AddressCache,
    turn: usize,
) -> Result<Fetch, FetchError> {
    let reach = |cause| FetchError::Reach { place: place.text.clone(), cause };
    let addresses = match place.relays.http {
        Some(relay) => vec![relay],
        None => cache.addresses(&place.host, place.port, turn).map_err(reach)?,
    };
    Fetch::start(place, bearer.map(|bearer| bearer.0.as_str()), &addresses)
}

#[cfg(test)]
mod tests;
