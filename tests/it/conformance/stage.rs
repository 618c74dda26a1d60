//! A server with every adapter, on a clock that only the test moves, and players who come over any
//! transport.
//!
//! Sockets take real time, of which the server knows nothing: while a test waits for something to
//! arrive, the server's clock creeps, by 300 ms at most however slow the machine is. It moves on by what a test
//! says only with [`Stage::pass`], which waits until the server has heard of everybody again.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};
use std::thread;
use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce as _;
use waystation::arena::v1::Say;
use waystation::config::ServerConfig;
use waystation::ident::SessionId;
use waystation::proxy::Proxies;
use waystation::rpc::Sender;
use waystation::session::SessionState;
use waystation::testing::{Hang, Harness, Player, Via};
use waystation::tick::TickTime;
use waystation::wire::v1::{Ack, Join, Joined, Probe, ProbeReply, Reason, Welcome};
use waystation::wire::{self, WireMessage};
use waystation::zone::Zone;

use super::transports::{Adapters, Way};
use crate::stage::{WATCHDOG, has_links, now};
use crate::support::{echoes, game_with_club_and};

/// The server and its players.
pub(crate) struct Stage {
    pub(crate) game: Harness,
    adapters: Adapters,
    players: Vec<Player>,
    /// Players whose links nobody serves, as if their machines were off.
    asleep: BTreeSet<Who>,
}

/// One of the players.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who(usize);

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(ServerConfig::default())
    }

    /// Has the zones `plaza` and `pit`, which announce, and the latter is hard, `attic`, `closet` for one, and `club`, which asks.
    pub(crate) fn with(mut config: ServerConfig) -> Self {
        config.gate.exempt_loopback = true;
        let mut game = game_with_club_and(config);
        game.open_zone(Zone::new("closet").capacity(1));
        game.open_zone(Zone::new("plaza").capacity(64));
        game.open_zone(Zone::new("pit").capacity(64).hard());
        Self { game, adapters: Adapters::default(), players: Vec::new(), asleep: BTreeSet::new() }
    }

    /// A player with a link, who has sent nothing.
    pub(crate) fn stranger(&mut self, over: Way) -> Who {
        self.players.push(Player::new());
        let who = Who(self.players.len() - 1);
        self.connect(who, over);
        who
    }

    /// The first player, who has sent nothing, with a link that the server knows: its deadlines begin now.
    pub(crate) fn first_stranger(&mut self, over: Way) -> Who {
        let who = self.stranger(over);
        self.until("the server has the link", |stage| {
            stage.game.resource::<Proxies>().link_counts().iter().any(|(_, count)| *count > 0)
        });
        who
    }

    /// A player in a zone, whose link can be told to break the transport's rules.
    pub(crate) fn crooked_member(&mut self, over: Way, zone: &str) -> Who {
        self.players.push(Player::new());
        let who = Who(self.players.len() - 1);
        let Self { game, adapters, players, .. } = self;
        adapters.connect_crooked(game, &mut players[who.0], over);
        self.until("the link is open", |stage| stage[who].is_linked());
        self[who].hello();
        self.until_saw::<Welcome>(who);
        self.join(who, zone);
        who
    }

    /// A player with a session.
    pub(crate) fn player(&mut self, over: Way) -> Who {
        let who = self.stranger(over);
        self[who].hello();
        self.until_saw::<Welcome>(who);
        who
    }

    /// A player in a zone.
    pub(crate) fn member(&mut self, over: Way, zone: &str) -> Who {
        let who = self.player(over);
        self.join(who, zone);
        who
    }

    pub(crate) fn join(&mut self, who: Who, zone: &str) -> Joined {
        self[who].send(&Join { request: 1, zone: zone.to_owned(), ..Join::default() });
        self.until_saw::<Joined>(who)
    }

    /// A new link for a player; the old one is dropped unread.
    pub(crate) fn connect(&mut self, who: Who, over: Way) {
        self.asleep.remove(&who);
        let Self { game, adapters, players, .. } = self;
        adapters.connect(game, &mut players[who.0], over);
        self.until("the link is open", |stage| stage[who].is_linked());
    }

    /// A new link, over which the player resumes its session.
    pub(crate) fn resume(&mut self, who: Who, over: Way) -> Welcome {
        self.connect(who, over);
        self[who].resume();
        self.until_saw::<Welcome>(who)
    }

    /// What the player was, with its link, for a test of what becomes of that.
    pub(crate) fn leave_behind(&mut self, who: Who) -> Who {
        let former = self[who].leave_behind();
        self.players.push(former);
        Who(self.players.len() - 1)
    }

    /// Closes the link, and waits until the server has heard of it.
    pub(crate) fn lose_link(&mut self, who: Who) {
        let session = self[who].session();
        self[who].close();
        self.until("the link is lost", |stage| {
            !matches!(stage.game.state(session), Some(SessionState::Active | SessionState::Connected))
        });
    }

    /// A Probe and its reply: what was sent of link control before has arrived, an Ack for one.
    #[track_caller]
    pub(crate) fn confirm(&mut self, who: Who) {
        self[who].say(&Probe { topic: "any".to_owned(), ..Probe::default() });
        self.until_saw::<ProbeReply>(who);
    }

    /// The player's machine is off from now on, until it connects anew.
    pub(crate) fn switch_off(&mut self, who: Who) {
        self.asleep.insert(who);
    }

    /// It is on again, with the link that it had.
    pub(crate) fn switch_on(&mut self, who: Who) {
        self.asleep.remove(&who);
    }

    /// A tick, in which next to no time passes.
    pub(crate) fn turn(&mut self) {
        self.tick_after(TURN);
    }

    fn tick_after(&mut self, time: Duration) {
        self.game.tick_after(time);
        for (index, player) in self.players.iter_mut().enumerate() {
            if !self.asleep.contains(&Who(index)) {
                player.step(SOCKET_STEP);
                player.pump();
                player.step(Duration::ZERO);
            }
        }
    }

    /// Ticks until it is so, or fails. How long it takes says nothing.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let begun = now();
        for turn in 0_u32.. {
            // On a machine that is busy with other things, a wait has many turns. Its time must not add up to a
            // deadline of the server's.
            self.tick_after(if turn < CREEP_TURNS { TURN } else { CRAWL });
            if so(self) {
                return;
            }
            assert!(begun.elapsed() < WATCHDOG, "never: {what}");
            if self.adapters.have_sockets() {
                thread::sleep(PAUSE);
            }
        }
    }

    /// Waits for a message and takes it.
    #[track_caller]
    pub(crate) fn until_saw<M: WireMessage>(&mut self, who: Who) -> M {
        self.until(M::NAME, |stage| stage[who].ids().contains(&M::ID));
        self[who].expect()
    }

    /// Waits for the Closed of a player's link, and for the link's end.
    #[track_caller]
    pub(crate) fn until_closed(&mut self, who: Who) -> Reason {
        self.until("a Closed", |stage| stage[who].closed().is_some());
        self.until("the link's end", |stage| stage[who].is_cut_off());
        self[who].closed().expect("it was")
    }

    /// A call and its answer: all that was sent before has arrived. The echoes that came meanwhile.
    #[track_caller]
    pub(crate) fn echo(&mut self, who: Who, number: u64) -> Vec<u64> {
        self[who].send(&Say { number });
        let mut seen = Vec::new();
        self.until("an Echo", |stage| {
            seen.extend(echoes(&mut stage[who]));
            seen.contains(&number)
        });
        seen
    }

    /// The game broadcasts to a zone in the next tick.
    pub(crate) fn broadcast<M: WireMessage>(&mut self, zone: &str, message: &M) {
        let zone = self.game.zone(zone).expect("the zone");
        let world = self.game.app.world_mut();
        world.run_system_once_with(broadcast::<M>, (zone, message.clone())).expect("the system runs");
    }

    /// The game commands something between two ticks.
    pub(crate) fn command(&mut self, command: impl FnOnce(&mut Commands)) {
        crate::support::command(&mut self.game, command);
    }

    /// Lets time pass for the server. It hears of everybody who is there and not mute all along.
    #[track_caller]
    pub(crate) fn pass(&mut self, ms: u64) {
        let mut left = Duration::from_millis(ms);
        while left > Duration::ZERO {
            let step = left.min(STEP_MAX);
            left -= step;
            self.tick_after(step);
            let now = self.game.resource::<TickTime>().steady();
            for who in (0..self.players.len()).map(Who) {
                self.hear_of(who, now);
            }
        }
    }

    /// Lets time pass until it is so, or fails after so much of it.
    #[track_caller]
    pub(crate) fn pass_until(&mut self, what: &str, ms: u64, mut so: impl FnMut(&Self) -> bool) {
        let end = self.game.now() + Duration::from_millis(ms);
        while !so(self) {
            assert!(self.game.now() < end, "not within {ms} ms: {what}");
            self.pass(250);
        }
    }

    fn hear_of(&mut self, who: Who, since: Duration) {
        let player = &mut self.players[who.0];
        if self.asleep.contains(&who) || !player.is_welcome() || player.hang == Hang::Mute {
            return;
        }
        let session = player.session();
        let received = if player.hang == Hang::Acks { 0 } else { player.received() };
        player.say(&Ack { received });
        self.until("the server hears of a player", |stage| {
            stage[who].closed().is_some()
                || stage[who].is_cut_off()
                || stage.heard(session).is_none_or(|heard| heard >= since)
        });
    }

    fn heard(&self, session: SessionId) -> Option<Duration> {
        self.game.view(session)?.heard
    }
}

fn broadcast<M: WireMessage>(In((zone, message)): In<(Entity, M)>, mut sender: Sender) {
    sender.broadcast(zone, &message);
}

impl Drop for Stage {
    /// All links are let go, and nothing is left of them: none in an adapter, and none in the tick.
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        self.players.iter_mut().for_each(Player::close);
        self.until("nothing is left of the links", |stage| {
            // A loopback carries out commands when one of its links is used.
            for via in [Via::Alpha, Via::Beta] {
                stage.game.link(via).close();
            }
            // However long an adapter waits for what is under way on a link, its time is up.
            stage.tick_after(wire::CLOSE_TIMEOUT);
            !stage.adapters.have_links() && !has_links(&stage.game.app)
        });
    }
}

impl Index<Who> for Stage {
    type Output = Player;

    fn index(&self, who: Who) -> &Player {
        &self.players[who.0]
    }
}

impl IndexMut<Who> for Stage {
    fn index_mut(&mut self, who: Who) -> &mut Player {
        &mut self.players[who.0]
    }
}

/// What passes for the server while a test waits: little, so that no deadline is met by waiting.
const TURN: Duration = Duration::from_micros(500);
/// The turns of a wait in which so much passes: 200 ms in all, in which transports send again what was lost.
const CREEP_TURNS: u32 = 400;
/// What passes in each turn after these: 100 ms at most until a wait is given up.
const CRAWL: Duration = Duration::from_micros(3);
/// What passes for the players' sockets in a turn.
const SOCKET_STEP: Duration = Duration::from_millis(5);
/// How long a turn leaves the machine to the adapters' threads.
const PAUSE: Duration = Duration::from_millis(1);
/// The most that the server's timers take in one tick.
const STEP_MAX: Duration = TickTime::STEADY_STEP_MAX;
