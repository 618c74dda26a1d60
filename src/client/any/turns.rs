//! The order in which routes are opened, without a socket.

use super::url::{Place, Transport};

/// The routes of a client, in the order in which they were given, and what became of them.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    routes: Vec<Route>,
    /// Over these a link opened, but the Hello was not answered. They come last.
    mute: Vec<Route>,
    /// The best route.
    next: usize,
    rotates: bool,
}

/// One transport to one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// The index of the place, in the order given.
    pub(super) place: usize,
    pub(super) transport: Transport,
}

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A frame came over this route.
    Worked(Route),
    /// A link opened over this route, and no frame came.
    Mute(Route),
    /// No route opened; this one was the last.
    NotOpened(Route),
}

impl Turns {
    /// `known` are the transports that discovery may offer, the preferred one first.
    pub(super) fn new(places: &[Place], known: &[Transport]) -> Self {
        Self { routes: routes(places, known), mute: Vec::new(), next: 0, rotates: false }
    }

    /// Takes in that discovery may offer other transports than before.
    pub(super) fn set_known(&mut self, places: &[Place], known: &[Transport]) {
        let next = self.next().filter(|_| self.rotates);
        self.routes = routes(places, known);
        self.next =
            next.and_then(|next| self.routes.iter().position(|route| *route == next)).unwrap_or_default();
    }

    /// After a link, the transport that follows its own is next, and not its own again.
    pub(super) fn rotate_from(&mut self, first: Transport) {
        self.rotates = true;
        self.next = self.routes.iter().position(|route| route.transport == first).unwrap_or(0);
    }

    pub(super) fn rotates(&self) -> bool {
        self.rotates
    }

    /// The best route.
    pub(super) fn next(&self) -> Option<Route> {
        self.routes.get(self.next).copied()
    }

    /// The order of the next race. After a `silent` loss the stream transport is first, because a
    /// network that drops the datagrams of one transport may drop those of all.
    pub(super) fn order(&self, is_silent: bool) -> Vec<Route> {
        let (before, after) = self.routes.split_at(self.next.min(self.routes.len()));
        let mut order: Vec<Route> = after.iter().chain(before).copied().collect();
        if self.rotates {
            return order;
        }
        if let Some(best) = order.first().copied() {
            // The other transports of a place come before other places.
            order.sort_by_key(|route| route.place != best.place);
        }
        order.sort_by_key(|route| self.mute.contains(route));
        let streams = |route: &Route| route.transport == Transport::WebSocket && !self.mute.contains(route);
        let place = usize::from(!is_silent);
        if let Some(stream) = order.iter().position(streams).filter(|index| *index > place) {
            let route = order.remove(stream);
            order.insert(place, route);
        }
        order
    }

    /// The routes to open in advance while a link is silent: those of the stream transport.
    pub(super) fn standby(&self) -> Vec<Route> {
        if self.rotates {
            return Vec::new();
        }
        let mut order = self.order(true);
        order.retain(|route| route.transport == Transport::WebSocket);
        order
    }

    /// Takes in what became of a try.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Worked(route) => {
                self.mute.clear();
                self.stand_at(route, usize::from(self.rotates));
            }
            Outcome::Mute(route) if self.rotates => self.stand_at(route, 1),
            Outcome::Mute(route) => {
                // The one that was mute last comes last.
                self.mute.retain(|mute| *mute != route);
                if self.mute.len() + 1 >= self.routes.len() {
                    self.mute.clear();
                }
                self.mute.push(route);
            }
            Outcome::NotOpened(route) if self.rotates => self.stand_at(route, 1),
            // The race has opened all routes: none is better than the others.
            Outcome::NotOpened(_) => self.mute.clear(),
        }
    }

    fn stand_at(&mut self, route: Route, steps: usize) {
        if let Some(index) = self.routes.iter().position(|at| *at == route) {
            self.next = (index + steps) % self.routes.len();
        }
    }
}

fn routes(places: &[Place], known: &[Transport]) -> Vec<Route> {
    let of_place = |(place, at): (usize, &Place)| {
        at.transports(known).into_iter().map(move |transport| Route { place, transport })
    };
    places.iter().enumerate().flat_map(of_place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Transport::{Quic, Udp, WebSocket, WebTransport};

    fn turns(urls: &[&str]) -> Turns {
        let places: Vec<Place> = urls.iter().map(|url| url.parse().expect("a URL")).collect();
        Turns::new(&places, &Transport::ALL)
    }

    fn transports(routes: &[Route]) -> Vec<Transport> {
        routes.iter().map(|route| route.transport).collect()
    }

    fn route(place: usize, transport: Transport) -> Route {
        Route { place, transport }
    }

    #[test]
    fn the_stream_follows_the_best_datagrams_and_what_worked_is_the_best() {
        let mut turns = turns(&["http://a:1"]);
        assert_eq!(transports(&turns.order(false)), [Udp, WebSocket, Quic, WebTransport]);

        turns.settle(Outcome::Worked(route(0, WebTransport)));
        assert_eq!(transports(&turns.order(false)), [WebTransport, WebSocket, Udp, Quic]);
        turns.settle(Outcome::Worked(route(0, WebSocket)));
        assert_eq!(transports(&turns.order(false)), [WebSocket, Udp, Quic, WebTransport]);
    }

    #[test]
    fn after_a_silent_loss_the_stream_is_first_and_it_alone_is_opened_in_advance() {
        let turns = turns(&["http://a:1", "wss://b/ws"]);

        assert_eq!(transports(&turns.order(true))[..2], [WebSocket, Udp]);
        assert_eq!(turns.standby(), [route(0, WebSocket), route(1, WebSocket)]);
    }

    #[test]
    fn a_place_is_tried_whole_before_the_next_one() {
        let mut turns = turns(&["http://a:1", "http://b:1#quic", "http://c:1"]);
        turns.settle(Outcome::Worked(route(2, Quic)));

        let places: Vec<usize> = turns.order(false).iter().map(|route| route.place).collect();

        assert_eq!(places, [2, 2, 2, 2, 0, 0, 0, 0, 1]);
        assert_eq!(transports(&turns.order(false))[..2], [Quic, WebSocket]);
    }

    #[test]
    fn a_route_over_which_no_frame_came_is_last_until_another_one_works() {
        let mut turns = turns(&["http://a:1"]);
        turns.settle(Outcome::Mute(route(0, Udp)));
        assert_eq!(transports(&turns.order(false)), [Quic, WebSocket, WebTransport, Udp]);

        turns.settle(Outcome::Mute(route(0, WebSocket)));
        assert_eq!(transports(&turns.order(false))[0], Quic);
        turns.settle(Outcome::Mute(route(0, Quic)));
        assert_eq!(transports(&turns.order(false))[0], WebTransport);
        turns.settle(Outcome::Mute(route(0, WebTransport)));
        assert_eq!(transports(&turns.order(false))[0], Udp, "all were mute");
        turns.settle(Outcome::Worked(route(0, Udp)));
        assert_eq!(transports(&turns.order(false))[0], Udp);
    }

    #[test]
    fn a_transport_of_a_games_own_is_preferred_where_discovery_is_asked() {
        let places: Vec<Place> = ["http://a:1", "wss://b/ws"].map(|url| url.parse().expect("a URL")).into();
        let own = Transport::named("radio");
        let known = [&[own][..], &Transport::ALL].concat();
        let mut turns = Turns::new(&places, &Transport::ALL);

        turns.set_known(&places, &known);

        assert_eq!(transports(&turns.order(false)), [own, WebSocket, Udp, Quic, WebTransport, WebSocket]);
        turns.rotate_from(Quic);
        turns.set_known(&places, &Transport::ALL);
        assert_eq!(turns.next(), Some(route(0, Quic)), "what was to be next is next");
    }

    #[test]
    fn a_dial_that_rotates_never_begins_with_the_transport_used_last() {
        let mut turns = turns(&["http://a:1"]);
        turns.rotate_from(WebTransport);

        let mut used = Vec::new();
        for _ in 0..5 {
            // WebSocket is not offered.
            let offered = turns.order(false).into_iter().find(|route| route.transport != WebSocket);
            let route = offered.expect("three are");
            used.push(route.transport);
            turns.settle(Outcome::Worked(route));
        }

        assert_eq!(used, [WebTransport, Udp, Quic, WebTransport, Udp]);
        assert!(turns.standby().is_empty());
        turns.settle(Outcome::NotOpened(route(0, Quic)));
        assert_eq!(turns.next(), Some(route(0, WebTransport)), "a failed one is passed over");
    }
}
