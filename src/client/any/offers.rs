//! Keeps what the discovery of one server offers: asks when an offer is needed, and keeps the answer for resumes.
//!
//! A token in an offer opens one link, so each link over UDP needs a new answer. Offers without a token are used
//! until they fail.

use std::time::Duration;

use super::fetch::{Fetch, FetchError};
use super::url::Transport;
use crate::wire::discovery::Discovery;

/// The last answer of a discovery, and the current requests.
#[derive(Debug, Default)]
pub(super) struct Offers {
    known: Option<Known>,
    asks: Vec<Ask>,
    /// Time since the last request began.
    waited: Duration,
    /// The reason why the last request of this try failed, and the time since then.
    failure: Option<(String, Duration)>,
    /// Selects which of the host's addresses is tried first. It advances with each request that fails or is slow.
    turn: usize,
    /// The round-trip time that the last successful request measured.
    round_trip: Option<Duration>,
}

#[derive(Debug)]
struct Known {
    answer: Discovery,
    age: Duration,
    /// The transports whose token was used to open a link.
    used_tokens: Vec<Transport>,
    /// True once a link has opened, so its Hello may have used the ticket.
    is_opened: bool,
}

/// A request to discovery.
#[derive(Debug)]
struct Ask {
    fetch: Fetch,
    age: Duration,
    /// The time that the connection took to open; `None` until then.
    connected: Option<Duration>,
}

/// The result of a search for an offer.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// The answer of discovery, which can be used for the transport.
    Answer(&'a Discovery),
    /// Discovery has not answered yet.
    Asking,
    /// The request has failed, for this reason.
    Failed(String),
}

impl Offers {
    /// Begins a try. A new session needs a fresh answer with which no link was opened; a resume uses any answer.
    pub(super) fn begin(&mut self, resumes: bool) {
        self.failure = None;
        if !resumes && self.known.as_ref().is_some_and(|known| known.is_opened || known.age >= FRESH) {
            self.known = None;
        }
    }

    /// Returns an answer that can be used for the transport. Without such an answer, calls `ask` to begin a request,
    /// unless a request has begun. The argument of `ask` selects the address of the host that is tried first.
    pub(super) fn find(
        &mut self,
        transport: Transport,
        ask: impl FnOnce(usize) -> Result<Fetch, FetchError>,
    ) -> Found<'_> {
        if !self.known.as_ref().is_some_and(|known| known.is_good_for(transport)) {
            return self.ask(ask);
        }
        match &mut self.known {
            Some(known) => {
                if known.has_token(transport) {
                    known.used_tokens.push(transport);
                }
                Found::Answer(&known.answer)
            }
            None => Found::Asking,
        }
    }

    fn ask(&mut self, ask: impl FnOnce(usize) -> Result<Fetch, FetchError>) -> Found<'_> {
        if !self.asks.is_empty() {
            return Found::Asking;
        }
        if let Some((why, _)) = &self.failure {
            return Found::Failed(why.clone());
        }
        match ask(self.turn) {
            Ok(fetch) => {
                self.push(fetch);
                Found::Asking
            }
            Err(error) => Found::Failed(self.fail(error.to_string())),
        }
    }

    /// Advances the requests. `rules` limits their time, and `ask` begins another request if the current ones take
    /// too long.
    pub(super) fn advance(
        &mut self,
        dt: Duration,
        rules: AskRules,
        place: &dyn std::fmt::Display,
        ask: impl FnOnce(usize) -> Result<Fetch, FetchError>,
    ) {
        self.waited = self.waited.saturating_add(dt);
        let mut index = 0;
        while let Some(asked) = self.asks.get_mut(index) {
            asked.age += dt;
            match asked.fetch.poll() {
                Ok(Some(answer)) => {
                    // Connecting and the request take a round trip each, or more under TLS.
                    let connected = asked.connected.unwrap_or_default();
                    self.round_trip = Some(connected.max(asked.age.saturating_sub(connected)));
                    self.known = Some(Known {
                        answer,
                        age: Duration::ZERO,
                        used_tokens: Vec::new(),
                        is_opened: false,
                    });
                    self.asks.clear();
                    return;
                }
                Ok(None) => {
                    if asked.connected.is_none() && asked.fetch.is_connected() {
                        asked.connected = Some(asked.age);
                    }
                    let is_early = asked.connected.is_none() || rules.is_urgent;
                    let longest = if is_early { rules.limit } else { DISCOVERY_TIMEOUT };
                    if asked.age < longest {
                        index += 1;
                        continue;
                    }
                    self.asks.remove(index);
                    self.fail(format!("the discovery of {place} does not answer in time; is it reachable?"));
                }
                Err(error) => {
                    self.asks.remove(index);
                    self.fail(error.to_string());
                }
            }
        }
        let is_connected = self.asks.iter().any(|asked| asked.connected.is_some());
        let is_stuck = !self.asks.is_empty() && (rules.is_urgent || !is_connected);
        let pause = if rules.is_urgent { AGAIN_URGENT } else { AGAIN };
        let pause = pause.max(self.round_trip.unwrap_or_default() * ASK_ROUND_TRIPS);
        if is_stuck && self.waited >= pause && self.asks.len() < ASKS_MAX {
            self.turn = self.turn.wrapping_add(1);
            match ask(self.turn) {
                Ok(fetch) => self.push(fetch),
                Err(error) => tracing::debug!(%error, "discovery cannot be asked again"),
            }
        }
    }

    fn push(&mut self, fetch: Fetch) {
        self.asks.push(Ask { fetch, age: Duration::ZERO, connected: None });
        self.waited = Duration::ZERO;
    }

    fn fail(&mut self, why: String) -> String {
        self.turn = self.turn.wrapping_add(1);
        self.failure = Some((why.clone(), Duration::ZERO));
        why
    }

    /// Advances the age of the answer and of the failure.
    pub(super) fn grow_old(&mut self, dt: Duration) {
        if let Some((_, age)) = &mut self.failure {
            *age = age.saturating_add(dt);
        }
        self.failure = self.failure.take().filter(|(_, age)| *age < FAILURE_KEPT);
        if let Some(known) = &mut self.known {
            known.age = known.age.saturating_add(dt);
        }
    }

    /// Returns the ticket of the answer, unless a link was opened with this answer.
    pub(super) fn ticket(&self) -> Option<String> {
        self.known.as_ref().filter(|known| !known.is_opened)?.answer.ticket.clone()
    }

    /// Notes that a link is open.
    pub(super) fn opened(&mut self) {
        self.asks.clear();
        if let Some(known) = &mut self.known {
            known.is_opened = true;
        }
    }

    /// Discards the answer after no link could be opened, so that the next try asks again. If `is_silent` is true,
    /// no opening was refused, and a fresh answer is kept.
    pub(super) fn forget(&mut self, is_silent: bool) {
        self.known = self.known.take().filter(|known| is_silent && known.age < FRESH);
    }

    /// Returns the round-trip time to discovery, if it was measured.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }
}

/// The limits for the requests of a try.
#[derive(Debug, Clone, Copy)]
pub(super) struct AskRules {
    /// Time that a request may take to connect and, if it is urgent, to be answered.
    pub(super) limit: Duration,
    /// True while a session can still be resumed. Requests are then repeated sooner, and also after they have
    /// connected.
    pub(super) is_urgent: bool,
}

impl Known {
    /// Returns true if a link over the transport can be opened with the answer. A transport that is not offered has no
    /// token to renew.
    fn is_good_for(&self, transport: Transport) -> bool {
        !self.has_token(transport) || (!self.used_tokens.contains(&transport) && self.age < FRESH)
    }

    fn has_token(&self, transport: Transport) -> bool {
        self.answer.offer(transport.offered_as()).is_some_and(|offer| offer.token.is_some())
    }
}

/// Time that a request may take: five round trips of 1.5 s, for TCP, TLS and HTTP.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(8);
/// Age up to which an unused answer serves a new session: less than the lifetime of its ticket and connect token.
const FRESH: Duration = Duration::from_secs(10);
/// Time for which a failed request also fails the other transports of the server. After this time a new request
/// begins.
const FAILURE_KEPT: Duration = Duration::from_secs(1);
/// Time after which a request that has not connected is repeated. TCP repeats its first packet after the same time.
const AGAIN: Duration = Duration::from_secs(1);
/// Time after which a request is repeated while a session can still be resumed. A request leaves within this time
/// after the network is back.
const AGAIN_URGENT: Duration = Duration::from_millis(500);
/// The fewest round trips in which a request is answered. A request is not repeated before this time has passed.
const ASK_ROUND_TRIPS: u32 = 2;
/// The most requests at a time: as many as an urgent race begins within 2.5 s, the default limit.
const ASKS_MAX: usize = 6;
