//! The server of a test.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use bevy_app::{App, Last};
use bevy_ecs::prelude::*;

use super::link::{Net, SharedBooks, keep_books};
use super::{Entry, Faults, HarnessDial, HarnessLink, News, Player};
use crate::config::ServerConfig;
use crate::ident::SessionId;
use crate::proxy::loopback::Loopback;
use crate::proxy::{self, LinkInfo};
use crate::server::ServerPlugins;
use crate::server::audit::Violations;
use crate::session::{Journal, SessionState, SessionTable};
use crate::tick::{Clock, TickCost, TickRate, TickSystems, TickTime};
use crate::wire::v1::Join;
use crate::zone::{Zone, Zones};

/// Which of the two proxies a link goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// The first.
    Alpha,
    /// The second.
    Beta,
}

/// A server whose time stands still until it is told to tick.
///
/// It has one open zone, `hall`, unless a test adds others. After every tick the invariants of
/// sessions and zones are checked; a broken one fails the test.
#[derive(Debug)]
pub struct Harness {
    /// The app: add plugins, systems and zones to it.
    pub app: App,
    clock: Clock,
    period: Duration,
    net: Net,
    entries: Vec<(Duration, Entry)>,
    trace: DefaultHasher,
}

impl Harness {
    /// A server with the default configuration and a fixed seed.
    #[must_use]
    pub fn new() -> Self {
        Self::with(ServerConfig::default())
    }

    /// A server with a configuration; its clock is replaced by a manual one, and a missing seed by
    /// a fixed one.
    #[must_use]
    pub fn with(config: ServerConfig) -> Self {
        let clock = Clock::manual();
        let seed = config.seed.or(Some(SEED));
        let config = ServerConfig { clock: clock.clone(), seed, ..config };
        let period = config.rate.period();
        let mut app = App::new();
        app.add_plugins(ServerPlugins::new(config));
        if !app.is_plugin_added::<crate::server::audit::AuditPlugin>() {
            app.add_plugins(crate::server::audit::AuditPlugin);
        }
        app.world_mut().spawn(Zone::new("hall"));
        let proxies = ["alpha", "beta"].map(|name| Loopback::new(proxy::attach(&mut app, name)));
        let net = Net::new(proxies, clock.clone());
        app.insert_resource(net.books.clone()).add_systems(Last, keep_books.in_set(TickSystems::Measure));
        Self { app, clock, period, net, entries: Vec::new(), trace: DefaultHasher::new() }
    }

    /// Opens a zone.
    pub fn open_zone(&mut self, zone: Zone) -> Entity {
        self.app.world_mut().spawn(zone).id()
    }

    /// Moves time on by a tick's period, and ticks. A system that advances the clock takes that long,
    /// which is how a test overloads a server.
    ///
    /// # Panics
    ///
    /// If an invariant does not hold.
    pub fn tick(&mut self) {
        self.tick_after(self.period);
    }

    /// Moves time on by any time, and ticks: for stalls.
    ///
    /// # Panics
    ///
    /// If an invariant does not hold.
    pub fn tick_after(&mut self, time: Duration) {
        self.clock.advance(time);
        self.net.deliver();
        let begun = self.clock.now();
        self.app.update();
        self.app.insert_resource(TickCost(self.clock.now() - begun));
        let world = self.app.world();
        let violations = &world.resource::<Violations>().0;
        assert!(
            violations.is_empty(),
            "invariants do not hold at {}: {violations:#?}",
            world.resource::<TickTime>().tick()
        );
        let now = self.clock.now();
        for entry in world.resource::<Journal>().published().iter().filter_map(Entry::of) {
            entry.to_string().hash(&mut self.trace);
            self.entries.push((now, entry));
        }
    }

    /// Other faults for all links that are there, and those to come.
    pub fn set_faults(&mut self, faults: Faults) {
        self.net.set_faults(faults);
    }

    /// Keeps the adapter of a proxy from taking what the tick sends, or lets it. What players send still
    /// arrives.
    pub fn stall(&mut self, via: Via, is_stalled: bool) {
        self.net.stall(via as usize, is_stalled);
    }

    /// Lets time pass without a tick.
    pub fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
    }

    /// Ticks for that many milliseconds, rounded up to whole ticks.
    pub fn run_ms(&mut self, ms: u64) {
        let ticks = Duration::from_millis(ms).as_nanos().div_ceil(self.period.as_nanos().max(1));
        for _ in 0..ticks {
            self.tick();
        }
    }

    /// Ticks for that many milliseconds, while the players do what clients do.
    pub fn run_with(&mut self, players: &mut [&mut Player], ms: u64) {
        let ticks = Duration::from_millis(ms).as_nanos().div_ceil(self.period.as_nanos().max(1));
        for _ in 0..ticks {
            self.tick();
            for player in &mut *players {
                player.pump();
            }
        }
    }

    /// Lets what was said arrive, be acted upon, and be answered: three ticks, while the players
    /// do what clients do.
    pub fn exchange(&mut self, players: &mut [&mut Player]) {
        for _ in 0..3 {
            self.tick();
            for player in &mut *players {
                player.pump();
            }
        }
    }

    /// Links for a [`Client`](crate::client::Client), through one proxy and the other in turn.
    #[must_use]
    pub fn dial(&self) -> HarnessDial {
        HarnessDial::new(self.net.clone())
    }

    pub(super) fn books(&self) -> SharedBooks {
        self.net.books.clone()
    }

    /// A link that nobody has said anything on.
    #[must_use]
    pub fn link(&self, via: Via) -> HarnessLink {
        self.link_as(via, LinkInfo::default())
    }

    /// A link of which the transport knows something.
    #[must_use]
    pub fn link_as(&self, via: Via, info: LinkInfo) -> HarnessLink {
        self.net.connect(via as usize, info)
    }

    /// A player with a link, who has said nothing.
    #[must_use]
    pub fn stranger(&self, via: Via) -> Player {
        let mut player = Player::new();
        player.connect(self, via);
        player
    }

    /// A player with a session, in no zone.
    pub fn player(&mut self, via: Via) -> Player {
        let mut player = self.stranger(via);
        player.hello();
        self.exchange(&mut [&mut player]);
        player
    }

    /// A player who is in a zone.
    pub fn member(&mut self, via: Via, zone: &str) -> Player {
        let mut player = self.player(via);
        self.join(&mut player, zone);
        player
    }

    /// A player joins a zone.
    pub fn join(&mut self, player: &mut Player, zone: &str) {
        player.send(&Join { request: 1, zone: zone.to_owned(), ..Join::default() });
        self.exchange(&mut [player]);
    }

    /// The entity of a live session.
    #[must_use]
    pub fn entity(&self, session: SessionId) -> Option<Entity> {
        self.app.world().resource::<SessionTable>().find(session).ok()
    }

    /// The state of a session; `None` if there is no such session.
    #[must_use]
    pub fn state(&self, session: SessionId) -> Option<SessionState> {
        SessionState::at(self.app.world(), self.entity(session)?)
    }

    /// A component of a live session.
    #[must_use]
    pub fn component<C: Component>(&self, session: SessionId) -> Option<&C> {
        self.app.world().get::<C>(self.entity(session)?)
    }

    /// A resource.
    ///
    /// # Panics
    ///
    /// If there is no such resource.
    #[must_use]
    pub fn resource<R: Resource>(&self) -> &R {
        self.app.world().resource::<R>()
    }

    /// The entity of a zone.
    #[must_use]
    pub fn zone(&self, name: &str) -> Option<Entity> {
        self.app.world().resource::<Zones>().find(name)
    }

    /// The time that has passed.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// How long a tick is.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    /// All that the game was told so far, in order, and when.
    #[must_use]
    pub fn news(&self) -> &[(Duration, Entry)] {
        &self.entries
    }

    /// All that the game was told of a session so far, in order.
    #[must_use]
    pub fn news_of(&self, session: SessionId) -> Vec<News> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.session == session)
            .map(|(_, entry)| entry.news)
            .collect()
    }

    /// The game was told this of a player's session, and nothing else.
    ///
    /// ```
    /// use waystation::ident::ZoneId;
    /// use waystation::testing::{Harness, News, Via};
    ///
    /// let mut game = Harness::new();
    /// let ada = game.member(Via::Alpha, "hall");
    /// game.assert_news(&ada, [News::Registered, News::Joined(ZoneId(1))]);
    /// ```
    ///
    /// # Panics
    ///
    /// If it was told anything else.
    #[track_caller]
    pub fn assert_news(&self, player: &Player, news: impl IntoIterator<Item = News>) {
        assert_eq!(
            self.news_of(player.session()),
            news.into_iter().collect::<Vec<_>>(),
            "news of {}",
            player.name
        );
    }

    /// When the game was told something of a session first.
    #[must_use]
    pub fn told_at(&self, session: SessionId, news: News) -> Option<Duration> {
        self.entries
            .iter()
            .find(|(_, entry)| entry.session == session && entry.news == news)
            .map(|(at, _)| *at)
    }

    /// How often each session was told of, by id.
    #[must_use]
    pub fn news_counts(&self) -> BTreeMap<SessionId, usize> {
        let mut counts = BTreeMap::new();
        for (_, entry) in &self.entries {
            *counts.entry(entry.session).or_default() += 1;
        }
        counts
    }

    /// A hash of all that the game was told: the same for the same inputs and seed.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Adds what a player saw to the trace.
    pub fn trace_frames(&mut self, player: &Player) {
        player.seen().hash(&mut self.trace);
    }

    /// The rate of the server.
    #[must_use]
    pub fn rate(&self) -> TickRate {
        *self.app.world().resource::<TickRate>()
    }
}

impl Default for Harness {
    fn default() -> Self {
        Self::new()
    }
}

/// What chance goes by in tests that do not say.
const SEED: u64 = 0x5747_6174_696f_6e21;
