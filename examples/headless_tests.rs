//! A game and its tests in one file, without a network and on virtual time.
//!
//! Run `cargo test --example headless_tests` for the tests, or `cargo run --example headless_tests` to see the message
//! that they expect. A match starts when all members of the hall are ready.

use bevy_app::{App, Plugin, Update};
use bevy_ecs::prelude::*;
use waystation::ident::MessageId;
use waystation::rpc::{AppRpc as _, Call, Sender};
use waystation::testing::{Harness, Via};
use waystation::wire::{WireMessage, prost};
use waystation::zone::{Members, ZoneTicked};

#[derive(Clone, PartialEq, prost::Message)]
struct Ready {}
impl WireMessage for Ready {
    const ID: MessageId = MessageId::new(0x0100);
    const NAME: &'static str = "match.Ready";
}

#[derive(Clone, PartialEq, prost::Message)]
struct Started {
    #[prost(uint32, tag = 1)]
    players: u32,
}
impl WireMessage for Started {
    const ID: MessageId = MessageId::new(0x0101);
    const NAME: &'static str = "match.Started";
}

/// Marks a session as ready. It is on the entity of the session, so it survives a lost link.
#[derive(Component)]
struct IsReady;

struct MatchPlugin;

impl Plugin for MatchPlugin {
    fn build(&self, app: &mut App) {
        app.add_call::<Ready>().add_systems(Update, (take_ready, start).chain());
    }
}

fn take_ready(mut calls: MessageReader<Call<Ready>>, mut commands: Commands) {
    for call in calls.read() {
        commands.entity(call.entity).insert(IsReady);
    }
}

fn start(
    mut ticks: MessageReader<ZoneTicked>,
    (zones, ready): (Query<&Members>, Query<(), With<IsReady>>),
    mut sender: Sender,
    mut commands: Commands,
) {
    for tick in ticks.read() {
        let members: Vec<Entity> = zones.get(tick.zone).into_iter().flat_map(Members::entities).collect();
        if members.len() >= 2 && members.iter().all(|member| ready.contains(*member)) {
            sender.broadcast(tick.zone, &Started { players: members.len() as u32 });
            members.into_iter().for_each(|member| _ = commands.entity(member).remove::<IsReady>());
        }
    }
}

fn hall() -> Harness {
    let mut game = Harness::new();
    game.app.add_plugins(MatchPlugin);
    game
}

#[allow(clippy::print_stdout, reason = "an example prints its results")]
fn main() {
    let mut game = hall();
    let mut players = [Via::Alpha, Via::Beta].map(|via| game.member(via, "hall"));
    players.iter_mut().for_each(|player| player.send(&Ready {}));
    let [ada, bob] = &mut players;
    game.run_with(&mut [ada, bob], 200);
    println!("after {:?} of virtual time: {:?}", game.now(), ada.expect::<Started>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_ready_and_loses_its_link_receives_started_after_its_resume() {
        let mut game = hall();
        let [mut ada, mut bob] = [Via::Alpha, Via::Beta].map(|via| game.member(via, "hall"));
        ada.send(&Ready {});
        game.run_with(&mut [&mut ada, &mut bob], 200);

        ada.cut();
        bob.send(&Ready {});
        game.run_with(&mut [&mut bob], 1_000);
        ada.connect(&game, Via::Beta);
        ada.resume();
        game.run_with(&mut [&mut ada, &mut bob], 200);

        assert_eq!(bob.expect::<Started>().players, 2);
        assert_eq!(ada.expect::<Started>().players, 2);
    }

    #[test]
    fn the_match_starts_without_a_member_whose_session_expires() {
        let mut game = hall();
        let [mut ada, mut bob, mut eve] =
            [Via::Alpha, Via::Beta, Via::Alpha].map(|via| game.member(via, "hall"));
        eve.close();
        ada.send(&Ready {});
        bob.send(&Ready {});

        game.run_with(&mut [&mut ada, &mut bob], 4_500);
        ada.expect_no::<Started>();
        game.run_with(&mut [&mut ada, &mut bob], 1_500);

        assert_eq!(ada.expect::<Started>().players, 2);
    }
}
