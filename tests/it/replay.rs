//! A run again from its recorded inputs: the game is told the same, and the same leaves for the proxies.

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
use waystation::tick::{Clock, Dice, Recorder, Recording, Replay, TickInput, TickTime};
use waystation::wire::v1::{Bye, Welcome};
use waystation::wire::{Frame, encode};
use waystation::zone::{InZone, Zone, Zones};

/// What may wait for an adapter: so little that it is reached.
const COMMANDS: Budget = Budget { count: 20, bytes: 400_000 };

/// What a tick was, as far as the outside can tell: what the game was told, and what left.
type Told = Vec<String>;

/// A game whose every step follows from the world and the inputs.
fn add_game(app: &mut App) {
    app.world_mut().resource_mut::<Proxies>().set_command_budget(COMMANDS);
    app.init_resource::<SentCommands>()
        .add_call::<Say>()
        .add_systems(Startup, |mut commands: Commands| {
            let mut agent = commands.spawn_agent("guard");
            agent.entry::<Agent>().and_modify(|mut agent| agent.join("hall"));
        })
        .add_systems(Update, (echo, roll, show).chain());
}

fn echo(mut calls: MessageReader<Call<Say>>, mut sender: Sender) {
    for call in calls.read() {
        sender.reply(call, &Echo { number: call.message.number, taken: 0 });
    }
}

/// Tells all what the dice say, now and then.
fn roll(zones: Res<Zones>, time: Res<TickTime>, mut dice: ResMut<Dice>, mut sender: Sender) {
    if let Some(hall) = zones.find("hall").filter(|_| time.tick().0.is_multiple_of(3)) {
        sender.broadcast(hall, &Echo { number: dice.below(1_000).into(), taken: 1 });
    }
}

/// Shows all members much of the state, in each tick.
fn show(members: Query<Entity, With<InZone>>, time: Res<TickTime>, mut sender: Sender) {
    let columns: Vec<u32> = (0..2_000).map(|id| 100_000 + id).collect();
    let snapshot =
        Snapshot { tick: time.tick().0, id: columns.clone(), flags: columns, ..Snapshot::default() };
    for member in &members {
        sender.send(member, &snapshot);
    }
}

/// What the game was told in this tick, and what left for the proxies: tokens aside, and of each frame the hash.
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

/// The live app, and what it was in each tick.
struct Live {
    game: Harness,
    told: Vec<Told>,
    /// Ticks in which Beta had no room.
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

/// Players come, call, are cut, resume and go, over adapters that stall and with a client that does not read.
fn play() -> Live {
    let mut live = Live::new();
    let mut ada = live.enter(Via::Alpha, "ada");
    let mut bob = live.enter(Via::Beta, "bob");
    let eve = live.enter(Via::Beta, "eve");
    for round in 0..8 {
        (1..=round).for_each(|number| ada.send(&Say { number }));
        live.run(5, &mut [&mut ada, &mut bob]);
    }
    // Beta takes nothing for a second, and then all of it.
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

/// An app of the same game, without adapters, driven by these inputs: what it was in each tick.
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

/// The recording, changed in the ticks from `from` on.
fn perturbed(recording: &Recording, from: usize, change: impl Fn(&mut TickInput)) -> Vec<Told> {
    let mut recording = recording.clone();
    recording.ticks[from..].iter_mut().for_each(change);
    replay(recording).1
}

/// The first tick in which two runs differ.
fn first_difference(one: &[Told], other: &[Told]) -> Option<usize> {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).position(|(one, other)| one != other)
}

#[test]
fn a_run_is_repeated_from_its_inputs_without_adapters_clocks_or_tokens() {
    let mut live = play();
    let counts = *live.game.resource::<SessionCounts>();
    assert!(counts.dropped_unreliable_count > 0, "a client that does not read leaves no room");
    assert!(live.full_count > 0, "an adapter that takes nothing leaves no room");
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
fn another_input_is_another_run() {
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
