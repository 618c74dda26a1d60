//! Links that have no session yet: one bounded pool.
//!
//! The pool refuses no link, since a link may be about to resume a session. When it holds too many, guests
//! are put out instead: see [`surplus`](super::surplus).

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::GateConfig;
use super::hello::{Denial, Request};
use super::surplus::{Candidate, choose};
use super::ticket::Shown;
use crate::ident::{LinkKey, ProxyId};
use crate::proxy::{LinkInfo, Network};
use crate::session::SessionTable;
use crate::tick::{QuestionId, Verdict};

/// Links that have no session yet.
#[derive(Resource, Debug, Default)]
pub struct Lobby {
    guests: BTreeMap<LinkKey, Guest>,
    /// How many of them each proxy has.
    counts: BTreeMap<ProxyId, usize>,
}

/// A link that has no session yet.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) info: LinkInfo,
    /// The network that its limits go by, if it has any.
    network: Option<Network>,
    /// When it came, on the uncapped clock.
    since: Duration,
    /// When it is closed, unless a Hello of it is accepted; on the uncapped clock.
    pub(super) deadline: Duration,
    pub(super) stage: Stage,
    pub(super) denied_count: u32,
    pub(super) bad_token_count: u32,
    /// Another bad token is not answered before.
    pub(super) resume_from: Duration,
    /// A Probe is not answered before.
    pub(super) probe_from: Duration,
}

/// How far a guest is. A denial leads back to the beginning.
#[derive(Debug, Default)]
pub(super) enum Stage {
    /// It has not said Hello, or was denied since.
    #[default]
    Silent,
    /// It has said Hello, which was not answered yet.
    Asked(Asked),
    /// An authenticator has to decide.
    Checking(Checking),
    /// The authenticator has decided.
    Decided(Checking, Verdict),
}

/// A Hello that was not answered yet.
#[derive(Debug)]
pub(super) struct Asked {
    /// When it arrived, on the uncapped clock, and its place among all frames.
    pub(super) when: (Duration, u64),
    /// What it asks for.
    pub(super) request: Result<Request, Denial>,
}

/// A Hello that an authenticator decides.
#[derive(Debug)]
pub(super) struct Checking {
    pub(super) question: QuestionId,
    /// What else the client has shown.
    pub(super) shown: Shown,
}

/// A guest with a verdict.
#[derive(Debug)]
pub(super) struct Decided {
    question: QuestionId,
    pub(super) link: LinkKey,
    pub(super) shown: Shown,
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
            Self::Decided(Checking { question, shown }, verdict) => {
                Some(Decided { question, link, shown, verdict })
            }
            other => {
                *self = other;
                None
            }
        }
    }
}

impl Lobby {
    /// How many links have no session yet.
    #[must_use]
    pub fn guest_count(&self) -> usize {
        self.guests.len()
    }

    /// Whether a link is one of them.
    pub(crate) fn has(&self, link: LinkKey) -> bool {
        self.guests.contains_key(&link)
    }

    /// How many links of a proxy have no session yet.
    pub(super) fn count_on(&self, proxy: ProxyId) -> usize {
        self.counts.get(&proxy).copied().unwrap_or_default()
    }

    /// Takes a new link in.
    pub(super) fn enter(&mut self, link: LinkKey, info: LinkInfo, now: Duration, config: &GateConfig) {
        let guest = Guest::new(info, now, config);
        if self.guests.insert(link, guest).is_none() {
            *self.counts.entry(link.proxy).or_default() += 1;
        }
    }

    /// Lets a guest go: it has a session now, or its link ends.
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

    /// A question about a guest has its verdict. Returns false if the guest is gone, or waits for another one.
    pub(super) fn decide(&mut self, link: LinkKey, question: QuestionId, verdict: Verdict) -> bool {
        let Some(guest) = self.guests.get_mut(&link) else { return false };
        guest.stage.decide(question, verdict)
    }

    /// Takes the guests with a verdict, in the order of their questions.
    pub(super) fn take_decided(&mut self) -> Vec<Decided> {
        let decided = self.guests.iter_mut().filter_map(|(link, guest)| guest.stage.take_decided(*link));
        let mut decided: Vec<Decided> = decided.collect();
        decided.sort_unstable_by_key(|decided| decided.question);
        decided
    }

    /// All guests whose time is up.
    pub(super) fn overdue(&self, now: Duration) -> Vec<LinkKey> {
        let is_overdue = |guest: &Guest| guest.stage.is_silent() && guest.deadline <= now;
        let overdue = self.guests.iter().filter(|(_, guest)| is_overdue(guest));
        overdue.map(|(link, _)| *link).collect()
    }

    /// Chooses guests to put out, of all proxies or of one.
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

    /// Lets all guests go.
    pub(super) fn clear(&mut self) -> Vec<LinkKey> {
        let links = self.guests.keys().copied().collect();
        self.guests.clear();
        self.counts.clear();
        links
    }
}

/// The network that a link's limits go by, if there are any for it.
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

    /// Takes its Hello, if that may be answered now, with the time and the place among all frames at which it arrived.
    /// Only a bad token is slowed: a good one must not miss its deadline for the bad ones before it.
    pub(super) fn take_asked(&mut self, now: Duration, table: &SessionTable) -> Option<Asked> {
        let Stage::Asked(asked) = &self.stage else { return None };
        if let Ok(Request::Resume(resume)) = &asked.request
            && self.resume_from > now
            && table.by_token(resume.token).is_none()
        {
            return None;
        }
        match std::mem::take(&mut self.stage) {
            Stage::Asked(asked) => Some(asked),
            _ => None,
        }
    }
}

/// A guest is fresh for this long, and put out only after all that are not: a client says Hello as soon as
/// its link is open, and on a slow network that takes a round trip of 1.5 s to arrive.
const FRESH_FOR: Duration = Duration::from_secs(2);
