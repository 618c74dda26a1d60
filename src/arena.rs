//! The default game: avatars move in a bounded plane and eat pellets.
//!
//! It shows how a game is made, and it is what the bots play, so it uses only what any game can
//! use. It is not meant to be fun for long.
//!
//! Data flow: [`ZoneJoined`](crate::zone::ZoneJoined) → an [`Avatar`] on the session's entity;
//! `Input` calls → where it wants to go → at each tick of the zone it moves and eats → a
//! `Snapshot` of all places, unreliable, and, every second tick, one `Scores` and one `Pellets`
//! with what changed. Agents send `Input` as players do.

mod avatar;
mod plane;
mod reports;

use std::collections::BTreeSet;

use bevy_app::{App, Plugin, Startup, Update};
use bevy_ecs::prelude::*;

use crate::rpc::AppRpc as _;
use crate::session::{Agent, SpawnAgent as _};
use crate::tick::{Dice, TickSystems};
use crate::zone::{Zone, ZoneTicked};

pub use avatar::Avatar;
pub use plane::Point;

/// The arena's messages (`proto/arena/v1`).
#[allow(missing_docs, clippy::too_many_lines, reason = "generated: the .proto files hold the documentation")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/arena.v1.rs"));
}

/// Adds the arena to an app that has the server's plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArenaPlugin {
    /// Agents that play, fewer than [`capacity`](Self::capacity), so that a player finds a place.
    /// Default 20.
    pub agents: u16,
    /// Pellets that lie about, at least 1. Default 50. Each costs a look at every avatar a tick.
    pub pellets: u16,
    /// Members of the zone, agents included: [`CAPACITY_MAX`] by default and at most.
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
            "{} agents leave no place for a player: fewer than the arena's capacity, {CAPACITY_MAX} at most",
            options.agents
        );
        app.add_call::<v1::Input>()
            .add_call::<v1::Say>()
            .add_systems(Startup, move |commands: Commands, dice: ResMut<Dice>| {
                open(options, commands, dice);
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

/// The one zone, and what lies in it.
#[derive(Resource, Debug)]
struct Arena {
    zone: Entity,
    /// Avatars that there ever were.
    avatar_count: u32,
    pellets: Vec<Point>,
    /// Pellets that were eaten, and avatars that left, since the last broadcast of these.
    eaten: BTreeSet<usize>,
    gone: Vec<u32>,
}

fn open(options: ArenaPlugin, mut commands: Commands, mut dice: ResMut<Dice>) {
    let capacity = options.capacity.min(CAPACITY_MAX);
    let pellets = (0..options.pellets.max(1)).map(|_| Point::random(&mut dice));
    let arena = Arena {
        zone: commands.spawn(Zone::new(ZONE).hz(HZ).capacity(capacity)).id(),
        avatar_count: 0,
        pellets: pellets.collect(),
        eaten: BTreeSet::new(),
        gone: Vec::new(),
    };
    commands.insert_resource(arena);
    for number in 1..=options.agents {
        let mut agent = commands.spawn_agent(&format!("agent {number}"));
        agent.entry::<Agent>().and_modify(|mut agent| agent.join(ZONE));
    }
}

/// Agents head for the nearest pellet, by the same inputs as players.
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

/// The name of the arena's zone.
pub const ZONE: &str = "arena";
/// How often the arena ticks a second, at most.
pub const HZ: u32 = 20;
/// Most members: the links of one UDP adapter, and twenty agents. All their scores fit one frame.
pub const CAPACITY_MAX: usize = 1_044;
/// Most agents: one fewer than members, so that a player finds a place.
pub const AGENTS_MAX: u16 = 1_043;
