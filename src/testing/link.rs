//! Links of the harness: within the process, on virtual time, and with the faults that a test sets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::faults::{Faults, Lossy};
use super::watch::{LinkCheck, ReceivedCounts};
use crate::client::{Dial, DialError, Link, LinkStatus};
use crate::ident::{LinkKey, SessionId};
use crate::proxy::LinkInfo;
use crate::proxy::loopback::{Loopback, LoopbackError, LoopbackLink};
use crate::session::{SessionCore, SessionTable};
use crate::tick::Clock;
use crate::wire::{Lane, lane_of};

/// The client's end of a link through one of the two proxies of a harness.
#[derive(Debug)]
pub struct HarnessLink {
    wire: Arc<Mutex<Wire>>,
    clock: Clock,
    /// Checks what a client of the library takes; a player checks for itself.
    checks: Option<LinkCheck>,
}

/// Opens links for a [`Client`](crate::client::Client), through the two proxies in turn, and
/// [watches](super::Watch) them.
#[derive(Debug, Clone)]
pub struct HarnessDial {
    net: Net,
    count: usize,
    received: Arc<Mutex<ReceivedCounts>>,
}

/// All links of a harness.
#[derive(Debug, Clone)]
pub(super) struct Net {
    proxies: [Loopback; 2],
    clock: Clock,
    wires: Arc<Mutex<Wires>>,
    pub(super) books: SharedFrameLog,
}

/// The open links, and the faults of future links.
#[derive(Debug, Default)]
struct Wires {
    faults: Faults,
    open: Vec<Weak<Mutex<Wire>>>,
}

#[derive(Debug)]
struct Wire {
    link: LoopbackLink,
    up: Lossy,
    down: Lossy,
    is_cut: bool,
    /// True if the link ever had faults, so that unreliable frames may arrive out of order.
    was_faulty: bool,
}

impl Net {
    pub(super) fn new(proxies: [Loopback; 2], clock: Clock) -> Self {
        Self { proxies, clock, wires: Arc::default(), books: SharedFrameLog::default() }
    }

    pub(super) fn connect(&self, proxy: usize, info: LinkInfo) -> HarnessLink {
        let link = self.proxies[proxy].connect(info);
        let key = link.key();
        let mut wire = Wire {
            link,
            up: Lossy::new(key, false),
            down: Lossy::new(key, true),
            is_cut: false,
            was_faulty: false,
        };
        let mut wires = lock(&self.wires);
        wire.set_faults(wires.faults);
        let wire = Arc::new(Mutex::new(wire));
        wires.open.push(Arc::downgrade(&wire));
        HarnessLink { wire, clock: self.clock.clone(), checks: None }
    }

    /// Stalls the adapter of a proxy, or lets it go on. A stalled adapter takes no commands.
    pub(super) fn stall(&self, proxy: usize, is_stalled: bool) {
        self.proxies[proxy].stall(is_stalled);
    }

    /// Sets the faults of all present and future links.
    pub(super) fn set_faults(&self, faults: Faults) {
        lock(&self.wires).faults = faults;
        self.each(|wire| wire.set_faults(faults));
    }

    /// Delivers the frames to the server that are due.
    pub(super) fn deliver(&self) {
        let now = self.clock.now();
        self.each(|wire| wire.deliver(now));
    }

    fn each(&self, mut act: impl FnMut(&mut Wire)) {
        lock(&self.wires).open.retain(|wire| {
            let wire = wire.upgrade();
            if let Some(wire) = &wire {
                act(&mut lock(wire));
            }
            wire.is_some()
        });
    }
}

impl HarnessLink {
    /// Returns the key of the link on the server.
    #[must_use]
    pub fn key(&self) -> LinkKey {
        lock(&self.wire).link.key()
    }

    /// Sends a frame on a lane.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`LoopbackLink::send`]. A frame that a fault drops or delays counts as sent.
    pub fn send(&self, lane: Lane, frame: Bytes) -> Result<(), LoopbackError> {
        lock(&self.wire).send(lane, frame, self.clock.now())
    }

    /// Takes the next frame that has arrived from the server.
    pub fn receive(&self) -> Option<Bytes> {
        lock(&self.wire).receive(self.clock.now())
    }

    /// Returns true if the server, or its transport, has closed the link. A cut does not close the link.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        lock(&self.wire).link.is_closed()
    }

    /// Returns true if a fault has cut the link.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        lock(&self.wire).is_cut
    }

    /// Returns true if the link ever had faults.
    pub(super) fn was_faulty(&self) -> bool {
        lock(&self.wire).was_faulty
    }

    /// Closes the link, and the server gets an event. To lose a link silently, drop it.
    pub fn close(&self) {
        let wire = lock(&self.wire);
        if !wire.is_cut {
            wire.link.close();
        }
    }

    /// Sets the faults of this link.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.wire).set_faults(faults);
    }
}

impl Wire {
    fn set_faults(&mut self, faults: Faults) {
        self.was_faulty |= faults != Faults::NONE;
        let (up, down) = faults.split();
        self.up.set(up);
        self.down.set(down);
    }

    fn send(&mut self, lane: Lane, frame: Bytes, now: Duration) -> Result<(), LoopbackError> {
        if self.link.is_closed() {
            return Err(LoopbackError::Closed);
        }
        if !self.is_cut && !self.up.put(lane, frame, now) {
            self.cut(now);
        }
        // Frames that are due are sent now, so that the caller gets their errors.
        while let Some((lane, frame)) = self.up.take(now) {
            self.link.send(lane, frame)?;
        }
        Ok(())
    }

    /// Delivers the frames that are due. A frame for which there is no room is lost.
    fn deliver(&mut self, now: Duration) {
        while let Some((lane, frame)) = self.up.take(now) {
            let _ = self.link.send(lane, frame);
        }
    }

    fn receive(&mut self, now: Duration) -> Option<Bytes> {
        while !self.is_cut
            && let Some(frame) = self.link.receive()
        {
            if !self.down.put(lane_of(&frame), frame, now) {
                self.cut(now);
            }
        }
        self.down.take(now).map(|(_, frame)| frame)
    }

    /// Cuts the link. Frames that have arrived remain. Frames in flight and all later ones are lost.
    fn cut(&mut self, now: Duration) {
        self.is_cut = true;
        self.up.clear(now);
        self.down.clear(now);
    }
}

impl HarnessDial {
    pub(super) fn new(net: Net) -> Self {
        Self { net, count: 0, received: Arc::default() }
    }
}

impl Dial for HarnessDial {
    type Link = HarnessLink;

    fn dial(&mut self) -> Result<HarnessLink, DialError> {
        self.count += 1;
        let checks = Some(LinkCheck::new(&self.received, &self.net.books));
        Ok(HarnessLink { checks, ..self.net.connect(self.count % 2, LinkInfo::default()) })
    }
}

impl Link for HarnessLink {
    fn update(&mut self, _dt: Duration) {}

    fn status(&self) -> LinkStatus {
        if self.is_closed() { LinkStatus::Closed } else { LinkStatus::Open }
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        let frame = Self::receive(self)?;
        let was_faulty = self.was_faulty();
        if let Some(checks) = &mut self.checks {
            checks.check(&frame, was_faulty);
        }
        Some((lane_of(&frame), frame))
    }

    fn send(&mut self, frame: Bytes) -> bool {
        Self::send(self, lane_of(&frame), frame).is_ok()
    }

    fn flush(&mut self) {}

    fn close(&mut self) {
        Self::close(self);
    }
}

/// The records of the counted frames that sessions have sent. The app and all players share them.
#[derive(Resource, Debug, Clone, Default)]
pub(super) struct SharedFrameLog(Arc<Mutex<Books>>);

/// The records, by session.
#[derive(Debug, Default)]
struct Books(BTreeMap<SessionId, Book>);

/// The counted frames that one session has sent, by number.
#[derive(Debug, Default)]
struct Book {
    frames: BTreeMap<u64, Bytes>,
    /// The number of the last frame. Numbers without a frame were acknowledged or void before they were recorded.
    last: u64,
    has_ended: bool,
}

impl SharedFrameLog {
    /// Checks invariant 12 of `docs/sessions.md`: a client receives as its `number`-th counted frame what was sent
    /// as the `number`-th.
    pub(super) fn check(&self, session: SessionId, number: u64, frame: &Bytes) -> Result<(), String> {
        let books = lock(&self.0);
        let Some(book) = books.0.get(&session) else { return Ok(()) };
        let is_unknown = if number > book.last { book.has_ended } else { !book.frames.contains_key(&number) };
        if is_unknown || book.frames.get(&number) == Some(frame) {
            return Ok(());
        }
        Err(format!("12: took {frame:?} as number {number}, but {:?} was sent", book.frames.get(&number)))
    }
}

/// Records the frames that sessions have sent, after each tick. Frames that a session sends in its last tick are not
/// recorded.
pub(super) fn record_frames(
    sessions: Query<&SessionCore, Allow<Disabled>>,
    table: Res<SessionTable>,
    books: Res<SharedFrameLog>,
) {
    let mut books = lock(&books.0);
    for core in &sessions {
        if let Some(outbox) = core.outbox() {
            books.0.entry(core.id()).or_default().write(outbox.acked(), outbox.frames());
        }
    }
    for (session, book) in &mut books.0 {
        book.has_ended = book.has_ended || table.find(*session).is_err();
    }
}

impl Book {
    /// Records the frames that follow the first `acked` ones.
    fn write<'a>(&mut self, acked: u64, frames: impl ExactSizeIterator<Item = &'a Bytes>) {
        let known = usize::try_from(self.last.saturating_sub(acked)).unwrap_or(usize::MAX);
        self.last = self.last.max(acked);
        for frame in frames.skip(known) {
            self.last += 1;
            self.frames.insert(self.last, frame.clone());
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
