//! The default game: avatars move in a bounded plane and eat pellets.
//!
//! It is an example of a game, and the bots play it. It uses only what is available to any game.
//!
//! Data flow: [`ZoneJoined`](crate::zone::ZoneJoined) → an [`Avatar`] on the session's entity; `Input`
//! calls → the direction in which it moves → at each tick of the zone it moves and eats → a `Snapshot` of
//! all places, unreliable, and, every second tick, `Scores` and `Pellets` with the changes. Agents send
//! `Input` as players do.

mod avatar;
mod plane;
mod reports;

use std::collections::BTreeSet;

use bevy_app::{App, Plugin, Startup, Update};
use bevy_ecs::prelude::*;
use serde::Deserialize;

use crate::rpc::AppRpc as _;
use crate::session::{Agent, SpawnAgent as _};
use crate::tick::{GameRng, TickSystems};
use crate::zone::{Zone, ZoneTicked};

pub use avatar::Avatar;
pub use plane::Point;

/// Messages of the arena (`proto/arena/v1`).
#[allow(missing_docs, clippy::too_many_lines, reason = "generated: the .proto files hold the documentation")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/arena.v1.rs"));
}

/// Adds the arena to an app that has the plugins of the server.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArenaPlugin {
    /// Number of agents that play. Must be less than [`capacity`](Self::capacity). Default: 20.
    pub agents: u16,
    /// Number of pellets in the plane. 0 counts as 1. Default: 50. In each tick, each pellet is compared
    /// with every avatar.
    pub pellets: u16,
    /// Maximum number of members, including agents. Default: [`CAPACITY_MAX`]. A higher value has the same
    /// effect.
    pub capacity: usize,
}

impl Default for ArenaPlugin {
    fn default() -> Self {
        Self { agents: 20, pellets: 50, capacity: CAPACITY_MAX }
    }
}

impl Plugin for ArenaPlugin {
    fn build(&self, app: &mut App) {
        let options = *self;
        assert!(
            usize::from(options.agents) < options.capacity.min(CAPACITY_MAX),
            "{} agents leave no place for players: choose fewer than the capacity, which is {CAPACITY_MAX} at most",
            options.agents
        );
        app.add_call::<v1::Input>()
            .add_call::<v1::Say>()
            .add_systems(Startup, move |commands: Commands, rng: ResMut<GameRng>| {
                open(options, commands, rng);
            })
            .add_systems(
                Update,
                (
                    avatar::count_says,
                    avatar::remove_parted,
                    avatar::spawn_joined,
                    reports::brief,
                    avatar::take_inputs,
                    avatar::stop_linkdead,
                    avatar::echo,
                    avatar::move_and_eat,
                    reports::send_snapshot,
                    reports::send_changes,
                    steer_agents,
                )
                    .chain()
                    .in_set(TickSystems::Simulate),
            );
    }
}

/// The zone of the arena, and its contents.
#[derive(Resource, Debug)]
struct Arena {
    zone: Entity,
    /// Number of avatars since the start.
    avatar_count: u32,
    pellets: Vec<Point>,
    /// Pellets that were eaten since the last broadcast of changes.
    eaten: BTreeSet<usize>,
    /// Ids of avatars that have left since the last broadcast of changes.
    gone: Vec<u32>,
}

fn open(options: ArenaPlugin, mut commands: Commands, mut rng: ResMut<GameRng>) {
    let capacity = options.capacity.min(CAPACITY_MAX);
    let pellets = (0..options.pellets.max(1)).map(|_| Point::random(&mut rng));
    let arena = Arena {
        zone: commands.spawn(Zone::new(ZONE).hz(HZ).capacity(capacity).counts_agents()).id(),
        avatar_count: 0,
        pellets: pellets.collect(),
        eaten: BTreeSet::new(),
        gone: Vec::new(),
    };
    commands.insert_resource(arena);
    for number in 1..=options.agents {
        let mut agent = commands.spawn_agent(&format!("agent {number}"));
        agent.entry::<Agent>().and_modify(|mut agent| agent.join(ZONE, ""));
    }
}

/// Sends `Input` calls of agents, which move to the nearest pellet.
fn steer_agents(
    mut ticks: MessageReader<ZoneTicked>,
    mut agents: Query<(&mut Agent, &Avatar)>,
    arena: Res<Arena>,
) {
    for tick in ticks.read().filter(|tick| tick.zone == arena.zone) {
        for (mut agent, avatar) in &mut agents {
            let wish = avatar.place.toward_nearest(&arena.pellets);
            let (tick, x, y) = (tick.frame, wish.x, wish.y);
            agent.call(v1::Input { tick, x, y });
        }
    }
}

/// Name of the arena's zone.
pub const ZONE: &str = "arena";
/// Maximum tick rate of the arena, in Hz.
pub const HZ: u32 = 20;
/// Maximum number of members, agents included: the links of one UDP adapter and 20 agents. Their scores fit one frame,
/// which is why the arena counts agents.
pub const CAPACITY_MAX: usize = 1_044;
/// Maximum number of agents: one less than the number of members, so that a player can join.
pub const AGENTS_MAX: u16 = 1_043;
