//! The two ends of a proxy: the adapter's end and the tick's end.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::batch::Batch;
use super::counters::Count;
use super::places::Places;
use super::port::{Budget, PortReceiver, PortSender, UNBOUNDED, port};
#[cfg(doc)]
use super::{LINK_BUDGET, Outflow, ProxyEventKind, ROOM_STEP};
use super::{ProxyCommand, ProxyEvent};
use crate::ident::ProxyId;
use crate::tick::{Clock, ProxyInput};

/// The adapter's end of its ports.
///
/// # Room
///
/// An adapter queues the frames that the tick sends on a link until the network accepts them. It reports the frames
/// that have left the queue, because they were written or dropped: it adds up their lengths, sends the sum as
/// [`ProxyEventKind::Room`] when it has reached [`ROOM_STEP`], and starts again from 0. Keep an [`Outflow`] per
/// link for this.
///
/// The tick sends up to [`LINK_BUDGET`] bytes and one frame beyond what was reported. After that, counted frames
/// wait in the session's outbox, and unreliable frames are dropped. If an adapter never reports, the tick sends
/// only about 256 KiB on each of its links.
#[derive(Debug)]
pub struct AdapterPort {
    /// The id of the proxy.
    pub id: ProxyId,
    /// The clock for [`ProxyEvent::at`].
    pub clock: Clock,
    /// The port of events to the tick.
    pub events: PortSender<ProxyEvent>,
    /// The port of commands from the tick.
    pub commands: PortReceiver<ProxyCommand>,
    shared: Shared,
}

/// What an adapter declares about itself.
#[derive(Clone, Default)]
struct Shared {
    failure: Arc<OnceLock<String>>,
    places: Arc<OnceLock<usize>>,
    vouched: Arc<AtomicBool>,
    counters: Arc<OnceLock<Box<dyn Count>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("failure", &self.failure).finish_non_exhaustive()
    }
}

impl AdapterPort {
    /// Declares that this adapter opens a link only for a client that has proved that it may enter, for example by
    /// a connect token. A new session on such a link needs no ticket.
    pub fn vouch_for_links(&self) {
        self.shared.vouched.store(true, Ordering::Release);
    }

    /// Declares the maximum number of simultaneous links. Call this method once, before the first link. Without it,
    /// the number of links is taken as unlimited.
    pub fn set_places(&self, max: usize) {
        // A second call has no effect.
        let _ = self.shared.places.set(max);
    }

    /// Sets the counters that [`Proxies::counters`](super::Proxies::counters) reads. Only the first call has an
    /// effect.
    pub fn set_counters(&self, counters: impl Count + 'static) {
        // A second call has no effect.
        let _ = self.shared.counters.set(Box::new(counters));
    }

    /// Reports that the adapter cannot continue. The server stops with an error. Before this call, the adapter logs
    /// the failure and ends each of its links with [`ProxyEventKind::Closed`](super::ProxyEventKind::Closed).
    pub fn give_up(&self, why: impl Into<String>) {
        // The first reason is kept.
        let _ = self.shared.failure.set(why.into());
    }
}

/// The tick's state of a proxy. Other threads access only the ends of the ports.
#[derive(Debug, Default)]
pub(super) struct ProxyPort {
    /// What the adapter had declared about itself when the tick began.
    pub(super) told: ProxyInput,
    /// The batch that the next flush sends.
    pub(super) batch: Batch,
    pub(super) places: Places,
    /// `None` in a replay, which has no adapters.
    pub(super) ends: Option<Ends>,
}

/// The tick's ends of the ports that it shares with the adapter's thread.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) events: PortReceiver<ProxyEvent>,
    pub(super) commands: PortSender<ProxyCommand>,
    shared: Shared,
}

impl Ends {
    /// Calls `counter` with the name and the value of each counter of the adapter.
    pub(super) fn count(&self, counter: &mut dyn FnMut(&'static str, u64)) {
        if let Some(counters) = self.shared.counters.get() {
            counters.each(counter);
        }
    }
}

impl ProxyPort {
    /// Returns a new proxy and the adapter's end of its ports.
    pub(super) fn new(id: ProxyId, name: &'static str, clock: Clock) -> (Self, AdapterPort) {
        let (events_in, events_out) = port(EVENT_BUDGET);
        let (commands_in, commands_out) = port(UNBOUNDED);
        let shared = Shared::default();
        let ends = Ends { events: events_out, commands: commands_in, shared: shared.clone() };
        let told = ProxyInput { name, ..ProxyInput::default() };
        let adapter = AdapterPort { id, clock, events: events_in, commands: commands_out, shared };
        (Self { told, ends: Some(ends), ..Self::default() }, adapter)
    }

    /// Reads what the adapter has declared about itself. Without an adapter, returns what was noted last.
    pub(super) fn look(&self) -> ProxyInput {
        let Some(Ends { commands, shared, .. }) = &self.ends else { return self.told.clone() };
        ProxyInput {
            name: self.told.name,
            taken: commands.taken(),
            places: shared.places.get().copied(),
            vouches: shared.vouched.load(Ordering::Acquire),
            failure: shared.failure.get().cloned(),
        }
    }

    /// Notes what the adapter had declared about itself when the tick began.
    pub(super) fn note(&mut self, told: ProxyInput) {
        self.batch.note_taken(told.taken);
        self.told = told;
    }

    /// Moves the batch to the command port.
    pub(super) fn send(&mut self, sent: impl FnMut(&ProxyCommand)) {
        self.batch.send(self.ends.as_ref().map(|ends| &ends.commands), sent);
    }
}

/// Capacity of an event port: twice [`RECEIVE_BUDGET`]. While its port is full, an adapter leaves frames in its
/// transport.
const EVENT_BUDGET: Budget = Budget { count: 131_072, bytes: 32 * 1024 * 1024 };

/// Largest number of events and bytes that a tick takes from one port. That is enough for about 10,000
/// sessions at their full rates of messages and bytes, at 20 Hz.
pub(super) const RECEIVE_BUDGET: Budget = Budget { count: 65_536, bytes: 16 * 1024 * 1024 };
