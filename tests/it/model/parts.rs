//! What the model is made of: what clients know, links, what goes over them, sessions and zones.

use std::collections::VecDeque;

use waystation::session::EndCause;
use waystation::wire::v1::Reason;

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
    /// What a jammed adapter has yet to take.
    pub(super) jam: Jam,
}

/// What an adapter that takes nothing is to do with a link.
#[derive(Debug, Clone, Default)]
pub(super) struct Jam {
    pub(super) frames: Vec<Down>,
    pub(super) closes: bool,
}

/// A link that has no session.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) deadline: u64,
    pub(super) asked: Option<((u64, u64), Option<Resume>)>,
    pub(super) denied: u64,
    /// Of these, how often it was for the token.
    pub(super) bad: u64,
    pub(super) resume_from: u64,
}

/// What a client says when it resumes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resume {
    pub(super) token: usize,
    pub(super) received: usize,
    /// How many of its own frames it does not keep any more.
    pub(super) trimmed: usize,
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

/// A frame of a client, or what an agent sends.
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
    /// The server stops in so many milliseconds.
    Notice(u64),
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
    /// What waits for dispatch, with its place among all frames.
    pub(super) inbox: VecDeque<(u64, Up)>,
    pub(crate) received: usize,
    pub(super) welcome: Option<Down>,
    /// All that it was ever sent and counts.
    pub(crate) sent: Vec<Down>,
    pub(crate) acked: usize,
    /// How much of it was given to the link.
    pub(super) given: usize,
    pub(super) since: u64,
    /// Nothing is kept for it until it is resumed.
    pub(super) overflowed: bool,
    pub(super) ask: Option<Ask>,
    /// The last ask that the game was told of.
    pub(super) told_ask: Option<u64>,
    /// How long it lives without a link.
    pub(super) timeout: u64,
    /// The hook makes its timeout short.
    pub(super) is_hasty: bool,
    pub(crate) is_agent: bool,
    /// The session that an agent belongs to.
    pub(super) owner: Option<usize>,
    pub(super) gone: Option<Gone>,
    pub(crate) has_ended: bool,
}

/// The game has despawned a session, and the server has yet to notice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone {
    /// The zone that it was in, and the zone's id.
    pub(super) zone: Option<(usize, u64)>,
}

/// A session waits for the game's word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) number: u64,
    pub(super) zone: usize,
    pub(super) zone_id: u64,
    pub(super) request: u32,
    pub(super) deadline: u64,
}

/// What the game is told of an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// Under this number.
    Requested(u64),
    Cancelled(Reason),
}

/// An open zone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zone {
    pub(crate) id: u64,
    pub(super) capacity: usize,
    pub(super) is_hard: bool,
    pub(super) is_asking: bool,
}

/// What waits for settle.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Join(u32, usize),
    Part(u32),
    /// The session lost its link in a hard zone.
    Drop,
    /// The game puts it into a zone of that id.
    Put(usize, u64),
    /// The same, only from another zone.
    Move(usize, u64),
    Take,
    /// The game says yes, or no, to an ask of that number.
    Answer(u64, bool),
    Kick,
    End(EndCause),
}

impl Change {
    /// The game is told if it cannot be made.
    pub(super) fn is_of_the_game(self) -> bool {
        matches!(self, Self::Put(..) | Self::Move(..) | Self::Take | Self::Answer(..) | Self::Kick)
    }
}

impl Session {
    /// One that was opened just now.
    pub(super) fn new(link: Option<usize>, now: u64, token: usize) -> Self {
        Self {
            epoch: 1,
            link,
            heard: now,
            confirmed: false,
            zone: None,
            expires: None,
            newest: token,
            presented: None,
            inbox: VecDeque::new(),
            received: 0,
            welcome: None,
            sent: Vec::new(),
            acked: 0,
            given: 0,
            since: 0,
            overflowed: false,
            ask: None,
            told_ask: None,
            timeout: TIMEOUT,
            is_hasty: false,
            is_agent: false,
            owner: None,
            gone: None,
            has_ended: false,
        }
    }

    pub(super) fn is_linked(&self) -> bool {
        self.is_agent || self.link.is_some()
    }

    pub(crate) fn has_ask(&self) -> bool {
        self.ask.is_some()
    }

    /// Whether the server still finds it where it looks for sessions.
    pub(super) fn is_there(&self) -> bool {
        !self.has_ended && self.gone.is_none()
    }

    /// A counted frame for a client.
    pub(super) fn push(&mut self, frame: Down, now: u64) {
        if self.overflowed {
            return;
        }
        if self.sent.len() - self.acked >= OUTBOX_MAX {
            self.acked = self.sent.len();
            self.given = self.acked;
            self.overflowed = true;
            return;
        }
        if self.acked == self.sent.len() {
            self.since = now;
        }
        self.sent.push(frame);
    }
}

/// How long a session lives without a link, unless the game says otherwise.
const TIMEOUT: u64 = 5_000;
/// Frames that an outbox holds in these tests: a few broadcasts are too much.
pub(crate) const OUTBOX_MAX: usize = 12;
