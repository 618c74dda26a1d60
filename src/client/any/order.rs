//! Decides the order in which routes are opened, without I/O.

use super::url::{ServerUrl, Transport};

/// The routes of a client in the order of preference, and the results of earlier tries.
#[derive(Debug, Clone)]
pub(super) struct RouteOrder {
    routes: Vec<Route>,
    /// Routes over which a link opened but no frame arrived. They come last.
    mute: Vec<Route>,
    /// The best route.
    next: usize,
    rotates: bool,
}

/// One transport to one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// Index of the server, in the order of the URLs.
    pub(super) place: usize,
    pub(super) transport: Transport,
}

/// The result of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A frame arrived over this route.
    Worked(Route),
    /// A link opened over this route, but no frame arrived.
    Mute(Route),
    /// No link opened. This route was the last one that was tried.
    NotOpened(Route),
}

impl RouteOrder {
    /// Creates the routes to these servers. `known` are the transports that discovery may offer, the preferred one
    /// first.
    pub(super) fn new(places: &[ServerUrl], known: &[Transport]) -> Self {
        Self { routes: routes(places, known), mute: Vec::new(), next: 0, rotates: false }
    }

    /// Replaces the transports that discovery may offer.
    pub(super) fn set_known(&mut self, places: &[ServerUrl], known: &[Transport]) {
        let next = self.next().filter(|_| self.rotates);
        self.routes = routes(places, known);
        self.next =
            next.and_then(|next| self.routes.iter().position(|route| *route == next)).unwrap_or_default();
    }

    /// Begins with this transport, and uses the following one after each link.
    pub(super) fn rotate_from(&mut self, first: Transport) {
        self.rotates = true;
        self.next = self.routes.iter().position(|route| route.transport == first).unwrap_or(0);
    }

    pub(super) fn rotates(&self) -> bool {
        self.rotates
    }

    /// Returns the best route.
    pub(super) fn next(&self) -> Option<Route> {
        self.routes.get(self.next).copied()
    }

    /// Returns the order of the next race. If the last link was lost because it was silent, WebSocket is first,
    /// because a network that drops the datagrams of one transport may drop all datagrams.
    pub(super) fn order(&self, is_silent: bool) -> Vec<Route> {
        let (before, after) = self.routes.split_at(self.next.min(self.routes.len()));
        let mut order: Vec<Route> = after.iter().chain(before).copied().collect();
        if self.rotates {
            return order;
        }
        if let Some(best) = order.first().copied() {
            // The other transports to the best server come before other servers.
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

    /// Returns the routes to open in advance while a link is silent: those over WebSocket.
    pub(super) fn standby(&self) -> Vec<Route> {
        if self.rotates {
            return Vec::new();
        }
        let mut order = self.order(true);
        order.retain(|route| route.transport == Transport::WebSocket);
        order
    }

    /// Notes the result of a try.
    pub(super) fn note_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Worked(route) => {
                self.mute.clear();
                self.stand_at(route, usize::from(self.rotates));
            }
            Outcome::Mute(route) if self.rotates => self.stand_at(route, 1),
            Outcome::Mute(route) => {
                // The route that was mute last comes last.
                self.mute.retain(|mute| *mute != route);
                if self.mute.len() + 1 >= self.routes.len() {
                    self.mute.clear();
                }
                self.mute.push(route);
            }
            Outcome::NotOpened(route) if self.rotates => self.stand_at(route, 1),
            // The race has tried all routes, so no route is better than the others.
            Outcome::NotOpened(_) => self.mute.clear(),
        }
    }

    fn stand_at(&mut self, route: Route, steps: usize) {
        if let Some(index) = self.routes.iter().position(|at| *at == route) {
            self.next = (index + steps) % self.routes.len();
        }
    }
}

fn routes(places: &[ServerUrl], known: &[Transport]) -> Vec<Route> {
    let of_place = |(place, at): (usize, &ServerUrl)| {
        at.transports(known).into_iter().map(move |transport| Route { place, transport })
    };
    places.iter().enumerate().flat_map(of_place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Transport::{Quic, Udp, WebSocket, WebTransport};

    fn order(urls: &[&str]) -> RouteOrder {
        let places: Vec<ServerUrl> = urls.iter().map(|url| url.parse().expect("a URL")).collect();
        RouteOrder::new(&places, &Transport::ALL)
    }

    fn transports(routes: &[Route]) -> Vec<Transport> {
        routes.iter().map(|route| route.transport).collect()
    }

    fn route(place: usize, transport: Transport) -> Route {
        Route { place, transport }
    }

    #[test]
    fn websocket_is_second_and_a_route_that_worked_is_first() {
        let mut order = order(&["http://a:1"]);
        assert_eq!(transports(&order.order(false)), [Udp, WebSocket, Quic, WebTransport]);

        order.note_outcome(Outcome::Worked(route(0, WebTransport)));
        assert_eq!(transports(&order.order(false)), [WebTransport, WebSocket, Udp, Quic]);
        order.note_outcome(Outcome::Worked(route(0, WebSocket)));
        assert_eq!(transports(&order.order(false)), [WebSocket, Udp, Quic, WebTransport]);
    }

    #[test]
    fn after_a_silent_loss_websocket_is_first_and_only_websocket_is_opened_in_advance() {
        let order = order(&["http://a:1", "wss://b/ws"]);

        assert_eq!(transports(&order.order(true))[..2], [WebSocket, Udp]);
        assert_eq!(order.standby(), [route(0, WebSocket), route(1, WebSocket)]);
    }

    #[test]
    fn all_routes_to_one_server_come_before_the_next_server() {
        let mut order = order(&["http://a:1", "http://b:1#quic", "http://c:1"]);
        order.note_outcome(Outcome::Worked(route(2, Quic)));

        let places: Vec<usize> = order.order(false).iter().map(|route| route.place).collect();

        assert_eq!(places, [2, 2, 2, 2, 0, 0, 0, 0, 1]);
        assert_eq!(transports(&order.order(false))[..2], [Quic, WebSocket]);
    }

    #[test]
    fn a_route_over_which_no_frame_arrived_is_last_until_another_one_works() {
        let mut order = order(&["http://a:1"]);
        order.note_outcome(Outcome::Mute(route(0, Udp)));
        assert_eq!(transports(&order.order(false)), [Quic, WebSocket, WebTransport, Udp]);

        order.note_outcome(Outcome::Mute(route(0, WebSocket)));
        assert_eq!(transports(&order.order(false))[0], Quic);
        order.note_outcome(Outcome::Mute(route(0, Quic)));
        assert_eq!(transports(&order.order(false))[0], WebTransport);
        order.note_outcome(Outcome::Mute(route(0, WebTransport)));
        assert_eq!(transports(&order.order(false))[0], Udp, "all routes were mute");
        order.note_outcome(Outcome::Worked(route(0, Udp)));
        assert_eq!(transports(&order.order(false))[0], Udp);
    }

    #[test]
    fn a_custom_transport_is_preferred_where_discovery_is_asked() {
        let places: Vec<ServerUrl> =
            ["http://a:1", "wss://b/ws"].map(|url| url.parse().expect("a URL")).into();
        let own = Transport::named("radio");
        let known = [&[own][..], &Transport::ALL].concat();
        let mut order = RouteOrder::new(&places, &Transport::ALL);

        order.set_known(&places, &known);

        assert_eq!(transports(&order.order(false)), [own, WebSocket, Udp, Quic, WebTransport, WebSocket]);
        order.rotate_from(Quic);
        order.set_known(&places, &Transport::ALL);
        assert_eq!(order.next(), Some(route(0, Quic)), "the next route is kept");
    }

    #[test]
    fn a_dial_that_rotates_never_begins_with_the_transport_used_last() {
        let mut order = order(&["http://a:1"]);
        order.rotate_from(WebTransport);

        let mut used = Vec::new();
        for _ in 0..5 {
            // WebSocket is not offered.
            let offered = order.order(false).into_iter().find(|route| route.transport != WebSocket);
            let route = offered.expect("three routes are offered");
            used.push(route.transport);
            order.note_outcome(Outcome::Worked(route));
        }

        assert_eq!(used, [WebTransport, Udp, Quic, WebTransport, Udp]);
        assert!(order.standby().is_empty());
        order.note_outcome(Outcome::NotOpened(route(0, Quic)));
        assert_eq!(order.next(), Some(route(0, WebTransport)), "a failed route is skipped");
    }
}
