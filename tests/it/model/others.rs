//! Models agents and the drain in plain Rust.

use waystation::session::EndCause;
use waystation::testing::News;
use waystation::wire::v1::Reason;

use super::parts::{Change, Down, Session, Up};
use super::reference::{DRAIN, Reference};
use super::steps::Who;

impl Reference {
    /// Spawns an agent, with a client's session as its owner or without an owner.
    pub(super) fn spawn(&mut self, owner: Option<Who>) {
        let owner = owner.and_then(|who| self.live_session(who));
        let agent = Session { is_agent: true, owner, ..Session::new(None, self.now, NO_TOKEN) };
        self.sessions.push(agent);
        self.announce(self.sessions.len() - 1, News::Registered);
    }

    /// Queues a message of the agent. The next tick dispatches it before all frames of clients.
    pub(super) fn agent_sends(&mut self, up: Up) {
        if let Some(agent) = self.agent() {
            self.sessions[agent].inbox.push_back((FIRST, up));
        }
    }

    /// Row 20: ends the agents of sessions that have ended.
    pub(super) fn end_orphaned_agents(&mut self) {
        for number in 0..self.sessions.len() {
            let agent = &self.sessions[number];
            let is_orphan = agent.owner.is_some_and(|owner| self.sessions[owner].has_ended);
            if is_orphan && agent.is_there() {
                self.end(number, EndCause::Timeout);
            }
        }
    }

    /// Row 17: begins the drain, cancels all asks, and sends a Notice to each client with a session.
    pub(super) fn begin_drain(&mut self) {
        self.drain = Some(self.clock + DRAIN);
        self.cancel_asks(Reason::Draining, |_| true);
        for number in 0..self.sessions.len() {
            if self.sessions[number].is_there() && !self.sessions[number].is_agent {
                self.notify(number);
            }
        }
    }

    /// Sends a Notice to a client if the server drains.
    pub(super) fn notify(&mut self, session: usize) {
        if let Some(deadline) = self.drain {
            self.tell(session, Down::Notice(deadline.saturating_sub(self.clock)));
        }
    }

    /// Ends all sessions once the deadline of the drain has passed. Guests get Closed(SHUTDOWN) on the first such tick,
    /// and are cut without a reply on later ones.
    pub(super) fn end_all(&mut self) {
        if self.drain.is_none_or(|deadline| deadline > self.clock) {
            return;
        }
        let is_first = !std::mem::replace(&mut self.has_dismissed, true);
        for link in 0..self.links.len() {
            if self.links[link].guest.take().is_some() {
                self.cut_link(link, is_first.then_some(Down::Closed(Reason::Shutdown)));
                self.notes.extend((!is_first).then_some("Cut without a word"));
            }
        }
        for number in 0..self.sessions.len() {
            if self.sessions[number].is_there() {
                self.changes.push((u64::MAX, number, Change::End(EndCause::Shutdown)));
            }
        }
    }
}

/// The order of an agent's messages: before all frames of a tick.
const FIRST: u64 = 0;
/// A token that matches no other, for agents.
const NO_TOKEN: usize = usize::MAX - 1;
