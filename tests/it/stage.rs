//! Runs a server with one adapter, and clients that a test can make misbehave.
//!
//! [`Stage`] is the same for each transport. The differences are in the transport's [`Adapter`] and [`Client`].

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

/// A running adapter.
pub(crate) trait Adapter: Sized {
    type Client: Client;
    type Counts: Debug;

    fn local_addr(&self) -> SocketAddr;

    /// Returns true if the adapter's thread has ended.
    fn is_finished(&self) -> bool;

    fn counts(&self) -> Self::Counts;

    /// Returns true if the adapter has a link.
    fn has_links(&self) -> bool;

    /// Adds a client with an open link. Returns the client's index.
    fn add_newcomer(stage: &mut Stage<Self>) -> usize;
}

/// A client that behaves correctly unless a test makes it misbehave.
pub(crate) trait Client {
    /// Returns the address from which the client opened its link.
    fn opened_from(&self) -> SocketAddr;

    /// Does the I/O of one step: reads, answers and sends.
    fn step(&mut self);

    /// Sends a frame on the lane of its id.
    fn say(&mut self, frame: Bytes);

    /// Returns all frames that the client has received, in order.
    fn heard(&self) -> Vec<(Lane, Bytes)>;

    /// Closes the client's link, if the client has one.
    fn hang_up(&mut self);
}

/// A server with one adapter, and its clients.
pub(crate) struct Stage<A: Adapter> {
    pub(crate) app: App,
    pub(crate) adapter: A,
    pub(crate) events: Vec<ProxyEvent>,
    pub(crate) clients: Vec<A::Client>,
}

impl<A: Adapter> Stage<A> {
    /// Starts a server on this clock, with the adapter that `start` attaches to it.
    fn start(clock: Clock, start: impl FnOnce(&mut App) -> A) -> Self {
        let mut app = App::new();
        app.add_plugins((TickPlugin { clock, ..TickPlugin::default() }, ProxyPlugin));
        let adapter = start(&mut app);
        Self { app, adapter, events: Vec::new(), clients: Vec::new() }
    }

    /// Adds a client. Returns its index.
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

    /// Ticks until `so` returns true. Panics with `what` after [`WATCHDOG`].
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let begun = now();
        loop {
            self.tick();
            if so(self) {
                return;
            }
            assert!(
                begun.elapsed() < WATCHDOG,
                "this did not happen in time: {what}; counts of the adapter: {:?}",
                self.counts()
            );
            thread::sleep(PAUSE);
        }
    }

    /// Ticks until a count of the adapter has this value. A network thread may count an event after the event is
    /// visible to the tick or to a client, so a test does not compare such a count at once.
    #[track_caller]
    pub(crate) fn until_counted(&mut self, what: &str, count: impl Fn(A::Counts) -> u64, wanted: u64) {
        self.until(what, |stage| count(stage.counts()) >= wanted);
        assert_eq!(count(self.counts()), wanted, "{what}");
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

    /// Returns the key of a client's link.
    pub(crate) fn key_of(&self, client: usize) -> LinkKey {
        LinkKey {
            proxy: ProxyId(0),
            link: self.link_of(client).expect("the server has no link of this client"),
        }
    }

    pub(crate) fn send(&mut self, client: usize, frame: Bytes) {
        let key = self.key_of(client);
        self.app.world_mut().resource_mut::<Proxies>().send(key, frame);
    }

    pub(crate) fn command(&mut self, client: usize, command: impl FnOnce(LinkId) -> ProxyCommand) {
        let LinkKey { proxy, link } = self.key_of(client);
        self.app.world_mut().resource_mut::<Proxies>().command(proxy, command(link));
    }

    /// Asserts that a frame arrives in each direction on an open link.
    #[track_caller]
    pub(crate) fn assert_echo(&mut self, client: usize) {
        let tag = u8::try_from(self.frames_of(client).len() % 250).expect("the tag is below 250");
        self.clients[client].say(frame(0x01, tag));
        self.until("the frame reaches the server", |stage| {
            stage.frames_of(client).last() == Some(&(Lane::Reliable, frame(0x01, tag)))
        });
        self.send(client, frame(0x02, tag));
        self.until("the frame reaches the client", |stage| {
            stage.clients[client].heard().contains(&(Lane::Reliable, frame(0x02, tag)))
        });
    }

    /// Asserts that the adapter still serves a new client.
    #[track_caller]
    pub(crate) fn assert_serves_others(&mut self) {
        let newcomer = A::add_newcomer(self);
        self.assert_echo(newcomer);
        assert!(!self.adapter.is_finished());
    }
}

impl<A: Adapter> Drop for Stage<A> {
    /// Closes all links and waits until the adapter and the tick have removed them.
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        self.clients.iter_mut().for_each(Client::hang_up);
        self.until("the adapter and the tick remove all links", |stage| {
            !stage.adapter.has_links() && !has_links(&stage.app)
        });
    }
}

/// Returns true if the tick has a link, open or closing.
pub(crate) fn has_links(app: &App) -> bool {
    app.world().get_resource::<Proxies>().is_some_and(|proxies| {
        proxies.closing_count() > 0 || proxies.link_counts().iter().any(|(_, count)| *count > 0)
    })
}

pub(crate) fn frame(high: u8, tag: u8) -> Bytes {
    Bytes::from(vec![high, 0x50, tag])
}

/// Returns a frame of `length` bytes.
pub(crate) fn sized(high: u8, length: usize) -> Bytes {
    let mut frame = vec![7; length];
    frame[0] = high;
    frame.into()
}

/// Returns port 0 of the loopback address: the system assigns a free port.
pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[allow(clippy::disallowed_methods, reason = "real sockets take real time; the bounds are generous")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The longest wait for a condition. A test that waits longer fails.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(30);
/// The sleep after each tick of a wait, in which the adapter's thread can run.
const PAUSE: Duration = Duration::from_millis(2);
