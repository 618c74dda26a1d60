//! What the server promises, in plain Rust: a tick, in the order of its phases.

use std::collections::BTreeSet;

use waystation::ident::ZoneId;
use waystation::proxy::LinkEnd;
use waystation::session::{EndCause, LossCause};
use waystation::testing::News;
use waystation::wire::v1::Reason;

use super::reference::{Arrival, Change, Down, Guest, Reference, Resume, Session, Up};

const TIMEOUT: u64 = 5_000;
const LINK_TIMEOUT: u64 = 5_000;
const HELLO_TIMEOUT: u64 = 5_000;
const UNACKED_MAX: u64 = 10_000;
const TOKEN_DELAY: u64 = 500;
const DENIALS_MAX: u64 = 8;

/// When an Ack arrived, on which link, and what it says.
type Acked = ((u64, u64), usize, usize);

impl Reference {
    pub(super) fn tick(&mut self, period: u64) {
        self.now += period;
        self.news.append(&mut self.announced);
        let (acks, mut lost) = self.receive();
        self.admit(acks);
        lost.extend(self.watch());
        for (session, link, cause) in lost {
            if self.sessions[session].link == Some(link) {
                self.disconnect(session, cause);
            }
        }
        let replies = self.dispatch();
        self.resolve(&replies);
        self.close_zones();
        self.settle();
        self.expire();
        self.flush();
    }

    /// Brings what arrived to guests and sessions. The Acks, and the sessions whose links were closed.
    fn receive(&mut self) -> (Vec<Acked>, Vec<(usize, usize, LossCause)>) {
        let (mut acks, mut lost) = (Vec::new(), Vec::new());
        for event in self.ports.each_mut().map(std::mem::take).into_iter().flatten() {
            let link = event.link;
            match event.what {
                Arrival::Opened => {
                    let deadline = self.now + HELLO_TIMEOUT;
                    self.links[link].guest = Some(Guest { deadline, asked: None, bad: 0, resume_from: 0 });
                }
                Arrival::Closed => {
                    let was_guest = self.links[link].guest.take().is_some();
                    if let Some(session) = self.links[link].session.filter(|_| !was_guest) {
                        lost.push((session, link, LossCause::Link(LinkEnd::ByPeer)));
                    }
                }
                Arrival::Frame(frame) => {
                    self.arrived += 1;
                    let order = self.arrived;
                    if let Some(session) = self.links[link].session {
                        let session = &mut self.sessions[session];
                        session.heard = session.heard.max(event.at);
                        match frame {
                            Up::Ack(received) => acks.push(((event.at, order), link, received)),
                            frame => session.inbox.push_back((order, frame)),
                        }
                    } else if let Some(guest) = &mut self.links[link].guest {
                        match frame {
                            Up::Hello(resume) if guest.asked.is_none() => {
                                guest.asked = Some(((event.at, order), resume));
                            }
                            _ => {
                                self.links[link].guest = None;
                                self.shut_link(link, Reason::Protocol);
                            }
                        }
                    }
                }
            }
        }
        (acks, lost)
    }

    /// Sessions that were not heard from, or do not acknowledge.
    fn watch(&self) -> Vec<(usize, usize, LossCause)> {
        let mut lost = Vec::new();
        for (number, session) in self.sessions.iter().enumerate() {
            let Some(link) = session.link else { continue };
            if session.acked < session.sent.len() && self.now - session.since >= UNACKED_MAX {
                lost.push((number, link, LossCause::Slow));
            } else if self.now - session.heard >= LINK_TIMEOUT {
                lost.push((number, link, LossCause::Silent));
            }
        }
        lost
    }

    /// Acks and Hellos take effect in order of arrival.
    fn admit(&mut self, acks: Vec<Acked>) {
        let mut arrived: Vec<_> = acks.into_iter().map(|(when, link, ack)| (when, link, Ok(ack))).collect();
        for link in 0..self.links.len() {
            let Some(guest) = &self.links[link].guest else { continue };
            let is_slowed = |resume: &Resume| self.by_token(resume.token).is_none();
            if let Some((when, resume)) = guest.asked
                && (guest.resume_from <= self.now || !resume.as_ref().is_some_and(is_slowed))
            {
                arrived.push((when, link, Err(resume)));
            }
        }
        arrived.sort_by_key(|(when, ..)| *when);
        for (_, link, what) in arrived {
            match what.map_err(|resume| resume.map(|resume| (self.by_token(resume.token), resume))) {
                Ok(received) => self.acknowledge(link, received),
                Err(None) => self.register(link),
                Err(Some((Some(session), resume))) => self.bind(session, link, resume),
                Err(Some((None, _))) => self.deny(link),
            }
        }
        for link in 0..self.links.len() {
            let guest = &self.links[link].guest;
            if guest.as_ref().is_some_and(|guest| guest.asked.is_none() && guest.deadline <= self.now) {
                self.links[link].guest = None;
                self.shut_link(link, Reason::Timeout);
            }
        }
    }

    /// The session that a token resumes: the newest, or the one presented last.
    fn by_token(&self, token: usize) -> Option<usize> {
        self.sessions.iter().position(|session| {
            !session.has_ended && (session.newest == token || session.presented == Some(token))
        })
    }

    fn deny(&mut self, link: usize) {
        self.links[link].down.push_back(Down::Denied(Reason::Token));
        let Some(guest) = &mut self.links[link].guest else { return };
        guest.asked = None;
        guest.bad += 1;
        guest.deadline = self.now + HELLO_TIMEOUT;
        guest.resume_from = self.now + TOKEN_DELAY * guest.bad;
        if guest.bad >= DENIALS_MAX {
            self.links[link].guest = None;
            self.shut_link(link, Reason::Timeout);
        }
    }

    fn issue(&mut self) -> usize {
        self.tokens_issued += 1;
        self.tokens_issued
    }

    fn register(&mut self, link: usize) {
        let (number, token) = (self.sessions.len(), self.issue());
        self.sessions.push(Session {
            epoch: 1,
            link: Some(link),
            heard: self.now,
            confirmed: false,
            zone: None,
            expires: None,
            newest: token,
            presented: None,
            inbox: [].into(),
            received: 0,
            welcome: None,
            sent: Vec::new(),
            acked: 0,
            given: 0,
            since: 0,
            has_ended: false,
        });
        self.links[link].guest = None;
        self.links[link].session = Some(number);
        self.announce(number, News::Registered);
        self.welcome_on(number, None);
    }

    /// Row 10, and row 11 if the session still has a link.
    fn bind(&mut self, number: usize, link: usize, resume: Resume) {
        if let Some(old) = self.sessions[number].link.take() {
            self.links[old].session = None;
            self.shut_link(old, Reason::Replaced);
            self.announce(number, News::Disconnected(LossCause::Replaced));
        }
        let token = self.issue();
        self.links[link].guest = None;
        self.links[link].session = Some(number);
        let now = self.now;
        let session = &mut self.sessions[number];
        session.link = Some(link);
        session.epoch += 1;
        (session.newest, session.presented) = (token, Some(resume.token));
        (session.heard, session.since, session.confirmed, session.expires) = (now, now, true, None);
        session.inbox.clear();
        let fits = (session.acked..=session.sent.len()).contains(&resume.received);
        let resync = resume.resync || !fits;
        session.acked = if resync { session.sent.len() } else { resume.received };
        session.given = session.acked;
        let zone = session.zone;
        self.welcome_on(number, Some(resync));
        self.announce(number, News::Resumed { resync });
        if let Some((zone, id)) = zone.and_then(|zone| Some((zone, self.zones[zone]?.id))) {
            if resync {
                self.tell(number, Down::Joined { request: 0, zone, id });
            }
            self.announce(number, News::MemberResumed(ZoneId(id)));
        }
    }

    fn welcome_on(&mut self, number: usize, resumed: Option<bool>) {
        let session = &mut self.sessions[number];
        session.welcome = Some(Down::Welcome {
            session: number,
            token: session.newest,
            resumed: resumed.is_some(),
            received: session.received,
            base: session.acked,
            resync: resumed.unwrap_or_default(),
            zone: session.zone,
        });
    }

    /// Rows 7 to 9.
    fn disconnect(&mut self, number: usize, cause: LossCause) {
        let session = &mut self.sessions[number];
        let Some(link) = session.link.take() else { return };
        let is_given_up = cause == LossCause::Link(LinkEnd::ByPeer);
        session.expires = Some(self.now + if session.confirmed || !is_given_up { TIMEOUT } else { 0 });
        session.welcome = None;
        let zone = session.zone;
        self.links[link].session = None;
        match cause {
            LossCause::Silent => self.shut_link(link, Reason::Timeout),
            LossCause::Slow => self.shut_link(link, Reason::Slow),
            LossCause::Link(_) | LossCause::Replaced | LossCause::Restart => {}
        }
        self.announce(number, News::Disconnected(cause));
        match zone.and_then(|zone| self.zones[zone]) {
            Some(zone) if zone.is_hard => self.changes.push((u64::MAX - 1, number, Change::Drop)),
            Some(zone) => self.announce(number, News::MemberDisconnected(ZoneId(zone.id))),
            None => {}
        }
    }

    /// The calls of members, in order; what they ask for goes to settle.
    fn dispatch(&mut self) -> Vec<(usize, u64)> {
        let mut heard = Vec::new();
        for number in 0..self.sessions.len() {
            let mut waiting = std::mem::take(&mut self.sessions[number].inbox);
            // A change that waits from the last tick goes first.
            let waits = self.changes.iter().any(|(order, whose, _)| *order == WAITS && *whose == number);
            while !waits && let Some((order, frame)) = waiting.pop_front() {
                if let Up::Say(said) = frame {
                    self.sessions[number].received += 1;
                    heard.extend(self.sessions[number].zone.map(|_| (number, said)));
                    continue;
                }
                self.ask_settle(number, order, &frame);
                if matches!(frame, Up::Join(..) | Up::Part(_)) {
                    self.sessions[number].received += 1;
                } else {
                    waiting.clear();
                }
                break;
            }
            if self.sessions[number].link.is_some() {
                self.sessions[number].inbox = waiting;
            } else if let Some((order, bye)) = waiting.iter().find(|(_, frame)| matches!(frame, Up::Bye)) {
                // The last that is heard of a client whose link is gone.
                self.ask_settle(number, *order, bye);
            }
        }
        self.heard.extend(&heard);
        heard
    }

    fn acknowledge(&mut self, link: usize, received: usize) {
        let Some(number) = self.links[link].session else { return };
        let session = &mut self.sessions[number];
        assert!(received <= session.sent.len(), "a client acknowledges what it got");
        if received > session.acked {
            (session.acked, session.since) = (received, self.now);
            session.given = session.given.max(received);
        }
        (session.confirmed, session.presented) = (true, None);
    }

    /// What stops a session's dispatch: until the tick has settled, or for good.
    fn ask_settle(&mut self, number: usize, order: u64, frame: &Up) {
        let change = match *frame {
            Up::Join(request, zone) => Change::Join(request, zone),
            Up::Part(request) => Change::Part(request),
            Up::Bye => Change::End(EndCause::Bye),
            _ => Change::End(EndCause::Protocol),
        };
        self.changes.push((order, number, change));
    }

    /// What the game sent reaches those who were members when it did.
    fn resolve(&mut self, replies: &[(usize, u64)]) {
        for (session, number) in replies {
            self.tell(*session, Down::Echo(*number));
        }
        for number in std::mem::take(&mut self.shouts) {
            for member in self.members(0) {
                self.tell(member, Down::Echo(number));
            }
        }
    }

    /// Live members of a zone.
    pub(crate) fn members(&self, zone: usize) -> BTreeSet<usize> {
        let inside = |number: &usize| self.sessions[*number].zone == Some(zone);
        (0..self.sessions.len()).filter(inside).collect()
    }

    /// Row 18, the second half: who was in a zone that is gone is told.
    fn close_zones(&mut self) {
        for zone in std::mem::take(&mut self.shut) {
            self.raze(zone);
        }
        for (member, zone, id) in std::mem::take(&mut self.orphans) {
            self.tell(member, Down::Parted { request: 0, zone, reason: Reason::ZoneClosed });
            self.announce(member, News::Parted(ZoneId(id), Reason::ZoneClosed));
        }
    }

    /// Row 18, the first half: a zone is gone.
    pub(super) fn raze(&mut self, zone: usize) {
        let Some(closed) = self.zones[zone].take() else { return };
        for member in self.members(zone) {
            self.sessions[member].zone = None;
            self.orphans.push((member, zone, closed.id));
        }
    }

    fn settle(&mut self) {
        let mut changes = std::mem::take(&mut self.changes);
        changes.sort_by_key(|(order, ..)| *order);
        let mut settled = BTreeSet::new();
        for (_, session, change) in changes {
            if self.sessions[session].has_ended {
                continue;
            }
            let is_first = settled.insert(session);
            match change {
                Change::End(cause) => self.end(session, cause),
                Change::Kick => self.end(session, EndCause::Kicked),
                Change::Drop => self.leave(session, Reason::Dropped),
                change if !is_first => self.changes.push((WAITS, session, change)),
                Change::Join(request, zone) => self.join(session, request, zone),
                Change::Part(request) => self.part(session, request),
                Change::Put(zone, id) => self.put(session, zone, id),
                Change::Take if self.sessions[session].zone.is_some() => self.part(session, 0),
                Change::Take => {}
            }
        }
    }

    fn join(&mut self, session: usize, request: u32, zone: usize) {
        let refusal = match self.zones[zone] {
            None => Some(Reason::NoSuchZone),
            Some(_) if self.sessions[session].link.is_none() => Some(Reason::Disconnected),
            Some(_) if self.has_room_for(session, zone) => None,
            Some(_) => Some(Reason::Full),
        };
        match refusal {
            Some(reason) => self.tell(session, Down::Refused { request, reason }),
            None => self.enter(session, request, zone),
        }
    }

    /// The game's joins are refused to the game alone.
    fn put(&mut self, session: usize, zone: usize, id: u64) {
        let is_open = self.zones[zone].is_some_and(|zone| zone.id == id);
        if is_open && self.sessions[session].link.is_some() && self.has_room_for(session, zone) {
            self.enter(session, 0, zone);
        }
    }

    fn has_room_for(&self, session: usize, zone: usize) -> bool {
        let capacity = self.zones[zone].map_or(0, |zone| zone.capacity);
        self.sessions[session].zone == Some(zone) || self.members(zone).len() < capacity
    }

    /// Rows 3, 6 and 6a.
    fn enter(&mut self, session: usize, request: u32, zone: usize) {
        let id = self.zones[zone].map_or(0, |zone| zone.id);
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
        let Some(zone) = self.sessions[session].zone else {
            return self.tell(session, Down::Refused { request, reason: Reason::NotInZone });
        };
        self.tell(session, Down::Parted { request, zone, reason: Reason::Left });
        self.leave(session, Reason::Left);
    }

    fn leave(&mut self, session: usize, reason: Reason) {
        if let Some(zone) = self.sessions[session].zone.take() {
            let id = self.zones[zone].map_or(0, |zone| zone.id);
            self.announce(session, News::Parted(ZoneId(id), reason));
        }
    }

    /// Rows 14 to 16a.
    fn end(&mut self, number: usize, cause: EndCause) {
        if let Some(zone) = self.sessions[number].zone {
            if cause != EndCause::Bye {
                self.tell(number, Down::Parted { request: 0, zone, reason: cause.part_reason() });
            }
            self.leave(number, cause.part_reason());
        }
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

    /// Row 14.
    fn expire(&mut self) {
        for number in 0..self.sessions.len() {
            if self.sessions[number].expires.is_some_and(|deadline| deadline <= self.now) {
                self.end(number, EndCause::Timeout);
            }
        }
    }

    fn flush(&mut self) {
        (0..self.sessions.len()).for_each(|session| self.flush_one(session));
    }

    fn flush_one(&mut self, number: usize) {
        let session = &mut self.sessions[number];
        let Some(link) = session.link else { return };
        let down = &mut self.links[link].down;
        down.extend(session.welcome.take());
        down.extend(session.sent[session.given..].iter().cloned());
        session.given = session.sent.len();
    }

    /// A counted frame for a session.
    fn tell(&mut self, number: usize, frame: Down) {
        let session = &mut self.sessions[number];
        if session.acked == session.sent.len() {
            session.since = self.now;
        }
        session.sent.push(frame);
    }

    /// The last frame on a link.
    fn shut_link(&mut self, link: usize, reason: Reason) {
        if !self.links[link].closed {
            self.links[link].closed = true;
            self.links[link].down.push_back(Down::Closed(reason));
        }
    }

    fn announce(&mut self, session: usize, news: News) {
        self.announced.push((session, news));
    }
}

/// The place of a change that waits from the last tick: before all frames of this one.
const WAITS: u64 = 0;
