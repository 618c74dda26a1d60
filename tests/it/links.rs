//! What a game sees of the links of its sessions: their transport, the address, and calls that are sent again.

use std::net::{Ipv4Addr, SocketAddr};

use bevy_app::Update;
use bevy_ecs::prelude::*;
use waystation::arena::v1::{Input, Say};
use waystation::proxy::LinkInfo;
use waystation::rpc::Call;
use waystation::session::{Agent, BoundLink, SessionTable, SpawnAgent as _};
use waystation::testing::{Harness, Player, Via};

use crate::support::{command, entity, game};

/// The numbers of the calls that the game received, each with whether it was replayed.
#[derive(Resource, Default)]
struct Replayed(Vec<(u64, bool)>);

fn note(
    mut says: MessageReader<Call<Say>>,
    mut inputs: MessageReader<Call<Input>>,
    mut seen: ResMut<Replayed>,
) {
    seen.0.extend(says.read().map(|call| (call.message.number, call.is_replayed)));
    seen.0.extend(inputs.read().map(|call| (call.message.tick, call.is_replayed)));
}

fn game_that_notes() -> Harness {
    let mut game = game();
    game.app.init_resource::<Replayed>().add_systems(Update, note);
    game
}

fn from(host: u8) -> LinkInfo {
    LinkInfo { address: Some(address(host)), ..LinkInfo::default() }
}

fn address(host: u8) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, host), 5_000).into()
}

fn bound(game: &Harness, player: &Player) -> Option<(&'static str, Option<SocketAddr>)> {
    let link = game.component::<BoundLink>(player.session())?;
    let table = game.resource::<SessionTable>();
    assert_eq!(table.bound_to(link.key()), Some(entity(game, player)), "the key is that of the link");
    Some((link.transport(), link.address()))
}

#[test]
fn a_session_has_the_transport_and_address_of_its_link_while_it_has_one() {
    // Given a session over one proxy.
    let mut game = game();
    let mut ada = Player::new();
    ada.connect_as(&game, Via::Alpha, from(1));
    ada.hello();
    game.exchange(&mut [&mut ada]);
    assert_eq!(bound(&game, &ada), Some(("alpha", Some(address(1)))));

    // When it loses the link, then there is none.
    ada.close();
    game.tick();
    assert_eq!(bound(&game, &ada), None);

    // When it is resumed over another proxy, then it has that one.
    ada.connect_as(&game, Via::Beta, from(2));
    ada.resume();
    game.exchange(&mut [&mut ada]);
    assert_eq!(bound(&game, &ada), Some(("beta", Some(address(2)))));

    // When another link takes it over, then it has the new one, with the name that the adapter gives it.
    ada.connect_as(&game, Via::Alpha, LinkInfo { transport: Some("carrier pigeon"), ..from(3) });
    ada.resume();
    game.exchange(&mut [&mut ada]);
    assert_eq!(bound(&game, &ada), Some(("carrier pigeon", Some(address(3)))));
}

#[test]
fn agents_and_sessions_that_have_ended_have_no_link() {
    let mut game = game();
    let ada = game.player(Via::Alpha);
    let player = entity(&game, &ada);
    let agent = game.app.world_mut().commands().spawn_agent("guard").id();
    game.tick();
    assert!(game.app.world().get::<Agent>(agent).is_some());
    assert_eq!(game.app.world().get::<BoundLink>(agent), None);

    command(&mut game, |commands| {
        use waystation::zone::MembershipCommands as _;
        commands.kick(player, "enough");
    });
    game.tick();

    assert!(game.app.world().get::<waystation::session::Closing>(player).is_some());
    assert_eq!(game.app.world().get::<BoundLink>(player), None);
}

#[test]
fn a_link_that_the_game_removes_is_put_back() {
    let mut game = game();
    let ada = game.player(Via::Alpha);
    let player = entity(&game, &ada);

    game.app.world_mut().entity_mut(player).remove::<BoundLink>();
    game.tick();

    assert_eq!(bound(&game, &ada), Some(("alpha", None)));
}

#[test]
fn calls_that_were_sent_on_an_earlier_link_are_replayed_and_others_are_not() {
    // Given a player whose second call does not reach the server, because her link is replaced before.
    let mut game = game_that_notes();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.send(&Say { number: 1 });
    game.exchange(&mut [&mut ada]);
    ada.send(&Say { number: 2 });
    ada.connect(&game, Via::Beta);

    // When she makes a call without a link, resumes, and makes more.
    ada.send(&Say { number: 3 });
    ada.resume();
    game.exchange(&mut [&mut ada]);
    ada.send(&Say { number: 4 });
    ada.send(&Input { tick: 5, ..Input::default() });
    game.exchange(&mut [&mut ada]);

    // Then only the second one is replayed.
    assert_eq!(game.resource::<Replayed>().0, [(1, false), (2, true), (3, false), (4, false), (5, false)]);
}

#[test]
fn a_call_that_is_lost_twice_is_replayed_when_it_arrives() {
    let mut game = game_that_notes();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.connect(&game, Via::Beta);
    ada.send(&Say { number: 1 });
    ada.resume();
    game.tick();
    ada.pump_one();
    ada.connect(&game, Via::Alpha);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.resource::<Replayed>().0, [(1, true)], "it was sent on the second link first");
}

#[test]
fn calls_of_an_agent_are_not_replayed() {
    let mut game = game_that_notes();
    let agent = game.app.world_mut().commands().spawn_agent("guard").id();
    game.tick();
    let mut guard = game.app.world_mut().get_mut::<Agent>(agent).expect("an agent");
    guard.join("hall", "");
    game.exchange(&mut []);
    game.app.world_mut().get_mut::<Agent>(agent).expect("an agent").call(Say { number: 1 });
    game.exchange(&mut []);

    assert_eq!(game.resource::<Replayed>().0, [(1, false)]);
}
