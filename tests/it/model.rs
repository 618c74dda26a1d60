//! Runs the server and a model of it through the same random steps, and compares them after each step.
//!
//! The model is the state table of `docs/sessions.md` in plain Rust. [`reference`] holds the state, and [`parts`] its
//! types. [`clients`] models clients, [`server`] a tick, [`settle`] changes of memberships and ends of sessions,
//! [`asks`] a zone that asks the game, and [`others`] agents and the drain. [`steps`] lists the possible steps.
//! [`subject`] applies each step to the server. It compares states, counts, deadlines, memberships, the messages
//! and calls that the game received, the input of hooks and agents, and each client's reliable frames except Ack.
//! The server's invariants are checked after each tick.
//! `tests/planted` contains bugs that this test must find.

mod asks;
mod clients;
mod others;
mod parts;
mod reference;
mod server;
mod settle;
mod steps;
mod subject;
mod told;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use reference::Reference;
use steps::{Shown, Step, is_possible, possible};
use subject::Subject;

/// The state table as a state machine for proptest.
struct Contract;

impl ReferenceStateMachine for Contract {
    type State = Reference;
    type Transition = Shown;

    fn init_state() -> BoxedStrategy<Reference> {
        Just(Reference::new()).boxed()
    }

    fn transitions(state: &Reference) -> BoxedStrategy<Shown> {
        let steps = possible(state);
        let total: u32 = steps.iter().map(|(size_in_bytes, _)| size_in_bytes).sum();
        // Shrinking removes steps but does not change them: no step is simpler than another.
        (0..total).prop_map(move |chance| Shown(pick(&steps, chance))).no_shrink().boxed()
    }

    fn apply(mut state: Reference, step: &Shown) -> Reference {
        state.apply(step.0);
        state
    }

    fn preconditions(state: &Reference, step: &Shown) -> bool {
        is_possible(state, step.0)
    }
}

impl StateMachineTest for Contract {
    type SystemUnderTest = Subject;
    type Reference = Self;

    fn init_test(_model: &Reference) -> Subject {
        Subject::new()
    }

    fn apply(mut subject: Subject, model: &Reference, step: Shown) -> Subject {
        subject.apply(step.0, model);
        subject.compare(model);
        subject
    }
}

fn pick(steps: &[(u32, Step)], mut chance: u32) -> Step {
    for (size_in_bytes, step) in steps {
        if chance < *size_in_bytes {
            return *step;
        }
        chance -= size_in_bytes;
    }
    Step::Tick(1)
}

prop_state_machine! {
    #![proptest_config(Config { cases: 1_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_server_does_what_the_state_table_says(sequential 100 => Contract);
}

/// Checks the coverage of the random traces: a row that they do not reach is not tested.
#[test]
fn the_traces_reach_every_row_and_take_every_step() {
    // The seed is fixed, so each run has the same traces.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let traces = Contract::sequential_strategy(100);
    for _ in 0..400 {
        let (mut model, steps, _) =
            traces.new_tree(&mut runner).expect("the strategy makes a trace").current();
        for Shown(step) in steps {
            model.apply(step);
            let name = format!("{step:?}");
            let name = name.split('(').next().unwrap_or_default();
            for happened in model.happened().into_iter().chain([format!("Step {name}")]) {
                *counts.entry(happened).or_default() += 1;
            }
        }
    }

    let steps = STEPS.iter().map(|name| format!("Step {name}"));
    let everything = EVERYTHING.iter().map(|what| (*what).to_owned()).chain(steps);
    let rare: Vec<String> =
        everything.filter(|what| counts.get(what).is_none_or(|count| *count < 3)).collect();
    assert!(
        rare.is_empty(),
        "these happen less than 3 times in 400 traces: {rare:?}; all counts: {counts:#?}"
    );
}

/// The steps that must be taken in the traces.
const STEPS: &[&str] = &[
    "AgentEnd",
    "AgentJoin",
    "AgentPart",
    "AgentSay",
    "Ahead",
    "Answer",
    "Babble",
    "Busy",
    "Bye",
    "Close",
    "Connect",
    "Copy",
    "Cut",
    "Deaf",
    "Despawn",
    "Drain",
    "Flood",
    "Free",
    "Hasten",
    "Hello",
    "Jam",
    "Join",
    "Kick",
    "Lag",
    "Lossy",
    "Move",
    "Open",
    "Part",
    "Play",
    "Pump",
    "Put",
    "Raze",
    "Reload",
    "Rest",
    "Resume",
    "Resync",
    "Say",
    "Shout",
    "Shut",
    "Soothe",
    "Spawn",
    "Stall",
    "Take",
    "Tick",
    "Wait",
];

/// The events that must occur in the traces: news of sessions and zones, and frames that clients receive.
const EVERYTHING: &[&str] = &[
    "Accepted",
    "Agent: Echo",
    "Agent: Joined false",
    "Agent: Parted Expired",
    "Agent: Parted Left",
    "Agent: Parted ZoneClosed",
    "Agent: Refused Cancelled",
    "Agent: Refused Full",
    "Agent: Refused NotInZone",
    "Ask",
    "Ask Cancelled",
    "Ask Draining",
    "Ask NoSuchZone",
    "Closed(Bye)",
    "Closed(Kicked)",
    "Closed(Protocol)",
    "Closed(Replaced)",
    "Closed(Shutdown)",
    "Closed(Slow)",
    "Closed(Timeout)",
    "Command Disconnected",
    "Command Full",
    "Command NoSuchZone",
    "Command NotInZone",
    "Command UnknownSession",
    "Cut without a word",
    "Denied(Draining)",
    "Denied(Token)",
    "Disconnected(Link(ByPeer))",
    "Disconnected(Replaced)",
    "Disconnected(Silent)",
    "Disconnected(Slow)",
    "Echo",
    "Expired(Kicked)",
    "Expired(Protocol)",
    "Expired(Shutdown)",
    "Expired(Timeout)",
    "Hook Link(ByPeer)",
    "Hook Replaced",
    "Hook Silent",
    "Hook Slow",
    "Joined false",
    "Joined true",
    "Late answer",
    "MemberDisconnected",
    "MemberResumed",
    "Missed",
    "Notice",
    "Overflow",
    "Parted Kicked",
    "Parted Left",
    "Parted Protocol",
    "Parted ZoneClosed",
    "Refused Cancelled",
    "Refused Disconnected",
    "Refused Draining",
    "Refused Full",
    "Refused NoSuchZone",
    "Refused NotInZone",
    "Refused Refused",
    "Registered",
    "Resumed { resync: false }",
    "Resumed { resync: true }",
    "SessionClosed Bye",
    "SessionClosed Kicked",
    "SessionClosed Protocol",
    "SessionClosed Shutdown",
    "SessionClosed Timeout",
    "Unregistered",
    "Welcome false false",
    "Welcome true false",
    "Welcome true true",
    "ZoneJoined",
    "ZoneParted Dropped",
    "ZoneParted Expired",
    "ZoneParted Kicked",
    "ZoneParted Left",
    "ZoneParted Moved",
    "ZoneParted Protocol",
    "ZoneParted Shutdown",
    "ZoneParted ZoneClosed",
];
