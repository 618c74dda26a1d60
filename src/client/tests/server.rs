//! Implements a small server that keeps the protocol, for tests of the client.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::net::Shared;
use super::{Loose, Numbered};
use crate::wire::v1::{Ack, Beacon, Bye, Closed, Denied, Hello, Joined, Ping, Reason, Welcome};
use crate::wire::{Frame, WireMessage, encode};

#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) id: u64,
    /// The token that was presented last, and the newest one.
    pub(crate) tokens: Vec<Bytes>,
    /// True once the Welcome on the current link was acknowledged.
    acked: bool,
    /// True once a Welcome on any link was acknowledged.
    ever_acked: bool,
    pub(crate) link: Option<usize>,
    pub(crate) received: u64,
    /// The zone of the last Joined among the game's answers.
    pub(crate) zone: String,
    /// The numbers in the received messages.
    pub(crate) log: Vec<u64>,
    outbox: VecDeque<Bytes>,
    pub(crate) trimmed: u64,
    cursor: usize,
    /// True if the outbox has overflowed.
    pub(crate) overflown: bool,
}

/// Returns the game's answers to a counted frame of a session.
pub(crate) type Answer = Box<dyn FnMut(u64, &Frame) -> Vec<Bytes>>;

pub(crate) struct Server {
    /// The game, if there is one.
    pub(crate) answer: Option<Answer>,
    pub(crate) net: Shared,
    pub(crate) sessions: Vec<Session>,
    /// True if a Hello gets no answer.
    pub(crate) mute: bool,
    /// The reason and `retry_after_ms` with which a Hello is denied.
    pub(crate) deny: Option<(Reason, u32)>,
    /// True if no Acks and Beacons are sent.
    pub(crate) silent: bool,
    /// The age that a Ping has when `echoed` reports it. `None`: Beacons do not have the field.
    pub(crate) echoed_after: Option<Duration>,
    /// Time between two Beacons.
    pub(crate) beacon_every: Duration,
    /// The `timeout_ms` of Welcome.
    pub(crate) timeout_ms: u32,
    pub(crate) hellos: Vec<Hello>,
    pub(crate) acks: Vec<u64>,
    pub(crate) pings: Vec<Ping>,
    pub(crate) loose: Vec<u64>,
    pub(crate) byes: usize,
    issued: u64,
    now: Duration,
    beaconed: Duration,
}

impl Server {
    pub(crate) fn new(net: Shared) -> Self {
        Self {
            answer: None,
            net,
            sessions: Vec::new(),
            mute: false,
            deny: None,
            silent: false,
            echoed_after: Some(Duration::ZERO),
            beacon_every: Duration::from_secs(1),
            timeout_ms: 0,
            hellos: Vec::new(),
            acks: Vec::new(),
            pings: Vec::new(),
            loose: Vec::new(),
            byes: 0,
            issued: 0,
            now: Duration::ZERO,
            beaconed: Duration::ZERO,
        }
    }

    pub(crate) fn tick(&mut self, dt: Duration) {
        self.now += dt;
        let links = self.net.borrow().wires.len();
        for link in 0..links {
            loop {
                let next = self.net.borrow_mut().wires[link].up.pop_front();
                let Some((_, bytes)) = next else { break };
                self.take(link, &Frame::parse(bytes).unwrap());
            }
        }
        for session in &mut self.sessions {
            if session.link.is_some_and(|link| self.net.borrow().wires[link].closed) {
                session.link = None;
            }
        }
        self.sessions.retain(|session| session.link.is_some() || session.ever_acked);
        let beacon = self.now >= self.beaconed + self.beacon_every && !self.silent;
        if beacon {
            self.beaconed = self.now;
        }
        let known_until = self.echoed_after.map(|age| self.now.saturating_sub(age).as_millis() as u64);
        for session in &mut self.sessions {
            let Some(link) = session.link else { continue };
            let echoed =
                self.pings.iter().rev().find(|ping| known_until.is_some_and(|until| ping.id <= until));
            let wire = &mut self.net.borrow_mut().wires[link];
            while let Some(frame) = session.outbox.get(session.cursor) {
                wire.carry_down(frame.clone());
                session.cursor += 1;
            }
            if beacon {
                wire.carry_down(encode(&Beacon {
                    id: self.now.as_millis() as u64,
                    tick: 1,
                    received: session.received,
                    latency_ms: 42,
                    echoed: self.echoed_after.map(|_| echoed.map_or(0, |ping| ping.id)),
                }));
            }
        }
    }

    /// Sends a message on the link of the first session.
    pub(crate) fn say<M: WireMessage>(&self, message: &M) {
        let link = self.sessions[0].link.unwrap();
        self.net.borrow_mut().wires[link].carry_down(encode(message));
    }

    /// Queues a counted frame for the first session.
    pub(crate) fn send(&mut self, number: u64) {
        self.sessions[0].outbox.push_back(encode(&Numbered { number }));
    }

    fn take(&mut self, link: usize, frame: &Frame) {
        if let Ok(hello) = frame.decode::<Hello>() {
            self.hellos.push(hello.clone());
            self.hello(link, &hello);
            return;
        }
        let Some(session) = self.sessions.iter_mut().find(|session| session.link == Some(link)) else {
            return;
        };
        if frame.id.is_counted() {
            assert!(session.ever_acked, "a counted frame came before the Ack");
            session.received += 1;
            if let Ok(message) = frame.decode::<Numbered>() {
                session.log.push(message.number);
            }
            if let Some(answer) = &mut self.answer {
                let answers = answer(session.id, frame);
                let joined = answers.iter().filter_map(|sent| Frame::parse(sent.clone()).ok()?.decode().ok());
                if let Some(Joined { zone, .. }) = joined.last() {
                    session.zone = zone;
                }
                session.outbox.extend(answers);
            }
            if session.received.is_multiple_of(8) && !self.silent {
                let ack = encode(&Ack { received: session.received });
                self.net.borrow_mut().wires[link].carry_down(ack);
            }
        } else if let Ok(ack) = frame.decode::<Ack>() {
            if !session.acked {
                session.acked = true;
                session.ever_acked = true;
                session.tokens.drain(..session.tokens.len() - 1);
            }
            self.acks.push(ack.received);
            session.acknowledge(ack.received);
        } else if let Ok(ping) = frame.decode::<Ping>() {
            session.acknowledge(ping.received);
            self.pings.push(ping);
        } else if let Ok(loose) = frame.decode::<Loose>() {
            self.loose.push(loose.number);
        } else if frame.decode::<Bye>().is_ok() {
            self.byes += 1;
            if !self.mute {
                self.net.borrow_mut().wires[link].carry_down(encode(&closed(Reason::Bye, 0)));
                self.sessions.retain(|session| session.link != Some(link));
            }
        } else {
            panic!("a client does not send {}", frame.id);
        }
    }

    fn hello(&mut self, link: usize, hello: &Hello) {
        let send = |frame| self.net.borrow_mut().wires[link].carry_down(frame);
        if self.mute {
            return;
        }
        if let Some((reason, retry_after_ms)) = self.deny {
            send(encode(&denied(reason, retry_after_ms)));
            return;
        }
        self.issued += 1;
        let token = Bytes::from(self.issued.to_be_bytes().to_vec());
        let Some(resume) = &hello.resume else {
            let session = Session {
                id: self.issued,
                tokens: vec![token.clone()],
                link: Some(link),
                ..Session::default()
            };
            let timeout_ms = self.timeout_ms;
            send(encode(&Welcome { session: session.id, token, timeout_ms, ..Welcome::default() }));
            self.sessions.push(session);
            return;
        };
        let Some(session) = self.sessions.iter_mut().find(|session| session.tokens.contains(&resume.token))
        else {
            send(encode(&denied(Reason::Token, 0)));
            return;
        };
        let sent = session.trimmed + session.outbox.len() as u64;
        let resync = resume.resync
            || session.overflown
            || !(session.trimmed..=sent).contains(&resume.received)
            || resume.trimmed > session.received;
        if resync {
            session.outbox.clear();
            session.trimmed = sent;
            session.overflown = false;
            session.received = session.received.max(resume.trimmed);
        } else {
            session.acknowledge(resume.received);
        }
        session.cursor = 0;
        session.acked = false;
        session.tokens = vec![resume.token.clone(), token.clone()];
        if let Some(old) = session.link.replace(link) {
            self.net.borrow_mut().wires[old].carry_down(encode(&closed(Reason::Replaced, 0)));
        }
        send(encode(&Welcome {
            session: session.id,
            token,
            resumed: true,
            received: session.received,
            base: if resync { sent } else { resume.received },
            resync,
            zone: session.zone.clone(),
            timeout_ms: self.timeout_ms,
            ..Welcome::default()
        }));
    }
}

impl Session {
    fn acknowledge(&mut self, received: u64) {
        let sent = self.trimmed + self.outbox.len() as u64;
        assert!(received <= sent, "{received} acknowledged, {sent} sent");
        while self.trimmed < received {
            self.outbox.pop_front();
            self.trimmed += 1;
            self.cursor = self.cursor.saturating_sub(1);
        }
    }

    pub(crate) fn unacked(&self) -> usize {
        self.outbox.len()
    }
}

pub(crate) fn closed(reason: Reason, retry_after_ms: u32) -> Closed {
    Closed { reason: reason.into(), detail: String::new(), retry_after_ms }
}

fn denied(reason: Reason, retry_after_ms: u32) -> Denied {
    Denied { reason: reason.into(), detail: String::new(), retry_after_ms }
}
