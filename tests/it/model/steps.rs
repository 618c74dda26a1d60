//! What may happen, and when.

use std::fmt;

use super::reference::{Reference, ZONES};

/// The clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Ada,
    Bob,
    Cid,
}

/// The zones. The first has room for all, the second for one; the third is hard, for two; the fourth asks the
/// game, and has room for one.
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
    /// Some before that.
    Older(u8),
    Forged,
}

/// One thing that happens, to the server and to its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many ticks in which nobody reads or says anything.
    Tick(u16),
    /// So many ticks, after each of which all clients do what clients do.
    Play(u16),
    /// As `Tick`, in long ticks of 200 ms: 26 of them are longer than any timeout but one.
    Wait(u16),
    /// As `Play`, in long ticks.
    Rest(u16),
    /// A tick after a long time in which the server did nothing.
    Stall,
    /// The adapter of the first proxy, or of the second, takes no commands any more.
    Jam(bool),
    /// It takes them again.
    Free(bool),
    /// A client does what clients do: it reads, and answers.
    Pump(Who),
    /// The same, but it acknowledges one frame less than it took.
    Lag(Who),
    /// A client opens a link, by the first proxy or the second. An older one is dropped, silently.
    Connect(Who, bool),
    /// A client reads so many frames and no more, and drops its link silently.
    Cut(Who, u8),
    /// A client closes its link.
    Close(Who),
    /// A client's link loses and doubles what is unreliable.
    Lossy(Who),
    /// A client forgets all but its token, its link included.
    Reload(Who),
    /// A client takes the token of another, as a second tab does, and forgets all else.
    Copy(Who, Who),
    /// A client talks for ten seconds and does not listen; nobody else does anything.
    Deaf(Who),
    /// A client talks for ten seconds, and is always a frame behind; nobody else does anything.
    Busy(Who),
    Hello(Who),
    Resume(Who, Key),
    /// A client resumes and does not keep some frames that the server never took.
    Ahead(Who),
    /// The same, with the newest token, asking for a resync.
    Resync(Who),
    Join(Who, Room),
    Part(Who),
    Say(Who),
    Bye(Who),
    /// A client sends what is no frame.
    Babble(Who),
    /// The game broadcasts to the hall.
    Shout,
    /// The game broadcasts to the hall much more.
    Flood,
    /// The game puts a session into a zone.
    Put(Who, Room),
    /// The game moves a session from another zone.
    Move(Who, Room),
    /// The game takes a session out of its zone.
    Take(Who),
    Kick(Who),
    /// The game says yes or no to what a client asked last, again perhaps.
    Answer(Who, bool),
    /// The game makes a session live for a short time without a link, from its hook.
    Hasten(Who),
    /// The game makes a session live for a long time without a link.
    Soothe(Who),
    /// The game despawns a session.
    Despawn(Who),
    /// The game closes a zone.
    Shut(Room),
    /// The game despawns a zone.
    Raze(Room),
    /// The game opens a zone that was closed.
    Open(Room),
    /// The game spawns an agent, which may belong to a client's session.
    Spawn(Option<Who>),
    AgentJoin(Room),
    AgentPart,
    AgentSay,
    AgentEnd,
    /// The server drains.
    Drain,
}

impl Who {
    pub(crate) const ALL: [Self; 3] = [Self::Ada, Self::Bob, Self::Cid];
}

/// A step as a trace shows it: on one line.
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

/// All steps that are possible, each with its weight: most keep a game going, so that what ends
/// things has something to end.
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
    // Without a link there is little that a client can do.
    let weight = if client.has_link() { 2 } else { 8 };
    steps.extend([(weight, Step::Connect(who, false)), (weight, Step::Connect(who, true))]);
    let weight = if is_outside { 12 } else { 4 };
    for room in Room::ALL {
        steps.extend([
            (weight, Step::Join(who, room)),
            (1, Step::Put(who, room)),
            (1, Step::Move(who, room)),
        ]);
    }
    steps
}

/// Whether a step keeps to what clients and games may do, so that the model has an answer.
pub(crate) fn is_possible(state: &Reference, step: Step) -> bool {
    let is_there = |who| state.live_session(who).is_some();
    let has_token = |who| state.client(who).token(0).is_some();
    match step {
        Step::Tick(_) | Step::Play(_) | Step::Wait(_) | Step::Rest(_) | Step::Stall => true,
        Step::Shout | Step::Flood | Step::Connect(..) => true,
        Step::Jam(beta) => !state.is_jammed(beta),
        Step::Free(beta) => state.is_jammed(beta),
        // Little happens after it.
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
        // One at a time.
        Step::Spawn(owner) => state.agent().is_none() && owner.is_none_or(is_there),
        Step::AgentJoin(_) | Step::AgentPart | Step::AgentSay | Step::AgentEnd => state.agent().is_some(),
    }
}
