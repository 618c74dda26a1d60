//! Proxies: the adapters that own links, and the ports between them and the tick.
//!
//! An adapter runs wherever it likes (a thread of its own, or the caller's) and speaks plain data:
//! [`ProxyEvent`]s up, [`ProxyCommand`]s down, each through a bounded [`port`](mod@port). It knows links
//! and frames and nothing of sessions. The smallest one, [`loopback`], is the place to learn how
//! to write another; the example `custom_proxy` is one over TCP, with threads and sockets.
//!
//! Data flow: adapter → event port → [`Arrivals`], drained in `Receive` in the order of proxy
//! ids → the gate; whoever sends → [`Proxies::command`] → one batch a proxy in `Flush` → command
//! port → adapter.

mod backlog;
mod batch;
mod budget;
mod closing;
#[macro_use]
mod counters;
pub mod held;
pub mod loopback;
mod network;
mod origins;
mod places;
pub mod port;
mod pump;
pub mod quic;
pub mod renet;
pub(crate) mod restarts;
pub mod tls;
mod udp;
pub mod websocket;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bevy_app::{App, Plugin, PostUpdate, PreUpdate};
use bevy_ecs::prelude::*;
use bevy_platform::collections::HashMap;
use bytes::Bytes;

use crate::ident::{LinkId, LinkKey, ProxyId};
use crate::tick::{Clock, Failure, LastWords, StopRequested, TickSystems, TickTime};
use crate::wire::v1::Reason;

pub use crate::tick::event::{LinkEnd, LinkInfo, ProxyEvent, ProxyEventKind};
pub use budget::{LINK_BUDGET, Outflow, ROOM_STEP};
pub use network::Network;
pub use origins::Origins;

use batch::Batch;
use budget::LinkBudget;
use places::Places;
use port::{Budget, PortReceiver, PortSender, UNBOUNDED, Weigh, port};

/// What the tick tells an adapter.
#[derive(Debug, Clone)]
pub enum ProxyCommand {
    /// Sends a frame on the lane that its id says.
    Send {
        /// To whom.
        link: LinkId,
        /// Message id and body.
        frame: Bytes,
    },
    /// Sends the last frame, holds the link until all is flushed, then closes it.
    /// Whatever the peer still sends is discarded.
    Close {
        /// Which link.
        link: LinkId,
        /// The last frame.
        frame: Bytes,
    },
    /// Closes a link at once.
    Cut {
        /// Which link.
        link: LinkId,
    },
    /// Leaves the frames of the reliable lane with the transport for now.
    Pause {
        /// Which link.
        link: LinkId,
    },
    /// Reads on.
    Unpause {
        /// Which link.
        link: LinkId,
    },
}

impl ProxyCommand {
    /// The link that it is about.
    #[must_use]
    pub fn link(&self) -> LinkId {
        match self {
            Self::Send { link, .. }
            | Self::Close { link, .. }
            | Self::Cut { link }
            | Self::Pause { link }
            | Self::Unpause { link } => *link,
        }
    }
}

/// The adapter's end of its ports.
///
/// # Room
///
/// An adapter queues what the tick sends on a link until the network takes it, and says how that goes on.
/// When frames of a link have left its queue, because they were written or dropped, it adds their lengths
/// up; each time the sum has reached [`ROOM_STEP`], it tells the tick by [`ProxyEventKind::Room`] and begins
/// anew. An [`Outflow`] for each link does both. The tick sends no more than [`LINK_BUDGET`] bytes, and one
/// frame, beyond what was reported; then what is reliable waits in the session's outbox and what is
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
    failure: Arc<OnceLock<String>>,
    places: Arc<OnceLock<usize>>,
    vouched: Arc<AtomicBool>,
}

impl AdapterPort {
    /// Says that this adapter opens a link only for a client that has proved that it may enter, as
    /// by a connect token. A new session on such a link needs no ticket.
    pub fn vouch_for_links(&self) {
        self.vouched.store(true, Ordering::Release);
    }

    /// The adapter cannot go on, and has logged why: the server stops with an error. Its links are
    /// to be ended before, each with a [`ProxyEventKind::Closed`].
    pub fn give_up(&self, why: impl Into<String>) {
        // Who gave up twice is believed once.
        let _ = self.failure.set(why.into());
    }
}

/// All proxies of a server, in the order of their ids.
#[derive(Resource, Debug, Default)]
pub struct Proxies {
    ports: Vec<ProxyPort>,
    /// Links that are there.
    links: HashMap<LinkKey, OpenLink>,
    /// Links that were told to close and are not gone yet, and when they are cut.
    closing: BTreeMap<LinkKey, Duration>,
}

/// A link that is there, as the tick knows it.
#[derive(Debug, Default)]
struct OpenLink {
    budget: LinkBudget,
    /// It was told to close, and takes nothing more.
    is_closing: bool,
    /// It was cut, and takes nothing more.
    is_cut: bool,
}

/// The tick's end of a proxy's ports, and the batch that the next flush sends.
#[derive(Debug)]
struct ProxyPort {
    name: &'static str,
    events: PortReceiver<ProxyEvent>,
    commands: PortSender<ProxyCommand>,
    batch: Batch,
    failure: Arc<OnceLock<String>>,
    places: Places,
    vouched: Arc<AtomicBool>,
}

/// What arrived since the last tick: by proxy id, then in order of arrival. Taken by the gate.
#[derive(Resource, Debug, Default)]
pub struct Arrivals(pub Vec<(ProxyId, ProxyEvent)>);

/// Frames that crossed the ports since the start; link control included.
#[derive(Resource, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames from clients.
    pub in_count: u64,
    /// Bytes of them.
    pub in_bytes: u64,
    /// Frames to clients.
    pub out_count: u64,
    /// Bytes of them.
    pub out_bytes: u64,
}

impl Proxies {
    /// Adds a proxy and returns the adapter's end. `name` appears in logs.
    ///
    /// At most 65,536 proxies; a further one gets the last id and is never heard.
    pub fn attach(&mut self, name: &'static str, clock: Clock) -> AdapterPort {
        let id = ProxyId(u16::try_from(self.ports.len()).unwrap_or(u16::MAX));
        let (events_in, events_out) = port(EVENT_BUDGET);
        let (commands_in, commands_out) = port(UNBOUNDED);
        let failure = Arc::<OnceLock<String>>::default();
        let places = Places::default();
        let max = Arc::clone(&places.max);
        let vouched = Arc::<AtomicBool>::default();
        self.ports.push(ProxyPort {
            name,
            events: events_out,
            commands: commands_in,
            batch: Batch::default(),
            failure: Arc::clone(&failure),
            places,
            vouched: Arc::clone(&vouched),
        });
        AdapterPort { id, clock, events: events_in, commands: commands_out, failure, places: max, vouched }
    }

    /// The name a proxy was attached under.
    #[must_use]
    pub fn name(&self, id: ProxyId) -> &'static str {
        self.ports.get(usize::from(id.0)).map_or("unknown", |port| port.name)
    }

    /// Whether the adapter of a proxy opens links only for clients that proved that they may enter:
    /// see [`AdapterPort::vouch_for_links`].
    #[must_use]
    pub fn vouches_for_links(&self, id: ProxyId) -> bool {
        self.ports.get(usize::from(id.0)).is_some_and(|port| port.vouched.load(Ordering::Acquire))
    }

    /// The links that each proxy has open now, by its name, in the order of their ids.
    #[must_use]
    pub fn link_counts(&self) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<_> = self.ports.iter().map(|port| (port.name, 0)).collect();
        for link in self.links.keys() {
            if let Some((_, count)) = counts.get_mut(usize::from(link.proxy.0)) {
                *count += 1;
            }
        }
        counts
    }

    /// Puts a command into the batch of the link's proxy.
    pub fn command(&mut self, proxy: ProxyId, command: ProxyCommand) {
        if let ProxyCommand::Send { link, frame } | ProxyCommand::Close { link, frame } = &command
            && let Some(open) = self.links.get_mut(&LinkKey { proxy, link: *link })
        {
            open.budget.spend(frame.len());
        }
        if let Some(port) = self.ports.get_mut(usize::from(proxy.0)) {
            port.batch.push(command);
        }
    }

    /// Sends a frame on a link. Who can wait asks for [`room`](Self::room) before; a frame for which
    /// there is none is sent all the same, unless the proxy has taken nothing for so long that it has no room
    /// for link control either: then the link is cut, so that no frame is lost on a link that lives.
    pub fn send(&mut self, to: LinkKey, frame: Bytes) {
        let port = self.ports.get(usize::from(to.proxy.0));
        if port.is_some_and(|port| !port.batch.has_room_for_control()) {
            tracing::debug!(link = %to, "cut: its proxy does not take what is sent");
            self.cut(to);
            return;
        }
        self.command(to.proxy, ProxyCommand::Send { link: to.link, frame });
    }

    /// Bytes that a link may still take in this tick: what is left of [`LINK_BUDGET`]. While it is above 0,
    /// a frame of any length may go. 0 for a link that is gone or was told to go.
    #[must_use]
    pub fn room(&self, link: LinkKey) -> usize {
        let open = self.links.get(&link).filter(|open| !open.is_closing && !open.is_cut);
        open.map_or(0, |open| open.budget.room())
    }

    /// Takes what the adapters have to tell, by proxy id and from each port within the budget of a
    /// tick. The plugin's systems call this and [`send_batches`](Self::send_batches); whoever drives
    /// adapters without an app does it himself.
    pub fn take_events(&mut self, mut take: impl FnMut(ProxyId, ProxyEvent)) {
        let mut events = Vec::new();
        for (index, port) in self.ports.iter_mut().enumerate() {
            let id = ProxyId(u16::try_from(index).unwrap_or(u16::MAX));
            port.batch.note_taken(port.commands.taken());
            port.events.drain(RECEIVE_BUDGET, |event| events.push((id, event)));
        }
        for (id, event) in events {
            self.note(LinkKey { proxy: id, link: event.link }, &event.kind);
            take(id, event);
        }
    }

    /// Notes what an event says of a link.
    fn note(&mut self, link: LinkKey, kind: &ProxyEventKind) {
        match kind {
            ProxyEventKind::Opened(_) => self.note_opened(link),
            ProxyEventKind::Closed(_) => self.note_closed(link),
            ProxyEventKind::Room { bytes } => {
                if let Some(open) = self.links.get_mut(&link) {
                    open.budget.restore(*bytes);
                }
            }
            ProxyEventKind::Frame { .. } | ProxyEventKind::Breach(_) => {}
        }
    }

    /// Hands each adapter its batch, as one, and tells of each frame in it. Links that took too long
    /// to close by `now` are cut.
    pub fn send_batches(&mut self, now: Duration, mut sent: impl FnMut(&Bytes)) {
        self.cut_overdue(now);
        for port in &mut self.ports {
            port.batch.send(&port.commands, |command| {
                if let ProxyCommand::Send { frame, .. } | ProxyCommand::Close { frame, .. } = command {
                    sent(frame);
                }
            });
        }
    }

    /// Whether a proxy keeps up: what it was commanded, less what it had taken when the tick began, is
    /// below a bound. While it is not, unreliable frames are dropped and reliable ones wait in their
    /// outboxes. Where that can happen within a tick, whoever is served first takes turns: see
    /// [`TickTime::turn`].
    #[must_use]
    pub fn has_room(&self, proxy: ProxyId) -> bool {
        self.ports.get(usize::from(proxy.0)).is_some_and(|port| port.batch.has_room())
    }

    /// Bounds what waits for each adapter by `budget`, so that a test can reach the bound.
    #[cfg(feature = "testing")]
    pub fn set_command_budget(&mut self, budget: Budget) {
        self.ports.iter_mut().for_each(|port| port.batch.set_budget(budget));
    }
}

/// Adds the ports' phases. Proxies are attached to [`Proxies`] afterwards, at any time.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProxyPlugin;

impl Plugin for ProxyPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Proxies>()
            .init_resource::<Arrivals>()
            .init_resource::<Traffic>()
            .add_systems(PreUpdate, (receive, heed_failures).chain().in_set(TickSystems::Receive))
            .add_systems(PostUpdate, depart.in_set(TickSystems::Flush));
        app.world_mut().get_resource_or_init::<LastWords>().0.push(say_goodbye);
    }
}

/// Attaches a proxy to an app that has the [`ProxyPlugin`].
pub fn attach(app: &mut App, name: &'static str) -> AdapterPort {
    let world = app.world_mut();
    let clock = world.get_resource::<TickTime>().map(|time| time.clock().clone()).unwrap_or_default();
    world.get_resource_or_init::<Proxies>().attach(name, clock)
}

/// Drains the event ports.
fn receive(mut proxies: ResMut<Proxies>, mut arrivals: ResMut<Arrivals>, mut traffic: ResMut<Traffic>) {
    let arrivals = &mut arrivals.0;
    arrivals.clear();
    proxies.take_events(|proxy, event| {
        if let ProxyEventKind::Frame { bytes, .. } = &event.kind {
            traffic.in_count += 1;
            traffic.in_bytes += bytes.len() as u64;
        }
        arrivals.push((proxy, event));
    });
}

/// A server without one of its proxies serves some of its players and looks healthy: it stops.
fn heed_failures(proxies: Res<Proxies>, mut failure: ResMut<Failure>, mut stop: ResMut<StopRequested>) {
    if failure.0.is_none()
        && let Some((name, why)) =
            proxies.ports.iter().find_map(|port| Some((port.name, port.failure.get()?)))
    {
        tracing::error!(proxy = name, why, "a proxy has given up, and the server stops");
        failure.0 = Some(format!("the proxy {name} has given up: {why}"));
        stop.0 = true;
    }
}

/// A system has panicked: whoever has a link is told that the server ends.
fn say_goodbye(world: &mut World) {
    let now = world.resource::<TickTime>().now();
    let mut proxies = world.resource_mut::<Proxies>();
    let mut links: Vec<LinkKey> = proxies.links.keys().copied().collect();
    links.sort_unstable();
    for link in links {
        proxies.close(link, Reason::Shutdown, "", now);
    }
    for port in &mut proxies.ports {
        port.batch.send(&port.commands, |_| {});
    }
}

/// Hands each proxy its batch, as one.
pub(crate) fn depart(mut proxies: ResMut<Proxies>, mut traffic: ResMut<Traffic>, time: Res<TickTime>) {
    proxies.send_batches(time.now(), |frame| {
        traffic.out_count += 1;
        traffic.out_bytes += frame.len() as u64;
    });
}

impl Weigh for ProxyEvent {
    fn weight(&self) -> usize {
        match &self.kind {
            ProxyEventKind::Frame { bytes, .. } => bytes.len(),
            ProxyEventKind::Opened(_)
            | ProxyEventKind::Breach(_)
            | ProxyEventKind::Room { .. }
            | ProxyEventKind::Closed(_) => 0,
        }
    }
}

impl Weigh for ProxyCommand {
    fn weight(&self) -> usize {
        match self {
            Self::Send { frame, .. } | Self::Close { frame, .. } => frame.len(),
            Self::Cut { .. } | Self::Pause { .. } | Self::Unpause { .. } => 0,
        }
    }
}

/// What an event port holds: two ticks' worth of [`RECEIVE_BUDGET`]. An adapter whose port is
/// full leaves frames with its transport.
const EVENT_BUDGET: Budget = Budget { count: 131_072, bytes: 32 * 1024 * 1024 };

/// What a tick takes from one port: over three thousand links at the full message rate, 20 Hz.
const RECEIVE_BUDGET: Budget = Budget { count: 65_536, bytes: 16 * 1024 * 1024 };
