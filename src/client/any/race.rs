//! Races openings against each other, similar to Happy Eyeballs (RFC 8305), without I/O and without a clock.
//!
//! The first link that is open wins, and the others are closed. A race neither sends nor receives a
//! frame, so only its winner carries a Hello. A route that is slow to open is opened a second time while the
//! first opening goes on, because TCP and QUIC wait a second or longer before they repeat a lost packet.
//!
//! Data flow: routes, best first → openings, each some time after the one before it → the winner.

use std::time::Duration;

use super::order::Route;
use super::url::Transport;
use crate::client::link::{Link, LinkStatus};

/// A race: the current openings, and the routes whose opening has not begun.
#[derive(Debug)]
pub(super) struct Race<L> {
    /// Best first.
    entrants: Vec<Entrant>,
    openings: Vec<Opening<L>>,
    /// Time since the last opening began.
    waited: Duration,
    /// Time since the first opening began.
    age: Option<Duration>,
    rules: Rules,
    /// Index of the entrant that is the first candidate for another opening.
    next: usize,
    failure: Option<String>,
    /// True if no opening was refused by a peer or by the system.
    is_silent: bool,
}

/// The parameters of a race.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Time that a link may take to open.
    pub(super) limit: Duration,
    /// True while the session can still be resumed. Slow routes are then opened again sooner, and the race may
    /// last longer.
    pub(super) is_urgent: bool,
    /// True if only the first route that is offered is opened.
    pub(super) is_single: bool,
}

#[derive(Debug)]
struct Entrant {
    route: Route,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// Discovery is asked for the offer of the route.
    Asking,
    Begun,
    Failed,
    NotOffered,
}

#[derive(Debug)]
struct Opening<L> {
    route: Route,
    link: L,
    age: Duration,
}

/// The result of an attempt to begin an opening.
#[derive(Debug)]
pub(super) enum Start<L> {
    /// The link is opening.
    Link(L),
    /// Discovery has not answered yet.
    Asking,
    /// The server does not offer this route.
    NotOffered,
    /// The route or its discovery has failed, for this reason.
    Failed(String),
}

/// A link that is open.
#[derive(Debug)]
pub(super) struct Won<L> {
    pub(super) route: Route,
    pub(super) link: L,
    /// Time that the link took to open.
    pub(super) opened_in: Duration,
}

/// The state of a race.
#[derive(Debug)]
pub(super) enum Standing<L> {
    /// No link is open yet.
    Running,
    /// This link is open, and all others are closed.
    Won(Won<L>),
    /// No link can be opened, and all links are closed.
    Lost,
}

impl<L: Link> Race<L> {
    pub(super) fn new(order: Vec<Route>, rules: Rules) -> Self {
        Self {
            entrants: order.into_iter().map(|route| Entrant { route, stage: Stage::Waiting }).collect(),
            openings: Vec::new(),
            waited: Duration::ZERO,
            age: None,
            rules,
            next: 0,
            failure: None,
            is_silent: true,
        }
    }

    /// Takes over the openings of another race. Their routes count as begun.
    pub(super) fn adopt(&mut self, other: Self) {
        for opening in other.openings {
            let entrant = self.entrants.iter_mut().find(|entrant| entrant.route == opening.route);
            if let Some(entrant) = entrant {
                entrant.stage = Stage::Begun;
            }
            self.age.get_or_insert_default();
            self.openings.push(opening);
        }
        // The session has lost its link: the next route need not wait.
        self.waited = DELAY;
    }

    /// Lengthens the time that a link may take to open.
    pub(super) fn allow(&mut self, limit: Duration) {
        self.rules.limit = self.rules.limit.max(limit);
    }

    /// Returns the reason of the last failure.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Returns true if no opening was refused: openings have ended by timeout only.
    pub(super) fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// Closes all links.
    pub(super) fn close(&mut self) {
        for mut opening in self.openings.drain(..) {
            opening.link.close();
        }
    }

    /// Lets time pass. `start` begins to open a route.
    pub(super) fn update(&mut self, dt: Duration, mut start: impl FnMut(Route) -> Start<L>) -> Standing<L> {
        // After a stall the openings first read what has arrived in the meantime.
        let dt = dt.min(STEP_MAX);
        self.waited += dt;
        self.age = self.age.map(|age| age + dt);
        if let Some(won) = self.advance(dt) {
            return Standing::Won(won);
        }
        if self.is_over() {
            self.close();
            return Standing::Lost;
        }
        self.begin(&mut start);
        self.begin_again(&mut start);
        if self.openings.is_empty() && !self.has_more() { Standing::Lost } else { Standing::Running }
    }

    /// Advances the openings. Returns the first that is open, and removes those that have failed.
    fn advance(&mut self, dt: Duration) -> Option<Won<L>> {
        let mut index = 0;
        while let Some(opening) = self.openings.get_mut(index) {
            opening.age += dt;
            opening.link.update(dt);
            opening.link.flush();
            let status = opening.link.status();
            if status == LinkStatus::Opening && opening.age < self.rules.limit {
                index += 1;
                continue;
            }
            let Opening { route, mut link, age } = self.openings.remove(index);
            if status == LinkStatus::Open {
                self.close();
                return Some(Won { route, link, opened_in: age });
            }
            let why = link.failure().unwrap_or_else(|| {
                let transport = route.transport;
                format!("no link could be opened over {transport}; another transport may work")
            });
            link.close();
            if status == LinkStatus::Closed {
                self.set_stage(route, Stage::Failed);
                self.refused(why);
            } else {
                self.failure.get_or_insert(why);
            }
        }
        None
    }

    /// Begins the first opening of routes: one at a time, and each `DELAY` after the one before.
    fn begin(&mut self, start: &mut impl FnMut(Route) -> Start<L>) {
        for index in 0..self.entrants.len() {
            let Entrant { route, stage } = self.entrants[index];
            let is_asking = self.entrants.iter().any(|entrant| entrant.stage == Stage::Asking);
            let is_next = self.openings.is_empty() && (stage == Stage::Asking || !is_asking);
            if !matches!(stage, Stage::Waiting | Stage::Asking) || !(is_next || self.waited >= DELAY) {
                continue;
            }
            if self.is_full() || self.is_decided() {
                return;
            }
            match start(route) {
                Start::Link(link) => self.begun(index, link),
                Start::Asking if stage == Stage::Asking => {}
                Start::Asking => {
                    self.entrants[index].stage = Stage::Asking;
                    self.waited = Duration::ZERO;
                }
                Start::NotOffered => self.entrants[index].stage = Stage::NotOffered,
                Start::Failed(why) => {
                    self.entrants[index].stage = Stage::Failed;
                    self.refused(why);
                }
            }
        }
    }

    /// Opens a slow route again, while its first opening goes on.
    fn begin_again(&mut self, start: &mut impl FnMut(Route) -> Start<L>) {
        let pause = if self.rules.is_urgent { AGAIN_URGENT } else { AGAIN };
        if self.openings.is_empty() || self.waited < pause || self.is_full() {
            return;
        }
        let count = self.entrants.len();
        for index in (self.next..self.next + count).map(|index| index % count) {
            let Entrant { route, stage } = self.entrants[index];
            let is_tried = stage == Stage::Begun || (stage == Stage::Failed && !self.rules.is_single);
            // netcode itself repeats its packets, ten times a second.
            let repeats = route.transport == Transport::Udp
                && self.openings.iter().any(|opening| opening.route == route);
            if !is_tried || repeats {
                continue;
            }
            if let Start::Link(link) = start(route) {
                self.next = index + 1;
                self.begun(index, link);
                return;
            }
        }
        // No route can be opened now: wait, so that not each update tries all routes.
        self.waited = Duration::ZERO;
    }

    fn begun(&mut self, index: usize, link: L) {
        let entrant = &mut self.entrants[index];
        entrant.stage = Stage::Begun;
        self.openings.push(Opening { route: entrant.route, link, age: Duration::ZERO });
        self.age.get_or_insert_default();
        self.waited = Duration::ZERO;
    }

    /// Notes that an opening was refused. The next one begins at once.
    fn refused(&mut self, why: String) {
        self.failure = Some(why);
        self.is_silent = false;
        self.waited = self.waited.max(DELAY);
    }

    fn set_stage(&mut self, route: Route, stage: Stage) {
        if let Some(entrant) = self.entrants.iter_mut().find(|entrant| entrant.route == route) {
            entrant.stage = stage;
        }
    }

    fn is_full(&self) -> bool {
        self.openings.len() >= OPENINGS_MAX
    }

    /// Returns true if the race is for a single route and has begun to open one.
    fn is_decided(&self) -> bool {
        self.rules.is_single && self.age.is_some()
    }

    /// Returns true if the opening of a route has not begun.
    fn has_more(&self) -> bool {
        let is_to_come = |entrant: &Entrant| matches!(entrant.stage, Stage::Waiting | Stage::Asking);
        !self.is_decided() && self.entrants.iter().any(is_to_come)
    }

    /// Returns true if the race has taken too long. While discovery is asked, only its own timeout applies.
    fn is_over(&self) -> bool {
        let is_asking = self.entrants.iter().any(|entrant| entrant.stage == Stage::Asking);
        let delays = DELAY * u32::try_from(self.entrants.len()).unwrap_or(u32::MAX);
        let longest = self.rules.limit + delays;
        let longest = if self.rules.is_urgent { longest.max(URGENT_MAX) } else { longest };
        !is_asking && self.age.is_some_and(|age| age >= longest)
    }
}

/// Delay between the beginnings of two openings: the Connection Attempt Delay of RFC 8305, which recommends
/// 250 ms and allows up to 2 s. The first transport suits a game best, so it gets two round trips of 200 ms.
const DELAY: Duration = Duration::from_millis(400);
/// Time after which a slow route is opened again. TCP repeats its first packet after the same time.
const AGAIN: Duration = Duration::from_secs(1);
/// Time after which a slow route is opened again while a session can still be resumed. A packet of an opening
/// leaves within this time after the network is back.
const AGAIN_URGENT: Duration = Duration::from_millis(500);
/// An urgent race lasts at least this long, unless it is won or all its openings fail: the sum of the default link
/// timeout and the default time for which a session can be resumed.
const URGENT_MAX: Duration = Duration::from_secs(10);
/// The most openings at a time: as many as an urgent race begins within 2.5 s, the default limit.
const OPENINGS_MAX: usize = 6;
/// The most by which the time of a race moves in one update.
const STEP_MAX: Duration = Duration::from_millis(250);

#[cfg(test)]
pub(super) mod tests;
