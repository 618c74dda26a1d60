//! Models the server in plain Rust: its state, and the steps of clients and of the game.

use std::fmt;

use waystation::session::{LossCause, SessionState};
use waystation::testing::News;
use waystation::zone::MembershipError;

use super::parts::{Asking, Change, Client, Down, Event, Link, Session, Up, Zone};
use super::steps::{Key, Room, Step, Who};

pub(crate) const ZONES: usize = 4;
/// The length of a short tick, in milliseconds.
pub(crate) const PERIOD: u64 = 50;
/// The length of a long tick, in milliseconds. The steady clock still advances by all of it.
pub(crate) const LONG_PERIOD: u64 = 200;
/// The length of a stall, in milliseconds: longer than any timeout.
pub(crate) const STALL: u64 = 20_000;
/// The number of long ticks in a third of the steps `Deaf` and `Busy`. The three thirds last longer than the limit
/// for unacknowledged frames.
pub(crate) const DEAF_TICKS: u16 = 18;
/// The number of frames that the client reports as trimmed in the step `Ahead` although it never sent them.
pub(crate) const AHEAD: usize = 3;
/// The number of broadcasts in the step `Flood`. Two floods exceed an outbox.
pub(crate) const FLOOD: u64 = 11;
/// The length of the drain, in milliseconds.
pub(crate) const DRAIN: u64 = 4_000;
/// The resume timeout of a hasty session, in milliseconds.
pub(crate) const HASTE: u64 = 1_000;
/// The resume timeout of a session after the step `Soothe`, in milliseconds.
pub(crate) const PATIENCE: u64 = 9_000;
/// A token that the server never issued.
pub(crate) const FORGED: usize = usize::MAX;

/// A server and its clients, as `docs/sessions.md` defines them.
#[derive(Clone, Default)]
pub(crate) struct Reference {
    /// The steady clock, in milliseconds. It advances by at most 250 ms in a tick.
    pub(crate) now: u64,
    /// The clock of the server, in milliseconds. It advances by the full length of each tick.
    pub(super) clock: u64,
    pub(super) clients: Vec<Client>,
    pub(super) links: Vec<Link>,
    pub(super) ports: [Vec<Event>; 2],
    /// True for each adapter that takes no commands.
    pub(super) jammed: [bool; 2],
    pub(crate) sessions: Vec<Session>,
    pub(crate) zones: [Option<Zone>; ZONES],
    pub(super) opened_count: u64,
    pub(super) shut: Vec<usize>,
    /// The ids of zones that have closed and still have asks to cancel.
    pub(super) razed: Vec<u64>,
    /// The sessions of closed zones that have not parted yet, each with its zone and the zone's id.
    pub(super) orphans: Vec<(usize, usize, u64)>,
    pub(super) changes: Vec<(u64, usize, Change)>,
    pub(super) arrived: u64,
    pub(super) tokens_issued: usize,
    pub(super) asks_opened: u64,
    pub(super) shouts: Vec<u64>,
    numbers: u64,
    /// The time on `clock` at which all sessions end. `None` before the drain.
    pub(super) drain: Option<u64>,
    /// True once guests were sent Closed(SHUTDOWN) after the deadline of the drain.
    pub(super) has_dismissed: bool,
    /// The messages that the game receives when the next tick begins.
    pub(super) next: Told,
    /// The messages that the game received in this step.
    pub(crate) told: Told,
    /// The numbers of the calls that the game received in this step, each with its session.
    pub(crate) heard: Vec<(usize, u64)>,
    /// The losses of links for which hooks of sessions ran in this step.
    pub(crate) hooked: Vec<(usize, LossCause)>,
    /// The number of answers to asks that had ended, since the start.
    pub(crate) late_count: u64,
    /// The number of frames of clients that were lost, since the start.
    pub(crate) missed_count: u64,
    /// Other rare events of this step.
    pub(super) notes: Vec<&'static str>,
}

/// The messages that the game receives, each with its session.
#[derive(Clone, Default)]
pub(crate) struct Told {
    pub(crate) news: Vec<(usize, News)>,
    pub(crate) asks: Vec<(usize, Asking)>,
    pub(crate) refused: Vec<(usize, MembershipError)>,
    /// The messages that agents received.
    pub(crate) delivered: Vec<(usize, Down)>,
}

impl Told {
    pub(super) fn append(&mut self, next: &mut Self) {
        self.news.append(&mut next.news);
        self.asks.append(&mut next.asks);
        self.refused.append(&mut next.refused);
        self.delivered.append(&mut next.delivered);
    }
}

impl Reference {
    pub(crate) fn new() -> Self {
        // The ids of zones begin at 3: the harness and `support` have opened two zones.
        let clients = vec![Client::default(); Who::ALL.len()];
        let mut new = Self { clients, opened_count: 2, ..Self::default() };
        Room::ALL.into_iter().for_each(|room| new.open(room as usize));
        new
    }

    pub(crate) fn client(&self, who: Who) -> &Client {
        &self.clients[who as usize]
    }

    /// Returns the session of a client, if the session is live.
    pub(crate) fn live_session(&self, who: Who) -> Option<usize> {
        self.client(who).session.filter(|session| self.sessions[*session].is_there())
    }

    /// Returns the agent, if there is one.
    pub(crate) fn agent(&self) -> Option<usize> {
        self.sessions.iter().position(|session| session.is_agent && session.is_there())
    }

    /// Returns the last ask of a client's session that the game received.
    pub(crate) fn ask(&self, who: Who) -> Option<u64> {
        self.sessions[self.live_session(who)?].told_ask
    }

    /// Returns the state of a session, or `None` if the session has ended or the game has despawned it.
    pub(crate) fn state(&self, session: usize) -> Option<SessionState> {
        // A session in a closed zone parts when the next tick settles. Its state is Active until then.
        let was_inside = self.orphans.iter().any(|(orphan, ..)| *orphan == session);
        let session = &self.sessions[session];
        session.is_there().then_some(match (session.is_linked(), session.zone) {
            (false, _) => SessionState::Disconnected,
            (true, None) if !was_inside => SessionState::Connected,
            _ => SessionState::Active,
        })
    }

    /// Returns the number of tokens that resume a session.
    pub(crate) fn token_count(&self) -> usize {
        let live = self.sessions.iter().filter(|session| !session.has_ended && !session.is_agent);
        live.map(|session| 1 + usize::from(session.presented.is_some())).sum()
    }

    pub(crate) fn has_zone(&self, room: Room) -> bool {
        self.zones[room as usize].is_some() && !self.is_shut(room)
    }

    /// Returns true if the zone closes in the next tick. Its name is free, and its members part in that tick.
    pub(crate) fn is_shut(&self, room: Room) -> bool {
        self.shut.contains(&(room as usize))
    }

    pub(crate) fn is_jammed(&self, beta: bool) -> bool {
        self.jammed[usize::from(beta)]
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Returns the proxy of a link, and the link's number there.
    pub(crate) fn key(&self, link: usize) -> (usize, u64) {
        self.links[link].key
    }

    /// Returns the number of the last call or broadcast.
    pub(crate) fn number(&self) -> u64 {
        self.numbers
    }

    /// Returns the number of a client's last request.
    pub(crate) fn request(&self, who: Who) -> u32 {
        self.client(who).requests
    }

    /// Returns the events of this step as text, without the names of sessions and zones.
    pub(crate) fn happened(&self) -> Vec<String> {
        let words = |down: &Down| match down {
            Down::Welcome { resumed, resync, .. } => format!("Welcome {resumed} {resync}"),
            Down::Joined { request, .. } => format!("Joined {}", *request > 0),
            Down::Parted { reason, .. } => format!("Parted {reason:?}"),
            Down::Refused { reason, .. } => format!("Refused {reason:?}"),
            Down::Echo(_) => "Echo".to_owned(),
            Down::Notice(_) => "Notice".to_owned(),
            other => format!("{other:?}"),
        };
        let seen = self.clients.iter().flat_map(|client| &client.seen).map(words);
        let told = self.told.news.iter().map(|(_, news)| match news {
            News::Joined(_) => "ZoneJoined".to_owned(),
            News::Parted(_, reason) => format!("ZoneParted {reason:?}"),
            News::MemberDisconnected(_) => "MemberDisconnected".to_owned(),
            News::MemberResumed(_) => "MemberResumed".to_owned(),
            News::Closed(cause) => format!("SessionClosed {cause:?}"),
            other => format!("{other:?}"),
        });
        let asks = self.told.asks.iter().map(|(_, asking)| match asking {
            Asking::Requested(_) => "Ask".to_owned(),
            Asking::Cancelled(reason) => format!("Ask {reason:?}"),
        });
        let refused = self.told.refused.iter().map(|(_, error)| format!("Command {error:?}"));
        let hooked = self.hooked.iter().map(|(_, cause)| format!("Hook {cause:?}"));
        let agents = self.told.delivered.iter().map(|(_, down)| format!("Agent: {}", words(down)));
        let notes = self.notes.iter().map(|note| (*note).to_owned());
        seen.chain(told).chain(asks).chain(refused).chain(hooked).chain(agents).chain(notes).collect()
    }

    pub(crate) fn apply(&mut self, step: Step) {
        self.told = Told::default();
        self.heard.clear();
        self.hooked.clear();
        self.notes.clear();
        self.clients.iter_mut().for_each(|client| client.seen.clear());
        match step {
            Step::Tick(count) => self.pass(count, PERIOD, false),
            Step::Play(count) => self.pass(count, PERIOD, true),
            Step::Wait(count) => self.pass(count, LONG_PERIOD, false),
            Step::Rest(count) => self.pass(count, LONG_PERIOD, true),
            Step::Stall => self.tick(STALL),
            Step::Jam(beta) => self.jammed[usize::from(beta)] = true,
            Step::Free(beta) => self.free(usize::from(beta)),
            Step::Drain => self.begin_drain(),
            Step::Shout => self.shout(1),
            Step::Flood => self.shout(FLOOD),
            Step::Shut(room) => self.shut.push(room as usize),
            Step::Raze(room) => self.raze(room as usize),
            Step::Open(room) => self.open(room as usize),
            Step::Spawn(owner) => self.spawn(owner),
            Step::AgentJoin(room) => self.agent_sends(Up::Join(0, room as usize)),
            Step::AgentPart => self.agent_sends(Up::Part(0)),
            Step::AgentSay => {
                self.numbers += 1;
                self.agent_sends(Up::Say(self.numbers));
            }
            Step::AgentEnd => self.agent_sends(Up::Bye),
            step => self.apply_to_client(step),
        }
    }

    /// Applies a step of a client, or of the game to the client's session.
    fn apply_to_client(&mut self, step: Step) {
        match step {
            Step::Pump(who) => self.pump(who as usize),
            Step::Lag(who) => self.lag(who as usize),
            Step::Connect(who, beta) => self.connect(who as usize, usize::from(beta)),
            Step::Cut(who, frames) => {
                self.read(who as usize, usize::from(frames), false);
                self.clients[who as usize].link = None;
            }
            Step::Close(who) => {
                if let Some(link) = self.clients[who as usize].link.take() {
                    self.close(link);
                }
            }
            Step::Reload(who) => self.copy(who, who),
            Step::Copy(from, to) => self.copy(from, to),
            Step::Deaf(who) => {
                for _ in 0..3 {
                    self.call(who as usize);
                    self.pass(DEAF_TICKS, LONG_PERIOD, false);
                }
            }
            Step::Busy(who) => {
                for _ in 0..3 * DEAF_TICKS {
                    self.call(who as usize);
                    self.tick(LONG_PERIOD);
                    self.lag(who as usize);
                }
            }
            Step::Hello(who) => self.greet(who as usize, None),
            Step::Resume(who, key) => {
                let client = self.client(who);
                let token = match key {
                    Key::Newest => client.token(0),
                    Key::Older(back) => client.token(usize::from(back)),
                    Key::Forged => None,
                };
                self.resume(who as usize, token, 0, false);
            }
            Step::Ahead(who) => self.resume(who as usize, self.client(who).token(0), AHEAD, false),
            Step::Resync(who) => self.resume(who as usize, self.client(who).token(0), 0, true),
            Step::Join(who, room) => self.ask_for(who, |request| Up::Join(request, room as usize)),
            Step::Part(who) => self.ask_for(who, Up::Part),
            Step::Say(who) => self.call(who as usize),
            Step::Bye(who) if self.client(who).is_welcome() => self.say(who as usize, Up::Bye),
            Step::Babble(who) => self.say(who as usize, Up::Babble),
            Step::Put(who, room) => {
                self.command(who, Change::Put(room as usize, self.zone_id(room as usize)))
            }
            Step::Move(who, room) => {
                self.command(who, Change::Move(room as usize, self.zone_id(room as usize)))
            }
            Step::Take(who) => self.command(who, Change::Take),
            Step::Kick(who) => self.command(who, Change::Kick),
            Step::Answer(who, yes) => {
                if let Some(ask) = self.ask(who) {
                    self.command(who, Change::Answer(ask, yes));
                }
            }
            Step::Hasten(who) => self.with_session(who, |session| session.is_hasty = true),
            Step::Soothe(who) => self.with_session(who, |session| session.timeout = PATIENCE),
            Step::Despawn(who) => self.despawn(who),
            // A Bye from a client that is not welcome is not sent. Unreliable frames are not part of the model.
            _ => {}
        }
    }

    pub(super) fn zone_id(&self, zone: usize) -> u64 {
        self.zones[zone].map_or(0, |zone| zone.id)
    }

    fn open(&mut self, room: usize) {
        self.opened_count += 1;
        self.zones[room] = Some(Zone {
            id: self.opened_count,
            capacity: [1_000, 1, 2, 1][room],
            counts_agents: room == Room::Den as usize,
            is_hard: room == Room::Pit as usize,
            is_asking: room == Room::Club as usize,
        });
    }

    fn command(&mut self, who: Who, change: Change) {
        if let Some(session) = self.live_session(who) {
            self.changes.push((u64::MAX, session, change));
        }
    }

    fn with_session(&mut self, who: Who, act: impl FnOnce(&mut Session)) {
        if let Some(session) = self.live_session(who) {
            act(&mut self.sessions[session]);
        }
    }

    fn pass(&mut self, ticks: u16, period: u64, with_clients: bool) {
        for _ in 0..ticks {
            self.tick(period);
            if with_clients {
                (0..self.clients.len()).for_each(|client| self.pump(client));
            }
        }
    }

    fn copy(&mut self, from: Who, to: Who) {
        let tokens = self.client(from).token(0).into_iter().collect();
        let requests = self.client(to).requests;
        self.clients[to as usize] = Client { tokens, requests, reloaded: true, ..Client::default() };
    }

    fn call(&mut self, client: usize) {
        self.numbers += 1;
        self.send(client, Up::Say(self.numbers));
    }

    fn shout(&mut self, count: u64) {
        for _ in 0..count {
            self.numbers += 1;
            self.shouts.push(self.numbers);
        }
    }

    /// Makes a jammed adapter carry out the commands that it was sent meanwhile.
    fn free(&mut self, proxy: usize) {
        self.jammed[proxy] = false;
        for link in self.links.iter_mut().filter(|link| link.key.0 == proxy) {
            let jam = std::mem::take(&mut link.jam);
            if !link.closed {
                link.down.extend(jam.frames);
                link.closed = jam.closes;
            }
        }
    }
}

/// A trace shows the steps, so the state is shown only as a time.
impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a server at {} ms", self.clock)
    }
}
