//! The examiner: it attends to one client, and notes what it does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::ledger::Ledger;
use super::report::Report;
use crate::ident::{LinkKey, MessageId};
use crate::proxy::{AdapterPort, Proxies, ProxyCommand, ProxyEventKind};
use crate::tick::{Clock, Secrets};
use crate::wire::v1::{Beacon, Closed, Denied, Hello, Probe, ProbeReply, Reason, Resume, Welcome};
use crate::wire::{self, BEACON_EVERY, FRAME_MAX_BEFORE_WELCOME, Frame, Lane, WireMessage, retry};

/// One examination of one client.
///
/// Attach an adapter for each transport that the client may come over, then [`run`](Self::run) it.
#[derive(Debug)]
pub struct Exam {
    pub(super) proxies: Proxies,
    clock: Clock,
    secrets: Secrets,
    patience: Duration,
    /// Links that are open and not bound, and what came on them.
    doors: BTreeMap<LinkKey, VecDeque<(Lane, Bytes)>>,
    /// The link of the session under examination.
    pub(super) link: Option<LinkKey>,
    pub(super) ledger: Ledger,
    pub(super) report: Report,
    /// What is being looked at.
    pub(super) row: &'static str,
    /// The first reliable frame since the last Welcome, and what it acknowledged if it was an Ack.
    pub(super) first: Option<(MessageId, Option<u64>)>,
    /// Beacons that came back.
    pub(super) pings: BTreeSet<u64>,
    pub(super) beacon_count: u64,

    /// Says nothing: what is counted is held until it does again, the rest is dropped.
    is_mute: bool,
    held: Vec<Bytes>,
    /// Does as if it had received nothing.
    pub(super) withholds: bool,
    beacon_due: Duration,
    /// When something was last heard, and said, on the bound link.
    pub(super) heard_at: Duration,
    pub(super) said_at: Duration,
    pub(super) now: Duration,
    pub(super) zone_ticks: u64,
}

/// Why a step cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// The link is gone and should not be; what the client did.
    Lost(String),
    /// Nobody came.
    Gone,
    /// The client said Bye.
    Left,
    /// The examination was stopped.
    Stopped,
}

/// Lets a moment pass; false ends the examination.
pub(super) type Turn<'a> = &'a mut dyn FnMut() -> bool;

impl Exam {
    /// An examination on this clock, of a client that is given `patience` to come, and to come back
    /// each time. Some 30 s are enough for any client that comes back at all.
    #[must_use]
    pub fn new(clock: Clock, patience: Duration) -> Self {
        let now = clock.now();
        Self {
            proxies: Proxies::default(),
            clock,
            secrets: Secrets::system(),
            patience,
            doors: BTreeMap::new(),
            link: None,
            ledger: Ledger::default(),
            report: Report::default(),
            row: "hello",
            first: None,
            pings: BTreeSet::new(),
            beacon_count: 0,
            is_mute: false,
            held: Vec::new(),
            withholds: false,
            beacon_due: now,
            heard_at: now,
            said_at: now,
            now,
            zone_ticks: 0,
        }
    }

    /// The port of an adapter.
    pub fn attach(&mut self, name: &'static str) -> AdapterPort {
        self.proxies.attach(name, self.clock.clone())
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn fail(&mut self, row: &'static str, did: impl Into<String>) {
        self.report.fail(row, did.into());
    }

    /// Lets a moment pass, and takes what it brought.
    pub(super) fn step(&mut self, turn: Turn) -> Result<(), Halt> {
        if !turn() {
            return Err(Halt::Stopped);
        }
        self.now = self.clock.now();
        let mut arrived = Vec::new();
        self.proxies
            .take_events(|proxy, event| arrived.push((LinkKey { proxy, link: event.link }, event.kind)));
        let mut result = Ok(());
        for (link, kind) in arrived {
            let done = self.arrive(link, kind);
            result = result.and(done);
        }
        if result.is_ok() && self.link.is_some() && self.has_caller() {
            self.link = None;
            result = Err(Halt::Lost("it opened another link although it had one".to_owned()));
        }
        if self.link.is_some() && !self.is_mute && self.beacon_due <= self.now {
            self.beacon_due = self.now + BEACON_EVERY;
            self.send_state();
        }
        self.proxies.send_batches(self.now, |_| {});
        result
    }

    fn arrive(&mut self, link: LinkKey, kind: ProxyEventKind) -> Result<(), Halt> {
        let is_bound = self.link == Some(link);
        match kind {
            ProxyEventKind::Opened(_) if self.doors.len() < DOORS_MAX => {
                self.doors.insert(link, VecDeque::new());
            }
            ProxyEventKind::Opened(_) => {
                self.proxies.command(link.proxy, ProxyCommand::Cut { link: link.link })
            }
            // What the examiner sends is little.
            ProxyEventKind::Room { .. } => {}
            ProxyEventKind::Frame { lane, bytes } if is_bound => return self.take(lane, bytes),
            ProxyEventKind::Frame { lane, bytes } => {
                if let Some(frames) =
                    self.doors.get_mut(&link).filter(|frames| frames.len() < DOOR_FRAMES_MAX)
                {
                    frames.push_back((lane, bytes));
                }
            }
            ProxyEventKind::Breach(what) => {
                self.fail("frames", what);
                self.close(link, Reason::Protocol, 0);
                if is_bound {
                    return Err(Halt::Lost(what.to_owned()));
                }
            }
            ProxyEventKind::Closed(end) => {
                self.doors.remove(&link);
                if is_bound {
                    self.link = None;
                    return Err(Halt::Lost(format!("it let the link end ({end:?})")));
                }
            }
        }
        Ok(())
    }

    /// Whether somebody says Hello.
    pub(super) fn has_caller(&self) -> bool {
        let is_hello = |(_, bytes): &(Lane, Bytes)| wire::id_of(bytes) == Some(Hello::ID);
        self.doors.values().any(|frames| frames.iter().any(is_hello))
    }

    /// Attends to the client until something has come to pass, for so long at most. Whether it has.
    pub(super) fn attend(
        &mut self,
        turn: Turn,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool, Halt> {
        let deadline = self.now + limit;
        while !done(self) {
            if self.now >= deadline {
                return Ok(false);
            }
            self.step(turn)?;
        }
        Ok(true)
    }

    /// Waits for a Hello, on any link.
    pub(super) fn await_hello(&mut self, turn: Turn) -> Result<(LinkKey, Hello), Halt> {
        let deadline = self.now + self.patience;
        loop {
            if let Some(call) = self.next_call() {
                return Ok(call);
            }
            if self.now >= deadline {
                return Err(Halt::Gone);
            }
            self.step(turn)?;
        }
    }

    fn next_call(&mut self) -> Option<(LinkKey, Hello)> {
        let (link, lane, bytes) = self.doors.iter_mut().find_map(|(link, frames)| {
            let (lane, bytes) = frames.pop_front()?;
            Some((*link, lane, bytes))
        })?;
        let length = bytes.len();
        let frame = Frame::parse(bytes).ok()?;
        if let (Ok(hello), Lane::Reliable) = (frame.decode::<Hello>(), lane) {
            if hello.protocol != wire::PROTOCOL || length > FRAME_MAX_BEFORE_WELCOME {
                self.fail("hello", format!("a Hello of protocol {}, {length} bytes", hello.protocol));
            }
            return Some((link, hello));
        }
        if let Ok(probe) = frame.decode::<Probe>() {
            self.reply(link, &probe);
        } else if self.report.verdict("hello") == &super::Verdict::NotReached {
            self.fail("hello", format!("the first frame is message {}", frame.id));
        } else {
            self.fail("quiet", format!("message {} came before Welcome", frame.id));
        }
        None
    }

    pub(super) fn reply(&mut self, link: LinkKey, probe: &Probe) {
        if self.is_mute {
            return;
        }
        let reply = ProbeReply { topic: probe.topic.clone(), body: Bytes::new() };
        self.proxies.send(link, wire::encode(&reply));
    }

    /// Refuses a Hello; the link stays open for another.
    pub(super) fn deny(&mut self, link: LinkKey, reason: Reason, retry_after: Duration) {
        let detail = DETAIL.to_owned();
        let retry_after_ms = retry::in_ms(retry_after);
        self.proxies.send(link, wire::encode(&Denied { reason: reason.into(), detail, retry_after_ms }));
    }

    /// Binds the session to a link. A client that resumes is told `received`, and goes on from `base`.
    pub(super) fn welcome(&mut self, link: LinkKey, resumed: Option<&Resume>, resync: bool) {
        self.doors.remove(&link);
        self.ledger.token = self.secrets.token().secret.to_vec().into();
        if resumed.is_none() {
            self.held.clear();
            self.ledger = Ledger::new(self.secrets.id(), self.ledger.token.clone());
        }
        let base = match resumed {
            Some(resume) if !resync => resume.received,
            _ => self.ledger.sent,
        };
        let ledger = &mut self.ledger;
        ledger.told = ledger.told.max(ledger.received);
        let welcome = Welcome {
            session: ledger.id,
            token: ledger.token.clone(),
            resumed: resumed.is_some(),
            received: ledger.received,
            base,
            resync,
            tick_hz: TICK_HZ,
            tick: self.zone_ticks + 1,
            timeout_ms: TIMEOUT_MS,
            zone: if ledger.joined { ZONE.to_owned() } else { String::new() },
        };
        let replay = ledger.unsent(base);
        self.proxies.send(link, wire::encode(&welcome));
        for frame in replay {
            self.proxies.send(link, frame);
        }
        (self.link, self.first) = (Some(link), None);
        (self.heard_at, self.said_at, self.beacon_due) = (self.now, self.now, self.now + BEACON_EVERY);
        self.speak();
    }

    /// Sends a message on the bound link, and keeps what is counted.
    pub(super) fn send<M: WireMessage>(&mut self, message: &M) {
        self.send_frame(wire::encode(message));
    }

    pub(super) fn send_frame(&mut self, frame: Bytes) {
        let Some(link) = self.link else { return };
        let is_counted = wire::id_of(&frame).is_some_and(MessageId::is_counted);
        if self.is_mute {
            if is_counted && self.held.len() < HELD_MAX {
                self.held.push(frame);
            }
            return;
        }
        if is_counted {
            self.ledger.send(frame.clone());
        }
        self.said_at = self.now;
        self.proxies.send(link, frame);
    }

    /// Says nothing from now on.
    pub(super) fn fall_mute(&mut self) {
        self.is_mute = true;
    }

    /// Says again what there is to say.
    pub(super) fn speak(&mut self) {
        self.is_mute = false;
        for frame in std::mem::take(&mut self.held) {
            self.send_frame(frame);
        }
    }

    /// A Beacon, and where the avatar is.
    fn send_state(&mut self) {
        self.beacon_count += 1;
        self.zone_ticks += 1;
        let received = if self.withholds { 0 } else { self.ledger.received };
        self.ledger.told = self.ledger.told.max(received);
        let (id, tick) = (self.beacon_count, self.zone_ticks);
        self.send(&Beacon { id, tick, received, latency_ms: 1, ..Beacon::default() });
        if self.ledger.joined {
            self.send_snapshot();
        }
    }

    /// Closes a link behind a Closed.
    pub(super) fn close(&mut self, link: LinkKey, reason: Reason, retry_after_ms: u32) {
        self.let_go(link);
        let frame =
            wire::encode(&Closed { reason: reason.into(), detail: DETAIL.to_owned(), retry_after_ms });
        self.proxies.command(link.proxy, ProxyCommand::Close { link: link.link, frame });
    }

    /// Cuts a link, without a word.
    pub(super) fn cut(&mut self, link: LinkKey) {
        self.let_go(link);
        self.proxies.command(link.proxy, ProxyCommand::Cut { link: link.link });
    }

    fn let_go(&mut self, link: LinkKey) {
        self.doors.remove(&link);
        if self.link == Some(link) {
            self.link = None;
        }
    }
}

/// The zone that clients are to join.
pub(super) const ZONE: &str = "arena";
/// What the Welcome says of a server that does not tick.
pub(super) const TICK_HZ: u32 = 20;
/// What the Welcome says of a session that does not expire.
const TIMEOUT_MS: u32 = 60_000;
/// Words in Closed and Denied, for whoever reads the client's log.
const DETAIL: &str = "this is an examination";
/// Links that are open and not bound; a client has one, or two while it changes.
const DOORS_MAX: usize = 16;
/// Frames that wait on a link without a Hello; a client sends one.
const DOOR_FRAMES_MAX: usize = 64;
/// Answers that are held while nothing is said: a client of the arena makes five calls a second.
const HELD_MAX: usize = 1_024;
