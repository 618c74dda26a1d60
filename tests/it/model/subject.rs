//! The server itself, driven step by step beside its model and compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bevy_ecs::prelude::*;
use bytes::Bytes;
use waystation::arena::v1::{Echo, Say};
use waystation::ident::{LinkKey, SessionId};
use waystation::session::{ExpiresAt, Session, SessionTable};
use waystation::testing::News;
use waystation::testing::{Faults, Hang, Harness, Player, Via};
use waystation::wire::v1::{Ack, Bye, Closed, Denied, Join, Joined, Part, Parted, Refused, Welcome};
use waystation::wire::{Frame, Lane, WireMessage as _};
use waystation::zone::{Members, MembershipCommands as _, Zone};

use super::reference::{DEAF_TICKS, Down, LONG_PERIOD, PERIOD, Reference};
use super::steps::{Key, Room, Step, Who};
use crate::support::{Heard, game, shout};

/// The server, and clients that do what the model's do.
pub(crate) struct Subject {
    game: Harness,
    players: Vec<Player>,
    /// The tokens of each client, as the model numbers them.
    tokens: Vec<Vec<Bytes>>,
    /// The sessions, as the model numbers them.
    ids: BTreeMap<usize, SessionId>,
    news_count: usize,
    heard_count: usize,
    /// Frames that each client took in this step.
    seen: Vec<Vec<Frame>>,
}

impl Subject {
    pub(crate) fn new() -> Self {
        let mut game = game();
        for name in ["hall", "attic"] {
            let zone = game.zone(name).expect("support opens it");
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
            news_count: 0,
            heard_count: 0,
            seen: vec![Vec::new(); Who::ALL.len()],
        };
        Room::ALL.into_iter().for_each(|room| subject.open(room));
        subject
    }

    /// What the model has done already.
    pub(crate) fn apply(&mut self, step: Step, model: &Reference) {
        match step {
            Step::Tick(count) => self.pass(count, PERIOD, false),
            Step::Play(count) => self.pass(count, PERIOD, true),
            Step::Wait(count) => self.pass(count, LONG_PERIOD, false),
            Step::Rest(count) => self.pass(count, LONG_PERIOD, true),
            Step::Pump(who) => self.pump(who),
            Step::Connect(who, beta) => {
                let via = if beta { Via::Beta } else { Via::Alpha };
                self.players[who as usize].connect(&self.game, via);
            }
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
            Step::Hello(who) => self.players[who as usize].hello(),
            Step::Resume(who, key) => {
                let token = match key {
                    Key::Newest => self.token(who, 0),
                    Key::Older(back) => self.token(who, usize::from(back)),
                    Key::Forged => Bytes::from_static(&[7; 32]),
                };
                self.players[who as usize].resume_with(token, false);
            }
            Step::Resync(who) => {
                let token = self.token(who, 0);
                self.players[who as usize].resume_with(token, true);
            }
            Step::Join(who, room) => {
                let zone = room.name().to_owned();
                self.players[who as usize].send(&Join {
                    request: model.request(who),
                    zone,
                    ..Join::default()
                });
            }
            Step::Part(who) => {
                self.players[who as usize].send(&Part { request: model.request(who), ..Part::default() });
            }
            Step::Say(who) => self.players[who as usize].send(&Say { number: model.number() }),
            Step::Bye(who) => self.players[who as usize].send(&Bye {}),
            Step::Babble(who) => {
                self.players[who as usize].say_bytes(Lane::Reliable, Bytes::from_static(&[1]))
            }
            Step::Shout => shout(&mut self.game, model.number()),
            Step::Put(who, room) => {
                let zone = self.game.zone(room.name()).expect("an open zone");
                self.command(who, model, |commands, session| commands.join_zone(session, zone));
            }
            Step::Take(who) => self.command(who, model, |commands, session| commands.part_zone(session)),
            Step::Kick(who) => self.command(who, model, |commands, session| commands.kick(session, "out")),
            Step::Shut(room) => {
                let zone = self.game.zone(room.name()).expect("an open zone");
                let world = self.game.app.world_mut();
                world.commands().close_zone(zone);
                world.flush();
            }
            Step::Raze(room) => {
                let zone = self.game.zone(room.name()).expect("an open zone");
                self.game.app.world_mut().despawn(zone);
            }
            Step::Open(room) => self.open(room),
        }
    }

    /// The model and the server are alike.
    pub(crate) fn compare(&mut self, model: &Reference) {
        self.compare_frames(model);
        self.compare_news(model);
        self.compare_sessions(model);
        let heard = &self.game.resource::<Heard>().said[self.heard_count..];
        let expected: Vec<(SessionId, u64)> =
            model.heard.iter().map(|(session, number)| (self.ids[session], *number)).collect();
        let by_session = |of: &[(SessionId, u64)]| {
            let mut all = of.to_vec();
            all.sort_by_key(|(session, _)| *session);
            all
        };
        assert_eq!(by_session(heard), by_session(&expected), "what the game heard");
        self.heard_count += heard.len();
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
            Room::Den => zone.capacity(1),
            Room::Pit => zone.capacity(2).hard(),
        });
    }

    fn token(&self, who: Who, back: usize) -> Bytes {
        self.tokens[who as usize].iter().rev().nth(back).expect("the model has it too").clone()
    }

    fn command(&mut self, who: Who, model: &Reference, act: impl FnOnce(&mut Commands, Entity)) {
        let session = self.ids[&model.live_session(who).expect("it lives in the model")];
        let entity = self.game.entity(session).expect("it lives");
        let world = self.game.app.world_mut();
        act(&mut world.commands(), entity);
        world.flush();
    }

    fn pump(&mut self, who: Who) {
        let player = &mut self.players[who as usize];
        player.pump();
        if player.is_welcome() {
            player.say(&Ack { received: player.received() });
        }
        self.take_frames(who);
    }

    /// Reads so many frames that are not link control, answers none, and drops the link.
    fn cut(&mut self, who: Who, frames: u8) {
        let player = &mut self.players[who as usize];
        player.hang = Hang::Mute;
        for _ in 0..frames {
            while player.pump_one().is_some_and(|id| id == Ack::ID || id.lane() == Lane::Unreliable) {}
        }
        player.hang = Hang::Never;
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

    /// Both name a session.
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
            let told: Vec<String> = seen.iter().map(|frame| self.shown(frame)).collect();
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
            model.news.iter().filter(|(_, news)| new(news)).map(|(number, _)| *number).collect();
        assert_eq!(registered.len(), numbers.len(), "new sessions");
        for (number, session) in numbers.into_iter().zip(registered) {
            self.same_session(number, session);
        }
        let mut all: BTreeMap<SessionId, [Vec<News>; 2]> = BTreeMap::new();
        for (session, news) in told {
            all.entry(session).or_default()[0].push(news);
        }
        for (number, news) in &model.news {
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
            assert_eq!(self.game.state(*id), Some(model.state(*number)), "state of session {number}");
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
        // Of one that is about to close the name is free already; its members part with the next tick.
        for room in Room::ALL.into_iter().filter(|room| !model.shut.contains(&(*room as usize))) {
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
        let view = self.game.view(id).expect("a client's session");
        let count = |count: u64| usize::try_from(count).expect("a small number");
        (count(view.received), count(view.acked), count(view.sent))
    }

    fn deadline(&self, id: SessionId) -> Option<u64> {
        let expires = self.game.component::<ExpiresAt>(id)?;
        u64::try_from(expires.steady().as_millis()).ok()
    }

    /// A frame as a client saw it, in words.
    fn shown(&self, frame: &Frame) -> String {
        if let Ok(Welcome { session, resumed, received, base, resync, zone, .. }) = frame.decode() {
            format!("Welcome {} {resumed} {received} {base} {resync} {zone:?}", SessionId(session))
        } else if let Ok(denied) = frame.decode::<Denied>() {
            format!("Denied {:?}", denied.reason())
        } else if let Ok(closed) = frame.decode::<Closed>() {
            format!("Closed {:?}", closed.reason())
        } else if let Ok(Joined { request, zone, zone_id, .. }) = frame.decode() {
            format!("Joined {request} {zone} {zone_id}")
        } else if let Ok(parted) = frame.decode::<Parted>() {
            format!("Parted {} {} {:?}", parted.request, parted.zone, parted.reason())
        } else if let Ok(refused) = frame.decode::<Refused>() {
            format!("Refused {} {:?}", refused.request, refused.reason())
        } else if let Ok(Echo { number, .. }) = frame.decode() {
            format!("Echo {number}")
        } else {
            format!("{frame:?}")
        }
    }

    /// The same of the model.
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
        }
    }
}
