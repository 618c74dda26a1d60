//! The game that most tests play: `Say` is answered by `Echo`, and heard by the test.

use std::thread::{self, ThreadId};
use std::time::Duration;

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use bytes::Bytes;
use waystation::arena::v1::{Echo, Input, Say};
use waystation::config::ServerConfig;
use waystation::ident::{LinkId, ProxyId, SessionId};
use waystation::proxy::{Proxies, ProxyCommand};
use waystation::rpc::{AppRpc as _, Call, Sender};
use waystation::session::SessionConfig;
use waystation::testing::{Harness, News, Player};
use waystation::tick::StopRequested;
use waystation::wire::v1::{Join, Reason, Refused};
use waystation::wire::{self, FRAME_MAX_SERVER, WireMessage};
use waystation::zone::{JoinCancelled, JoinRequested, MembershipError, MembershipRefused, Zone, ZoneTicked};

/// The numbers of all `Say` that the game took, and of all `Input`.
#[derive(Resource, Debug, Default)]
pub(crate) struct Heard {
    /// Reliable calls.
    pub(crate) said: Vec<(SessionId, u64)>,
    /// Unreliable calls.
    pub(crate) inputs: Vec<(SessionId, u64)>,
}

/// What the game broadcasts to `hall` in its next tick.
#[derive(Resource, Debug, Default)]
pub(crate) struct Shout(pub(crate) Vec<u64>);

/// A game with the zones `hall` and `attic`.
pub(crate) fn game() -> Harness {
    game_with(ServerConfig::default())
}

/// The same with another configuration. Its bounds of sessions may be tighter than those of a server that
/// starts: a few frames show what happens at a bound.
pub(crate) fn game_with(config: ServerConfig) -> Harness {
    let ServerConfig { session, .. } = config;
    let mut game = Harness::with(ServerConfig { session: SessionConfig::default(), ..config });
    game.app.insert_resource(session);
    game.open_zone(Zone::new("attic"));
    game.app
        .add_call::<Say>()
        .add_call::<Input>()
        .init_resource::<Heard>()
        .init_resource::<Shout>()
        .add_systems(Update, (echo, hear_inputs, shout_all).chain());
    game
}

/// The same with other bounds of sessions.
pub(crate) fn game_bounded(session: SessionConfig) -> Harness {
    game_with(ServerConfig { session, ..ServerConfig::default() })
}

/// Makes the thread of the first proxy panic after the next tick, when it carries out commands. The
/// thread gets a frame for a link that it does not have, and the frame panics where it is dropped.
pub(crate) fn fail_network_thread(app: &mut App) {
    let frame = Bytes::from_owner(PanicsWhenDropped { test: thread::current().id() });
    let command = ProxyCommand::Send { link: LinkId(u64::MAX), frame };
    app.world_mut().resource_mut::<Proxies>().command(ProxyId(0), command);
}

/// A frame that no thread but the test's own can drop without a panic.
struct PanicsWhenDropped {
    test: ThreadId,
}

impl AsRef<[u8]> for PanicsWhenDropped {
    fn as_ref(&self) -> &[u8] {
        &[1, 0]
    }
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        assert!(thread::current().id() == self.test || thread::panicking(), "{CAUSED}");
    }
}

/// What the panic of [`fail_network_thread`] says.
pub(crate) const CAUSED: &str = "a panic that a test has caused";

/// Queues a broadcast of `Echo` to `hall`.
pub(crate) fn shout(game: &mut Harness, number: u64) {
    game.app.world_mut().resource_mut::<Shout>().0.push(number);
}

/// What the game heard of a player.
pub(crate) fn said(game: &Harness, player: &Player) -> Vec<u64> {
    let session = player.session();
    game.resource::<Heard>()
        .said
        .iter()
        .filter(|(who, _)| *who == session)
        .map(|(_, number)| *number)
        .collect()
}

/// The reasons of all parts of a player so far, as the game was told.
pub(crate) fn parts(game: &Harness, player: &Player) -> Vec<Reason> {
    let parted = |news: &News| match news {
        News::Parted(_, reason) => Some(*reason),
        _ => None,
    };
    game.news_of(player.session()).iter().filter_map(parted).collect()
}

/// No frame that a player saw is longer than a server's may be.
#[track_caller]
pub(crate) fn assert_frames_fit(player: &Player) {
    let longest = player.seen().iter().map(|frame| frame.len()).max().expect("a frame");
    assert!(longest <= FRAME_MAX_SERVER, "{longest} bytes");
}

/// The numbers of all `Echo` that a player saw since the last look.
pub(crate) fn echoes(player: &mut Player) -> Vec<u64> {
    player.take::<Echo>().into_iter().map(|echo| echo.number).collect()
}

fn echo(mut calls: MessageReader<Call<Say>>, mut heard: ResMut<Heard>, mut sender: Sender) {
    for call in calls.read() {
        heard.said.push((call.session, call.message.number));
        sender.reply(call, &Echo { number: call.message.number, taken: 0 });
    }
}

fn hear_inputs(mut calls: MessageReader<Call<Input>>, mut heard: ResMut<Heard>) {
    heard.inputs.extend(calls.read().map(|call| (call.session, call.message.tick)));
}

fn shout_all(
    mut shout: ResMut<Shout>,
    zones: Query<(Entity, &Zone)>,
    mut ticks: MessageReader<ZoneTicked>,
    mut sender: Sender,
) {
    ticks.clear();
    for number in shout.0.drain(..) {
        for (zone, _) in zones.iter().filter(|(_, zone)| zone.name() == "hall") {
            sender.broadcast(zone, &Echo { number, taken: 0 });
        }
    }
}

/// The frame of a message, made as long as that by a field that nobody knows: it parses all the same.
pub(crate) fn padded<M: WireMessage>(message: &M, length: usize) -> Bytes {
    let mut frame = wire::encode(message).to_vec();
    // Field 15 of bytes, and their number in three bytes.
    let padding = length - frame.len() - 4;
    let low = |shift: u32| 0x80 | (padding >> shift & 0x7F) as u8;
    frame.extend([0x7A, low(0), low(7), (padding >> 14) as u8]);
    frame.resize(length, 0);
    frame.into()
}

/// The player says numbers, one frame each.
pub(crate) fn say(player: &mut Player, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        player.send(&Say { number });
    }
}

/// What the game was told of asks and refusals.
#[derive(Resource, Default)]
pub(crate) struct Told {
    pub(crate) requested: Vec<JoinRequested>,
    pub(crate) cancelled: Vec<Reason>,
    pub(crate) refused: Vec<MembershipError>,
}

fn listen(
    mut requested: MessageReader<JoinRequested>,
    mut cancelled: MessageReader<JoinCancelled>,
    mut refused: MessageReader<MembershipRefused>,
    mut told: ResMut<Told>,
) {
    told.requested.extend(requested.read().cloned());
    told.cancelled.extend(cancelled.read().map(|message| message.reason));
    told.refused.extend(refused.read().map(|message| message.error));
}

/// A game with a zone `club` that asks, and one `ring` that is hard.
pub(crate) fn game_with_club() -> Harness {
    game_with_club_and(ServerConfig::default())
}

/// The same with another configuration.
pub(crate) fn game_with_club_and(config: ServerConfig) -> Harness {
    let mut game = game_with(config);
    game.open_zone(Zone::new("club").asks());
    game.open_zone(Zone::new("ring").hard());
    game.app.init_resource::<Told>().add_systems(bevy_app::Update, listen);
    game
}

/// The entity of a player's session.
pub(crate) fn entity(game: &Harness, player: &Player) -> Entity {
    game.entity(player.session()).expect("a live session")
}

/// The entity of a zone.
pub(crate) fn zone(game: &Harness, name: &str) -> Entity {
    game.zone(name).expect("the zone")
}

/// Commands something between two ticks.
pub(crate) fn command(game: &mut Harness, command: impl FnOnce(&mut Commands)) {
    command(&mut game.app.world_mut().commands());
    game.app.world_mut().flush();
}

/// The requests that were refused since the last look, and why.
pub(crate) fn refusals(player: &mut Player) -> Vec<(u32, Reason)> {
    player.take::<Refused>().iter().map(|refused| (refused.request, refused.reason())).collect()
}

/// Asks to join `club`.
pub(crate) fn ask(game: &mut Harness, player: &mut Player) {
    player.send(&Join { request: 5, zone: "club".to_owned(), payload: "please".into() });
    game.exchange(&mut [player]);
}

/// Asks the server to stop.
pub(crate) fn stop(game: &mut Harness) {
    game.app.world_mut().insert_resource(StopRequested(true));
}

/// Whether the server exits within ten seconds, while `meanwhile` happens in each tick. Looks at
/// the server alone: the audit has no say.
pub(crate) fn exits(game: &mut Harness, mut meanwhile: impl FnMut(&mut Harness)) -> bool {
    (0..200).any(|_| {
        meanwhile(game);
        game.pass(Duration::from_millis(50));
        game.app.update();
        game.app.should_exit().is_some()
    })
}
