//! The end of a server: it takes nobody new, tells everybody, flushes what was sent, and exits.
//!
//! It drains first, for as long as it was told: sessions play on and may be resumed, but nobody
//! new comes in and nobody joins a zone. At the deadline all sessions end with SHUTDOWN, in
//! batches; when the last link is gone, or has been held for as long as any is, the app exits.

use std::time::Duration;

use bevy_app::AppExit;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;

use super::{GateConfig, Lobby};
use crate::proxy::Proxies;
use crate::session::{EndCause, LAST, SessionCore, SessionTable, tell_all};
use crate::tick::{StopRequested, TickTime};
use crate::wire::CLOSE_TIMEOUT;
use crate::wire::v1::{Notice, Reason};
use crate::zone::{Change, Changes, JoinPolicy, cancel_all};

/// Whether the server is about to stop.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drain {
    /// When all sessions end, on the uncapped clock.
    deadline: Option<Duration>,
    /// When the last of them was told.
    last_told: Option<Duration>,
}

impl Drain {
    /// Whether the server takes nobody new.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.deadline.is_some()
    }

    /// When all sessions end: a reading of [`TickTime::now`]. `None` if the server does not drain.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    fn is_over(&self, now: Duration) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// Stops a server from within.
pub trait DrainCommand {
    /// Lets the players know, takes nobody new, and after `within` ends all sessions and exits. Of
    /// several, the one that ends first counts.
    fn drain(&mut self, within: Duration);
}

impl DrainCommand for Commands<'_, '_> {
    fn drain(&mut self, within: Duration) {
        self.queue(move |world: &mut World| begin(world, within));
    }
}

/// Drains when the server is asked to stop.
pub(super) fn heed_stop(
    stop: Res<StopRequested>,
    config: Res<GateConfig>,
    drain: Res<Drain>,
    time: Res<TickTime>,
    mut commands: Commands,
) {
    let deadline = time.now().saturating_add(config.drain);
    if stop.0 && drain.deadline.is_none_or(|earlier| earlier > deadline) {
        commands.drain(config.drain);
    }
}

fn begin(world: &mut World, within: Duration) {
    let deadline = world.resource::<TickTime>().now().saturating_add(within);
    let earlier = world.resource_mut::<Drain>().deadline.replace(deadline);
    if let Some(earlier) = earlier.filter(|earlier| *earlier <= deadline) {
        world.resource_mut::<Drain>().deadline = Some(earlier);
        return;
    }
    world.insert_resource(JoinPolicy(Some(Reason::Draining)));
    cancel_all(world, None, Reason::Draining);
    if within > Duration::ZERO {
        let mut cores = world.query_filtered::<(Entity, &SessionCore), Allow<Disabled>>();
        let players = cores.iter(world).filter(|(_, core)| !core.is_agent());
        let players: Vec<Entity> = players.map(|(player, _)| player).collect();
        notify(world, &players);
    }
}

/// Tells players of the drain, if there is one.
pub(super) fn notify(world: &mut World, players: &[Entity]) {
    let Some(deadline) = world.resource::<Drain>().deadline else { return };
    let left = deadline.saturating_sub(world.resource::<TickTime>().now());
    let shutdown_in_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
    tell_all(world, players, &Notice { shutdown_in_ms, ..Notice::default() });
}

/// From the deadline on, ends sessions, a batch a tick, and those agents that come since. Whoever
/// knocks is told at first, and cut later.
pub(super) fn end_all(
    mut drain: ResMut<Drain>,
    cores: Query<(Entity, &SessionCore), Allow<Disabled>>,
    mut changes: ResMut<Changes>,
    mut guests: Guests,
) {
    let now = guests.time.now();
    if !drain.is_over(now) {
        return;
    }
    guests.dismiss(drain.last_told.is_none());
    let live = || cores.iter().filter(|(_, core)| core.state().is_some());
    let mut players = live().filter(|(_, core)| !core.is_agent()).map(|(player, _)| player).peekable();
    if players.peek().is_some() || drain.last_told.is_none() {
        drain.last_told = Some(now);
    }
    let agents = live().filter(|(_, core)| core.is_agent()).map(|(agent, _)| agent);
    for session in players.take(CLOSE_BATCH).chain(agents) {
        changes.push(LAST, session, Change::end(EndCause::Shutdown));
    }
}

/// Exits when the last link is gone, and at the latest when those that were told last have been
/// held for as long as any is.
pub(super) fn finish_stop(
    drain: Res<Drain>,
    table: Res<SessionTable>,
    proxies: Res<Proxies>,
    time: Res<TickTime>,
    mut exits: MessageWriter<AppExit>,
) {
    let Some(last_told) = drain.last_told else { return };
    let is_done = table.player_count() == 0 && proxies.closing_count() == 0;
    if is_done || time.now() > last_told + CLOSE_TIMEOUT {
        exits.write(AppExit::Success);
    }
}

/// Links without a session, and what it takes to be rid of them.
#[derive(SystemParam)]
pub(super) struct Guests<'w> {
    lobby: ResMut<'w, Lobby>,
    proxies: ResMut<'w, Proxies>,
    time: Res<'w, TickTime>,
}

impl Guests<'_> {
    fn dismiss(&mut self, kindly: bool) {
        for link in self.lobby.clear() {
            if kindly {
                self.proxies.close(link, Reason::Shutdown, "", self.time.now());
            } else {
                self.proxies.cut(link);
            }
        }
    }
}

/// Sessions that are ended in one tick: their last frames, and soon after their clients' next
/// Hellos, should not come all at once.
const CLOSE_BATCH: usize = 512;
