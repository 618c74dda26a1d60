//! Models clients in plain Rust: they count and acknowledge frames, and send again the frames that were lost.

use std::collections::VecDeque;

use super::parts::{Arrival, Client, Down, Event, Jam, Link, Resume, Up};
use super::reference::{FORGED, Reference};
use super::steps::Who;

impl Reference {
    pub(super) fn connect(&mut self, client: usize, proxy: usize) {
        let number = self.links.iter().filter(|link| link.key.0 == proxy).count() as u64 + 1;
        let link = self.links.len();
        self.links.push(Link {
            key: (proxy, number),
            closed: false,
            guest: None,
            session: None,
            down: VecDeque::new(),
            jam: Jam::default(),
        });
        self.ports[proxy].push(Event { at: self.now, link, what: Arrival::Opened });
        let client = &mut self.clients[client];
        (client.link, client.welcomed, client.closed, client.greeted) = (Some(link), false, false, false);
    }

    pub(super) fn close(&mut self, link: usize) {
        if !self.links[link].closed {
            self.links[link].closed = true;
            let proxy = self.links[link].key.0;
            self.ports[proxy].push(Event { at: self.now, link, what: Arrival::Closed });
        }
    }

    pub(super) fn greet(&mut self, client: usize, resume: Option<Resume>) {
        self.clients[client].greeted = true;
        self.say(client, Up::Hello(resume));
    }

    /// Resumes with a token, or with a forged one. If `ahead` is not 0, the Resume claims that many trimmed frames more
    /// than the client has sent.
    pub(super) fn resume(&mut self, client: usize, token: Option<usize>, ahead: usize, resync: bool) {
        let known = &self.clients[client];
        let trimmed = if ahead > 0 { known.sent + ahead } else { known.sent - known.outbox.len() };
        let (token, received) = (token.unwrap_or(FORGED), known.received);
        self.greet(client, Some(Resume { token, received, trimmed, resync }));
    }

    /// Sends a request of a client under a new number.
    pub(super) fn ask_for(&mut self, who: Who, make: impl Fn(u32) -> Up) {
        let client = &mut self.clients[who as usize];
        client.requests += 1;
        let frame = make(client.requests);
        self.send(who as usize, frame);
    }

    /// Sends a counted frame, and keeps it in the client's outbox.
    pub(super) fn send(&mut self, client: usize, frame: Up) {
        self.clients[client].sent += 1;
        self.clients[client].outbox.push_back(frame.clone());
        if self.clients[client].is_welcome() {
            self.say(client, frame);
        }
    }

    /// Sends a frame over the client's link, if there is one and it is open.
    pub(super) fn say(&mut self, client: usize, frame: Up) {
        let Some(link) = self.clients[client].link else { return };
        if !self.links[link].closed {
            let proxy = self.links[link].key.0;
            self.ports[proxy].push(Event { at: self.now, link, what: Arrival::Frame(frame) });
        }
    }

    /// Reads all frames that have arrived and acknowledges them.
    pub(super) fn pump(&mut self, client: usize) {
        self.read(client, usize::MAX, true);
        if self.clients[client].is_welcome() {
            let received = self.clients[client].received;
            self.say(client, Up::Ack(received));
        }
    }

    /// Reads all frames that have arrived and acknowledges all but the last.
    pub(super) fn lag(&mut self, client: usize) {
        self.read(client, usize::MAX, true);
        if self.clients[client].is_welcome() {
            let received = self.clients[client].received.saturating_sub(1);
            self.say(client, Up::Ack(received));
        }
    }

    pub(super) fn read(&mut self, client: usize, max: usize, answers: bool) {
        for _ in 0..max {
            let Some(link) = self.clients[client].link else { return };
            let Some(frame) = self.links[link].down.pop_front() else { return };
            self.clients[client].seen.push(frame.clone());
            match frame {
                Down::Denied(_) => self.clients[client].greeted = false,
                Down::Closed(_) => self.clients[client].closed = true,
                Down::Welcome { .. } => self.welcome(client, &frame, answers),
                _ => self.clients[client].received += 1,
            }
        }
    }

    fn welcome(&mut self, client: usize, frame: &Down, answers: bool) {
        let Down::Welcome { session, token, resumed, received, base, .. } = *frame else { return };
        let known = &mut self.clients[client];
        known.welcomed = true;
        known.reloaded = false;
        known.session = Some(session);
        if resumed {
            known.received = base;
            known.sent = known.sent.max(received);
            while known.sent - known.outbox.len() < received {
                known.outbox.pop_front();
            }
        } else {
            (known.received, known.sent) = (0, 0);
            known.outbox.clear();
            known.tokens.clear();
        }
        known.tokens.push(token);
        if !answers {
            return;
        }
        let (received, outbox) = (known.received, known.outbox.clone());
        self.say(client, Up::Ack(received));
        outbox.into_iter().for_each(|frame| self.say(client, frame));
    }
}

impl Client {
    pub(crate) fn has_link(&self) -> bool {
        self.link.is_some()
    }

    pub(crate) fn session(&self) -> Option<usize> {
        self.session
    }

    /// Returns true if the client may send a Hello: it has an open link on which no Hello waits for an answer or was
    /// accepted.
    pub(crate) fn may_greet(&self) -> bool {
        self.link.is_some() && !self.greeted && !self.closed
    }

    /// Returns the number of counted frames that the client has sent.
    pub(crate) fn sent(&self) -> usize {
        self.sent
    }

    /// Returns true if the client has kept only a token.
    pub(crate) fn must_resync(&self) -> bool {
        self.reloaded
    }

    /// Returns the token of the client's last Welcome, or of the Welcome `back` before it.
    pub(crate) fn token(&self, back: usize) -> Option<usize> {
        self.tokens.iter().rev().nth(back).copied()
    }

    pub(crate) fn is_welcome(&self) -> bool {
        self.link.is_some() && self.welcomed && !self.closed
    }
}
