//! What the discovery of one place offers: asked when it is needed, and kept for resumes.
//!
//! A connect token opens one link, so UDP asks each time; the other offers hold until they fail.

use std::time::Duration;

use super::fetch::{Fetch, FetchError};
use super::url::Transport;
use crate::wire::discovery::{Discovery, UDP};

/// The last answer of a discovery, and the questions that are under way.
#[derive(Debug, Default)]
pub(super) struct Offers {
    known: Option<Known>,
    asks: Vec<Ask>,
    /// Since the last question began.
    waited: Duration,
    /// Why the last question of this try failed, and how long ago.
    failure: Option<(String, Duration)>,
    /// Which of the host's addresses is asked first: another one after each question in vain.
    turn: usize,
    /// The round-trip time that the last answered question measured.
    round_trip: Option<Duration>,
}

#[derive(Debug)]
struct Known {
    answer: Discovery,
    age: Duration,
    /// The connect token has opened a link.
    is_token_used: bool,
    /// A link was opened, so a Hello may have been said.
    is_opened: bool,
}

#[derive(Debug)]
struct Ask {
    fetch: Fetch,
    age: Duration,
    /// When the connection was there.
    connected: Option<Duration>,
}

/// What is known of a discovery.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// The answer, which is good for the transport.
    Answer(&'a Discovery),
    /// The question is under way.
    Asking,
    /// The question has failed, for this reason.
    Failed(String),
}

impl Offers {
    /// A new try begins. A new session needs what is fresh; a resume takes what is known.
    pub(super) fn begin(&mut self, resumes: bool) {
        self.failure = None;
        if !resumes && self.known.as_ref().is_some_and(|known| known.is_opened || known.age >= FRESH) {
            self.known = None;
        }
    }

    /// The offer for a transport. `ask` begins a question if none is under way; its number says which
    /// address of the host is the first.
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
                known.is_token_used |= transport == Transport::Udp;
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

    /// Lets the questions go on. `rules` bounds them, and `ask` begins another one beside those that
    /// seem to be stuck.
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
                    // The connection and the question took a round trip each, or more under TLS.
                    let connected = asked.connected.unwrap_or_default();
                    self.round_trip = Some(connected.max(asked.age.saturating_sub(connected)));
                    self.known =
                        Some(Known { answer, age: Duration::ZERO, is_token_used: false, is_opened: false });
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
                    self.fail(format!("{place} does not say in time what it offers; is it reachable?"));
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

    /// Lets the answer, or the failure, grow old.
    pub(super) fn grow_old(&mut self, dt: Duration) {
        if let Some((_, age)) = &mut self.failure {
            *age = age.saturating_add(dt);
        }
        self.failure = self.failure.take().filter(|(_, age)| *age < FAILURE_KEPT);
        if let Some(known) = &mut self.known {
            known.age = known.age.saturating_add(dt);
        }
    }

    /// The ticket of an answer with which no link was opened.
    pub(super) fn ticket(&self) -> Option<String> {
        self.known.as_ref().filter(|known| !known.is_opened)?.answer.ticket.clone()
    }

    /// A link is open.
    pub(super) fn opened(&mut self) {
        self.asks.clear();
        if let Some(known) = &mut self.known {
            known.is_opened = true;
        }
    }

    /// The answer may not hold, since nothing could be opened: the next try asks again. Without a
    /// refusal, an answer that is fresh is kept.
    pub(super) fn forget(&mut self, is_silent: bool) {
        self.known = self.known.take().filter(|known| is_silent && known.age < FRESH);
    }

    /// The round-trip time to discovery, once it was measured.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }
}

/// What bounds the questions of a try.
#[derive(Debug, Clone, Copy)]
pub(super) struct AskRules {
    /// How long a question may wait for its connection and, if it is urgent, for its answer.
    pub(super) limit: Duration,
    /// A session waits to be resumed: questions are repeated sooner, and also if they are connected.
    pub(super) is_urgent: bool,
}

impl Known {
    fn is_good_for(&self, transport: Transport) -> bool {
        // A server that does not offer UDP has no token to renew.
        transport != Transport::Udp
            || self.answer.offer(UDP).is_none()
            || (!self.is_token_used && self.age < FRESH)
    }
}

/// How long discovery may take: five round trips of 1.5 s, for TCP, TLS and the question.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(8);
/// How long an unused answer serves a new session: less than any token in it lives.
const FRESH: Duration = Duration::from_secs(10);
/// How long a failure holds for the other transports of the place before the question is repeated.
const FAILURE_KEPT: Duration = Duration::from_secs(1);
/// When a question that is not accepted is repeated: when TCP repeats its first packet.
const AGAIN: Duration = Duration::from_secs(1);
/// When a question is repeated while a session waits to be resumed: one leaves within this time after
/// the network comes back.
const AGAIN_URGENT: Duration = Duration::from_millis(500);
/// The fewest round trips in which a question is answered: it is not repeated sooner.
const ASK_ROUND_TRIPS: u32 = 2;
/// Questions at a time: those that begin in an urgent race within 2.5 s, the usual limit.
const ASKS_MAX: usize = 6;
