//! The server of a test, which ticks on virtual time.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use bevy_app::{App, Last};
use bevy_ecs::prelude::*;

use super::link::{Net, SharedFrameLog, record_frames};
use super::{Entry, Faults, HarnessDial, HarnessLink, News, Player};
use crate::config::ServerConfig;
use crate::ident::SessionId;
use crate::proxy::loopback::Loopback;
use crate::proxy::{self, LinkInfo};
use crate::server::ServerPlugins;
use crate::server::audit::Violations;
use crate::session::{Journal, SessionState, SessionTable};
use crate::tick::{Clock, ReturnedErrors, TickCost, TickRate, TickSystems, TickTime};
use crate::zone::{Zone, Zones};

/// One of the two proxies of a harness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// The first proxy.
    Alpha,
    /// The second proxy.
    Beta,
}

/// A server on virtual time, which only the test advances.
///
/// The server has one zone, `hall`. Tests can add others. After each tick, the harness checks the invariants of
/// sessions and zones, and fails the test if one does not hold.
#[derive(Debug)]
pub struct Harness {
    /// The app of the server. Tests can add plugins, systems and zones.
    pub app: App,
    clock: Clock,
    period: Duration,
    net: Net,
    entries: Vec<(Duration, Entry)>,
    trace: DefaultHasher,
    /// True if systems and commands may return errors.
    allows_errors: bool,
}

impl Harness {
    /// Returns a server with the default configuration and a fixed seed.
    #[must_use]
    pub fn new() -> Self {
        Self::with(ServerConfig::default())
    }

    /// Returns a server with a configuration. The harness replaces its clock by a manual one, and a missing seed by a
    /// fixed one.
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
        app.insert_resource(net.books.clone()).add_systems(Last, record_frames.in_set(TickSystems::Measure));
        Self {
            app,
            clock,
            period,
            net,
            entries: Vec::new(),
            trace: DefaultHasher::new(),
            allows_errors: false,
        }
    }

    /// Lets systems and commands return errors, as they may on a server. Without this call, a tick in which one returns
    /// an error panics.
    pub fn allow_errors(&mut self) {
        self.allows_errors = true;
    }

    /// Opens a zone and returns its entity.
    pub fn open_zone(&mut self, zone: Zone) -> Entity {
        self.app.world_mut().spawn(zone).id()
    }

    /// Advances the time by the period of a tick, and ticks.
    ///
    /// A test can overload the server by a system that advances the clock: the tick then takes that long.
    ///
    /// # Panics
    ///
    /// Panics if an invariant does not hold, or if a system or a command returns an error: see
    /// [`allow_errors`](Self::allow_errors).
    pub fn tick(&mut self) {
        self.tick_after(self.period);
    }

    /// Advances the time by `time`, and ticks. A long `time` simulates a stall of the server.
    ///
    /// # Panics
    ///
    /// Panics if an invariant does not hold, or if a system or a command returns an error: see
    /// [`allow_errors`](Self::allow_errors).
    pub fn tick_after(&mut self, time: Duration) {
        self.clock.advance(time);
        self.net.deliver();
        let begun = self.clock.now();
        self.app.update();
        self.app.insert_resource(TickCost(self.clock.now() - begun));
        let world = self.app.world();
        let errors = world.resource::<ReturnedErrors>();
        assert!(
            self.allows_errors || errors.count() == 0,
            "a system or a command returned an error: {}; mend it, or call `Harness::allow_errors`",
            errors.texts().collect::<Vec<_>>().join("; ")
        );
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

    /// Sets the faults of all present and future links.
    pub fn set_faults(&mut self, faults: Faults) {
        self.net.set_faults(faults);
    }

    /// Stalls the adapter of a proxy, or lets it go on. A stalled adapter takes no commands from the tick. Frames of
    /// players still arrive.
    pub fn stall(&mut self, via: Via, is_stalled: bool) {
        self.net.stall(via as usize, is_stalled);
    }

    /// Advances the time without a tick.
    pub fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
    }

    /// Ticks for `ms` milliseconds, rounded up to whole ticks.
    pub fn run_ms(&mut self, ms: u64) {
        let ticks = Duration::from_millis(ms).as_nanos().div_ceil(self.period.as_nanos().max(1));
        for _ in 0..ticks {
            self.tick();
        }
    }

    /// Ticks for `ms` milliseconds, rounded up to whole ticks. Calls [`Player::pump`] of all players after each tick.
    pub fn run_with(&mut self, players: &mut [&mut Player], ms: u64) {
        let ticks = Duration::from_millis(ms).as_nanos().div_ceil(self.period.as_nanos().max(1));
        for _ in 0..ticks {
            self.tick();
            for player in &mut *players {
                player.pump();
            }
        }
    }

    /// Ticks three times, so that frames arrive, take effect, and are answered. Calls [`Player::pump`] of all players
    /// after each tick.
    pub fn exchange(&mut self, players: &mut [&mut Player]) {
        for _ in 0..3 {
            self.tick();
            for player in &mut *players {
                player.pump();
            }
        }
    }

    /// Returns a dial for a [`Client`](crate::client::Client). Its links use the two proxies in turn.
    #[must_use]
    pub fn dial(&self) -> HarnessDial {
        HarnessDial::new(self.net.clone())
    }

    pub(super) fn books(&self) -> SharedFrameLog {
        self.net.books.clone()
    }

    /// Opens a link through a proxy.
    #[must_use]
    pub fn link(&self, via: Via) -> HarnessLink {
        self.link_as(via, LinkInfo::default())
    }

    /// Opens a link with information about it, such as an address or an identity.
    #[must_use]
    pub fn link_as(&self, via: Via, info: LinkInfo) -> HarnessLink {
        self.net.connect(via as usize, info)
    }

    /// Returns a player with a link and without a session.
    #[must_use]
    pub fn stranger(&self, via: Via) -> Player {
        let mut player = Player::new();
        player.connect(self, via);
        player
    }

    /// Returns a player with a session that is in no zone.
    pub fn player(&mut self, via: Via) -> Player {
        let mut player = self.stranger(via);
        player.hello();
        self.exchange(&mut [&mut player]);
        player
    }

    /// Returns a player with a session that is in a zone.
    pub fn member(&mut self, via: Via, zone: &str) -> Player {
        let mut player = self.player(via);
        self.join(&mut player, zone);
        player
    }

    /// Sends a Join of a player without a payload, and [exchanges](Self::exchange) frames. See [`Player::join`] for one
    /// with a payload.
    pub fn join(&mut self, player: &mut Player, zone: &str) {
        player.join(zone, "");
        self.exchange(&mut [player]);
    }

    /// Returns the entity of a session, or `None` if the session has ended.
    #[must_use]
    pub fn entity(&self, session: SessionId) -> Option<Entity> {
        self.app.world().resource::<SessionTable>().find(session).ok()
    }

    /// Returns the state of a session, or `None` if the session has ended.
    #[must_use]
    pub fn state(&self, session: SessionId) -> Option<SessionState> {
        SessionState::at(self.app.world(), self.entity(session)?)
    }

    /// Returns a component of a session, or `None` if the session has ended or does not have it.
    #[must_use]
    pub fn component<C: Component>(&self, session: SessionId) -> Option<&C> {
        self.app.world().get::<C>(self.entity(session)?)
    }

    /// Returns a resource.
    ///
    /// # Panics
    ///
    /// Panics if the resource does not exist.
    #[must_use]
    pub fn resource<R: Resource>(&self) -> &R {
        self.app.world().resource::<R>()
    }

    /// Returns the entity of a zone, or `None` if there is no zone of this name.
    #[must_use]
    pub fn zone(&self, name: &str) -> Option<Entity> {
        self.app.world().resource::<Zones>().find(name)
    }

    /// Returns the virtual time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Returns the period of a tick.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Returns all messages to the game so far, in order, each with its time.
    #[must_use]
    pub fn news(&self) -> &[(Duration, Entry)] {
        &self.entries
    }

    /// Returns all messages to the game about a session so far, in order.
    #[must_use]
    pub fn news_of(&self, session: SessionId) -> Vec<News> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.session == session)
            .map(|(_, entry)| entry.news)
            .collect()
    }

    /// Asserts that the game has got exactly these messages about a player's session, in this order.
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
    /// Panics if the messages differ.
    #[track_caller]
    pub fn assert_news(&self, player: &Player, news: impl IntoIterator<Item = News>) {
        assert_eq!(
            self.news_of(player.session()),
            news.into_iter().collect::<Vec<_>>(),
            "news of {}",
            player.name
        );
    }

    /// Returns when the game first got a message about a session, or `None` if it has not got it.
    #[must_use]
    pub fn told_at(&self, session: SessionId, news: News) -> Option<Duration> {
        self.entries
            .iter()
            .find(|(_, entry)| entry.session == session && entry.news == news)
            .map(|(at, _)| *at)
    }

    /// Returns the number of messages about each session.
    #[must_use]
    pub fn news_counts(&self) -> BTreeMap<SessionId, usize> {
        let mut counts = BTreeMap::new();
        for (_, entry) in &self.entries {
            *counts.entry(entry.session).or_default() += 1;
        }
        counts
    }

    /// Returns a hash of all messages to the game. Equal inputs and seeds give equal hashes.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Adds all frames that a player has received to the hash of [`trace`](Self::trace).
    pub fn trace_frames(&mut self, player: &Player) {
        player.seen().hash(&mut self.trace);
    }

    /// Returns the tick rate of the server.
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

/// The seed of tests that do not set one.
const SEED: u64 = 0x5747_6174_696f_6e21;
