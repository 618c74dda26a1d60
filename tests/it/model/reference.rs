//! What the server promises, in plain Rust: the state, and what clients and games do to it.

use std::collections::VecDeque;
use std::fmt;

use waystation::session::{EndCause, SessionState};
use waystation::testing::News;
use waystation::wire::v1::Reason;

use super::steps::{Key, Room, Step, Who};

pub(crate) const ZONES: usize = 3;
/// A tick, in milliseconds.
pub(crate) const PERIOD: u64 = 50;
/// A long one: still no stall, by which timers would lose time.
pub(crate) const LONG_PERIOD: u64 = 200;
/// A third of what it takes to be too slow.
pub(crate) const DEAF_TICKS: u16 = 18;
/// A token that the server never issued.
pub(crate) const FORGED: usize = usize::MAX;

/// A server and its clients, as `docs/sessions.md` says they are.
#[derive(Clone)]
pub(crate) struct Reference {
    pub(crate) now: u64,
    pub(super) clients: Vec<Client>,
    pub(super) links: Vec<Link>,
    pub(super) ports: [Vec<Event>; 2],
    pub(crate) sessions: Vec<Session>,
    pub(crate) zones: [Option<Zone>; ZONES],
    pub(super) opened_count: u64,
    pub(super) shut: Vec<usize>,
    /// Whose zone is gone, which one, and its id.
    pub(super) orphans: Vec<(usize, usize, u64)>,
    pub(super) changes: Vec<(u64, usize, Change)>,
    pub(super) arrived: u64,
    pub(super) tokens_issued: usize,
    pub(super) shouts: Vec<u64>,
    numbers: u64,
    /// What is published when the next tick begins.
    pub(super) announced: Vec<(usize, News)>,
    /// What the game was told in this step, and of whom.
    pub(crate) news: Vec<(usize, News)>,
    /// The numbers that the game heard in this step, and from whom.
    pub(crate) heard: Vec<(usize, u64)>,
}

/// What a client knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    pub(super) link: Option<usize>,
    pub(super) welcomed: bool,
    pub(super) closed: bool,
    /// It has asked for something and was not answered.
    pub(super) greeted: bool,
    pub(super) reloaded: bool,
    pub(super) session: Option<usize>,
    pub(super) tokens: Vec<usize>,
    pub(super) received: usize,
    pub(super) sent: usize,
    pub(super) outbox: VecDeque<Up>,
    pub(super) requests: u32,
    /// What it saw in this step.
    pub(crate) seen: Vec<Down>,
}

/// One link, from both ends.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) key: (usize, u64),
    /// Frames go nowhere any more.
    pub(super) closed: bool,
    pub(super) guest: Option<Guest>,
    pub(super) session: Option<usize>,
    pub(super) down: VecDeque<Down>,
}

/// A link that has no session.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) deadline: u64,
    pub(super) asked: Option<((u64, u64), Option<Resume>)>,
    pub(super) bad: u64,
    pub(super) resume_from: u64,
}

/// What a client says when it resumes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resume {
    pub(super) token: usize,
    pub(super) received: usize,
    pub(super) resync: bool,
}

/// What a proxy delivers.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) at: u64,
    pub(super) link: usize,
    pub(super) what: Arrival,
}

#[derive(Debug, Clone)]
pub(super) enum Arrival {
    Opened,
    Frame(Up),
    Closed,
}

/// A frame of a client.
#[derive(Debug, Clone)]
pub(super) enum Up {
    Hello(Option<Resume>),
    Ack(usize),
    Join(u32, usize),
    Part(u32),
    Say(u64),
    Bye,
    Babble,
}

/// A frame of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Down {
    Welcome {
        session: usize,
        token: usize,
        resumed: bool,
        received: usize,
        base: usize,
        resync: bool,
        zone: Option<usize>,
    },
    Denied(Reason),
    Closed(Reason),
    Joined {
        request: u32,
        zone: usize,
        id: u64,
    },
    Parted {
        request: u32,
        zone: usize,
        reason: Reason,
    },
    Refused {
        request: u32,
        reason: Reason,
    },
    Echo(u64),
}

/// A session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) epoch: u64,
    pub(crate) link: Option<usize>,
    pub(super) heard: u64,
    pub(super) confirmed: bool,
    pub(crate) zone: Option<usize>,
    pub(crate) expires: Option<u64>,
    pub(super) newest: usize,
    pub(super) presented: Option<usize>,
    pub(super) inbox: VecDeque<(u64, Up)>,
    pub(crate) received: usize,
    pub(super) welcome: Option<Down>,
    /// All that it was ever sent and counts.
    pub(crate) sent: Vec<Down>,
    pub(crate) acked: usize,
    /// How much of it was given to the link.
    pub(super) given: usize,
    pub(super) since: u64,
    pub(crate) has_ended: bool,
}

/// An open zone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zone {
    pub(crate) id: u64,
    pub(super) capacity: usize,
    pub(super) is_hard: bool,
}

/// What waits for settle.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Join(u32, usize),
    Part(u32),
    Drop,
    Put(usize, u64),
    Take,
    Kick,
    End(EndCause),
}

impl Reference {
    pub(crate) fn new() -> Self {
        let mut new = Self {
            now: 0,
            clients: vec![Client::default(); Who::ALL.len()],
            links: Vec::new(),
            ports: [Vec::new(), Vec::new()],
            sessions: Vec::new(),
            zones: [None; ZONES],
            // The harness has opened some before.
            opened_count: 2,
            shut: Vec::new(),
            orphans: Vec::new(),
            changes: Vec::new(),
            arrived: 0,
            tokens_issued: 0,
            shouts: Vec::new(),
            numbers: 0,
            announced: Vec::new(),
            news: Vec::new(),
            heard: Vec::new(),
        };
        Room::ALL.into_iter().for_each(|room| new.open(room as usize));
        new
    }

    pub(crate) fn client(&self, who: Who) -> &Client {
        &self.clients[who as usize]
    }

    /// The session that a client believes to have, if it lives.
    pub(crate) fn live_session(&self, who: Who) -> Option<usize> {
        self.client(who).session.filter(|session| !self.sessions[*session].has_ended)
    }

    pub(crate) fn state(&self, session: usize) -> SessionState {
        let Session { link, zone, .. } = self.sessions[session];
        // Whose zone is gone is put right when the next tick settles.
        let was_inside = self.orphans.iter().any(|(orphan, ..)| *orphan == session);
        match (link, zone) {
            (None, _) => SessionState::Disconnected,
            (Some(_), None) if !was_inside => SessionState::Connected,
            _ => SessionState::Active,
        }
    }

    /// Tokens that resume a session.
    pub(crate) fn token_count(&self) -> usize {
        let live = self.sessions.iter().filter(|session| !session.has_ended);
        live.map(|session| 1 + usize::from(session.presented.is_some())).sum()
    }

    pub(crate) fn has_zone(&self, room: Room) -> bool {
        self.zones[room as usize].is_some() && !self.shut.contains(&(room as usize))
    }

    /// The proxy of a link, and its number there.
    pub(crate) fn key(&self, link: usize) -> (usize, u64) {
        self.links[link].key
    }

    /// The number of the last call or broadcast.
    pub(crate) fn number(&self) -> u64 {
        self.numbers
    }

    /// The number of a client's last request.
    pub(crate) fn request(&self, who: Who) -> u32 {
        self.client(who).requests
    }

    /// What was told and seen in this step, in words without names.
    pub(crate) fn happened(&self) -> Vec<String> {
        let seen = self.clients.iter().flat_map(|client| &client.seen).map(|down| match down {
            Down::Welcome { resumed, resync, .. } => format!("Welcome {resumed} {resync}"),
            Down::Joined { request, .. } => format!("Joined {}", *request > 0),
            Down::Parted { reason, .. } => format!("Parted {reason:?}"),
            Down::Refused { reason, .. } => format!("Refused {reason:?}"),
            Down::Echo(_) => "Echo".to_owned(),
            other => format!("{other:?}"),
        });
        let told = self.news.iter().map(|(_, news)| match news {
            News::Joined(_) => "ZoneJoined".to_owned(),
            News::Parted(_, reason) => format!("ZoneParted {reason:?}"),
            News::MemberDisconnected(_) => "MemberDisconnected".to_owned(),
            News::MemberResumed(_) => "MemberResumed".to_owned(),
            News::Closed(cause) => format!("SessionClosed {cause:?}"),
            other => format!("{other:?}"),
        });
        seen.chain(told).collect()
    }

    pub(crate) fn apply(&mut self, step: Step) {
        self.news.clear();
        self.heard.clear();
        self.clients.iter_mut().for_each(|client| client.seen.clear());
        match step {
            Step::Tick(count) => self.pass(count, PERIOD, false),
            Step::Play(count) => self.pass(count, PERIOD, true),
            Step::Wait(count) => self.pass(count, LONG_PERIOD, false),
            Step::Rest(count) => self.pass(count, LONG_PERIOD, true),
            Step::Pump(who) => self.pump(who as usize),
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
            Step::Lossy(_) => {}
            Step::Reload(who) => self.copy(who, who),
            Step::Copy(from, to) => self.copy(from, to),
            Step::Deaf(who) => {
                for _ in 0..3 {
                    self.call(who as usize);
                    self.pass(DEAF_TICKS, LONG_PERIOD, false);
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
                self.resume(who as usize, token.unwrap_or(FORGED), false);
            }
            Step::Resync(who) => {
                let token = self.client(who).token(0).unwrap_or(FORGED);
                self.resume(who as usize, token, true);
            }
            Step::Join(who, room) => self.ask(who, |request| Up::Join(request, room as usize)),
            Step::Part(who) => self.ask(who, Up::Part),
            Step::Say(who) => self.call(who as usize),
            Step::Bye(who) => {
                if self.client(who).is_welcome() {
                    self.say(who as usize, Up::Bye);
                }
            }
            Step::Babble(who) => self.say(who as usize, Up::Babble),
            Step::Shout => {
                self.numbers += 1;
                self.shouts.push(self.numbers);
            }
            Step::Put(who, room) => {
                let id = self.zones[room as usize].map_or(0, |zone| zone.id);
                self.command(who, Change::Put(room as usize, id));
            }
            Step::Take(who) => self.command(who, Change::Take),
            Step::Kick(who) => self.command(who, Change::Kick),
            Step::Shut(room) => self.shut.push(room as usize),
            Step::Raze(room) => self.raze(room as usize),
            Step::Open(room) => self.open(room as usize),
        }
    }

    fn open(&mut self, room: usize) {
        self.opened_count += 1;
        let capacity = [1_000, 1, 2][room];
        self.zones[room] =
            Some(Zone { id: self.opened_count, capacity, is_hard: room == Room::Pit as usize });
    }

    fn command(&mut self, who: Who, change: Change) {
        if let Some(session) = self.live_session(who) {
            self.changes.push((u64::MAX, session, change));
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
}

/// A trace shows what happened, not all that is known.
impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a server at {} ms", self.now)
    }
}
