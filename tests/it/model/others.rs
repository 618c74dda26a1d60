//! What the server promises, in plain Rust: agents, and the end of the server.

use waystation::session::EndCause;
use waystation::testing::News;
use waystation::wire::v1::Reason;

use super::parts::{Change, Down, Session, Up};
use super::reference::{DRAIN, Reference};
use super::steps::Who;

impl Reference {
    /// The game spawns an agent, on its own or of a client's session.
    pub(super) fn spawn(&mut self, owner: Option<Who>) {
        let owner = owner.and_then(|who| self.live_session(who));
        let agent = Session { is_agent: true, owner, ..Session::new(None, self.now, NO_TOKEN) };
        self.sessions.push(agent);
        self.announce(self.sessions.len() - 1, News::Registered);
    }

    /// What an agent sends is dispatched in the next tick, before all that clients send.
    pub(super) fn agent_sends(&mut self, up: Up) {
        if let Some(agent) = self.agent() {
            self.sessions[agent].inbox.push_back((FIRST, up));
        }
    }

    /// Row 20: an agent goes with its owner.
    pub(super) fn end_orphaned_agents(&mut self) {
        for number in 0..self.sessions.len() {
            let agent = &self.sessions[number];
            let is_orphan = agent.owner.is_some_and(|owner| self.sessions[owner].has_ended);
            if is_orphan && agent.is_there() {
                self.end(number, EndCause::Timeout);
            }
        }
    }

    /// Row 17: nobody new comes in, and nobody joins a zone.
    pub(super) fn begin_drain(&mut self) {
        self.drain = Some(self.clock + DRAIN);
        self.cancel_asks(Reason::Draining, |_| true);
        for number in 0..self.sessions.len() {
            if self.sessions[number].is_there() && !self.sessions[number].is_agent {
                self.notify(number);
            }
        }
    }

    /// Tells a client of the drain, if there is one.
    pub(super) fn notify(&mut self, session: usize) {
        if let Some(deadline) = self.drain {
            self.tell(session, Down::Notice(deadline.saturating_sub(self.clock)));
        }
    }

    /// From the deadline on, all sessions end. Who has no session is told at first, and cut later.
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

/// Before all frames of a tick.
const FIRST: u64 = 0;
/// Agents have no token.
const NO_TOKEN: usize = usize::MAX - 1;
