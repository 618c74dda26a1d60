//! Holds the links without a session, in one bounded pool.
//!
//! The pool accepts every link, because a link may be about to resume a session. If the pool holds too many
//! guests, some of them are cut: see [`surplus`](super::surplus).

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::GateConfig;
use super::hello::{Denial, Request};
use super::surplus::{Candidate, choose};
use super::ticket::Proofs;
use crate::ident::{LinkKey, ProxyId};
use crate::proxy::{LinkInfo, Network};
use crate::session::SessionTable;
use crate::tick::{QuestionId, Verdict};

/// The links without a session.
#[derive(Resource, Debug, Default)]
pub struct Guests {
    guests: BTreeMap<LinkKey, Guest>,
    /// Number of guests by proxy.
    counts: BTreeMap<ProxyId, usize>,
}

/// A link without a session.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) info: LinkInfo,
    /// Network toward whose limits the link counts, or `None` if no limit applies to the link.
    network: Option<Network>,
    /// Time at which the link was opened, on the sampled clock.
    since: Duration,
    /// Time at which the link is closed unless a Hello is accepted before, on the sampled clock.
    pub(super) deadline: Duration,
    pub(super) stage: Stage,
    pub(super) denied_count: u32,
    pub(super) bad_token_count: u32,
    /// Time until which a further bad token gets no answer, on the sampled clock.
    pub(super) resume_from: Duration,
    /// Time until which a further Probe is dropped, on the sampled clock.
    pub(super) probe_from: Duration,
}

/// Progress of a guest. A denial resets it to `Silent`.
#[derive(Debug, Default)]
pub(super) enum Stage {
    /// No Hello has arrived since the link was opened or since the last denial.
    #[default]
    Silent,
    /// A Hello has arrived and is not answered yet.
    PendingHello(PendingHello),
    /// An authenticator has to decide about the Hello.
    Checking(Checking),
    /// The authenticator has decided.
    Decided(Checking, Verdict),
}

/// A Hello that is not answered yet.
#[derive(Debug)]
pub(super) struct PendingHello {
    /// Arrival of the Hello: the time on the sampled clock, and the position among all frames.
    pub(super) when: (Duration, u64),
    /// Parsed contents of the Hello, or the denial to send.
    pub(super) request: Result<Request, Denial>,
}

/// A Hello that an authenticator decides about.
#[derive(Debug)]
pub(super) struct Checking {
    pub(super) question: QuestionId,
    /// The client's proofs, without its credentials.
    pub(super) proofs: Proofs,
}

/// A guest whose verdict has arrived.
#[derive(Debug)]
pub(super) struct Decided {
    question: QuestionId,
    pub(super) link: LinkKey,
    pub(super) proofs: Proofs,
    pub(super) verdict: Verdict,
}

impl Stage {
    pub(super) fn is_silent(&self) -> bool {
        matches!(self, Self::Silent)
    }

    fn decide(&mut self, question: QuestionId, verdict: Verdict) -> bool {
        match std::mem::take(self) {
            Self::Checking(checking) if checking.question == question => {
                *self = Self::Decided(checking, verdict);
                true
            }
            other => {
                *self = other;
                false
            }
        }
    }

    fn take_decided(&mut self, link: LinkKey) -> Option<Decided> {
        match std::mem::take(self) {
            Self::Decided(Checking { question, proofs }, verdict) => {
                Some(Decided { question, link, proofs, verdict })
            }
            other => {
                *self = other;
                None
            }
        }
    }
}

impl Guests {
    /// Returns the number of links without a session.
    #[must_use]
    pub fn guest_count(&self) -> usize {
        self.guests.len()
    }

    /// Returns true if a link has no session.
    pub(crate) fn contains(&self, link: LinkKey) -> bool {
        self.guests.contains_key(&link)
    }

    /// Returns the number of links of a proxy that have no session.
    pub(super) fn count_on(&self, proxy: ProxyId) -> usize {
        self.counts.get(&proxy).copied().unwrap_or_default()
    }

    /// Adds a link.
    pub(super) fn enter(&mut self, link: LinkKey, info: LinkInfo, now: Duration, config: &GateConfig) {
        let guest = Guest::new(info, now, config);
        if self.guests.insert(link, guest).is_none() {
            *self.counts.entry(link.proxy).or_default() += 1;
        }
    }

    /// Removes a guest, because its link is bound to a session or ends.
    pub(super) fn leave(&mut self, link: LinkKey) -> Option<Guest> {
        let guest = self.guests.remove(&link)?;
        if let Some(count) = self.counts.get_mut(&link.proxy) {
            *count -= 1;
        }
        Some(guest)
    }

    pub(super) fn get_mut(&mut self, link: LinkKey) -> Option<&mut Guest> {
        self.guests.get_mut(&link)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (LinkKey, &mut Guest)> {
        self.guests.iter_mut().map(|(link, guest)| (*link, guest))
    }

    /// Stores the verdict about a guest. Returns false if the guest has left, or does not wait for the verdict on
    /// this question.
    pub(super) fn decide(&mut self, link: LinkKey, question: QuestionId, verdict: Verdict) -> bool {
        let Some(guest) = self.guests.get_mut(&link) else { return false };
        guest.stage.decide(question, verdict)
    }

    /// Takes the guests whose verdict has arrived, in the order of their questions.
    pub(super) fn take_decided(&mut self) -> Vec<Decided> {
        let decided = self.guests.iter_mut().filter_map(|(link, guest)| guest.stage.take_decided(*link));
        let mut decided: Vec<Decided> = decided.collect();
        decided.sort_unstable_by_key(|decided| decided.question);
        decided
    }

    /// Returns the silent guests whose deadline has passed.
    pub(super) fn overdue(&self, now: Duration) -> Vec<LinkKey> {
        let is_overdue = |guest: &Guest| guest.stage.is_silent() && guest.deadline <= now;
        let overdue = self.guests.iter().filter(|(_, guest)| is_overdue(guest));
        overdue.map(|(link, _)| *link).collect()
    }

    /// Chooses `count` guests to cut, of all proxies or of one.
    pub(super) fn surplus(&self, of: Option<ProxyId>, count: usize, now: Duration) -> Vec<LinkKey> {
        if count == 0 {
            return Vec::new();
        }
        let guests = self.guests.iter().filter(|(link, _)| of.is_none_or(|proxy| proxy == link.proxy));
        let candidates = guests.map(|(link, guest)| Candidate {
            link: *link,
            network: guest.network,
            since: guest.since,
            is_fresh: guest.denied_count == 0 && now.saturating_sub(guest.since) < FRESH_FOR,
        });
        choose(candidates.collect(), count)
    }

    /// Removes all guests and returns their links.
    pub(super) fn clear(&mut self) -> Vec<LinkKey> {
        let links = self.guests.keys().copied().collect();
        self.guests.clear();
        self.counts.clear();
        links
    }
}

/// Returns the network toward whose limits a link counts, or `None` if no limit applies to the link.
pub(super) fn limited(info: &LinkInfo, config: &GateConfig) -> Option<Network> {
    let network = Network::of(info.address?.ip());
    (!(config.exempt_loopback && network.is_loopback())).then_some(network)
}

impl Guest {
    fn new(info: LinkInfo, now: Duration, config: &GateConfig) -> Self {
        Self {
            network: limited(&info, config),
            info,
            since: now,
            deadline: now.saturating_add(config.hello_timeout),
            stage: Stage::Silent,
            denied_count: 0,
            bad_token_count: 0,
            resume_from: Duration::ZERO,
            probe_from: Duration::ZERO,
        }
    }

    /// Takes the Hello of the guest if it may be answered now. Only a bad token is delayed: a good token
    /// must not miss its deadline because of earlier bad ones.
    pub(super) fn take_hello(&mut self, now: Duration, table: &SessionTable) -> Option<PendingHello> {
        let Stage::PendingHello(hello) = &self.stage else { return None };
        if let Ok(Request::Resume(resume)) = &hello.request
            && self.resume_from > now
            && table.by_token(resume.token).is_none()
        {
            return None;
        }
        match std::mem::take(&mut self.stage) {
            Stage::PendingHello(hello) => Some(hello),
            _ => None,
        }
    }
}

/// A guest is fresh for this time. Fresh guests are cut after all others. A client sends its Hello as soon as its
/// link is open. On a slow network the Hello takes a round trip of 1.5 s to arrive.
const FRESH_FOR: Duration = Duration::from_secs(2);
