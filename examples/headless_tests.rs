//! A game and its tests in one file: no network, no waiting, and time goes as the test says.
//!
//! Run `cargo test --example headless_tests`, or `cargo run --example headless_tests` to see what
//! the tests look at: a match starts once all who are in the hall are ready.

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

/// On a session's entity, so it survives whatever the session does.
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

#[allow(clippy::print_stdout, reason = "an example speaks to whoever runs it")]
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
    fn whoever_is_ready_and_loses_the_link_is_told_of_the_start_after_resuming() {
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
    fn whoever_does_not_come_back_is_not_waited_for_longer_than_the_session_lives() {
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
