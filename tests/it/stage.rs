//! A server with one adapter, and clients of it that can be made to misbehave.
//!
//! [`Stage`] is the same over each transport. What differs is in the transport's [`Adapter`] and its
//! [`Client`].

pub(crate) mod quic;
pub(crate) mod udp;
pub(crate) mod websocket;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use bevy_app::App;
use bytes::Bytes;
use waystation::ident::{LinkId, LinkKey, ProxyId};
use waystation::proxy::{LinkEnd, Proxies, ProxyCommand, ProxyEvent, ProxyEventKind, ProxyPlugin};
use waystation::tick::{Clock, TickInput, TickPlugin};
use waystation::wire::Lane;

/// An adapter that runs.
pub(crate) trait Adapter: Sized {
    type Client: Client;
    type Counts: Debug;

    fn local_addr(&self) -> SocketAddr;

    /// Whether its thread has ended.
    fn is_finished(&self) -> bool;

    fn counts(&self) -> Self::Counts;

    /// Whether it has a link.
    fn has_links(&self) -> bool;

    /// Adds a client whose link is open.
    fn add_newcomer(stage: &mut Stage<Self>) -> usize;
}

/// A client that does what clients do, until a test tells it otherwise.
pub(crate) trait Client {
    /// The address from which it opened its link.
    fn opened_from(&self) -> SocketAddr;

    /// Does all that a client does in a frame of its game.
    fn step(&mut self);

    /// Sends a frame on the lane of its id.
    fn say(&mut self, frame: Bytes);

    /// All frames that it received, in order.
    fn heard(&self) -> Vec<(Lane, Bytes)>;

    /// Closes its link, if it has one.
    fn hang_up(&mut self);
}

/// A server with the adapter, and clients of it.
pub(crate) struct Stage<A: Adapter> {
    pub(crate) app: App,
    pub(crate) adapter: A,
    pub(crate) events: Vec<ProxyEvent>,
    pub(crate) clients: Vec<A::Client>,
}

impl<A: Adapter> Stage<A> {
    /// A server on this clock, with the adapter that `start` attaches to it.
    fn start(clock: Clock, start: impl FnOnce(&mut App) -> A) -> Self {
        let mut app = App::new();
        app.add_plugins((TickPlugin { clock, ..TickPlugin::default() }, ProxyPlugin));
        let adapter = start(&mut app);
        Self { app, adapter, events: Vec::new(), clients: Vec::new() }
    }

    /// Adds a client, which has not said anything yet.
    pub(crate) fn add(&mut self, client: A::Client) -> usize {
        self.clients.push(client);
        self.clients.len() - 1
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.adapter.local_addr()
    }

    pub(crate) fn counts(&self) -> A::Counts {
        self.adapter.counts()
    }

    pub(crate) fn tick(&mut self) {
        self.app.update();
        if let Some(input) = self.app.world().get_resource::<TickInput>() {
            self.events.extend(input.events.iter().map(|(_, event)| event.clone()));
        }
        for client in &mut self.clients {
            client.step();
        }
    }

    /// Ticks until it is so, or fails. How long it takes says nothing.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let begun = now();
        loop {
            self.tick();
            if so(self) {
                return;
            }
            assert!(begun.elapsed() < WATCHDOG, "never: {what}: {:?}", self.counts());
            thread::sleep(PAUSE);
        }
    }

    pub(crate) fn link_of(&self, client: usize) -> Option<LinkId> {
        let address = self.clients[client].opened_from();
        self.events.iter().find_map(|event| match &event.kind {
            ProxyEventKind::Opened(info) if info.address == Some(address) => Some(event.link),
            _ => None,
        })
    }

    pub(crate) fn events_of(&self, client: usize) -> impl Iterator<Item = &ProxyEventKind> {
        let link = self.link_of(client);
        self.events.iter().filter(move |event| Some(event.link) == link).map(|event| &event.kind)
    }

    pub(crate) fn frames_of(&self, client: usize) -> Vec<(Lane, Bytes)> {
        let frames = self.events_of(client).filter_map(|kind| match kind {
            ProxyEventKind::Frame { lane, bytes } => Some((*lane, bytes.clone())),
            _ => None,
        });
        frames.collect()
    }

    pub(crate) fn breaches_of(&self, client: usize) -> usize {
        self.events_of(client).filter(|kind| matches!(kind, ProxyEventKind::ProtocolViolation(_))).count()
    }

    pub(crate) fn end_of(&self, client: usize) -> Option<LinkEnd> {
        self.events_of(client).find_map(|kind| match kind {
            ProxyEventKind::Closed(end) => Some(*end),
            _ => None,
        })
    }

    /// The name of a client's link in the server.
    pub(crate) fn key_of(&self, client: usize) -> LinkKey {
        LinkKey { proxy: ProxyId(0), link: self.link_of(client).expect("a link") }
    }

    pub(crate) fn send(&mut self, client: usize, frame: Bytes) {
        let key = self.key_of(client);
        self.app.world_mut().resource_mut::<Proxies>().send(key, frame);
    }

    pub(crate) fn command(&mut self, client: usize, command: impl FnOnce(LinkId) -> ProxyCommand) {
        let LinkKey { proxy, link } = self.key_of(client);
        self.app.world_mut().resource_mut::<Proxies>().command(proxy, command(link));
    }

    /// A frame there and one back, on a link that is open already.
    #[track_caller]
    pub(crate) fn assert_echo(&mut self, client: usize) {
        let tag = u8::try_from(self.frames_of(client).len() % 250).expect("below 250");
        self.clients[client].say(frame(0x01, tag));
        self.until("the frame is with the server", |stage| {
            stage.frames_of(client).last() == Some(&(Lane::Reliable, frame(0x01, tag)))
        });
        self.send(client, frame(0x02, tag));
        self.until("the frame is with the client", |stage| {
            stage.clients[client].heard().contains(&(Lane::Reliable, frame(0x02, tag)))
        });
    }

    /// A newcomer is served.
    #[track_caller]
    pub(crate) fn assert_serves_others(&mut self) {
        let newcomer = A::add_newcomer(self);
        self.assert_echo(newcomer);
        assert!(!self.adapter.is_finished());
    }
}

impl<A: Adapter> Drop for Stage<A> {
    /// All clients go, and nothing is left of them: no link in the adapter, and none in the tick.
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        self.clients.iter_mut().for_each(Client::hang_up);
        self.until("nothing is left of the links", |stage| {
            !stage.adapter.has_links() && !has_links(&stage.app)
        });
    }
}

/// Whether the tick has a link, or one that is closing.
pub(crate) fn has_links(app: &App) -> bool {
    app.world().get_resource::<Proxies>().is_some_and(|proxies| {
        proxies.closing_count() > 0 || proxies.link_counts().iter().any(|(_, count)| *count > 0)
    })
}

pub(crate) fn frame(high: u8, tag: u8) -> Bytes {
    Bytes::from(vec![high, 0x50, tag])
}

/// A frame of `length` bytes.
pub(crate) fn sized(high: u8, length: usize) -> Bytes {
    let mut frame = vec![7; length];
    frame[0] = high;
    frame.into()
}

/// A free port of this machine.
pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[allow(clippy::disallowed_methods, reason = "real sockets take real time; the bounds are generous")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// No test waits this long unless it fails.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(30);
/// How long a turn leaves the machine to the adapter's thread.
const PAUSE: Duration = Duration::from_millis(2);
