//! Defines the game that most tests run: it answers each `Say` with an `Echo` and records it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
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

/// The numbers of all `Say` and `Input` calls that the game received, each with its session.
#[derive(Resource, Debug, Default)]
pub(crate) struct Heard {
    /// Reliable calls.
    pub(crate) said: Vec<(SessionId, u64)>,
    /// Unreliable calls.
    pub(crate) inputs: Vec<(SessionId, u64)>,
}

/// The numbers that the game broadcasts to `hall` in its next tick.
#[derive(Resource, Debug, Default)]
pub(crate) struct Shout(pub(crate) Vec<u64>);

/// Creates a game with the zones `hall` and `attic`.
pub(crate) fn game() -> Harness {
    game_with(ServerConfig::default())
}

/// Creates the game of [`game`] with another configuration. The session bounds are not validated, so a test can
/// set them low enough to reach with a few frames.
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

/// Creates the game of [`game`] with another session configuration.
pub(crate) fn game_bounded(session: SessionConfig) -> Harness {
    game_with(ServerConfig { session, ..ServerConfig::default() })
}

/// Makes the thread of the first proxy panic after the next tick, when it carries out commands. The thread
/// receives a frame for a link that does not exist. The frame panics when the thread drops it.
pub(crate) fn fail_network_thread(app: &mut App) {
    let frame = Bytes::from_owner(PanicsWhenDropped { test: thread::current().id() });
    let command = ProxyCommand::Send { link: LinkId(u64::MAX), frame };
    app.world_mut().resource_mut::<Proxies>().command(ProxyId(0), command);
}

/// A frame that panics when a thread other than the test's drops it.
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

/// The panic message of [`fail_network_thread`].
pub(crate) const CAUSED: &str = "a panic that a test has caused";

/// Queues a broadcast of `Echo` to `hall`.
pub(crate) fn shout(game: &mut Harness, number: u64) {
    game.app.world_mut().resource_mut::<Shout>().0.push(number);
}

/// Returns the numbers of the `Say` calls that the game received from a player.
pub(crate) fn said(game: &Harness, player: &Player) -> Vec<u64> {
    let session = player.session();
    game.resource::<Heard>()
        .said
        .iter()
        .filter(|(who, _)| *who == session)
        .map(|(_, number)| *number)
        .collect()
}

/// Returns the reasons in the news of a player's parts so far.
pub(crate) fn parts(game: &Harness, player: &Player) -> Vec<Reason> {
    let parted = |news: &News| match news {
        News::Parted(_, reason) => Some(*reason),
        _ => None,
    };
    game.news_of(player.session()).iter().filter_map(parted).collect()
}

/// Asserts that no frame that a player received exceeds the limit for frames of a server.
#[track_caller]
pub(crate) fn assert_frames_fit(player: &Player) {
    let longest = player.seen().iter().map(|frame| frame.len()).max().expect("the player received no frame");
    assert!(
        longest <= FRAME_MAX_SERVER,
        "a frame of {longest} bytes exceeds the limit of {FRAME_MAX_SERVER} bytes"
    );
}

/// Takes the `Echo` messages that a player has received since the last call. Returns their numbers.
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

/// Encodes a message and pads the frame to `length` bytes with an unknown field. The frame still parses.
pub(crate) fn padded<M: WireMessage>(message: &M, length: usize) -> Bytes {
    let mut frame = wire::encode(message).to_vec();
    // The tag of field 15, of type bytes, and its length as a varint of three bytes.
    let padding = length - frame.len() - 4;
    let low = |shift: u32| 0x80 | (padding >> shift & 0x7F) as u8;
    frame.extend([0x7A, low(0), low(7), (padding >> 14) as u8]);
    frame.resize(length, 0);
    frame.into()
}

/// Sends one `Say` of the player for each number.
pub(crate) fn say(player: &mut Player, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        player.send(&Say { number });
    }
}

/// The messages about asks and refusals that the game received.
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

/// Creates the game of [`game`] with two more zones: `club`, which asks the game, and `ring`, which is hard.
pub(crate) fn game_with_club() -> Harness {
    game_with_club_and(ServerConfig::default())
}

/// Creates the game of [`game_with_club`] with another configuration.
pub(crate) fn game_with_club_and(config: ServerConfig) -> Harness {
    let mut game = game_with(config);
    game.open_zone(Zone::new("club").asks());
    game.open_zone(Zone::new("ring").hard());
    game.app.init_resource::<Told>().add_systems(bevy_app::Update, listen);
    game
}

/// Returns the entity of a player's session.
pub(crate) fn entity(game: &Harness, player: &Player) -> Entity {
    game.entity(player.session()).expect("the session of the player has ended")
}

/// Returns the entity of a zone.
pub(crate) fn zone(game: &Harness, name: &str) -> Entity {
    game.zone(name).expect("no zone has this name")
}

/// Runs commands between two ticks.
pub(crate) fn command(game: &mut Harness, command: impl FnOnce(&mut Commands)) {
    command(&mut game.app.world_mut().commands());
    game.app.world_mut().flush();
}

/// Takes the `Refused` messages that a player has received since the last call. Returns requests and reasons.
pub(crate) fn refusals(player: &mut Player) -> Vec<(u32, Reason)> {
    player.take::<Refused>().iter().map(|refused| (refused.request, refused.reason())).collect()
}

/// Sends a Join to `club` with request 5, and exchanges frames.
pub(crate) fn ask(game: &mut Harness, player: &mut Player) {
    player.send(&Join { request: 5, zone: "club".to_owned(), payload: "please".into() });
    game.exchange(&mut [player]);
}

/// Requests that the server stops.
pub(crate) fn stop(game: &mut Harness) {
    game.app.world_mut().insert_resource(StopRequested(true));
}

/// Returns true if the server exits within 200 ticks of 50 ms. Calls `meanwhile` before each tick.
/// Updates the app directly, without the checks of the harness.
pub(crate) fn exits(game: &mut Harness, mut meanwhile: impl FnMut(&mut Harness)) -> bool {
    (0..200).any(|_| {
        meanwhile(game);
        game.pass(Duration::from_millis(50));
        game.app.update();
        game.app.should_exit().is_some()
    })
}

/// Returns what is logged while `meanwhile` runs.
pub(crate) fn logged(meanwhile: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(log, meanwhile);
    let bytes = lines.0.lock().expect("no panic").clone();
    String::from_utf8(bytes).expect("text")
}
