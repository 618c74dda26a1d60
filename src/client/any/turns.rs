//! Which route is tried next: the order of fall-back, without a socket.

use super::url::{Place, Transport};

/// The routes of a client, in the order in which they were given, and whose turn it is.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    routes: Vec<Route>,
    next: usize,
    /// Tries in a row that failed.
    failures: usize,
    rotates: bool,
}

/// One transport to one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// The place, counted as given.
    pub(super) place: usize,
    pub(super) transport: Transport,
}

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A frame came over this route.
    Worked(Route),
    /// Nothing came over this route.
    Failed(Route),
    /// This place did not say what there is.
    NoAnswer(usize),
    /// What was known of a route is no longer true: nothing is said of the route itself.
    Stale,
}

impl Turns {
    pub(super) fn new(places: &[Place]) -> Self {
        let routes = places
            .iter()
            .enumerate()
            .flat_map(|(place, at)| {
                at.transports().into_iter().map(move |transport| Route { place, transport })
            })
            .collect();
        Self { routes, next: 0, failures: 0, rotates: false }
    }

    /// After a link, the transport that follows its own is next, and not its own again.
    pub(super) fn rotate_from(&mut self, first: Transport) {
        self.rotates = true;
        self.next = self.routes.iter().position(|route| route.transport == first).unwrap_or(0);
    }

    pub(super) fn rotates(&self) -> bool {
        self.rotates
    }

    /// Tries in a row that failed.
    pub(super) fn failures(&self) -> usize {
        self.failures
    }

    /// The route whose turn it is; none if there are no routes.
    pub(super) fn next(&self) -> Option<Route> {
        self.routes.get(self.next).copied()
    }

    /// What to try at the place whose turn it is, best first: those of its routes that have not had
    /// their turn. If there is no other place, the others follow.
    pub(super) fn candidates(&self) -> Vec<Route> {
        let Some(first) = self.next() else { return Vec::new() };
        let (before, after) = self.routes.split_at(self.next);
        let mut candidates: Vec<Route> =
            after.iter().copied().take_while(|route| route.place == first.place).collect();
        if self.routes.iter().all(|route| route.place == first.place) {
            candidates.extend(before);
        }
        candidates
    }

    /// Takes in what became of a try.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        self.failures =
            if matches!(outcome, Outcome::Worked(_)) { 0 } else { self.failures.saturating_add(1) };
        match outcome {
            Outcome::Worked(route) => self.stand_at(route, usize::from(self.rotates)),
            Outcome::Failed(route) => self.stand_at(route, 1),
            Outcome::NoAnswer(place) => {
                // The only place there is is asked again from where it stands.
                let elsewhere = |route: &Route| route.place != place;
                let count = self.routes.len();
                let mut beyond = (self.next..self.next + count).map(|index| index % count);
                if let Some(index) = beyond.find(|index| elsewhere(&self.routes[*index])) {
                    self.next = index;
                }
            }
            Outcome::Stale => {}
        }
    }

    fn stand_at(&mut self, route: Route, steps: usize) {
        if let Some(index) = self.routes.iter().position(|at| *at == route) {
            self.next = (index + steps) % self.routes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Transport::{Quic, Udp, WebSocket, WebTransport};

    fn turns(urls: &[&str]) -> Turns {
        let places: Vec<Place> = urls.iter().map(|url| url.parse().expect("a URL")).collect();
        Turns::new(&places)
    }

    fn transports(routes: &[Route]) -> Vec<Transport> {
        routes.iter().map(|route| route.transport).collect()
    }

    fn route(place: usize, transport: Transport) -> Route {
        Route { place, transport }
    }

    #[test]
    fn a_try_that_fails_moves_on_and_wraps_around() {
        let mut turns = turns(&["http://a:1", "http://b:2#ws"]);
        assert_eq!(transports(&turns.candidates()), Transport::ALL);

        let mut tried = Vec::new();
        for _ in 0..6 {
            let route = turns.next().expect("a route");
            tried.push((route.place, route.transport));
            turns.settle(Outcome::Failed(route));
        }

        assert_eq!(tried, [(0, Udp), (0, Quic), (0, WebTransport), (0, WebSocket), (1, WebSocket), (0, Udp)]);
        assert_eq!(turns.failures(), 6);
    }

    #[test]
    fn what_worked_is_tried_first_again() {
        let mut turns = turns(&["http://a:1"]);
        turns.settle(Outcome::Failed(route(0, Udp)));
        turns.settle(Outcome::Worked(route(0, WebTransport)));

        assert_eq!(turns.failures(), 0);
        assert_eq!(turns.next(), Some(route(0, WebTransport)));
        assert_eq!(transports(&turns.candidates()), [WebTransport, WebSocket, Udp, Quic]);
        turns.settle(Outcome::Stale);
        assert_eq!(turns.next(), Some(route(0, WebTransport)), "asked anew");
    }

    #[test]
    fn a_place_that_does_not_answer_is_passed_over_whole() {
        let mut turns = turns(&["http://a:1", "http://b:1#ws", "http://c:1#quic"]);

        turns.settle(Outcome::NoAnswer(0));
        assert_eq!(turns.next(), Some(route(1, WebSocket)));
        assert_eq!(transports(&turns.candidates()), [WebSocket], "the next place is another question");
        turns.settle(Outcome::NoAnswer(1));
        assert_eq!(turns.next(), Some(route(2, Quic)));
        turns.settle(Outcome::Failed(route(2, Quic)));
        assert_eq!(turns.next(), Some(route(0, Udp)));
    }

    #[test]
    fn the_only_place_is_asked_again_from_where_it_stood() {
        let mut turns = turns(&["http://a:1"]);
        turns.settle(Outcome::Failed(route(0, Udp)));
        turns.settle(Outcome::NoAnswer(0));

        assert_eq!(turns.next(), Some(route(0, Quic)));
    }

    #[test]
    fn who_rotates_never_begins_with_the_transport_used_last() {
        let mut turns = turns(&["http://a:1"]);
        turns.rotate_from(WebTransport);

        let mut used = Vec::new();
        for _ in 0..5 {
            // WebSocket is not offered.
            let offered = turns.candidates().into_iter().find(|route| route.transport != WebSocket);
            let route = offered.expect("three are");
            used.push(route.transport);
            turns.settle(Outcome::Worked(route));
        }

        assert_eq!(used, [WebTransport, Udp, Quic, WebTransport, Udp]);
    }
}
