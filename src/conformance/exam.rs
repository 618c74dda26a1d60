//! The examiner of one client: its links, what it sends, and what it waits for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::ledger::Ledger;
use super::report::Report;
use crate::ident::{LinkKey, MessageId};
use crate::proxy::{AdapterPort, Proxies, ProxyCommand, ProxyEventKind};
use crate::tick::{Clock, SecretRng};
use crate::wire::v1::{Beacon, Closed, Denied, Hello, Probe, ProbeReply, Reason, Resume, Welcome};
use crate::wire::{self, BEACON_EVERY, FRAME_MAX_BEFORE_WELCOME, Frame, Lane, WireMessage, retry};

/// An examination of one client.
///
/// [Attach](Self::attach) an adapter for each transport that the client may use. Then [`run`](Self::run) the
/// examination.
#[derive(Debug)]
pub struct Exam {
    pub(super) proxies: Proxies,
    clock: Clock,
    secrets: SecretRng,
    patience: Duration,
    /// The open links that are not bound, and the frames that have arrived on them.
    doors: BTreeMap<LinkKey, VecDeque<(Lane, Bytes)>>,
    /// The bound link of the session under examination.
    pub(super) link: Option<LinkKey>,
    pub(super) ledger: Ledger,
    pub(super) report: Report,
    /// The row that is examined now.
    pub(super) row: &'static str,
    /// The first reliable frame since the last Welcome, and the acknowledgement in it if it is an Ack.
    pub(super) first: Option<(MessageId, Option<u64>)>,
    /// The ids of the Pings that have arrived.
    pub(super) pings: BTreeSet<u64>,
    pub(super) beacon_count: u64,

    /// True while nothing is sent: counted frames are held back, and others are dropped.
    is_mute: bool,
    held: Vec<Bytes>,
    /// True while the examiner acknowledges nothing.
    pub(super) withholds: bool,
    beacon_due: Duration,
    /// When a frame was last received on the bound link.
    pub(super) heard_at: Duration,
    /// When a frame was last sent on the bound link.
    pub(super) said_at: Duration,
    pub(super) now: Duration,
    pub(super) zone_ticks: u64,
}

/// The reason why a step cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// The link was lost unexpectedly. The text says what the client did.
    Lost(String),
    /// No client has connected in time.
    Gone,
    /// The client has sent Bye.
    Left,
    /// The examination was stopped.
    Stopped,
}

/// A function that waits for a moment, and returns false to stop the examination.
pub(super) type Turn<'a> = &'a mut dyn FnMut() -> bool;

impl Exam {
    /// Returns an examination that uses `clock`. `patience` is the longest wait for the client's first link, and for
    /// each later one. About 30 s are enough for a client that resumes at all.
    #[must_use]
    pub fn new(clock: Clock, patience: Duration) -> Self {
        let now = clock.now();
        Self {
            proxies: Proxies::default(),
            clock,
            secrets: SecretRng::system(),
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

    /// Returns the port for an adapter of this name.
    pub fn attach(&mut self, name: &'static str) -> AdapterPort {
        self.proxies.attach(name, self.clock.clone())
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn fail(&mut self, row: &'static str, did: impl Into<String>) {
        self.report.fail(row, did.into());
    }

    /// Waits for a moment, handles the events of links, and sends what is due.
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
            // The examiner sends so little that it needs no budget.
            ProxyEventKind::Room { .. } => {}
            ProxyEventKind::Frame { lane, bytes } if is_bound => return self.take(lane, bytes),
            ProxyEventKind::Frame { lane, bytes } => {
                if let Some(frames) =
                    self.doors.get_mut(&link).filter(|frames| frames.len() < DOOR_FRAMES_MAX)
                {
                    frames.push_back((lane, bytes));
                }
            }
            ProxyEventKind::ProtocolViolation(what) => {
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
                    return Err(Halt::Lost(format!("its link ended ({end:?})")));
                }
            }
        }
        Ok(())
    }

    /// Returns true if a Hello has arrived on a link that is not bound.
    pub(super) fn has_caller(&self) -> bool {
        let is_hello = |(_, bytes): &(Lane, Bytes)| wire::id_of(bytes) == Some(Hello::ID);
        self.doors.values().any(|frames| frames.iter().any(is_hello))
    }

    /// Steps until `done` returns true, for at most `limit`. Returns false if the limit has passed.
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

    /// Waits for a Hello on any link.
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
                self.fail("hello", format!("it sent a Hello of protocol {}, {length} bytes", hello.protocol));
            }
            return Some((link, hello));
        }
        if let Ok(probe) = frame.decode::<Probe>() {
            self.reply(link, &probe);
        } else if self.report.verdict("hello") == &super::Verdict::NotReached {
            self.fail("hello", format!("its first frame is message {}", frame.id));
        } else {
            self.fail("quiet", format!("it sent message {} before Welcome", frame.id));
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

    /// Denies a Hello. The link stays open.
    pub(super) fn deny(&mut self, link: LinkKey, reason: Reason, retry_after: Duration) {
        let detail = DETAIL.to_owned();
        let retry_after_ms = retry::in_ms(retry_after);
        self.proxies.send(link, wire::encode(&Denied { reason: reason.into(), detail, retry_after_ms }));
    }

    /// Binds a session to a link and sends Welcome. If `resumed` is `None`, the session is new. Otherwise the counts
    /// go on, and frames that the client has not received are sent again.
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

    /// Sends a message on the bound link. The ledger keeps counted frames.
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

    /// Stops sending.
    pub(super) fn fall_mute(&mut self) {
        self.is_mute = true;
    }

    /// Starts sending again, beginning with the counted frames that were held back.
    pub(super) fn speak(&mut self) {
        self.is_mute = false;
        for frame in std::mem::take(&mut self.held) {
            self.send_frame(frame);
        }
    }

    /// Sends a Beacon and, in the zone, a snapshot.
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

    /// Closes a link with a Closed frame.
    pub(super) fn close(&mut self, link: LinkKey, reason: Reason, retry_after_ms: u32) {
        self.let_go(link);
        let frame =
            wire::encode(&Closed { reason: reason.into(), detail: DETAIL.to_owned(), retry_after_ms });
        self.proxies.command(link.proxy, ProxyCommand::Close { link: link.link, frame });
    }

    /// Cuts a link without a frame.
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

/// The zone that clients must join.
pub(super) const ZONE: &str = "arena";
/// The tick rate in Welcome. The examiner itself has no ticks.
pub(super) const TICK_HZ: u32 = 20;
/// The timeout in Welcome. Sessions of the examiner do not expire.
const TIMEOUT_MS: u32 = 60_000;
/// The detail of Closed and Denied, which clients may log.
const DETAIL: &str = "this is an examination";
/// The most links that are open and not bound. A client has one, or two while it changes its link.
const DOORS_MAX: usize = 16;
/// The most frames that wait on a link that is not bound. A client sends one.
const DOOR_FRAMES_MAX: usize = 64;
/// The most frames that are held back. A client of the arena makes five calls per second.
const HELD_MAX: usize = 1_024;
