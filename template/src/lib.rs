//! The rules of the game. Players are lights on a meadow at night, and moths fly around them. A player who cheers
//! scares the moths away.
//!
//! The server runs the systems of [`GamePlugin`] 20 times a second. To change a rule, change its system.

use std::f32::consts::TAU;

use serde::Deserialize;
use waystation::prelude::*;

pub mod bot;
mod moths;

/// The messages of `proto/game.proto`.
pub mod messages {
    include!(concat!(env!("OUT_DIR"), "/game.rs"));
}
use messages::{Cheer, Cheered, Scene, Steer};

/// The game. A new message from players needs an `add_call` here, and a new rule needs a system.
pub struct GamePlugin;

impl Plugin for GamePlugin {
    fn build(&self, app: &mut App) {
        app.game_config::<Tuning>()
            .add_call::<Steer>()
            .add_call::<Cheer>()
            .add_delivery::<Cheered>();
        app.add_systems(Startup, (open, moths::spawn).chain());
        app.add_systems(Update, (enter, leave, steer, cheer, moths::flutter, fly, show).chain());
    }
}

/// The numbers of the game. The table `[game]` of `waystation.toml` sets them.
#[derive(Resource, Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tuning {
    /// The radius of the meadow.
    pub radius: f32,
    /// The speed of a light, in units per second.
    pub speed: f32,
    /// The number of moths.
    pub moths: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { radius: 50.0, speed: 40.0, moths: 9 }
    }
}

/// A light or a moth. It is a component of the session's entity, so a player who loses the connection keeps it.
#[derive(Component, Debug, Clone, Copy, PartialEq)]
pub struct Dot {
    pub place: (f32, f32),
    pub goal: (f32, f32),
}

fn open(mut commands: Commands) {
    commands.spawn(Zone::new(ZONE).capacity(PLACES));
}

/// Gives each new member a dot at a random place.
fn enter(
    mut joined: MessageReader<ZoneJoined>,
    (tuning, mut rng): (Res<Tuning>, ResMut<GameRng>),
    mut commands: Commands,
) {
    for member in joined.read() {
        let place = around((0.0, 0.0), tuning.radius, &mut rng);
        commands.entity(member.entity).insert(Dot { place, goal: place });
    }
}

fn leave(mut parted: MessageReader<ZoneParted>, mut commands: Commands) {
    for member in parted.read() {
        commands.entity(member.entity).try_remove::<Dot>();
    }
}

fn steer(mut calls: MessageReader<Call<Steer>>, mut dots: Query<&mut Dot>) {
    for call in calls.read() {
        if let Ok(mut dot) = dots.get_mut(call.entity) {
            dot.goal = (call.message.x, call.message.y);
        }
    }
}

/// Broadcasts each cheer to all members of the zone.
fn cheer(mut calls: MessageReader<Call<Cheer>>, dots: Query<&Dot>, mut sender: Sender) {
    for call in calls.read() {
        let Ok(&Dot { place: (x, y), .. }) = dots.get(call.entity) else { continue };
        let (session, number) = (call.session.0, call.message.number);
        sender.broadcast(call.zone, &Cheered { session, number, x, y });
    }
}

/// Moves each dot toward its goal. The dot of a player without a connection waits.
fn fly(
    mut ticks: MessageReader<ZoneTicked>,
    mut dots: Query<&mut Dot, Without<Disconnected>>,
    tuning: Res<Tuning>,
) {
    for tick in ticks.read() {
        for mut dot in &mut dots {
            // A dot slows down near its goal, and stops at the edge of the meadow.
            let way = distance(dot.place, dot.goal).max(f32::EPSILON);
            let part = (tuning.speed * tick.dt.as_secs_f32()).min(way / 3.0) / way;
            let (x, y) = dot.place;
            let (x, y) = (x + (dot.goal.0 - x) * part, y + (dot.goal.1 - y) * part);
            let inside = (tuning.radius / x.hypot(y).max(f32::EPSILON)).min(1.0);
            dot.place = (x * inside, y * inside);
        }
    }
}

/// Broadcasts all dots to all members of the zone.
fn show(
    mut ticks: MessageReader<ZoneTicked>,
    dots: Query<(&Session, &Dot, Has<Agent>, Has<Disconnected>)>,
    tuning: Res<Tuning>,
    mut sender: Sender,
) {
    for tick in ticks.read() {
        let dots = dots.iter().map(|(session, &Dot { place: (x, y), .. }, moth, away)| {
            messages::Dot { session: session.id().0, x, y, moth, away }
        });
        sender.broadcast(tick.zone, &Scene { radius: tuning.radius, dots: dots.collect() });
    }
}

/// Returns a random place within this distance of another place.
fn around((x, y): (f32, f32), distance: f32, rng: &mut GameRng) -> (f32, f32) {
    let (sin, cos) = (rng.unit() * TAU).sin_cos();
    let distance = distance * rng.unit().sqrt();
    (x + cos * distance, y + sin * distance)
}

fn distance(a: (f32, f32), b: (f32, f32)) -> f32 {
    (a.0 - b.0).hypot(a.1 - b.1)
}

/// The name of the zone. The page and the bot join it by this name.
pub const ZONE: &str = "meadow";
/// The maximum number of players. Agents do not count. A scene of 50 dots fits into one packet.
const PLACES: usize = 40;
