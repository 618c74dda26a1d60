//! Defines the types of the model's state: clients, links, frames, sessions and zones.

use std::collections::VecDeque;

use waystation::session::EndCause;
use waystation::wire::v1::Reason;

/// The state of a client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    pub(super) link: Option<usize>,
    pub(super) welcomed: bool,
    pub(super) closed: bool,
    /// True once the client has sent a Hello on its link, until a Denied arrives.
    pub(super) greeted: bool,
    pub(super) reloaded: bool,
    pub(super) session: Option<usize>,
    pub(super) tokens: Vec<usize>,
    pub(super) received: usize,
    pub(super) sent: usize,
    pub(super) outbox: VecDeque<Up>,
    pub(super) requests: u32,
    /// The frames that the client received in this step.
    pub(crate) seen: Vec<Down>,
}

/// A link, with the state of both ends.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) key: (usize, u64),
    /// True if the link is closed: it carries no frames.
    pub(super) closed: bool,
    pub(super) guest: Option<Guest>,
    pub(super) session: Option<usize>,
    pub(super) down: VecDeque<Down>,
    /// The commands for this link that a jammed adapter has not taken.
    pub(super) jam: Jam,
}

/// The commands for a link that a jammed adapter carries out once it is free.
#[derive(Debug, Clone, Default)]
pub(super) struct Jam {
    pub(super) frames: Vec<Down>,
    pub(super) closes: bool,
}

/// A link without a session.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) deadline: u64,
    pub(super) asked: Option<((u64, u64), Option<Resume>)>,
    pub(super) denied: u64,
    /// The number of denials because of the token.
    pub(super) bad: u64,
    pub(super) resume_from: u64,
}

/// The fields of a client's Resume.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resume {
    pub(super) token: usize,
    pub(super) received: usize,
    /// The number of counted frames that the client has sent and does not keep.
    pub(super) trimmed: usize,
    pub(super) resync: bool,
}

/// An event of a link, from a proxy.
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

/// A frame of a client, or a message of an agent.
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
    /// The server stops in this many milliseconds.
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
    /// The frames that wait for dispatch, each with its order among all frames.
    pub(super) inbox: VecDeque<(u64, Up)>,
    pub(crate) received: usize,
    pub(super) welcome: Option<Down>,
    /// All counted frames that were ever queued for the client.
    pub(crate) sent: Vec<Down>,
    pub(crate) acked: usize,
    /// The number of frames of `sent` that were given to the link.
    pub(super) given: usize,
    pub(super) since: u64,
    /// True once the outbox has overflowed: no frame is queued until the session is resumed.
    pub(super) overflowed: bool,
    pub(super) ask: Option<Ask>,
    /// The number of the last ask that the game received.
    pub(super) told_ask: Option<u64>,
    /// The resume timeout, in milliseconds.
    pub(super) timeout: u64,
    /// True if the session's hook shortens its resume timeout.
    pub(super) is_hasty: bool,
    pub(crate) is_agent: bool,
    /// The session that owns this agent.
    pub(super) owner: Option<usize>,
    pub(super) gone: Option<Gone>,
    pub(crate) has_ended: bool,
}

/// A session that the game has despawned and that the server has not ended yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone {
    /// The zone that the session was in, and the zone's id.
    pub(super) zone: Option<(usize, u64)>,
}

/// A Join that waits for the game's answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) number: u64,
    pub(super) zone: usize,
    pub(super) zone_id: u64,
    pub(super) request: u32,
    pub(super) deadline: u64,
}

/// A message to the game about an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// The ask was opened, with this number.
    Requested(u64),
    Cancelled(Reason),
}

/// An open zone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zone {
    pub(crate) id: u64,
    pub(super) capacity: usize,
    pub(super) counts_agents: bool,
    pub(super) is_hard: bool,
    pub(super) is_asking: bool,
}

/// A change that waits for settle.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Join(u32, usize),
    Part(u32),
    /// The session lost its link in a hard zone.
    Drop,
    /// The game puts the session into a zone, which has this id.
    Put(usize, u64),
    /// As `Put`, but only if the session is in a zone.
    Move(usize, u64),
    Take,
    /// The game accepts (`true`) or refuses the ask of this number.
    Answer(u64, bool),
    Kick,
    End(EndCause),
}

impl Change {
    /// Returns true if the change is a command of the game: a refusal is reported to the game.
    pub(super) fn is_of_the_game(self) -> bool {
        matches!(self, Self::Put(..) | Self::Move(..) | Self::Take | Self::Answer(..) | Self::Kick)
    }
}

impl Session {
    /// Creates a session that is opened now.
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

    /// Returns true if the session is live: it has not ended, and the game has not despawned it.
    pub(super) fn is_there(&self) -> bool {
        !self.has_ended && self.gone.is_none()
    }

    /// Queues a counted frame for the client.
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

/// The default resume timeout, in milliseconds.
const TIMEOUT: u64 = 5_000;
/// The limit of an outbox in these tests, in frames. A few broadcasts exceed it.
pub(crate) const OUTBOX_MAX: usize = 12;
