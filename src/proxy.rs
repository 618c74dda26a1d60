//! The adapters that own links, and the ports between the adapters and the tick.
//!
//! An adapter runs on a thread of its own or on the caller's thread. It sends [`ProxyEvent`]s to the tick and
//! receives [`ProxyCommand`]s from it, each through a [`port`](mod@port). An adapter handles links and frames; it
//! has no access to sessions.
//!
//! Each network transport of this crate is a [`Listener`]. A listener binds its port, starts its adapter, provides
//! the offers of its transport for discovery, and counts its work. It ends when its [handle](ListenerHandle) is
//! dropped.
//!
//! To write an adapter, start from [`loopback`], the smallest one. The example `custom_transport` is an adapter
//! over TCP with threads and sockets.
//!
//! Data flow: adapter → event port → [`TickInput`], gathered by proxy id when a tick begins → the gate; frames to
//! links → [`Proxies::command`] → one batch per proxy in `Flush` → command port → adapter.

mod adapter;
mod backlog;
mod batch;
mod budget;
mod closing;
#[macro_use]
mod counters;
pub(crate) mod grouped;
pub mod link_memory;
mod listener;
pub mod loopback;
mod network;
mod offers;
mod open_links;
mod origins;
mod outlet;
mod places;
pub mod port;
mod pump;
pub mod quic;
pub(crate) mod rates;
pub mod renet;
pub(crate) mod restarts;
pub mod tls;
mod udp;
pub mod websocket;

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_app::{App, Plugin, PostUpdate, PreUpdate};
use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::ident::{LinkId, LinkKey, ProxyId};
use crate::tick::{
    Clock, Failure, InputSources, PanicHooks, ProxyInput, StopRequested, TickInput, TickSystems, TickTime,
};
use crate::wire::v1::Reason;

pub use crate::tick::event::{LinkEnd, LinkInfo, ProxyEvent, ProxyEventKind};
pub use adapter::AdapterPort;
pub use budget::{LINK_BUDGET, Outflow, ROOM_STEP};
pub(crate) use closing::DETAIL_MAX_CHARS;
pub use counters::{Count, Counter};
pub(crate) use listener::Listeners;
pub use listener::{AddListener, Listener, ListenerHandle};
pub use network::Network;
pub use offers::{DiscoveryRequest, OfferSource, Offers};
pub(crate) use open_links::LinkSlot;
pub use origins::Origins;
pub(crate) use outlet::LinkOutlet;

use adapter::{ProxyPort, RECEIVE_BUDGET};
use open_links::OpenLinks;
use port::{Budget, SizeInBytes};

/// A command of the tick to an adapter.
#[derive(Debug, Clone)]
pub enum ProxyCommand {
    /// Sends a frame on the lane that its message id selects.
    Send {
        /// The link to send on.
        link: LinkId,
        /// The message id and the body.
        frame: Bytes,
    },
    /// Sends the last frame, waits until everything is flushed, and closes the link.
    /// The adapter discards what the peer still sends.
    Close {
        /// The link to close.
        link: LinkId,
        /// The last frame: the message id and the body.
        frame: Bytes,
    },
    /// Closes a link at once.
    Cut {
        /// The link to close.
        link: LinkId,
    },
    /// Stops reading the reliable lane of a link. Unread frames stay in the transport.
    Pause {
        /// The link to pause.
        link: LinkId,
    },
    /// Reads the reliable lane of a paused link again.
    Unpause {
        /// The link to read.
        link: LinkId,
    },
}

impl ProxyCommand {
    /// Returns the link that the command applies to.
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

/// All proxies of a server, in the order of their ids.
#[derive(Resource, Debug, Default)]
pub struct Proxies {
    ports: Vec<ProxyPort>,
    links: OpenLinks,
    /// The closing links, each with the time at which it is cut.
    closing: BTreeMap<LinkKey, Duration>,
    /// The bound on waiting commands per adapter, if a test has set one.
    command_budget: Option<Budget>,
}

/// The commands that were flushed in this tick, by proxy id. They are recorded only if this resource was inserted,
/// for example by a test.
#[derive(Resource, Debug, Default)]
pub struct SentCommands(pub Vec<(ProxyId, ProxyCommand)>);

/// Counts of the frames that have crossed the ports since the start, including link control.
#[derive(Resource, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Number of frames from clients.
    pub in_count: u64,
    /// Bytes in the frames from clients.
    pub in_bytes: u64,
    /// Number of frames to clients.
    pub out_count: u64,
    /// Bytes in the frames to clients.
    pub out_bytes: u64,
}

impl Proxies {
    /// Adds a proxy and returns the adapter's end of its ports. `name` appears in logs.
    ///
    /// A server can have up to 65,536 proxies. A further proxy shares the id of the last one and does not work.
    pub fn attach(&mut self, name: &'static str, clock: Clock) -> AdapterPort {
        let id = ProxyId(u16::try_from(self.ports.len()).unwrap_or(u16::MAX));
        let (port, adapter) = ProxyPort::new(id, name, clock);
        self.add(port);
        adapter
    }

    fn add(&mut self, mut port: ProxyPort) {
        if let Some(budget) = self.command_budget {
            port.batch.set_budget(budget);
        }
        self.ports.push(port);
    }

    /// Returns the name that a proxy was attached under, or `"unknown"` if there is no proxy with this id.
    #[must_use]
    pub fn name(&self, id: ProxyId) -> &'static str {
        self.ports.get(usize::from(id.0)).map_or("unknown", |port| port.told.name)
    }

    /// Returns true if the adapter of a proxy opens links only for clients that have proved that they may enter.
    /// See [`AdapterPort::vouch_for_links`].
    #[must_use]
    pub fn vouches_for_links(&self, id: ProxyId) -> bool {
        self.ports.get(usize::from(id.0)).is_some_and(|port| port.told.vouches)
    }

    /// Returns the name and the number of open links of each proxy, ordered by proxy id.
    #[must_use]
    pub fn link_counts(&self) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<_> = self.ports.iter().map(|port| (port.told.name, 0)).collect();
        for link in self.links.keys() {
            if let Some((_, count)) = counts.get_mut(usize::from(link.proxy.0)) {
                *count += 1;
            }
        }
        counts
    }

    /// Returns the current counters of all adapters, ordered by proxy id.
    ///
    /// Adapters count on threads of their own, so the values differ between a run and its replay. Game logic must
    /// not depend on them.
    #[must_use]
    pub fn counters(&self) -> Vec<Counter> {
        let mut counters = Vec::new();
        for ProxyPort { told, ends, .. } in &self.ports {
            let push = &mut |name, value| counters.push(Counter { proxy: told.name, name, value });
            ends.iter().for_each(|ends| ends.count(push));
        }
        counters
    }

    /// Adds a command to the batch of a proxy. [`ProxyCommand::Send`] has the same effect as [`send`](Self::send).
    pub fn command(&mut self, proxy: ProxyId, command: ProxyCommand) {
        match command {
            ProxyCommand::Send { link, frame } => self.send(LinkKey { proxy, link }, frame),
            command => self.push(proxy, command),
        }
    }

    fn push(&mut self, proxy: ProxyId, command: ProxyCommand) {
        if let ProxyCommand::Send { link, frame } | ProxyCommand::Close { link, frame } = &command
            && let Some(open) = self.links.get_mut(LinkKey { proxy, link: *link })
        {
            open.budget.spend(frame.len());
        }
        if let Some(port) = self.ports.get_mut(usize::from(proxy.0)) {
            port.batch.push(command);
        }
    }

    /// Sends a frame on a link, even if the link has no [`room`](Self::room). For a frame that can wait, check the
    /// room first.
    ///
    /// If the proxy has no room for link control, the link is cut and the frame is not sent. So no frame is lost on
    /// an open link.
    pub fn send(&mut self, to: LinkKey, frame: Bytes) {
        let port = self.ports.get(usize::from(to.proxy.0));
        if port.is_some_and(|port| !port.batch.has_room_for_control()) {
            tracing::debug!(link = %to, "cut a link: its adapter does not keep up with the commands of the tick");
            self.cut(to);
            return;
        }
        self.push(to.proxy, ProxyCommand::Send { link: to.link, frame });
    }

    /// Returns how many bytes of [`LINK_BUDGET`] are left for a link. While the result is above 0, one more frame
    /// of any length may be sent. Returns 0 for a link that has closed, is closing or was cut.
    #[must_use]
    pub fn room(&self, link: LinkKey) -> usize {
        let open = self.links.get(link).filter(|open| !open.is_closing && !open.is_cut);
        open.map_or(0, |open| open.budget.room())
    }

    /// Takes the waiting events of all adapters, ordered by proxy id, up to a fixed budget per proxy.
    ///
    /// Call this method and [`send_batches`](Self::send_batches) to drive adapters without an app. In an app, the
    /// systems of [`ProxyPlugin`] do the same work.
    pub fn take_events(&mut self, mut take: impl FnMut(ProxyId, ProxyEvent)) {
        let mut input = TickInput::default();
        self.gather(&mut input);
        self.apply(&input);
        input.events.into_iter().for_each(|(proxy, event)| take(proxy, event));
    }

    /// Reads once what the threads of the adapters have written.
    fn gather(&mut self, input: &mut TickInput) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            let id = ProxyId(u16::try_from(index).unwrap_or(u16::MAX));
            input.proxies.push(port.look());
            if let Some(ends) = &mut port.ends {
                ends.events.drain(RECEIVE_BUDGET, |event| input.events.push((id, event)));
            }
        }
    }

    /// Applies the gathered input. A proxy without a port comes from a recording and is added.
    fn apply(&mut self, input: &TickInput) {
        for (index, told) in input.proxies.iter().enumerate() {
            if index == self.ports.len() {
                self.add(ProxyPort::default());
            }
            self.ports[index].note(told.clone());
        }
        for (proxy, event) in &input.events {
            self.note(LinkKey { proxy: *proxy, link: event.link }, &event.kind);
        }
    }

    /// Updates the state of a link after an event.
    fn note(&mut self, link: LinkKey, kind: &ProxyEventKind) {
        match kind {
            ProxyEventKind::Opened(_) => self.note_opened(link),
            ProxyEventKind::Closed(_) => self.note_closed(link),
            ProxyEventKind::Room { bytes } => {
                if let Some(open) = self.links.get_mut(link) {
                    open.budget.restore(*bytes);
                }
            }
            ProxyEventKind::Frame { .. } | ProxyEventKind::ProtocolViolation(_) => {}
        }
    }

    /// Cuts the links that have not closed by their deadlines, then sends each adapter its batch. Calls `sent` with
    /// each frame of the batches.
    pub fn send_batches(&mut self, now: Duration, mut sent: impl FnMut(&Bytes)) {
        self.hand_over(now, |_, command| {
            if let ProxyCommand::Send { frame, .. } | ProxyCommand::Close { frame, .. } = command {
                sent(frame);
            }
        });
    }

    fn hand_over(&mut self, now: Duration, mut sent: impl FnMut(ProxyId, &ProxyCommand)) {
        self.cut_overdue(now);
        for (index, port) in self.ports.iter_mut().enumerate() {
            let id = ProxyId(u16::try_from(index).unwrap_or(u16::MAX));
            port.send(|command| sent(id, command));
        }
    }

    /// Returns true if the commands that a proxy had not taken when the tick began, plus those added since, are
    /// below a bound.
    ///
    /// While a proxy has no room, unreliable frames are dropped and counted frames wait in their outboxes. A system
    /// that can use up the room within a tick starts with a different session in each tick: see [`TickTime::turn`].
    #[must_use]
    pub fn has_room(&self, proxy: ProxyId) -> bool {
        self.ports.get(usize::from(proxy.0)).is_some_and(|port| port.batch.has_room())
    }

    /// Sets the bound on the commands that wait for each adapter, so that a test can reach it.
    #[cfg(feature = "testing")]
    pub fn set_command_budget(&mut self, budget: Budget) {
        self.command_budget = Some(budget);
        self.ports.iter_mut().for_each(|port| port.batch.set_budget(budget));
    }
}

/// A plugin that exchanges events and commands with the adapters in each tick. Attach proxies with [`attach`] after
/// adding the plugin, at any time.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProxyPlugin;

impl Plugin for ProxyPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Proxies>()
            .init_resource::<Traffic>()
            .add_systems(PreUpdate, (receive, stop_on_failure).chain().in_set(TickSystems::Receive))
            .add_systems(PostUpdate, flush_batches.in_set(TickSystems::Flush));
        app.world_mut().get_resource_or_init::<PanicHooks>().0.push(close_all_links);
        app.world_mut().get_resource_or_init::<InputSources>().0.push(gather);
    }
}

/// Attaches a proxy to an app with the [`ProxyPlugin`] and returns the adapter's end of its ports. `name` appears
/// in logs.
pub fn attach(app: &mut App, name: &'static str) -> AdapterPort {
    let world = app.world_mut();
    let clock = world.get_resource::<TickTime>().map(|time| time.clock().clone()).unwrap_or_default();
    world.get_resource_or_init::<Proxies>().attach(name, clock)
}

/// Gathers the events and the reports of the adapters.
fn gather(world: &mut World, input: &mut TickInput) {
    world.resource_mut::<Proxies>().gather(input);
}

/// Applies the input of the adapters. The events stay in [`TickInput`] for the gate.
fn receive(input: Res<TickInput>, mut proxies: ResMut<Proxies>, mut traffic: ResMut<Traffic>) {
    proxies.apply(&input);
    for (_, event) in &input.events {
        if let ProxyEventKind::Frame { bytes, .. } = &event.kind {
            traffic.in_count += 1;
            traffic.in_bytes += bytes.len() as u64;
        }
    }
}

/// Stops the server if an adapter has given up. Without this, the server would look healthy but serve only some of
/// its players.
fn stop_on_failure(input: Res<TickInput>, mut failure: ResMut<Failure>, mut stop: ResMut<StopRequested>) {
    if failure.0.is_none()
        && let Some((name, why)) =
            input.proxies.iter().find_map(|ProxyInput { name, failure, .. }| Some((*name, failure.as_ref()?)))
    {
        tracing::error!(proxy = name, why, "a proxy has given up; the server stops");
        failure.0 = Some(format!("the proxy {name} has given up: {why}"));
        stop.0 = true;
    }
}

/// Sends Closed(SHUTDOWN) on all links after a system has panicked.
fn close_all_links(world: &mut World) {
    let now = world.resource::<TickTime>().now();
    let mut proxies = world.resource_mut::<Proxies>();
    let mut links: Vec<LinkKey> = proxies.links.keys().collect();
    links.sort_unstable();
    for link in links {
        proxies.close(link, Reason::Shutdown, "", now);
    }
    for port in &mut proxies.ports {
        port.send(|_| {});
    }
}

/// Sends each adapter its batch.
pub(crate) fn flush_batches(
    mut proxies: ResMut<Proxies>,
    mut traffic: ResMut<Traffic>,
    mut departed: Option<ResMut<SentCommands>>,
    time: Res<TickTime>,
) {
    if let Some(departed) = &mut departed {
        departed.0.clear();
    }
    proxies.hand_over(time.now(), |proxy, command| {
        if let ProxyCommand::Send { frame, .. } | ProxyCommand::Close { frame, .. } = command {
            traffic.out_count += 1;
            traffic.out_bytes += frame.len() as u64;
        }
        if let Some(departed) = &mut departed {
            departed.0.push((proxy, command.clone()));
        }
    });
}

impl SizeInBytes for ProxyEvent {
    fn size_in_bytes(&self) -> usize {
        match &self.kind {
            ProxyEventKind::Frame { bytes, .. } => bytes.len(),
            ProxyEventKind::Opened(_)
            | ProxyEventKind::ProtocolViolation(_)
            | ProxyEventKind::Room { .. }
            | ProxyEventKind::Closed(_) => 0,
        }
    }
}

impl SizeInBytes for ProxyCommand {
    fn size_in_bytes(&self) -> usize {
        match self {
            Self::Send { frame, .. } | Self::Close { frame, .. } => frame.len(),
            Self::Cut { .. } | Self::Pause { .. } | Self::Unpause { .. } => 0,
        }
    }
}
