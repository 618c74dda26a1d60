//! Models the settle phase in plain Rust: how memberships change and sessions end.

use std::collections::BTreeSet;

use waystation::ident::ZoneId;
use waystation::session::EndCause;
use waystation::testing::News;
use waystation::wire::v1::Reason;
use waystation::zone::MembershipError;

use super::parts::{Change, Down, Gone};
use super::reference::Reference;
use super::steps::Who;

impl Reference {
    /// Returns the members of a zone.
    pub(crate) fn members(&self, zone: usize) -> BTreeSet<usize> {
        let inside = |number: &usize| self.sessions[*number].zone == Some(zone);
        (0..self.sessions.len()).filter(inside).collect()
    }

    /// Row 18, the first half: removes a zone.
    pub(super) fn raze(&mut self, zone: usize) {
        let Some(closed) = self.zones[zone].take() else { return };
        self.razed.push(closed.id);
        for member in self.members(zone) {
            self.sessions[member].zone = None;
            self.orphans.push((member, zone, closed.id));
        }
    }

    /// Despawns a session between two ticks, as the game does.
    pub(super) fn despawn(&mut self, who: Who) {
        let Some(number) = self.live_session(who) else { return };
        let orphaned = self.orphans.iter().position(|(orphan, ..)| *orphan == number);
        let zone = match orphaned.map(|index| self.orphans.remove(index)) {
            Some((_, zone, id)) => Some((zone, id)),
            None => self.sessions[number].zone.take().map(|zone| (zone, self.zone_id(zone))),
        };
        self.sessions[number].inbox.clear();
        self.sessions[number].gone = Some(Gone { zone });
    }

    pub(super) fn close_zones(&mut self) {
        for zone in std::mem::take(&mut self.shut) {
            self.raze(zone);
        }
    }

    /// Row 18, the second half: parts the members of zones that were removed. Ends despawned sessions as a kick does.
    pub(super) fn repair(&mut self) {
        self.cancel_razed_asks();
        for number in 0..self.sessions.len() {
            let Some(Gone { zone }) = self.sessions[number].gone else { continue };
            if self.sessions[number].has_ended {
                continue;
            }
            self.forget_ask(number);
            if let Some((_, id)) = zone {
                self.announce(number, News::Parted(ZoneId(id), Reason::Kicked));
            }
            self.close_session(number, EndCause::Kicked);
        }
        for (member, zone, id) in std::mem::take(&mut self.orphans) {
            self.tell(member, Down::Parted { request: 0, zone, reason: Reason::ZoneClosed });
            self.announce(member, News::Parted(ZoneId(id), Reason::ZoneClosed));
        }
    }

    pub(super) fn settle(&mut self) {
        let mut changes = std::mem::take(&mut self.changes);
        changes.sort_by_key(|(order, ..)| *order);
        let mut settled = BTreeSet::new();
        for (_, session, change) in changes {
            if self.sessions[session].has_ended {
                if change.is_of_the_game() {
                    self.refuse_game(session, MembershipError::UnknownSession);
                }
                continue;
            }
            let is_first = settled.insert(session);
            match change {
                Change::End(cause) => self.end(session, cause),
                Change::Kick => self.end(session, EndCause::Kicked),
                Change::Drop => self.leave(session, Reason::Dropped),
                change if !is_first => self.postpone(session, change),
                Change::Join(request, zone) => self.join(session, request, zone),
                Change::Part(request) => self.part(session, request),
                Change::Put(zone, id) => self.put(session, zone, id),
                Change::Move(..) if self.sessions[session].zone.is_none() => {
                    self.refuse_game(session, MembershipError::NotInZone);
                }
                Change::Move(zone, id) => self.put(session, zone, id),
                Change::Take if self.sessions[session].zone.is_some() => self.part(session, 0),
                Change::Take => self.refuse_game(session, MembershipError::NotInZone),
                Change::Answer(ask, yes) => self.answer(session, ask, yes),
            }
        }
    }

    /// Postpones a second change of a session in one tick to the next tick.
    fn postpone(&mut self, session: usize, change: Change) {
        let waiting = self.changes.iter().filter(|(_, whose, _)| *whose == session).count();
        if waiting < WAITING_MAX {
            self.changes.push((WAITS, session, change));
        } else if change.is_of_the_game() {
            self.refuse_game(session, MembershipError::Busy);
        }
    }

    /// Reports to the game that one of its commands was refused.
    pub(super) fn refuse_game(&mut self, session: usize, error: MembershipError) {
        self.next.refused.push((session, error));
    }

    pub(super) fn refuse(&mut self, session: usize, request: u32, reason: Reason) {
        self.tell(session, Down::Refused { request, reason });
    }

    fn join(&mut self, session: usize, request: u32, zone: usize) {
        self.cancel_ask(session, Reason::Cancelled);
        let Some(target) = self.zones[zone] else {
            return self.refuse(session, request, Reason::NoSuchZone);
        };
        if let Some(obstacle) = self.obstacle(session, zone) {
            return self.refuse(session, request, obstacle.reason());
        }
        if self.sessions[session].zone == Some(zone) {
            self.enter(session, request, zone);
        } else if self.drain.is_some() {
            self.refuse(session, request, Reason::Draining);
        } else if target.is_asking {
            self.open_ask(session, request, zone);
        } else {
            self.enter(session, request, zone);
        }
    }

    /// Puts a session into a zone by command of the game. A refusal goes only to the game.
    fn put(&mut self, session: usize, zone: usize, id: u64) {
        if self.zone_id(zone) != id {
            return self.refuse_game(session, MembershipError::NoSuchZone);
        }
        if let Some(obstacle) = self.obstacle(session, zone) {
            return self.refuse_game(session, obstacle);
        }
        self.cancel_ask(session, Reason::Cancelled);
        self.enter(session, 0, zone);
    }

    /// Returns the reason for which a session cannot enter a zone, if there is one.
    pub(super) fn obstacle(&self, session: usize, zone: usize) -> Option<MembershipError> {
        let Some(target) = self.zones[zone] else { return Some(MembershipError::NoSuchZone) };
        if !self.sessions[session].is_linked() {
            return Some(MembershipError::Disconnected);
        }
        let counts = |session: usize| target.counts_agents || !self.sessions[session].is_agent;
        let taken = self.members(zone).into_iter().filter(|member| counts(*member)).count();
        let has_room =
            self.sessions[session].zone == Some(zone) || !counts(session) || taken < target.capacity;
        (!has_room).then_some(MembershipError::Full)
    }

    /// Rows 3, 6 and 6a.
    pub(super) fn enter(&mut self, session: usize, request: u32, zone: usize) {
        let id = self.zone_id(zone);
        let is_news = self.sessions[session].zone != Some(zone);
        if is_news {
            self.leave(session, Reason::Moved);
            self.sessions[session].zone = Some(zone);
        }
        self.tell(session, Down::Joined { request, zone, id });
        if is_news {
            self.announce(session, News::Joined(ZoneId(id)));
        }
    }

    /// Row 5.
    fn part(&mut self, session: usize, request: u32) {
        self.cancel_ask(session, Reason::Cancelled);
        let Some(zone) = self.sessions[session].zone else {
            return self.refuse(session, request, Reason::NotInZone);
        };
        self.tell(session, Down::Parted { request, zone, reason: Reason::Left });
        self.leave(session, Reason::Left);
    }

    fn leave(&mut self, session: usize, reason: Reason) {
        if let Some(zone) = self.sessions[session].zone.take() {
            self.announce(session, News::Parted(ZoneId(self.zone_id(zone)), reason));
        }
    }

    /// Rows 14 to 16a.
    pub(super) fn end(&mut self, number: usize, cause: EndCause) {
        self.forget_ask(number);
        if let Some(zone) = self.sessions[number].zone {
            if cause != EndCause::Bye {
                self.tell(number, Down::Parted { request: 0, zone, reason: cause.part_reason() });
            }
            self.leave(number, cause.part_reason());
        }
        self.close_session(number, cause);
    }

    fn close_session(&mut self, number: usize, cause: EndCause) {
        self.flush_one(number);
        let session = &mut self.sessions[number];
        session.has_ended = true;
        session.expires = None;
        session.inbox.clear();
        if let Some(link) = session.link.take() {
            self.links[link].session = None;
            self.shut_link(link, cause.reason());
        }
        let end = if cause == EndCause::Bye { News::Unregistered } else { News::Expired(cause) };
        self.announce(number, end);
        self.announce(number, News::Closed(cause));
    }

    /// Row 14 and row 20: ends sessions with an expired timeout and agents without an owner. Cancels expired asks.
    pub(super) fn expire(&mut self) {
        for number in 0..self.sessions.len() {
            if self.sessions[number].expires.is_some_and(|deadline| deadline <= self.now) {
                self.end(number, EndCause::Timeout);
            }
        }
        self.expire_asks();
        self.end_orphaned_agents();
    }
}

/// The order of a postponed change: before all frames of the tick.
pub(super) const WAITS: u64 = 0;
/// The most postponed changes of one session.
const WAITING_MAX: usize = 16;
