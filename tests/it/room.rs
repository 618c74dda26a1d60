//! Tests room: how much may be sent on a link before its client has received what was sent earlier.

use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce as _;
use bytes::Bytes;
use waystation::arena::v1::{Echo, Snapshot};
use waystation::proxy::port::Budget;
use waystation::proxy::{LINK_BUDGET, Proxies, ROOM_STEP};
use waystation::rpc::Sender;
use waystation::session::{LinkRoom, SessionCounts, SessionState};
use waystation::testing::{Harness, Player, Via};
use waystation::tick::Clock;
use waystation::wire;
use waystation::wire::quic::QuicKind;
use waystation::wire::v1::Ack;

use crate::stage::{Adapter, Client as _, Stage, quic, udp, websocket};
use crate::support::{echoes, entity, game, shout};

/// The size of the frames that fill a link, in bytes: less than `ROOM_STEP`.
const FRAME_BYTES: usize = 16_000;

fn reliable() -> Bytes {
    let mut frame = vec![7; FRAME_BYTES];
    (frame[0], frame[1]) = (0x01, 0x50);
    frame.into()
}

fn room(game: &Harness, player: &Player) -> usize {
    let link = game.view(player.session()).and_then(|view| view.link);
    game.resource::<Proxies>().room(link.expect("a link"))
}

fn frame_count(game: &Harness, player: &Player) -> Option<usize> {
    game.view(player.session()).map(|view| view.held_count)
}

/// Sends a player the state of many avatars, about 12 KB, in each tick while `is_on`.
fn flood(game: &mut Harness, player: &Player) {
    let to = entity(game, player);
    let columns: Vec<u32> = (0..2_000).map(|id| 100_000 + id).collect();
    let snapshot = Snapshot { id: columns.clone(), flags: columns, ..Snapshot::default() };
    let send = move |mut sender: Sender| sender.send(to, &snapshot);
    game.app.add_systems(bevy_app::Update, send);
}

#[test]
fn a_frame_that_the_game_has_encoded_reaches_each_target_once_and_a_game_can_ask_for_room() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "hall");
    let (a, b) = (entity(&game, &ada), entity(&game, &bob));
    let good = wire::encode(&Echo { number: 7, taken: 0 });
    let of_the_core = wire::encode(&Ack { received: 0 });
    let too_long = [&good[..], &vec![0; wire::FRAME_MAX_SERVER]].concat().into();

    let sent = game.app.world_mut().run_system_once(move |mut sender: Sender, links: LinkRoom| {
        sender.send_frame([a, b, a], &good);
        sender.send_frame([a, b], &of_the_core);
        sender.send_frame([a, b], &too_long);
        (links.bytes(a), links.bytes(Entity::PLACEHOLDER))
    });
    let room = sent.expect("the system runs");
    game.exchange(&mut [&mut ada, &mut bob]);

    assert_eq!((echoes(&mut ada), echoes(&mut bob)), (vec![7], vec![7]));
    assert!(room.0 > LINK_BUDGET / 2 && room.0 <= LINK_BUDGET && room.1 == 0, "{room:?}");
}

#[test]
fn a_game_that_sends_endlessly_is_bounded_and_gets_an_error() {
    let mut game = game();
    let ada = game.member(Via::Alpha, "hall");
    let to = entity(&game, &ada);
    let frame: Bytes = [&[0x81, 0x50][..], &[0; 60_000]].concat().into();

    let sent = game.app.world_mut().run_system_once(move |mut sender: Sender| {
        for _ in 0..2_000 {
            sender.send_frame([to], &frame);
        }
    });
    sent.expect("the system runs");
    game.tick();

    assert_eq!(game.resource::<SessionCounts>().undelivered_count, 2_000 - 64 * 1024 * 1024 / 60_002);
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
}

#[test]
fn a_proxy_with_little_room_serves_another_session_first_in_each_tick() {
    let mut game = game();
    let mut players: Vec<Player> = (0..4).map(|_| game.member(Via::Alpha, "hall")).collect();
    let budget = Budget { count: 2, bytes: usize::MAX / 2 };
    game.app.world_mut().resource_mut::<Proxies>().set_command_budget(budget);
    players.iter().for_each(|player| flood(&mut game, player));

    let mut counts = [0; 4];
    for _ in 0..40 {
        game.tick();
        for (player, count) in players.iter_mut().zip(&mut counts) {
            player.pump();
            *count += player.take::<Snapshot>().len();
        }
    }

    assert!(counts.iter().all(|count| *count >= 5), "{counts:?}");
    assert!(game.resource::<SessionCounts>().dropped_unreliable_count > 0, "some state did not fit the room");
}

#[test]
fn a_client_that_does_not_read_makes_state_drop_at_the_tick_and_messages_wait_in_its_outbox() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "hall");
    flood(&mut game, &ada);
    let mut ticks = 0;
    while room(&game, &ada) > 0 {
        game.tick();
        ticks += 1;
        assert!(ticks < 100, "the link still has room");
    }
    let dropped = game.resource::<SessionCounts>().dropped_unreliable_count;

    for number in 1..=10 {
        shout(&mut game, number);
        game.run_with(&mut [&mut bob], 50);
    }
    assert_eq!(game.resource::<SessionCounts>().dropped_unreliable_count, dropped + 10);
    assert_eq!(frame_count(&game, &ada), Some(10));
    assert_eq!((room(&game, &ada), room(&game, &bob) > LINK_BUDGET - ROOM_STEP), (0, true));
    assert_eq!(echoes(&mut bob), (1..=10).collect::<Vec<_>>(), "the other session is not delayed");
    ada.pump();
    assert!(echoes(&mut ada).is_empty(), "the messages are still in the outbox");
    // Beacons are due meanwhile. The server asserts that it still flushes each session once per tick.
    game.run_with(&mut [&mut bob], 2_000);
    game.exchange(&mut [&mut ada]);

    assert_eq!(echoes(&mut ada), (1..=10).collect::<Vec<_>>());
    assert!(room(&game, &ada) > 0);
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
}

/// Sends on a client's link until it has no room, and asserts that its room returns.
fn assert_room_returns<A: Adapter>(stage: &mut Stage<A>, client: usize) {
    let link = stage.key_of(client);
    let room = |stage: &Stage<A>| stage.app.world().resource::<Proxies>().room(link);
    assert_eq!(room(stage), LINK_BUDGET);
    let mut count = 0;
    while room(stage) > 0 {
        stage.send(client, reliable());
        count += 1;
    }
    assert_eq!(count, LINK_BUDGET.div_ceil(FRAME_BYTES));

    stage.until("there is room again", |stage| room(stage) > LINK_BUDGET - ROOM_STEP);
    stage.until("all frames have arrived", |stage| stage.clients[client].heard().len() >= count);
    stage.assert_echo(client);
}

#[test]
fn room_returns_over_udp() {
    let mut stage = udp::Stage::new(Clock::wall());
    let client = stage.connect("ada");

    assert_room_returns(&mut stage, client);
}

#[test]
fn room_returns_over_quic_and_webtransport() {
    for kind in [QuicKind::Quic, QuicKind::WebTransport] {
        let mut stage = quic::Stage::new();
        let client = stage.connect(kind);

        assert_room_returns(&mut stage, client);
    }
}

#[test]
fn room_returns_over_websocket() {
    let mut stage = websocket::Stage::new();
    let client = stage.connect();

    assert_room_returns(&mut stage, client);
}

#[test]
fn a_client_over_websocket_that_does_not_read_leaves_no_room() {
    let mut stage = websocket::Stage::new();
    let client = stage.connect_narrow();
    stage.clients[client].deaf = true;
    let link = stage.key_of(client);
    let mut count = 0;

    // Room for the bytes in the kernel's buffers returns once. After that, no room returns.
    let mut quiet = 0;
    while quiet < 50 {
        let has_room = stage.app.world().resource::<Proxies>().room(link) > 0;
        quiet = if has_room { 0 } else { quiet + 1 };
        if has_room {
            stage.send(client, reliable());
            count += 1;
        }
        stage.tick();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(count < 1_000, "the link still has room");
    }
    stage.clients[client].deaf = false;

    stage.until("all frames have arrived", |stage| stage.clients[client].received.len() >= count);
    stage.until("there is room again", |stage| {
        stage.app.world().resource::<Proxies>().room(link) > LINK_BUDGET - ROOM_STEP
    });
}
