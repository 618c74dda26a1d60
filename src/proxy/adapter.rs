//! The two ends of a proxy: the adapter's, and what the tick holds of it.

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
/// An adapter queues what the tick sends on a link until the network takes it, and says how that goes on.
/// When frames of a link have left its queue, because they were written or dropped, it adds their lengths
/// up; each time the sum has reached [`ROOM_STEP`], it tells the tick by [`ProxyEventKind::Room`] and begins
/// anew. An [`Outflow`] for each link does both. The tick sends at most [`LINK_BUDGET`] bytes and one
/// frame beyond what was reported; then what is reliable waits in the session's outbox and what is
/// unreliable is dropped. A link whose adapter never reports falls silent after its first 256 KiB.
#[derive(Debug)]
pub struct AdapterPort {
    /// The adapter's id.
    pub id: ProxyId,
    /// Stamps events.
    pub clock: Clock,
    /// Events to the tick.
    pub events: PortSender<ProxyEvent>,
    /// Commands from the tick.
    pub commands: PortReceiver<ProxyCommand>,
    shared: Shared,
}

/// What an adapter says of itself.
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
    /// Says that this adapter opens a link only for a client that has proved that it may enter, as
    /// by a connect token. A new session on such a link needs no ticket.
    pub fn vouch_for_links(&self) {
        self.shared.vouched.store(true, Ordering::Release);
    }

    /// Says how many links the adapter can have at a time. An adapter says it once, before its first link. One
    /// that says nothing is taken for one that turns no link away.
    pub fn set_places(&self, max: usize) {
        // An adapter that says it again changes nothing.
        let _ = self.shared.places.set(max);
    }

    /// Says where the adapter counts what it does, for [`Proxies::counters`](super::Proxies::counters). An adapter says
    /// it once.
    pub fn set_counters(&self, counters: impl Count + 'static) {
        // An adapter that says it again changes nothing.
        let _ = self.shared.counters.set(Box::new(counters));
    }

    /// The adapter cannot go on, and has logged why: the server stops with an error. Its links are
    /// to be ended before, each with a [`ProxyEventKind::Closed`](super::ProxyEventKind::Closed).
    pub fn give_up(&self, why: impl Into<String>) {
        // The first reason is kept.
        let _ = self.shared.failure.set(why.into());
    }
}

/// What the tick holds of a proxy. All but the ends of the ports is the tick's own.
#[derive(Debug, Default)]
pub(super) struct ProxyPort {
    /// What the adapter had said of itself when the tick began.
    pub(super) told: ProxyInput,
    /// The batch that the next flush sends.
    pub(super) batch: Batch,
    pub(super) places: Places,
    /// None in a replay, which has no adapters.
    pub(super) ends: Option<Ends>,
}

/// The tick's ends of the ports, at which other threads are.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) events: PortReceiver<ProxyEvent>,
    pub(super) commands: PortSender<ProxyCommand>,
    shared: Shared,
}

impl Ends {
    /// Tells each counter of the adapter.
    pub(super) fn count(&self, counter: &mut dyn FnMut(&'static str, u64)) {
        if let Some(counters) = self.shared.counters.get() {
            counters.each(counter);
        }
    }
}

impl ProxyPort {
    /// A proxy, and the end of its adapter.
    pub(super) fn new(id: ProxyId, name: &'static str, clock: Clock) -> (Self, AdapterPort) {
        let (events_in, events_out) = port(EVENT_BUDGET);
        let (commands_in, commands_out) = port(UNBOUNDED);
        let shared = Shared::default();
        let ends = Ends { events: events_out, commands: commands_in, shared: shared.clone() };
        let told = ProxyInput { name, ..ProxyInput::default() };
        let adapter = AdapterPort { id, clock, events: events_in, commands: commands_out, shared };
        (Self { told, ends: Some(ends), ..Self::default() }, adapter)
    }

    /// Looks at what the adapter has said of itself by now. Without an adapter nothing is new.
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

    /// Takes in what the adapter had said of itself when the tick began.
    pub(super) fn note(&mut self, told: ProxyInput) {
        self.batch.note_taken(told.taken);
        self.told = told;
    }

    /// Hands the batch to the adapter, as one.
    pub(super) fn send(&mut self, sent: impl FnMut(&ProxyCommand)) {
        self.batch.send(self.ends.as_ref().map(|ends| &ends.commands), sent);
    }
}

/// What an event port holds: two ticks' worth of [`RECEIVE_BUDGET`]. An adapter whose port is
/// full leaves frames with its transport.
const EVENT_BUDGET: Budget = Budget { count: 131_072, bytes: 32 * 1024 * 1024 };

/// What a tick takes from one port: over three thousand links at the full message rate, 20 Hz.
pub(super) const RECEIVE_BUDGET: Budget = Budget { count: 65_536, bytes: 16 * 1024 * 1024 };
