//! Avatars, which exist while their session is a member of the arena.

use bevy_ecs::prelude::*;

use super::{Arena, Point, v1};
use crate::rpc::{Call, Sender};
use crate::session::{Disconnected, SessionRegistered};
use crate::tick::GameRng;
use crate::zone::{ZoneJoined, ZoneParted, ZoneTicked};

/// The avatar of a session.
#[derive(Component, Debug, Clone, Default)]
pub struct Avatar {
    /// Id of the avatar in messages, counted from 1.
    pub id: u32,
    /// Place of the avatar.
    pub place: Point,
    /// Direction in which the avatar moves. Its length is the share of the full speed, at most 1.
    pub wish: Point,
    /// Number of pellets eaten.
    pub score: u32,
    /// Score in the last broadcast.
    pub(super) reported: Option<u32>,
    /// Tick of the newest input.
    pub(super) newest: Option<u64>,
}

impl Avatar {
    /// Applies an input, unless it contains NaN or an infinity, or is not newer than the last one.
    fn obey(&mut self, input: &v1::Input) {
        let is_newer = self.newest.is_none_or(|newest| input.tick > newest);
        if let Some(wish) = Point::wish(input.x, input.y).filter(|_| is_newer) {
            self.newest = Some(input.tick);
            self.wish = wish;
        }
    }
}

/// Number of `Say` calls of a session. It lives as long as the session.
#[derive(Component, Debug, Default)]
pub(super) struct Says(u64);

pub(super) fn count_says(mut registered: MessageReader<SessionRegistered>, mut commands: Commands) {
    for news in registered.read() {
        commands.entity(news.entity).insert(Says::default());
    }
}

pub(super) fn remove_parted(
    mut parted: MessageReader<ZoneParted>,
    avatars: Query<&Avatar>,
    mut arena: ResMut<Arena>,
    mut commands: Commands,
) {
    for news in parted.read() {
        if news.zone == arena.zone
            && let Ok(avatar) = avatars.get(news.entity)
        {
            arena.gone.push(avatar.id);
            commands.entity(news.entity).remove::<Avatar>();
        }
    }
}

pub(super) fn spawn_joined(
    mut joined: MessageReader<ZoneJoined>,
    mut arena: ResMut<Arena>,
    mut rng: ResMut<GameRng>,
    mut commands: Commands,
) {
    for news in joined.read() {
        if news.zone == arena.zone {
            arena.avatar_count += 1;
            commands.entity(news.entity).insert(Avatar {
                id: arena.avatar_count,
                place: Point::random(&mut rng),
                ..Avatar::default()
            });
        }
    }
}

pub(super) fn take_inputs(mut inputs: MessageReader<Call<v1::Input>>, mut avatars: Query<&mut Avatar>) {
    for call in inputs.read() {
        if let Ok(mut avatar) = avatars.get_mut(call.entity) {
            avatar.obey(&call.message);
        }
    }
}

/// Stops the avatars of sessions without a link.
pub(super) fn stop_linkdead(mut avatars: Query<&mut Avatar, With<Disconnected>>) {
    for mut avatar in &mut avatars {
        avatar.wish = Point::default();
    }
}

pub(super) fn echo(mut calls: MessageReader<Call<v1::Say>>, mut says: Query<&mut Says>, mut sender: Sender) {
    for call in calls.read() {
        if let Ok(mut says) = says.get_mut(call.entity) {
            says.0 += 1;
            let (number, taken) = (call.message.number, says.0);
            sender.reply(call, &v1::Echo { number, taken });
        }
    }
}

/// Moves all avatars by one tick of the zone. Each pellet within reach of an avatar is then eaten, and
/// moved to a random place.
pub(super) fn move_and_eat(
    mut ticks: MessageReader<ZoneTicked>,
    mut avatars: Query<&mut Avatar>,
    mut arena: ResMut<Arena>,
    mut rng: ResMut<GameRng>,
) {
    let arena = &mut *arena;
    for tick in ticks.read().filter(|tick| tick.zone == arena.zone) {
        let mut movers: Vec<Mut<Avatar>> = avatars.iter_mut().collect();
        for avatar in &mut movers {
            avatar.place = avatar.place.moved(avatar.wish, tick.dt.as_secs_f32());
        }
        let places: Vec<Point> = movers.iter().map(|avatar| avatar.place).collect();
        for (number, pellet) in arena.pellets.iter_mut().enumerate() {
            if let Some(eater) = pellet.reached_by(&places) {
                movers[eater].score += 1;
                *pellet = Point::random(&mut rng);
                arena.eaten.insert(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_is_older_or_not_finite_is_ignored() {
        let mut avatar = Avatar::default();
        let input = |tick, x| v1::Input { tick, x, y: 0.0 };

        for ignored in [input(4, -1.0), input(5, -1.0), input(6, f32::NAN)] {
            avatar.obey(&input(5, 1.0));
            avatar.obey(&ignored);
            assert_eq!(avatar.wish, Point { x: 1.0, y: 0.0 });
        }

        avatar.obey(&input(6, -0.5));
        assert_eq!(avatar.wish, Point { x: -0.5, y: 0.0 });
    }
}
