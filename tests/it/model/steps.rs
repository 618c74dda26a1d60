//! Defines the steps of a trace, and which steps are possible in a state.

use std::fmt;

use super::reference::{Reference, ZONES};

/// The clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Ada,
    Bob,
    Cid,
}

/// The zones. The hall has room for all. The den has room for one member. The pit is hard and has room for two.
/// The club asks the game and has room for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Hall,
    Den,
    Pit,
    Club,
}

/// The token with which a client resumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Newest,
    /// The token of this many Welcomes before the newest.
    Older(u8),
    Forged,
}

/// One step of a trace, which is applied to the server and to its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// This many ticks in which no client reads or sends.
    Tick(u16),
    /// This many ticks. After each tick, all clients read and acknowledge.
    Play(u16),
    /// As `Tick`, with long ticks of 200 ms. 26 of them exceed the timeouts of 5 s.
    Wait(u16),
    /// As `Play`, with long ticks.
    Rest(u16),
    /// One tick after a long pause of the server.
    Stall,
    /// The adapter of the first proxy (`false`) or of the second (`true`) stops taking commands.
    Jam(bool),
    /// The adapter takes commands again.
    Free(bool),
    /// A client reads and acknowledges all frames that have arrived.
    Pump(Who),
    /// As `Pump`, but the client acknowledges one frame less than it has received.
    Lag(Who),
    /// A client opens a link over the first proxy (`false`) or the second (`true`). It drops an older link silently.
    Connect(Who, bool),
    /// A client reads this many frames, and then drops its link silently.
    Cut(Who, u8),
    /// A client closes its link.
    Close(Who),
    /// A client's link begins to lose and duplicate unreliable frames.
    Lossy(Who),
    /// A client discards its state and its link, except its newest token.
    Reload(Who),
    /// The second client discards its state and link, and takes the token of the first, as a second tab does.
    Copy(Who, Who),
    /// A client sends calls for more than ten seconds and does not read. The other clients do nothing.
    Deaf(Who),
    /// A client sends calls for more than ten seconds, and acknowledges all frames but the last. The other clients do
    /// nothing.
    Busy(Who),
    Hello(Who),
    Resume(Who, Key),
    /// A client resumes with the newest token, and reports more trimmed frames than the server has received.
    Ahead(Who),
    /// A client resumes with the newest token, and requests a resync.
    Resync(Who),
    Join(Who, Room),
    Part(Who),
    Say(Who),
    Bye(Who),
    /// A client sends bytes that are not a frame.
    Babble(Who),
    /// The game broadcasts one message to the hall.
    Shout,
    /// The game broadcasts many messages to the hall.
    Flood,
    /// The game puts a session into a zone.
    Put(Who, Room),
    /// The game moves a session from another zone.
    Move(Who, Room),
    /// The game takes a session out of its zone.
    Take(Who),
    Kick(Who),
    /// The game accepts (`true`) or refuses a client's last ask. The ask may have been answered before.
    Answer(Who, bool),
    /// The game marks a session, so that its hook sets a short resume timeout.
    Hasten(Who),
    /// The game sets a long resume timeout for a session.
    Soothe(Who),
    /// The game despawns a session.
    Despawn(Who),
    /// The game closes a zone.
    Shut(Room),
    /// The game despawns a zone.
    Raze(Room),
    /// The game opens a zone again after its end.
    Open(Room),
    /// The game spawns an agent. The session of a client may own it.
    Spawn(Option<Who>),
    AgentJoin(Room),
    AgentPart,
    AgentSay,
    AgentEnd,
    /// The server begins to drain.
    Drain,
}

impl Who {
    pub(crate) const ALL: [Self; 3] = [Self::Ada, Self::Bob, Self::Cid];
}

/// A step, shown on one line of a trace.
#[derive(Clone, Copy)]
pub(crate) struct Shown(pub(crate) Step);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Room {
    pub(crate) const ALL: [Self; ZONES] = [Self::Hall, Self::Den, Self::Pit, Self::Club];

    pub(crate) fn name(self) -> &'static str {
        ["hall", "den", "pit", "club"][self as usize]
    }
}

/// Returns all possible steps with their weights. Steps that end links, sessions and zones have low weights, so that
/// these live long enough to be tested.
pub(crate) fn possible(state: &Reference) -> Vec<(u32, Step)> {
    let mut steps = vec![
        (30, Step::Tick(1)),
        (5, Step::Tick(3)),
        (2, Step::Wait(6)),
        (3, Step::Wait(26)),
        (60, Step::Play(1)),
        (24, Step::Play(4)),
        (2, Step::Rest(6)),
        (3, Step::Rest(26)),
        (2, Step::Stall),
        (6, Step::Shout),
        (4, Step::Flood),
        (3, Step::Spawn(None)),
        (6, Step::AgentSay),
        (1, Step::AgentPart),
        (1, Step::AgentEnd),
        (4, Step::Drain),
    ];
    Who::ALL.into_iter().for_each(|who| steps.extend(of_client(state, who)));
    for room in Room::ALL {
        steps.extend([(1, Step::Shut(room)), (1, Step::Raze(room)), (12, Step::Open(room))]);
        steps.push((3, Step::AgentJoin(room)));
    }
    for beta in [false, true] {
        steps.extend([(1, Step::Jam(beta)), (16, Step::Free(beta))]);
    }
    steps.retain(|(_, step)| is_possible(state, *step));
    steps
}

fn of_client(state: &Reference, who: Who) -> Vec<(u32, Step)> {
    let client = state.client(who);
    let is_idle = state.live_session(who).is_none();
    let is_outside = client.session().is_some_and(|session| state.sessions[session].zone.is_none());
    let has_ask = state.live_session(who).is_some_and(|session| state.sessions[session].has_ask());
    let mut steps = vec![
        (8, Step::Pump(who)),
        (2, Step::Cut(who, 0)),
        (1, Step::Cut(who, 1)),
        (1, Step::Cut(who, 2)),
        (6, Step::Close(who)),
        (1, Step::Lossy(who)),
        (1, Step::Reload(who)),
        (if is_idle { 20 } else { 2 }, Step::Hello(who)),
        (if is_idle { 3 } else { 24 }, Step::Resume(who, Key::Newest)),
        (4, Step::Resume(who, Key::Older(1))),
        (1, Step::Resume(who, Key::Older(2))),
        (1, Step::Resume(who, Key::Forged)),
        (if client.must_resync() { 24 } else { 2 }, Step::Resync(who)),
        (4, Step::Part(who)),
        (16, Step::Say(who)),
        (1, Step::Bye(who)),
        (1, Step::Babble(who)),
        (2, Step::Take(who)),
        (1, Step::Kick(who)),
        (1, Step::Deaf(who)),
        (1, Step::Busy(who)),
        (4, Step::Lag(who)),
        (2, Step::Ahead(who)),
        (if has_ask { 40 } else { 2 }, Step::Answer(who, true)),
        (if has_ask { 10 } else { 2 }, Step::Answer(who, false)),
        (1, Step::Hasten(who)),
        (1, Step::Soothe(who)),
        (1, Step::Despawn(who)),
        (1, Step::Spawn(Some(who))),
    ];
    steps.extend(Who::ALL.map(|from| (1, Step::Copy(from, who))));
    // Few steps are possible for a client without a link.
    let size_in_bytes = if client.has_link() { 2 } else { 8 };
    steps.extend([(size_in_bytes, Step::Connect(who, false)), (size_in_bytes, Step::Connect(who, true))]);
    let size_in_bytes = if is_outside { 12 } else { 4 };
    for room in Room::ALL {
        steps.extend([
            (size_in_bytes, Step::Join(who, room)),
            (1, Step::Put(who, room)),
            (1, Step::Move(who, room)),
        ]);
    }
    steps
}

/// Returns true if a step is possible in a state: the model defines its effect.
pub(crate) fn is_possible(state: &Reference, step: Step) -> bool {
    let is_there = |who| state.live_session(who).is_some();
    let has_token = |who| state.client(who).token(0).is_some();
    match step {
        Step::Tick(_) | Step::Play(_) | Step::Wait(_) | Step::Rest(_) | Step::Stall => true,
        Step::Shout | Step::Flood | Step::Connect(..) => true,
        Step::Jam(beta) => !state.is_jammed(beta),
        Step::Free(beta) => state.is_jammed(beta),
        // Few things can happen after the drain, so it begins late.
        Step::Drain => !state.is_draining() && state.now > 15_000,
        Step::Pump(who) | Step::Cut(who, _) | Step::Close(who) | Step::Lossy(who) => {
            state.client(who).has_link()
        }
        Step::Lag(who) | Step::Babble(who) => state.client(who).has_link(),
        Step::Deaf(who) | Step::Busy(who) => state.client(who).is_welcome() && is_there(who),
        Step::Copy(from, to) => from != to && has_token(from),
        Step::Reload(who) => has_token(who),
        Step::Hello(who) => state.client(who).may_greet(),
        Step::Resume(who, key) => {
            let client = state.client(who);
            let has_key = match key {
                Key::Newest | Key::Forged => has_token(who),
                Key::Older(back) => client.token(usize::from(back)).is_some(),
            };
            client.may_greet() && has_key && !client.must_resync()
        }
        Step::Ahead(who) => {
            state.client(who).may_greet() && has_token(who) && !state.client(who).must_resync()
        }
        Step::Resync(who) => state.client(who).may_greet() && has_token(who),
        Step::Join(who, _) | Step::Part(who) | Step::Say(who) | Step::Bye(who) => {
            state.client(who).session().is_some()
        }
        Step::Put(who, room) | Step::Move(who, room) => is_there(who) && state.has_zone(room),
        Step::Take(who) | Step::Kick(who) | Step::Despawn(who) => is_there(who),
        Step::Hasten(who) | Step::Soothe(who) => is_there(who),
        Step::Answer(who, _) => state.ask(who).is_some(),
        Step::Shut(room) | Step::Raze(room) => state.has_zone(room),
        Step::Open(room) => state.zones[room as usize].is_none(),
        // There is at most one agent at a time.
        Step::Spawn(owner) => state.agent().is_none() && owner.is_none_or(is_there),
        Step::AgentJoin(_) | Step::AgentPart | Step::AgentSay | Step::AgentEnd => state.agent().is_some(),
    }
}
