//! Applies each step to the server, and compares the server with its model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use bevy_ecs::prelude::*;
use bytes::Bytes;
use waystation::arena::v1::Say;
use waystation::gate::DrainCommand as _;
use waystation::ident::{LinkKey, SessionId};
use waystation::session::{
    Agent, AgentOf, ExpiresAt, ResumeTimeout, Session, SessionConfig, SessionCounts, SessionTable,
    SpawnAgent as _,
};
use waystation::testing::News;
use waystation::testing::{Faults, Harness, Omitted, Player, Via};
use waystation::wire::v1::{Ack, Bye, Hello, Join, Part, Resume, Welcome};
use waystation::wire::{self, Frame, Lane, WireMessage as _};
use waystation::zone::{Members, MembershipCommands as _, Zone};

use super::parts::{Down, OUTBOX_MAX};
use super::reference::{AHEAD, DEAF_TICKS, DRAIN, FLOOD, LONG_PERIOD, PATIENCE, PERIOD, Reference, STALL};
use super::steps::{Key, Room, Step, Who};
use super::told::{Hasty, Heeded, hook, listen_to, shown};
use crate::support::{Heard, game_bounded, shout};

/// The server, and clients that act as the clients of the model.
pub(crate) struct Subject {
    game: Harness,
    players: Vec<Player>,
    /// The tokens of each client, as the model numbers them.
    tokens: Vec<Vec<Bytes>>,
    /// The sessions, as the model numbers them.
    ids: BTreeMap<usize, SessionId>,
    /// The sessions that the game's commands named, by entity.
    commanded: BTreeMap<Entity, usize>,
    agent: Option<Entity>,
    news_count: usize,
    heard_count: usize,
    /// The reliable frames that each client received in this step, except Ack.
    seen: Vec<Vec<Frame>>,
}

impl Subject {
    pub(crate) fn new() -> Self {
        // Two floods exceed an outbox.
        let mut game = game_bounded(SessionConfig {
            outbox_max_frames: OUTBOX_MAX,
            on_disconnect: Some(hook()),
            ..SessionConfig::default()
        });
        listen_to(&mut game.app);
        for name in ["hall", "attic"] {
            let zone = game.zone(name).expect("the game opens this zone");
            game.app.world_mut().despawn(zone);
        }
        let players = Who::ALL.map(|who| {
            let mut player = Player::new();
            player.name = format!("{who:?}");
            player
        });
        let mut subject = Self {
            game,
            players: players.into(),
            tokens: vec![Vec::new(); Who::ALL.len()],
            ids: BTreeMap::new(),
            commanded: BTreeMap::new(),
            agent: None,
            news_count: 0,
            heard_count: 0,
            seen: vec![Vec::new(); Who::ALL.len()],
        };
        Room::ALL.into_iter().for_each(|room| subject.open(room));
        subject
    }

    /// Applies a step to the server. The model has applied it already.
    pub(crate) fn apply(&mut self, step: Step, model: &Reference) {
        let via = |beta: bool| if beta { Via::Beta } else { Via::Alpha };
        match step {
            Step::Tick(count) => self.pass(count, PERIOD, false),
            Step::Play(count) => self.pass(count, PERIOD, true),
            Step::Wait(count) => self.pass(count, LONG_PERIOD, false),
            Step::Rest(count) => self.pass(count, LONG_PERIOD, true),
            Step::Stall => self.pass(1, STALL, false),
            Step::Jam(beta) => {
                // A loopback carries out earlier commands when one of its links is used.
                self.players.iter().for_each(|player| _ = player.is_cut_off());
                self.game.stall(via(beta), true);
            }
            Step::Free(beta) => self.game.stall(via(beta), false),
            Step::Pump(who) => self.pump(who),
            Step::Lag(who) => self.lag(who),
            Step::Connect(who, beta) => self.players[who as usize].connect(&self.game, via(beta)),
            Step::Cut(who, frames) => self.cut(who, frames),
            Step::Close(who) => self.players[who as usize].close(),
            Step::Lossy(who) => self.players[who as usize].set_faults(Faults::new(7).drop(40).duplicate(40)),
            Step::Reload(who) => self.copy(who, who),
            Step::Copy(from, to) => self.copy(from, to),
            Step::Deaf(who) => {
                for number in model.number() - 2..=model.number() {
                    self.players[who as usize].send(&Say { number });
                    self.pass(DEAF_TICKS, LONG_PERIOD, false);
                }
            }
            Step::Busy(who) => {
                let count = u64::from(3 * DEAF_TICKS);
                for number in model.number() - count + 1..=model.number() {
                    self.players[who as usize].send(&Say { number });
                    self.pass(1, LONG_PERIOD, false);
                    self.lag(who);
                }
            }
            Step::Hello(_) | Step::Resume(..) | Step::Ahead(_) | Step::Resync(_) => self.greet(step, model),
            Step::Join(who, room) => {
                let (request, zone) = (model.request(who), room.name().to_owned());
                self.players[who as usize].send(&Join { request, zone, ..Join::default() });
            }
            Step::Part(who) => {
                self.players[who as usize].send(&Part { request: model.request(who), ..Part::default() });
            }
            Step::Say(who) => self.players[who as usize].send(&Say { number: model.number() }),
            Step::Bye(who) => self.players[who as usize].send(&Bye {}),
            Step::Babble(who) => {
                self.players[who as usize].say_bytes(Lane::Reliable, Bytes::from_static(&[1]))
            }
            step => self.apply_to_game(step, model),
        }
    }

    /// Sends the Hello of a step.
    fn greet(&mut self, step: Step, model: &Reference) {
        let (who, token, resync) = match step {
            Step::Resume(who, Key::Newest) | Step::Ahead(who) => (who, self.token(who, 0), false),
            Step::Resume(who, Key::Older(back)) => (who, self.token(who, usize::from(back)), false),
            Step::Resume(who, Key::Forged) => (who, Bytes::from_static(&[7; 32]), false),
            Step::Resync(who) => (who, self.token(who, 0), true),
            Step::Hello(who) => return self.players[who as usize].hello(),
            other => unreachable!("the step {other:?} sends no Hello"),
        };
        let player = &mut self.players[who as usize];
        if matches!(step, Step::Ahead(_)) {
            let trimmed = (model.client(who).sent() + AHEAD) as u64;
            let resume = Resume { token, received: player.received(), trimmed, resync, ..Resume::default() };
            player.say(&Hello { protocol: wire::PROTOCOL, resume: Some(resume), ..Hello::default() });
        } else {
            player.resume_with(token, resync);
        }
    }

    /// Applies a step of the game.
    fn apply_to_game(&mut self, step: Step, model: &Reference) {
        match step {
            Step::Shout => shout(&mut self.game, model.number()),
            Step::Flood => {
                (model.number() - FLOOD + 1..=model.number())
                    .for_each(|number| shout(&mut self.game, number));
            }
            Step::Put(who, room) => {
                let zone = self.game.zone(room.name()).expect("the zone is open");
                self.command(who, model, |commands, session| commands.join_zone(session, zone));
            }
            Step::Move(who, room) => {
                let zone = self.game.zone(room.name()).expect("the zone is open");
                self.command(who, model, |commands, session| commands.move_zone(session, zone));
            }
            Step::Take(who) => self.command(who, model, |commands, session| commands.part_zone(session)),
            Step::Kick(who) => self.command(who, model, |commands, session| commands.kick(session, "out")),
            Step::Answer(who, yes) => {
                let session = self.ids[&model.live_session(who).expect("the session is live in the model")];
                let request = self.game.resource::<Heeded>().requests[&session].clone();
                self.command(who, model, |commands, _| match yes {
                    true => commands.accept_join(&request),
                    false => commands.refuse_join(&request, "no"),
                });
            }
            Step::Hasten(who) => {
                self.command(who, model, |commands, session| _ = commands.entity(session).insert(Hasty));
            }
            Step::Soothe(who) => {
                let timeout = ResumeTimeout(Duration::from_millis(PATIENCE));
                self.command(who, model, |commands, session| _ = commands.entity(session).insert(timeout));
            }
            Step::Despawn(who) => {
                self.command(who, model, |commands, session| commands.entity(session).despawn());
            }
            Step::Shut(room) => {
                let zone = self.game.zone(room.name()).expect("the zone is open");
                self.act(|commands| commands.close_zone(zone));
            }
            Step::Raze(room) => {
                let zone = self.game.zone(room.name()).expect("the zone is open");
                self.act(|commands| commands.entity(zone).despawn());
            }
            Step::Open(room) => self.open(room),
            Step::Spawn(owner) => {
                let owner = owner.and_then(|who| self.game.entity(self.ids[&model.live_session(who)?]));
                self.agent = Some(self.act(|commands| {
                    let mut agent = commands.spawn_agent("guard");
                    if let Some(owner) = owner {
                        agent.insert(AgentOf(owner));
                    }
                    agent.id()
                }));
            }
            Step::AgentJoin(room) => self.with_agent(|agent| agent.join(room.name(), "")),
            Step::AgentPart => self.with_agent(Agent::part),
            Step::AgentSay => self.with_agent(|agent| agent.call(Say { number: model.number() })),
            Step::AgentEnd => self.with_agent(Agent::end),
            Step::Drain => self.act(|commands| commands.drain(Duration::from_millis(DRAIN))),
            other => unreachable!("the step {other:?} is a step of a client"),
        }
    }

    /// Asserts that the server and the model are in the same state, and had the same events in this step.
    pub(crate) fn compare(&mut self, model: &Reference) {
        self.compare_frames(model);
        self.compare_news(model);
        self.compare_told(model);
        self.compare_sessions(model);
        let heard = self.game.resource::<Heard>().said[self.heard_count..].to_vec();
        self.heard_count += heard.len();
        self.assert_same("what the game received", heard, &model.heard);
    }

    /// Compares the messages that the game, its hooks and its agents received, except the news.
    fn compare_told(&mut self, model: &Reference) {
        let mut heeded = self.game.app.world_mut().resource_mut::<Heeded>();
        let requests = std::mem::take(&mut heeded.requests);
        let told = std::mem::replace(&mut *heeded, Heeded { requests, ..Heeded::default() });
        self.assert_same("asks", told.asks, &model.told.asks);
        self.assert_same("losses for which hooks ran", told.hooked, &model.hooked);
        let mut delivered = told.delivered;
        let mut expected: Vec<(usize, String)> =
            model.told.delivered.iter().map(|(number, down)| (*number, self.expected(down))).collect();
        // Only messages of the same kind have a defined order.
        delivered.sort_by_key(|(_, words)| words.split(' ').next().map(str::to_owned));
        expected.sort_by_key(|(_, words)| words.split(' ').next().map(str::to_owned));
        self.assert_same("what agents were sent", delivered, &expected);
        let refused = told.refused.iter().map(|(entity, error)| (self.commanded[entity], *error));
        let (mut refused, mut expected) = (refused.collect::<Vec<_>>(), model.told.refused.clone());
        refused.sort_by_key(|(number, _)| *number);
        expected.sort_by_key(|(number, _)| *number);
        assert_eq!(refused, expected, "commands that were refused");
        let counts = self.game.resource::<SessionCounts>();
        assert_eq!(
            (counts.late_answer_count, counts.missed_count),
            (model.late_count, model.missed_count),
            "late answers, missed frames"
        );
    }

    /// Compares the values of each session. The order between sessions does not matter.
    fn assert_same<T: Debug + PartialEq + Clone>(
        &self,
        what: &str,
        mut told: Vec<(SessionId, T)>,
        expected: &[(usize, T)],
    ) {
        let mut expected: Vec<(SessionId, T)> =
            expected.iter().map(|(number, value)| (self.ids[number], value.clone())).collect();
        told.sort_by_key(|(session, _)| *session);
        expected.sort_by_key(|(session, _)| *session);
        assert_eq!(told, expected, "{what}");
    }

    fn pass(&mut self, ticks: u16, period: u64, with_clients: bool) {
        for _ in 0..ticks {
            self.game.tick_after(Duration::from_millis(period));
            if with_clients {
                Who::ALL.into_iter().for_each(|who| self.pump(who));
            }
        }
    }

    fn copy(&mut self, from: Who, to: Who) {
        let token = self.token(from, 0);
        self.players[to as usize].reload();
        self.tokens[to as usize] = vec![token];
    }

    fn open(&mut self, room: Room) {
        let zone = Zone::new(room.name()).announces(false);
        self.game.open_zone(match room {
            Room::Hall => zone,
            Room::Den => zone.capacity(1).counts_agents(),
            Room::Pit => zone.capacity(2).hard(),
            Room::Club => zone.capacity(1).asks(),
        });
    }

    fn token(&self, who: Who, back: usize) -> Bytes {
        self.tokens[who as usize].iter().rev().nth(back).expect("the client has the token").clone()
    }

    fn command(&mut self, who: Who, model: &Reference, act: impl FnOnce(&mut Commands, Entity)) {
        // The model has applied the step already, and may have ended the session.
        let number = model.client(who).session().expect("the client has a session in the model");
        let entity = self.game.entity(self.ids[&number]).expect("the session is live");
        self.commanded.insert(entity, number);
        self.act(|commands| act(commands, entity));
    }

    /// Runs commands between two ticks.
    fn act<R>(&mut self, act: impl FnOnce(&mut Commands) -> R) -> R {
        let world = self.game.app.world_mut();
        let result = act(&mut world.commands());
        world.flush();
        result
    }

    fn with_agent(&mut self, act: impl FnOnce(&mut Agent)) {
        let agent = self.agent.expect("the game has spawned an agent");
        let mut agent = self.game.app.world_mut().get_mut::<Agent>(agent).expect("the agent is live");
        act(&mut agent);
    }

    fn pump(&mut self, who: Who) {
        let player = &mut self.players[who as usize];
        player.pump();
        if player.is_welcome() {
            player.say(&Ack { received: player.received() });
        }
        self.take_frames(who);
    }

    /// As [`pump`](Self::pump), but acknowledges one frame less than the client has received.
    fn lag(&mut self, who: Who) {
        let player = &mut self.players[who as usize];
        player.omits = Omitted::Acks;
        player.pump();
        player.omits = Omitted::Never;
        if player.is_welcome() {
            player.say(&Ack { received: player.received().saturating_sub(1) });
        }
        self.take_frames(who);
    }

    /// Reads this many reliable frames that are not an Ack, sends no answers, and drops the link.
    fn cut(&mut self, who: Who, frames: u8) {
        let player = &mut self.players[who as usize];
        player.omits = Omitted::Mute;
        for _ in 0..frames {
            while player.pump_one().is_some_and(|id| id == Ack::ID || id.lane() == Lane::Unreliable) {}
        }
        player.omits = Omitted::Never;
        player.cut();
        self.take_frames(who);
    }

    fn take_frames(&mut self, who: Who) {
        for frame in self.players[who as usize].take_frames() {
            if let Ok(welcome) = frame.decode::<Welcome>() {
                let tokens = &mut self.tokens[who as usize];
                if !welcome.resumed {
                    tokens.clear();
                }
                tokens.push(welcome.token);
            }
            if frame.id != Ack::ID && frame.id.lane() == Lane::Reliable {
                self.seen[who as usize].push(frame);
            }
        }
    }

    /// Asserts that a session of the model has this id in the server. Records the id when the session is new.
    fn same_session(&mut self, number: usize, id: SessionId) {
        assert_eq!(*self.ids.entry(number).or_insert(id), id, "session {number} of the model");
    }

    fn compare_frames(&mut self, model: &Reference) {
        for who in Who::ALL {
            let seen = std::mem::take(&mut self.seen[who as usize]);
            let expected = &model.client(who).seen;
            for (frame, expected) in seen.iter().zip(expected) {
                if let (Ok(welcome), Down::Welcome { session, .. }) = (frame.decode::<Welcome>(), expected) {
                    self.same_session(*session, SessionId(welcome.session));
                }
            }
            let told: Vec<String> = seen.iter().map(shown).collect();
            let expected: Vec<String> = expected.iter().map(|down| self.expected(down)).collect();
            assert_eq!(told, expected, "what {who:?} saw");
        }
    }

    fn compare_news(&mut self, model: &Reference) {
        let told = self.game.news()[self.news_count..].to_vec();
        self.news_count += told.len();
        let told: Vec<(SessionId, News)> =
            told.iter().map(|(_, entry)| (entry.session, entry.news)).collect();
        let new = |news: &News| *news == News::Registered;
        let registered: Vec<SessionId> =
            told.iter().filter(|(_, news)| new(news)).map(|(session, _)| *session).collect();
        let numbers: Vec<usize> =
            model.told.news.iter().filter(|(_, news)| new(news)).map(|(number, _)| *number).collect();
        assert_eq!(registered.len(), numbers.len(), "new sessions");
        for (number, session) in numbers.into_iter().zip(registered) {
            self.same_session(number, session);
        }
        let mut all: BTreeMap<SessionId, [Vec<News>; 2]> = BTreeMap::new();
        for (session, news) in told {
            all.entry(session).or_default()[0].push(news);
        }
        for (number, news) in &model.told.news {
            all.entry(self.ids[number]).or_default()[1].push(*news);
        }
        for (session, [told, expected]) in all {
            assert_eq!(told, expected, "news of {session}");
        }
    }

    fn compare_sessions(&mut self, model: &Reference) {
        let table = self.game.resource::<SessionTable>();
        let live = model.sessions.iter().filter(|session| !session.has_ended).count();
        assert_eq!(
            (table.session_count(), table.token_count()),
            (live, model.token_count()),
            "sessions, tokens"
        );
        for (number, id) in &self.ids {
            let expected = &model.sessions[*number];
            if expected.has_ended {
                assert_eq!(self.game.entity(*id), None, "session {number} has ended");
                continue;
            }
            assert_eq!(self.game.state(*id), model.state(*number), "state of session {number}");
            if expected.is_agent || model.state(*number).is_none() {
                continue;
            }
            let link = expected.link.map(|link| model.key(link));
            assert_eq!(self.link(*id), link, "link of session {number}");
            let told = (self.epoch(*id), self.counts(*id), self.deadline(*id));
            let counts = (expected.received, expected.acked, expected.sent.len());
            assert_eq!(
                told,
                (expected.epoch, counts, expected.expires),
                "epoch, counts and deadline of session {number}"
            );
        }
        // A zone that closes in the next tick is not compared: its name is free, but its members have not parted.
        for room in Room::ALL.into_iter().filter(|room| !model.is_shut(*room)) {
            let zone = self.game.zone(room.name());
            let members = zone.and_then(|zone| self.game.app.world().get::<Members>(zone));
            let told: BTreeSet<Option<SessionId>> = members
                .into_iter()
                .flat_map(Members::entities)
                .map(|entity| self.game.app.world().get::<Session>(entity).map(Session::id))
                .collect();
            let expected: BTreeSet<Option<SessionId>> =
                model.members(room as usize).iter().map(|number| Some(self.ids[number])).collect();
            assert_eq!(told, expected, "members of the {}", room.name());
            assert_eq!(zone.is_some(), model.zones[room as usize].is_some(), "the {}", room.name());
        }
    }

    fn link(&self, id: SessionId) -> Option<(usize, u64)> {
        let LinkKey { proxy, link } = self.game.view(id)?.link?;
        Some((usize::from(proxy.0), link.0))
    }

    fn epoch(&self, id: SessionId) -> u64 {
        self.game.component::<Session>(id).map_or(0, |session| u64::from(session.epoch().0))
    }

    fn counts(&self, id: SessionId) -> (usize, usize, usize) {
        let view = self.game.view(id).expect("the session of the client is live");
        let count = |count: u64| usize::try_from(count).expect("the count fits");
        (count(view.received), count(view.acked), count(view.sent))
    }

    fn deadline(&self, id: SessionId) -> Option<u64> {
        let expires = self.game.component::<ExpiresAt>(id)?;
        u64::try_from(expires.steady().as_millis()).ok()
    }

    /// Returns a frame of the model as text.
    fn expected(&self, down: &Down) -> String {
        let name = |zone: usize| Room::ALL[zone].name();
        match *down {
            Down::Welcome { session, resumed, received, base, resync, zone, .. } => {
                let (id, zone) = (self.ids[&session], zone.map_or("", name));
                format!("Welcome {id} {resumed} {received} {base} {resync} {zone:?}")
            }
            Down::Denied(reason) => format!("Denied {reason:?}"),
            Down::Closed(reason) => format!("Closed {reason:?}"),
            Down::Joined { request, zone, id } => format!("Joined {request} {} {id}", name(zone)),
            Down::Parted { request, zone, reason } => format!("Parted {request} {} {reason:?}", name(zone)),
            Down::Refused { request, reason } => format!("Refused {request} {reason:?}"),
            Down::Echo(number) => format!("Echo {number}"),
            Down::Notice(left) => format!("Notice {left}"),
        }
    }
}
