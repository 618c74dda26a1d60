//! Models a tick of the server in plain Rust, in the order of its phases.

use waystation::ident::ZoneId;
use waystation::proxy::LinkEnd;
use waystation::session::{EndCause, LossCause};
use waystation::testing::News;
use waystation::wire::v1::Reason;

use super::parts::{Arrival, Asking, Change, Down, Guest, Resume, Session, Up};
use super::reference::{HASTE, Reference};
use super::settle::WAITS;

/// The most by which the steady clock advances in a tick, in milliseconds.
const STEP_MAX: u64 = 250;
const LINK_TIMEOUT: u64 = 5_000;
const HELLO_TIMEOUT: u64 = 5_000;
const UNACKED_MAX: u64 = 10_000;
const TOKEN_DELAY: u64 = 500;
const DENIALS_MAX: u64 = 8;
/// The time after which a client may try again if it was denied because of a drain, in milliseconds.
const RETRY_AFTER: u64 = 2_000;

/// An Ack: its time and order of arrival, its link, and its count.
type Acked = ((u64, u64), usize, usize);

impl Reference {
    pub(super) fn tick(&mut self, period: u64) {
        self.clock += period;
        self.now += period.min(STEP_MAX);
        self.tell_game();
        let (acks, mut lost) = self.receive();
        self.end_all();
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
        self.repair();
        self.settle();
        self.expire();
        self.flush();
    }

    /// Gives the game the messages that were published since the last tick.
    fn tell_game(&mut self) {
        for (session, asking) in &self.next.asks {
            if let Asking::Requested(ask) = *asking {
                self.sessions[*session].told_ask = Some(ask);
            }
        }
        self.told.append(&mut self.next);
    }

    /// Gives guests and sessions the events that arrived. Returns the Acks, and the sessions with closed links.
    fn receive(&mut self) -> (Vec<Acked>, Vec<(usize, usize, LossCause)>) {
        let (mut acks, mut lost) = (Vec::new(), Vec::new());
        for event in self.ports.each_mut().map(std::mem::take).into_iter().flatten() {
            let link = event.link;
            match event.what {
                Arrival::Opened => {
                    let deadline = self.clock + HELLO_TIMEOUT;
                    let guest = Guest { deadline, asked: None, denied: 0, bad: 0, resume_from: 0 };
                    self.links[link].guest = Some(guest);
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
                            frame if session.gone.is_none() => session.inbox.push_back((order, frame)),
                            _ => {}
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

    /// Returns the sessions that lose their links because they are silent or slow.
    fn watch(&self) -> Vec<(usize, usize, LossCause)> {
        let mut lost = Vec::new();
        for (number, session) in self.sessions.iter().enumerate() {
            let Some(link) = session.link.filter(|_| session.is_there()) else { continue };
            let is_late = session.acked < session.sent.len() && self.now - session.since >= UNACKED_MAX;
            if session.overflowed || is_late {
                lost.push((number, link, LossCause::Slow));
            } else if self.now - session.heard >= LINK_TIMEOUT {
                lost.push((number, link, LossCause::Silent));
            }
        }
        lost
    }

    /// Applies Acks and Hellos in order of arrival.
    fn admit(&mut self, acks: Vec<Acked>) {
        let mut arrived: Vec<_> = acks.into_iter().map(|(when, link, ack)| (when, link, Ok(ack))).collect();
        for link in 0..self.links.len() {
            let Some(guest) = &self.links[link].guest else { continue };
            let is_slowed = |resume: &Resume| self.by_token(resume.token).is_none();
            if let Some((when, resume)) = guest.asked
                && (guest.resume_from <= self.clock || !resume.as_ref().is_some_and(is_slowed))
            {
                arrived.push((when, link, Err(resume)));
            }
        }
        arrived.sort_by_key(|(when, ..)| *when);
        for (_, link, what) in arrived {
            match what.map_err(|resume| resume.map(|resume| (self.by_token(resume.token), resume))) {
                Ok(received) => self.acknowledge(link, received),
                Err(None) => self.register(link),
                Err(Some((Some(session), resume))) if self.sessions[session].is_there() => {
                    self.bind(session, link, resume);
                }
                Err(Some(_)) => self.deny(link, Reason::Token),
            }
        }
        for link in 0..self.links.len() {
            let guest = &self.links[link].guest;
            if guest.as_ref().is_some_and(|guest| guest.asked.is_none() && guest.deadline <= self.clock) {
                self.links[link].guest = None;
                self.shut_link(link, Reason::Timeout);
            }
        }
    }

    /// Returns the session that a token resumes. A session accepts its newest token and the one presented last.
    fn by_token(&self, token: usize) -> Option<usize> {
        self.sessions.iter().position(|session| {
            !session.has_ended && (session.newest == token || session.presented == Some(token))
        })
    }

    fn deny(&mut self, link: usize, reason: Reason) {
        self.send_down(link, Down::Denied(reason));
        let Some(guest) = &mut self.links[link].guest else { return };
        guest.asked = None;
        guest.denied += 1;
        let retry_after = if reason == Reason::Draining { RETRY_AFTER } else { 0 };
        guest.deadline = self.clock + retry_after + HELLO_TIMEOUT;
        if reason == Reason::Token {
            guest.bad += 1;
            guest.resume_from = self.clock + TOKEN_DELAY * guest.bad;
        }
        if guest.denied >= DENIALS_MAX {
            self.links[link].guest = None;
            self.shut_link(link, Reason::Timeout);
        }
    }

    fn issue(&mut self) -> usize {
        self.tokens_issued += 1;
        self.tokens_issued
    }

    fn register(&mut self, link: usize) {
        if self.drain.is_some() {
            return self.deny(link, Reason::Draining);
        }
        let (number, token) = (self.sessions.len(), self.issue());
        self.sessions.push(Session::new(Some(link), self.now, token));
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
            self.run_hook(number, LossCause::Replaced);
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
        // Frames that the client has trimmed and the server has not received are lost.
        let lost = resume.trimmed.saturating_sub(session.received);
        session.received += lost;
        let fits = (session.acked..=session.sent.len()).contains(&resume.received);
        let has_overflowed = std::mem::take(&mut session.overflowed);
        let resync = resume.resync || lost > 0 || !fits || has_overflowed;
        session.acked = if resync { session.sent.len() } else { resume.received };
        session.given = session.acked;
        let zone = session.zone;
        self.welcome_on(number, Some(resync));
        self.announce(number, News::Resumed { resync });
        self.missed_count += lost as u64;
        self.notes.extend((lost > 0).then_some("Missed"));
        if resync {
            self.forget_ask(number);
        }
        if let Some((zone, id)) = zone.and_then(|zone| Some((zone, self.zones[zone]?.id))) {
            if resync {
                self.tell(number, Down::Joined { request: 0, zone, id });
            }
            self.announce(number, News::MemberResumed(ZoneId(id)));
        }
        if resync {
            self.notify(number);
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
        if !session.is_there() {
            return;
        }
        let Some(link) = session.link.take() else { return };
        let is_given_up = cause == LossCause::Link(LinkEnd::ByPeer);
        let window = if session.confirmed || !is_given_up { session.timeout } else { 0 };
        session.expires = Some(self.now + window);
        session.welcome = None;
        let zone = session.zone;
        self.links[link].session = None;
        match cause {
            LossCause::Silent => self.shut_link(link, Reason::Timeout),
            LossCause::Slow => self.shut_link(link, Reason::Slow),
            LossCause::Link(_) | LossCause::Replaced | LossCause::Restart => {}
        }
        self.announce(number, News::Disconnected(cause));
        self.run_hook(number, cause);
        self.cancel_ask(number, Reason::Cancelled);
        match zone.and_then(|zone| self.zones[zone]) {
            Some(zone) if zone.is_hard => self.changes.push((u64::MAX - 1, number, Change::Drop)),
            Some(zone) => self.announce(number, News::MemberDisconnected(ZoneId(zone.id))),
            None => {}
        }
    }

    /// Runs the hook of a session that has lost its link. The hook of a hasty session shortens its resume timeout,
    /// which also applies to this loss.
    fn run_hook(&mut self, number: usize, cause: LossCause) {
        self.hooked.push((number, cause));
        let session = &mut self.sessions[number];
        if session.is_hasty {
            let before = std::mem::replace(&mut session.timeout, HASTE);
            if session.expires == Some(self.now + before) {
                session.expires = Some(self.now + HASTE);
            }
        }
    }

    /// Dispatches the inboxes. Returns the calls of members, in order. Requests become changes for settle.
    fn dispatch(&mut self) -> Vec<(usize, u64)> {
        let mut heard = Vec::new();
        for number in 0..self.sessions.len() {
            let mut waiting = std::mem::take(&mut self.sessions[number].inbox);
            // A change that was postponed in the last tick precedes the frames of this tick.
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
            if self.sessions[number].is_linked() {
                self.sessions[number].inbox = waiting;
            } else if let Some((order, bye)) = waiting.iter().find(|(_, frame)| matches!(frame, Up::Bye)) {
                // The session has lost its link: of the remaining frames, only a Bye has an effect.
                self.ask_settle(number, *order, bye);
            }
        }
        self.heard.extend(&heard);
        heard
    }

    fn acknowledge(&mut self, link: usize, received: usize) {
        let Some(number) = self.links[link].session else { return };
        let session = &mut self.sessions[number];
        if session.gone.is_some() {
            return;
        }
        assert!(
            received <= session.sent.len(),
            "a client of the model acknowledges only frames that it received"
        );
        if received > session.acked {
            (session.acked, session.since) = (received, self.now);
            session.given = session.given.max(received);
        }
        (session.confirmed, session.presented) = (true, None);
    }

    /// Adds the change of a frame that stops the session's dispatch until the tick has settled, or for good.
    fn ask_settle(&mut self, number: usize, order: u64, frame: &Up) {
        let change = match *frame {
            Up::Join(request, zone) => Change::Join(request, zone),
            Up::Part(request) => Change::Part(request),
            Up::Bye if self.sessions[number].is_agent => Change::End(EndCause::Timeout),
            Up::Bye => Change::End(EndCause::Bye),
            _ => Change::End(EndCause::Protocol),
        };
        self.changes.push((order, number, change));
    }

    /// Sends the replies and broadcasts of the game. Broadcasts reach the members at this moment.
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

    fn flush(&mut self) {
        let there: Vec<usize> = (0..self.sessions.len()).filter(|it| self.sessions[*it].is_there()).collect();
        there.into_iter().for_each(|session| self.flush_one(session));
    }

    pub(super) fn flush_one(&mut self, number: usize) {
        let session = &mut self.sessions[number];
        let Some(link) = session.link else { return };
        let mut frames: Vec<Down> = session.welcome.take().into_iter().collect();
        frames.extend(session.sent[session.given..].iter().cloned());
        session.given = session.sent.len();
        frames.into_iter().for_each(|frame| self.send_down(link, frame));
    }

    /// Sends a counted frame to a client, or a value to an agent.
    pub(super) fn tell(&mut self, number: usize, frame: Down) {
        let session = &mut self.sessions[number];
        if session.is_agent {
            return self.next.delivered.push((number, frame));
        }
        let had_room = !session.overflowed;
        session.push(frame, self.now);
        self.notes.extend((had_room && session.overflowed).then_some("Overflow"));
    }

    /// Sends a frame over a link. If the adapter is jammed, the frame waits until it is free.
    fn send_down(&mut self, link: usize, frame: Down) {
        let is_jammed = self.jammed[self.links[link].key.0];
        let link = &mut self.links[link];
        if is_jammed {
            link.jam.frames.push(frame);
        } else if !link.closed {
            link.down.push_back(frame);
        }
    }

    /// Closes a link with a Closed as its last frame.
    pub(super) fn shut_link(&mut self, link: usize, reason: Reason) {
        self.cut_link(link, Some(Down::Closed(reason)));
    }

    /// Ends a link, with a last frame or without.
    pub(super) fn cut_link(&mut self, link: usize, last: Option<Down>) {
        let is_jammed = self.jammed[self.links[link].key.0];
        last.into_iter().for_each(|frame| self.send_down(link, frame));
        if is_jammed {
            self.links[link].jam.closes = true;
        } else {
            self.links[link].closed = true;
        }
    }

    pub(super) fn announce(&mut self, session: usize, news: News) {
        self.next.news.push((session, news));
    }
}
