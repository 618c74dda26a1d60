//! Proxies: the adapters that own links, and the ports between them and the tick.
//!
//! An adapter runs wherever it likes (a thread of its own, or the caller's) and speaks plain data:
//! [`ProxyEvent`]s up, [`ProxyCommand`]s down, each through a bounded [`port`](mod@port). It knows links
//! and frames and nothing of sessions. The smallest one, [`loopback`], is the place to learn how
//! to write another; the example `custom_transport` is one over TCP, with threads and sockets. A transport of this crate is a
//! [`Listener`]: it binds its port, is attached with its adapter, offers itself by discovery, counts what it does, and
//! ends when its [handle](ListenerHandle) is dropped.
//!
//! Data flow: adapter → event port → [`TickInput`], gathered when a tick begins, by proxy id → the gate; frames
//! to links → [`Proxies::command`] → one batch a proxy in `Flush` → command port → adapter.

mod adapter;
mod backlog;
mod batch;
mod budget;
mod closing;
#[macro_use]
mod counters;
pub(crate) mod crowd;
pub mod held;
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
pub use offers::{Asked, OfferSource, Offers};
pub(crate) use open_links::LinkSlot;
pub use origins::Origins;
pub(crate) use outlet::LinkOutlet;

use adapter::{ProxyPort, RECEIVE_BUDGET};
use open_links::OpenLinks;
use port::{Budget, Weigh};

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

/// All proxies of a server, in the order of their ids.
#[derive(Resource, Debug, Default)]
pub struct Proxies {
    ports: Vec<ProxyPort>,
    /// Links that are there.
    links: OpenLinks,
    /// Links that were told to close and are not gone yet, and when they are cut.
    closing: BTreeMap<LinkKey, Duration>,
    /// What may wait for each adapter, if a test has its own idea of that.
    command_budget: Option<Budget>,
}

/// The commands that left in this tick, by proxy id. Kept only where somebody has inserted it, as a test does.
#[derive(Resource, Debug, Default)]
pub struct Departed(pub Vec<(ProxyId, ProxyCommand)>);

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

    /// The name a proxy was attached under.
    #[must_use]
    pub fn name(&self, id: ProxyId) -> &'static str {
        self.ports.get(usize::from(id.0)).map_or("unknown", |port| port.told.name)
    }

    /// Whether the adapter of a proxy opens links only for clients that proved that they may enter:
    /// see [`AdapterPort::vouch_for_links`].
    #[must_use]
    pub fn vouches_for_links(&self, id: ProxyId) -> bool {
        self.ports.get(usize::from(id.0)).is_some_and(|port| port.told.vouches)
    }

    /// The links that each proxy has open now, by its name, in the order of their ids.
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

    /// What the adapters have counted by now, by proxy id. Adapters count on threads of their own, so a game's logic
    /// must not go by it: a run could not be repeated.
    #[must_use]
    pub fn counters(&self) -> Vec<Counter> {
        let mut counters = Vec::new();
        for ProxyPort { told, ends, .. } in &self.ports {
            let push = &mut |name, value| counters.push(Counter { proxy: told.name, name, value });
            ends.iter().for_each(|ends| ends.count(push));
        }
        counters
    }

    /// Puts a command into the batch of the link's proxy. A frame is sent as by [`send`](Self::send).
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

    /// Sends a frame on a link, even if the link has no [`room`](Self::room): ask for room first for a frame that
    /// can wait. If the proxy has no room for link control either, the link is cut instead, so that no frame
    /// is lost on a link that lives.
    pub fn send(&mut self, to: LinkKey, frame: Bytes) {
        let port = self.ports.get(usize::from(to.proxy.0));
        if port.is_some_and(|port| !port.batch.has_room_for_control()) {
            tracing::debug!(link = %to, "cut: its proxy does not take what is sent");
            self.cut(to);
            return;
        }
        self.push(to.proxy, ProxyCommand::Send { link: to.link, frame });
    }

    /// Bytes that a link may still take in this tick: what is left of [`LINK_BUDGET`]. While it is above 0,
    /// a frame of any length may go. 0 for a link that is gone or was told to go.
    #[must_use]
    pub fn room(&self, link: LinkKey) -> usize {
        let open = self.links.get(link).filter(|open| !open.is_closing && !open.is_cut);
        open.map_or(0, |open| open.budget.room())
    }

    /// Takes what the adapters have to tell, by proxy id and from each port within the budget of a
    /// tick. The plugin's systems do this and [`send_batches`](Self::send_batches); it is for those who drive
    /// adapters without an app.
    pub fn take_events(&mut self, mut take: impl FnMut(ProxyId, ProxyEvent)) {
        let mut input = TickInput::default();
        self.gather(&mut input);
        self.apply(&input);
        input.events.into_iter().for_each(|(proxy, event)| take(proxy, event));
    }

    /// Looks once at all that other threads have written.
    fn gather(&mut self, input: &mut TickInput) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            let id = ProxyId(u16::try_from(index).unwrap_or(u16::MAX));
            input.proxies.push(port.look());
            if let Some(ends) = &mut port.ends {
                ends.events.drain(RECEIVE_BUDGET, |event| input.events.push((id, event)));
            }
        }
    }

    /// Takes in what was gathered. Proxies that are not known yet are those of a recording.
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

    /// Notes what an event says of a link.
    fn note(&mut self, link: LinkKey, kind: &ProxyEventKind) {
        match kind {
            ProxyEventKind::Opened(_) => self.note_opened(link),
            ProxyEventKind::Closed(_) => self.note_closed(link),
            ProxyEventKind::Room { bytes } => {
                if let Some(open) = self.links.get_mut(link) {
                    open.budget.restore(*bytes);
                }
            }
            ProxyEventKind::Frame { .. } | ProxyEventKind::Breach(_) => {}
        }
    }

    /// Hands each adapter its batch, as one, and tells of each frame in it. Links that took too long
    /// to close by `now` are cut.
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

    /// Whether a proxy keeps up: what it was commanded, less what it had taken when the tick began, is
    /// below a bound. While it is not, unreliable frames are dropped and reliable ones wait in their
    /// outboxes. A system that may use up the room within a tick begins with another session in each tick,
    /// by [`TickTime::turn`].
    #[must_use]
    pub fn has_room(&self, proxy: ProxyId) -> bool {
        self.ports.get(usize::from(proxy.0)).is_some_and(|port| port.batch.has_room())
    }

    /// Bounds what waits for each adapter by `budget`, so that a test can reach the bound.
    #[cfg(feature = "testing")]
    pub fn set_command_budget(&mut self, budget: Budget) {
        self.command_budget = Some(budget);
        self.ports.iter_mut().for_each(|port| port.batch.set_budget(budget));
    }
}

/// Adds the ports' phases. Proxies are attached to [`Proxies`] afterwards, at any time.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProxyPlugin;

impl Plugin for ProxyPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Proxies>()
            .init_resource::<Traffic>()
            .add_systems(PreUpdate, (receive, heed_failures).chain().in_set(TickSystems::Receive))
            .add_systems(PostUpdate, depart.in_set(TickSystems::Flush));
        app.world_mut().get_resource_or_init::<PanicHooks>().0.push(say_goodbye);
        app.world_mut().get_resource_or_init::<InputSources>().0.push(gather);
    }
}

/// Attaches a proxy to an app that has the [`ProxyPlugin`].
pub fn attach(app: &mut App, name: &'static str) -> AdapterPort {
    let world = app.world_mut();
    let clock = world.get_resource::<TickTime>().map(|time| time.clock().clone()).unwrap_or_default();
    world.get_resource_or_init::<Proxies>().attach(name, clock)
}

/// Gathers what the adapters say.
fn gather(world: &mut World, input: &mut TickInput) {
    world.resource_mut::<Proxies>().gather(input);
}

/// Takes in what the adapters said. The events stay in the inputs, for the gate.
fn receive(input: Res<TickInput>, mut proxies: ResMut<Proxies>, mut traffic: ResMut<Traffic>) {
    proxies.apply(&input);
    for (_, event) in &input.events {
        if let ProxyEventKind::Frame { bytes, .. } = &event.kind {
            traffic.in_count += 1;
            traffic.in_bytes += bytes.len() as u64;
        }
    }
}

/// A server without one of its proxies serves some of its players and looks healthy: it stops.
fn heed_failures(input: Res<TickInput>, mut failure: ResMut<Failure>, mut stop: ResMut<StopRequested>) {
    if failure.0.is_none()
        && let Some((name, why)) =
            input.proxies.iter().find_map(|ProxyInput { name, failure, .. }| Some((*name, failure.as_ref()?)))
    {
        tracing::error!(proxy = name, why, "a proxy has given up, and the server stops");
        failure.0 = Some(format!("the proxy {name} has given up: {why}"));
        stop.0 = true;
    }
}

/// A system has panicked: the clients of all links are told that the server ends.
fn say_goodbye(world: &mut World) {
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

/// Hands each proxy its batch, as one.
pub(crate) fn depart(
    mut proxies: ResMut<Proxies>,
    mut traffic: ResMut<Traffic>,
    mut departed: Option<ResMut<Departed>>,
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
