//! Stops a server: drains it, ends all sessions, and exits.
//!
//! During a drain, sessions go on and can be resumed. No session opens, and no session joins a zone. At the
//! deadline, sessions end as SHUTDOWN, up to `CLOSE_BATCH` per tick. The app exits when the last link is
//! gone, or when the time for closing links has passed.

use std::time::Duration;

use bevy_app::AppExit;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;

use super::{GateConfig, Guests};
use crate::proxy::Proxies;
use crate::session::{EndCause, LAST, SessionCore, SessionTable, send_all};
use crate::tick::{StopRequested, TickTime};
use crate::wire::CLOSE_TIMEOUT;
use crate::wire::v1::{Notice, Reason};
use crate::zone::{Change, Changes, JoinPolicy, cancel_all};

/// The drain of the server, if one has begun.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drain {
    /// Time at which all sessions end, on the sampled clock.
    deadline: Option<Duration>,
    /// Time, on the sampled clock, of the last tick after the deadline that had sessions of clients to end. If no tick
    /// had any, the time of the first tick after the deadline.
    last_batch_at: Option<Duration>,
}

impl Drain {
    /// Returns true if a drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.deadline.is_some()
    }

    /// Returns the time at which all sessions end, on the clock of [`TickTime::now`]. Returns `None` if no
    /// drain has begun.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    fn is_over(&self, now: Duration) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// A message that the game receives when the server stops. All sessions end when this tick settles, or in the next
/// ticks if there are many.
///
/// It is sent once, at the end of a drain, before the game's systems of that tick run. All sessions are still in their
/// zones. A game can save in this tick what must outlive the process. Messages that it sends in this tick are sent
/// before the links are closed. A slow system delays the end of the server, and nothing else.
///
/// The message is also sent if the server stops because of a [`Failure`](crate::tick::Failure). It is not sent after a
/// panic, because the world may be inconsistent, nor if a system of the game writes [`AppExit`] itself.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::arena::v1::Echo;
/// use waystation::gate::ServerStopping;
/// use waystation::rpc::Sender;
/// use waystation::session::Session;
///
/// fn save(mut stopping: MessageReader<ServerStopping>, players: Query<Entity, With<Session>>, mut sender: Sender) {
///     for _ in stopping.read() {
///         // Save the game here.
///         sender.send_to(&players, &Echo { number: 0, taken: 0 });
///     }
/// }
/// ```
#[derive(Message, Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStopping {}

/// An extension of [`Commands`] that stops the server.
pub trait DrainCommand {
    /// Begins a drain: no new session opens, and no session joins a zone. Clients get a Notice, unless
    /// `within` is zero. After `within`, all sessions end and the app exits. If there are several drains,
    /// the earliest deadline applies.
    fn drain(&mut self, within: Duration);
}

impl DrainCommand for Commands<'_, '_> {
    fn drain(&mut self, within: Duration) {
        self.queue(move |world: &mut World| begin(world, within));
    }
}

/// Begins a drain when the server was asked to stop.
pub(super) fn begin_drain_on_stop(
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

/// Sends Notice to players, if a drain has begun.
pub(super) fn notify(world: &mut World, players: &[Entity]) {
    let Some(deadline) = world.resource::<Drain>().deadline else { return };
    let left = deadline.saturating_sub(world.resource::<TickTime>().now());
    let shutdown_in_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
    send_all(world, players, &Notice { shutdown_in_ms, ..Notice::default() });
}

/// After the deadline, writes [`ServerStopping`] once, and ends up to [`CLOSE_BATCH`] sessions of clients per tick, and
/// every agent. Links without a session get Closed(SHUTDOWN) in the first of these ticks and are cut without a frame in
/// later ones.
pub(super) fn end_all(
    mut drain: ResMut<Drain>,
    cores: Query<(Entity, &SessionCore), Allow<Disabled>>,
    mut changes: ResMut<Changes>,
    mut guests: GuestCloser,
    mut stopping: MessageWriter<ServerStopping>,
) {
    let now = guests.time.now();
    if !drain.is_over(now) {
        return;
    }
    let is_first = drain.last_batch_at.is_none();
    guests.dismiss(is_first);
    if is_first {
        stopping.write(ServerStopping {});
    }
    let live = || cores.iter().filter(|(_, core)| core.state().is_some());
    let mut players = live().filter(|(_, core)| !core.is_agent()).map(|(player, _)| player).peekable();
    if players.peek().is_some() || is_first {
        drain.last_batch_at = Some(now);
    }
    let agents = live().filter(|(_, core)| core.is_agent()).map(|(agent, _)| agent);
    for session in players.take(CLOSE_BATCH).chain(agents) {
        changes.push(LAST, session, Change::end(EndCause::Shutdown));
    }
}

/// Exits when no session of a client and no closing link is left, and at the latest `CLOSE_TIMEOUT` after
/// the last tick in which such sessions were left to end.
pub(super) fn finish_stop(
    drain: Res<Drain>,
    table: Res<SessionTable>,
    proxies: Res<Proxies>,
    time: Res<TickTime>,
    mut exits: MessageWriter<AppExit>,
) {
    let Some(last_batch_at) = drain.last_batch_at else { return };
    let is_done = table.player_count() == 0 && proxies.closing_count() == 0;
    if is_done || time.now() > last_batch_at + CLOSE_TIMEOUT {
        exits.write(AppExit::Success);
    }
}

/// The resources that closing the links without a session needs.
#[derive(SystemParam)]
pub(super) struct GuestCloser<'w> {
    guests: ResMut<'w, Guests>,
    proxies: ResMut<'w, Proxies>,
    time: Res<'w, TickTime>,
}

impl GuestCloser<'_> {
    fn dismiss(&mut self, kindly: bool) {
        for link in self.guests.clear() {
            if kindly {
                self.proxies.close(link, Reason::Shutdown, "", self.time.now());
            } else {
                self.proxies.cut(link);
            }
        }
    }
}

/// Maximum number of sessions of clients that end in one tick. The limit spreads the last frames, and the Hellos
/// of returning clients, over several ticks.
const CLOSE_BATCH: usize = 512;
