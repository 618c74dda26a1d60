//! Runs a server with every adapter on a manual clock, and players that connect over any transport.
//!
//! Sockets take real time, which does not move the server's clock. While a test waits for a condition, the clock
//! advances by at most 300 ms, even on a slow machine. [`Stage::pass`] advances the clock by a given time. After
//! each step of it, [`Stage::pass`] waits until the server has received a frame from each player that can send one.

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
use waystation::testing::{Harness, Omitted, Player, Via};
use waystation::tick::TickTime;
use waystation::wire::v1::{Ack, Joined, Probe, ProbeReply, Reason, Welcome};
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
    /// Players that do no I/O, as if their machines were off.
    asleep: BTreeSet<Who>,
}

/// The index of a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who(usize);

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(ServerConfig::default())
    }

    /// Creates a stage with more zones than the harness opens: `plaza`, `pit`, which is hard, `attic`, `closet`, which
    /// has room for one member, `club`, which asks the game, and `ring`, which is hard.
    pub(crate) fn with(mut config: ServerConfig) -> Self {
        config.gate.exempt_loopback = true;
        let mut game = game_with_club_and(config);
        game.open_zone(Zone::new("closet").capacity(1));
        game.open_zone(Zone::new("plaza").capacity(64));
        game.open_zone(Zone::new("pit").capacity(64).hard());
        Self { game, adapters: Adapters::default(), players: Vec::new(), asleep: BTreeSet::new() }
    }

    /// Adds a player that has an open link and has sent nothing.
    pub(crate) fn stranger(&mut self, over: Way) -> Who {
        self.players.push(Player::new());
        let who = Who(self.players.len() - 1);
        self.connect(who, over);
        who
    }

    /// Adds the first player, as [`Self::stranger`], and waits until the server has its link: its deadlines begin then.
    pub(crate) fn first_stranger(&mut self, over: Way) -> Who {
        let who = self.stranger(over);
        self.until("the server has the link", |stage| {
            stage.game.resource::<Proxies>().link_counts().iter().any(|(_, count)| *count > 0)
        });
        who
    }

    /// Adds a player in a zone. Its link can break the rules of the transport, as [`Offence`](super::crooked::Offence).
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

    /// Adds a player with a session.
    pub(crate) fn player(&mut self, over: Way) -> Who {
        let who = self.stranger(over);
        self[who].hello();
        self.until_saw::<Welcome>(who);
        who
    }

    /// Adds a player in a zone.
    pub(crate) fn member(&mut self, over: Way, zone: &str) -> Who {
        let who = self.player(over);
        self.join(who, zone);
        who
    }

    pub(crate) fn join(&mut self, who: Who, zone: &str) -> Joined {
        self[who].join(zone, "");
        self.until_saw::<Joined>(who)
    }

    /// Opens a new link for a player. Drops the old link without reading it.
    pub(crate) fn connect(&mut self, who: Who, over: Way) {
        self.asleep.remove(&who);
        let Self { game, adapters, players, .. } = self;
        adapters.connect(game, &mut players[who.0], over);
        self.until("the link is open", |stage| stage[who].is_linked());
    }

    /// Opens a new link, over which the player resumes its session.
    pub(crate) fn resume(&mut self, who: Who, over: Way) -> Welcome {
        self.connect(who, over);
        self[who].resume();
        self.until_saw::<Welcome>(who)
    }

    /// Moves the player's present link into a new player, so that a test can still use the link. Returns that player.
    pub(crate) fn leave_behind(&mut self, who: Who) -> Who {
        let former = self[who].leave_behind();
        self.players.push(former);
        Who(self.players.len() - 1)
    }

    /// Closes the link, and waits until the server has removed it from the session.
    pub(crate) fn lose_link(&mut self, who: Who) {
        let session = self[who].session();
        self[who].close();
        self.until("the link is lost", |stage| {
            !matches!(stage.game.state(session), Some(SessionState::Active | SessionState::Connected))
        });
    }

    /// Sends a Probe and waits for the reply. Link control that was sent before, for example an Ack, has then arrived.
    #[track_caller]
    pub(crate) fn confirm(&mut self, who: Who) {
        self[who].say(&Probe { topic: "any".to_owned(), ..Probe::default() });
        self.until_saw::<ProbeReply>(who);
    }

    /// Stops the I/O of a player until [`Self::switch_on`], or until the player opens a new link.
    pub(crate) fn switch_off(&mut self, who: Who) {
        self.asleep.insert(who);
    }

    /// Continues the I/O of a player on the link that it had.
    pub(crate) fn switch_on(&mut self, who: Who) {
        self.asleep.remove(&who);
    }

    /// Ticks once. The clock advances by [`TURN`].
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

    /// Ticks until `so` returns true. Panics with `what` after [`WATCHDOG`].
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let begun = now();
        for turn in 0_u32.. {
            // On a busy machine, a wait has many turns. The sum of their steps must not reach a deadline of the server.
            self.tick_after(if turn < CREEP_TURNS { TURN } else { CRAWL });
            if so(self) {
                return;
            }
            assert!(begun.elapsed() < WATCHDOG, "this did not happen in time: {what}");
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
        self[who].closed().expect("a Closed was received")
    }

    /// Sends a `Say` and waits for its `Echo`. Calls that were sent before have then arrived. Returns the numbers of
    /// all `Echo` messages received meanwhile.
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

    /// Broadcasts a message of the game to a zone in the next tick.
    pub(crate) fn broadcast<M: WireMessage>(&mut self, zone: &str, message: &M) {
        let zone = self.game.zone(zone).expect("no zone has this name");
        let world = self.game.app.world_mut();
        world.run_system_once_with(broadcast::<M>, (zone, message.clone())).expect("the system runs");
    }

    /// Runs commands of the game between two ticks.
    pub(crate) fn command(&mut self, command: impl FnOnce(&mut Commands)) {
        crate::support::command(&mut self.game, command);
    }

    /// Advances the server's clock. After each step, each player that has a session, does I/O and is not mute sends
    /// an Ack, and the server receives it.
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

    /// Advances the server's clock until `so` returns true. Panics with `what` after `ms` milliseconds.
    #[track_caller]
    pub(crate) fn pass_until(&mut self, what: &str, ms: u64, mut so: impl FnMut(&Self) -> bool) {
        let end = self.game.now() + Duration::from_millis(ms);
        while !so(self) {
            assert!(self.game.now() < end, "this did not happen within {ms} ms: {what}");
            self.pass(250);
        }
    }

    fn hear_of(&mut self, who: Who, since: Duration) {
        let player = &mut self.players[who.0];
        if self.asleep.contains(&who) || !player.is_welcome() || player.omits == Omitted::Mute {
            return;
        }
        let session = player.session();
        let received = if player.omits == Omitted::Acks { 0 } else { player.received() };
        player.say(&Ack { received });
        self.until("the server receives the Ack of a player", |stage| {
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
    /// Closes all links and waits until the adapters and the tick have removed them.
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        self.players.iter_mut().for_each(Player::close);
        self.until("the adapters and the tick remove all links", |stage| {
            // A loopback carries out commands only when one of its links is used.
            for via in [Via::Alpha, Via::Beta] {
                stage.game.link(via).close();
            }
            // An adapter waits at most this long for frames in flight on a closing link.
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

/// The step of the server's clock in each turn of a wait. It is short, so that a wait reaches no deadline.
const TURN: Duration = Duration::from_micros(500);
/// The number of turns of a wait with a step of [`TURN`]: 200 ms in all. Transports retransmit in this time.
const CREEP_TURNS: u32 = 400;
/// The step of the server's clock in each later turn of a wait: at most 100 ms in all before a wait fails.
const CRAWL: Duration = Duration::from_micros(3);
/// The time by which the players' links advance in a turn.
const SOCKET_STEP: Duration = Duration::from_millis(5);
/// The sleep in each turn, in which the adapters' threads can run.
const PAUSE: Duration = Duration::from_millis(1);
/// The most by which the steady clock advances in one tick.
const STEP_MAX: Duration = TickTime::STEADY_STEP_MAX;
