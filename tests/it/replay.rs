//! Tests replays: from its recorded inputs, a run sends the game the same events and the proxies the same commands.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use bevy_app::{App, Startup, Update};
use bevy_ecs::prelude::*;
use bytes::Bytes;
use waystation::arena::v1::{Echo, Say, Snapshot};
use waystation::config::ServerConfig;
use waystation::ident::ProxyId;
use waystation::proxy::port::Budget;
use waystation::proxy::{Proxies, ProxyCommand, ProxyEventKind, SentCommands, Traffic};
use waystation::rpc::{AppRpc as _, Call, Sender};
use waystation::server::ServerPlugins;
use waystation::server::audit::AuditPlugin;
use waystation::session::{Agent, Journal, SessionCounts, SpawnAgent as _};
use waystation::testing::{Entry, Harness, Player, Via};
use waystation::tick::{Clock, GameRng, Recorder, Recording, Replay, TickInput, TickTime};
use waystation::wire::v1::{Bye, Welcome};
use waystation::wire::{Frame, encode};
use waystation::zone::{InZone, Zone, Zones};

/// The bound on commands that wait for an adapter: so low that the run reaches it.
const COMMANDS: Budget = Budget { count: 20, bytes: 400_000 };

/// The observable results of a tick: the events that the game received, and the commands to the proxies.
type Told = Vec<String>;

/// Adds a game that depends only on the world and the inputs.
fn add_game(app: &mut App) {
    app.world_mut().resource_mut::<Proxies>().set_command_budget(COMMANDS);
    app.init_resource::<SentCommands>()
        .add_call::<Say>()
        .add_systems(Startup, |mut commands: Commands| {
            let mut agent = commands.spawn_agent("guard");
            agent.entry::<Agent>().and_modify(|mut agent| agent.join("hall", ""));
        })
        .add_systems(Update, (echo, roll, show).chain());
}

fn echo(mut calls: MessageReader<Call<Say>>, mut sender: Sender) {
    for call in calls.read() {
        sender.reply(call, &Echo { number: call.message.number, taken: 0 });
    }
}

/// Sends a random number to all members on every third tick.
fn roll(zones: Res<Zones>, time: Res<TickTime>, mut rng: ResMut<GameRng>, mut sender: Sender) {
    if let Some(hall) = zones.find("hall").filter(|_| time.tick().0.is_multiple_of(3)) {
        sender.broadcast(hall, &Echo { number: rng.below(1_000).into(), taken: 1 });
    }
}

/// Sends all members a large state message in each tick.
fn show(members: Query<Entity, With<InZone>>, time: Res<TickTime>, mut sender: Sender) {
    let columns: Vec<u32> = (0..2_000).map(|id| 100_000 + id).collect();
    let snapshot =
        Snapshot { tick: time.tick().0, id: columns.clone(), flags: columns, ..Snapshot::default() };
    for member in &members {
        sender.send(member, &snapshot);
    }
}

/// Returns this tick's events of the game and commands to the proxies: without tokens, and with hashes of frames.
fn told(world: &World) -> Told {
    let news =
        world.resource::<Journal>().published().iter().filter_map(Entry::of).map(|entry| entry.to_string());
    let left = world.resource::<SentCommands>().0.iter().map(|(proxy, command)| match command {
        ProxyCommand::Send { link, frame } => format!("{proxy} {link}: {}", digest(frame)),
        ProxyCommand::Close { link, frame } => format!("{proxy} {link}: {}, closed", digest(frame)),
        other => format!("{proxy}: {other:?}"),
    });
    news.chain(left).collect()
}

fn digest(bytes: &Bytes) -> String {
    let frame = Frame::parse(bytes.clone()).expect("the server sends frames");
    let welcome = frame.decode::<Welcome>();
    let bytes =
        welcome.map_or_else(|_| bytes.clone(), |welcome| encode(&Welcome { token: Bytes::new(), ..welcome }));
    let mut hash = DefaultHasher::new();
    bytes.hash(&mut hash);
    format!("frame {} {:016x}", frame.id, hash.finish())
}

/// The live app, and the results of each tick.
struct Live {
    game: Harness,
    told: Vec<Told>,
    /// The number of ticks in which Beta had no room.
    full_count: usize,
}

impl Live {
    fn new() -> Self {
        let mut game = Harness::new();
        Recorder::install(&mut game.app, 10_000);
        add_game(&mut game.app);
        Self { game, told: Vec::new(), full_count: 0 }
    }

    fn run(&mut self, ticks: usize, players: &mut [&mut Player]) {
        for _ in 0..ticks {
            self.game.tick();
            self.note();
            players.iter_mut().for_each(|player| player.pump());
        }
    }

    fn note(&mut self) {
        let world = self.game.app.world();
        self.told.push(told(world));
        self.full_count += usize::from(!world.resource::<Proxies>().has_room(ProxyId(1)));
    }

    fn enter(&mut self, via: Via, name: &str) -> Player {
        let mut player = self.game.stranger(via);
        name.clone_into(&mut player.name);
        player.hello();
        self.run(3, &mut [&mut player]);
        player.send(&waystation::wire::v1::Join {
            request: 1,
            zone: "hall".to_owned(),
            ..Default::default()
        });
        self.run(3, &mut [&mut player]);
        player
    }
}

/// Plays a run: players join, call, are cut, resume and leave. Adapters stall, and one client does not read.
fn play() -> Live {
    let mut live = Live::new();
    let mut ada = live.enter(Via::Alpha, "ada");
    let mut bob = live.enter(Via::Beta, "bob");
    let eve = live.enter(Via::Beta, "eve");
    for round in 0..8 {
        (1..=round).for_each(|number| ada.send(&Say { number }));
        live.run(5, &mut [&mut ada, &mut bob]);
    }
    // Beta takes no commands for a second, and then all of them.
    live.game.stall(Via::Beta, true);
    live.run(20, &mut [&mut ada, &mut bob]);
    live.game.stall(Via::Beta, false);
    live.run(5, &mut [&mut ada, &mut bob]);
    ada.cut();
    bob.close();
    live.run(10, &mut []);
    ada.connect(&live.game, Via::Beta);
    ada.resume();
    bob.connect(&live.game, Via::Alpha);
    bob.resume();
    live.run(10, &mut [&mut ada, &mut bob]);
    // A stall of the whole server, and a tick that took long.
    live.game.tick_after(Duration::from_secs(3));
    live.note();
    let mut eve = eve;
    live.run(10, &mut [&mut ada, &mut bob, &mut eve]);
    eve.send(&Bye {});
    live.run(5, &mut [&mut ada, &mut bob, &mut eve]);
    live
}

/// Runs the same game without adapters from recorded inputs, and returns the results of each tick.
fn replay(recording: Recording) -> (App, Vec<Told>) {
    let mut app = App::new();
    let config = ServerConfig { clock: Clock::manual(), seed: Some(4_711), ..ServerConfig::default() };
    app.add_plugins(ServerPlugins::new(config));
    if !app.is_plugin_added::<AuditPlugin>() {
        app.add_plugins(AuditPlugin);
    }
    app.world_mut().spawn(Zone::new("hall"));
    let ticks = recording.ticks.len();
    Replay::install(&mut app, recording);
    add_game(&mut app);
    let told = (0..ticks).map(|_| {
        app.update();
        told(app.world())
    });
    let told = told.collect();
    (app, told)
}

/// Replays the recording with changed inputs from tick `from` on.
fn perturbed(recording: &Recording, from: usize, change: impl Fn(&mut TickInput)) -> Vec<Told> {
    let mut recording = recording.clone();
    recording.ticks[from..].iter_mut().for_each(change);
    replay(recording).1
}

/// Returns the first tick in which two runs differ.
fn first_difference(one: &[Told], other: &[Told]) -> Option<usize> {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).position(|(one, other)| one != other)
}

#[test]
fn a_run_is_repeated_from_its_inputs_without_adapters_clocks_or_tokens() {
    let mut live = play();
    let counts = *live.game.resource::<SessionCounts>();
    assert!(counts.dropped_unreliable_count > 0, "a client that does not read leaves no room");
    assert!(live.full_count > 0, "an adapter that takes no commands leaves no room");
    assert_eq!((counts.resumed_count, counts.unregistered_count), (2, 1));

    let recording = Recorder::take(&mut live.game.app);
    let (again, told) = replay(recording);

    if let Some(tick) = first_difference(&live.told, &told) {
        assert_eq!(live.told[tick], told[tick], "tick {}", tick + 1);
    }
    assert_eq!(*again.world().resource::<SessionCounts>(), counts);
    assert_eq!(again.world().resource::<Traffic>(), live.game.resource::<Traffic>());
    assert_eq!(again.world().resource::<Replay>().remaining(), 0);
    assert_eq!(again.world().resource::<TickTime>().steady(), live.game.resource::<TickTime>().steady());
}

#[test]
fn a_changed_input_changes_the_run() {
    let mut live = play();
    let recording = Recorder::take(&mut live.game.app);
    let differs = |from: usize, change: &dyn Fn(&mut TickInput)| {
        first_difference(&live.told, &perturbed(&recording, from, change)).expect("another run")
    };

    let is_frame = |kind: &ProxyEventKind| matches!(kind, ProxyEventKind::Frame { .. });
    assert!(differs(12, &|input| input.events.retain(|(_, event)| !is_frame(&event.kind))) >= 12);
    let is_room = |kind: &ProxyEventKind| matches!(kind, ProxyEventKind::Room { .. });
    assert!(differs(0, &|input| input.events.retain(|(_, event)| !is_room(&event.kind))) > 12);
    assert!(
        differs(20, &|input| input.proxies.iter_mut().for_each(|it| it.taken = Default::default())) >= 20
    );
    assert!(differs(30, &|input| input.now += Duration::from_secs(1)) >= 30);
    assert!(differs(0, &|input| input.drawn.clear()) < 12, "ids of sessions");
    assert!(differs(40, &|input| input.stop = true) >= 40);
}
