//! A server without network and wall clock, and players that follow the protocol.

use std::time::Duration;

use bevy_app::App;
use waystation::config::ServerConfig;
use waystation::ident::SessionId;
use waystation::proxy::loopback::{Loopback, LoopbackLink};
use waystation::proxy::{self, LinkInfo};
use waystation::server::ServerPlugins;
use waystation::session::SessionConfig;
use waystation::tick::Clock;
use waystation::wire::v1::{Ack, Beacon, Hello, Join, Ping, Welcome};
use waystation::wire::{self, Frame, Lane, WireMessage};
use waystation::zone::Zone;

/// A server on which nothing expires.
pub(crate) struct Stage {
    pub(crate) app: App,
    clock: Clock,
    pub(crate) loopback: Loopback,
}

/// A player on a loopback link.
pub(crate) struct Peer {
    link: LoopbackLink,
    session: SessionId,
    received: u64,
}

impl Stage {
    /// Starts a server with zones of these names. Each zone has room for all players.
    pub(crate) fn new(zones: &[&str]) -> Self {
        let clock = Clock::manual();
        let session = SessionConfig {
            timeout: NEVER,
            link_timeout: NEVER,
            unacked_max: NEVER,
            max_sessions: usize::MAX,
            // The benchmarks resume more often than the rates allow.
            messages_per_second: u32::MAX,
            messages_burst: u32::MAX,
            bytes_per_second: u32::MAX,
            bytes_burst: u32::MAX,
            ..SessionConfig::default()
        };
        let mut app = App::new();
        app.add_plugins(ServerPlugins::new(ServerConfig {
            clock: clock.clone(),
            seed: Some(1),
            session,
            ..ServerConfig::default()
        }));
        for zone in zones {
            app.world_mut().spawn(Zone::new(zone).capacity(usize::MAX));
        }
        let loopback = Loopback::new(proxy::attach(&mut app, "loopback"));
        Self { app, clock, loopback }
    }

    /// Runs a tick in which no time passes, so that no Beacon is due.
    pub(crate) fn tick(&mut self) {
        self.app.update();
    }

    /// Advances the clock and runs a tick.
    pub(crate) fn tick_after(&mut self, time: Duration) {
        self.clock.advance(time);
        self.app.update();
    }

    /// Opens sessions for `count` players, who are in no zone.
    pub(crate) fn players(&mut self, count: usize) -> Vec<Peer> {
        let mut players = Vec::with_capacity(count);
        while players.len() < count {
            let mut guests: Vec<Peer> =
                (players.len()..count).take(GUESTS).map(|_| Peer::hello(&self.loopback)).collect();
            self.tick();
            guests.iter_mut().for_each(Peer::read);
            self.tick();
            players.append(&mut guests);
        }
        players
    }

    /// Lets players join a zone.
    pub(crate) fn join(&mut self, players: &mut [Peer], zone: &str) {
        for player in &*players {
            player.join(zone);
        }
        self.tick();
        self.settle(players);
    }

    /// Lets players read and acknowledge all frames.
    pub(crate) fn settle(&mut self, players: &mut [Peer]) {
        players.iter_mut().for_each(Peer::read);
        self.tick();
    }
}

impl Peer {
    fn hello(loopback: &Loopback) -> Self {
        let peer = Self { link: loopback.connect(LinkInfo::default()), session: SessionId(0), received: 0 };
        peer.send(&Hello { protocol: wire::PROTOCOL, ..Hello::default() });
        peer
    }

    /// Sends a message.
    pub(crate) fn send<M: WireMessage>(&self, message: &M) {
        self.link.send(Lane::Reliable, wire::encode(message)).expect("an open link with room");
    }

    /// Sends a Join.
    pub(crate) fn join(&self, zone: &str) {
        self.send(&Join { request: 1, zone: zone.to_owned(), ..Join::default() });
    }

    /// Closes the link.
    pub(crate) fn close(&self) {
        self.link.close();
    }

    /// Reads all frames, echoes Beacons, and acknowledges the counted frames.
    pub(crate) fn read(&mut self) {
        let before = self.received;
        while let Some(bytes) = self.link.receive() {
            let frame = Frame::parse(bytes).expect("a frame");
            self.received += u64::from(frame.id.is_counted());
            if let Ok(welcome) = frame.decode::<Welcome>() {
                self.session = SessionId(welcome.session);
                self.send(&Ack { received: 0 });
            } else if let Ok(beacon) = frame.decode::<Beacon>() {
                self.send(&Ping { id: beacon.id, received: self.received });
            }
        }
        if self.received > before {
            self.send(&Ack { received: self.received });
        }
    }
}

/// Longer than any benchmark.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);
/// Number of links that send a Hello in one tick: fewer than the limit of guests.
const GUESTS: usize = 4_000;
