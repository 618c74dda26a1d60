//! The server beside a model of it: whatever clients, links and games do, both are alike.
//!
//! The model is the state table of `docs/sessions.md` in plain Rust: [`reference`] has the state, which is made of
//! [`parts`], [`clients`] what clients do, [`server`] a tick, [`settle`] how memberships change and sessions end,
//! [`asks`] a zone that asks the game, and [`others`] agents and the end of the server. [`steps`] says what may
//! happen; [`subject`] does the same to the server and compares: states, counts, deadlines, memberships, what the
//! game was told and heard, what its hooks and agents heard, and every reliable frame that a client saw.
//! The invariants are checked after each tick.
//! `tests/planted` has bugs that all of this has to find.

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

/// The state table.
struct Contract;

impl ReferenceStateMachine for Contract {
    type State = Reference;
    type Transition = Shown;

    fn init_state() -> BoxedStrategy<Reference> {
        Just(Reference::new()).boxed()
    }

    fn transitions(state: &Reference) -> BoxedStrategy<Shown> {
        let steps = possible(state);
        let total: u32 = steps.iter().map(|(weight, _)| weight).sum();
        // A step is left out of a trace or kept as it is: another in its place would be no simpler.
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
    for (weight, step) in steps {
        if chance < *weight {
            return *step;
        }
        chance -= weight;
    }
    Step::Tick(1)
}

prop_state_machine! {
    #![proptest_config(Config { cases: 1_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_server_does_what_the_state_table_says(sequential 100 => Contract);
}

/// A model that hardly gets anywhere proves nothing.
#[test]
fn the_model_gets_to_every_row_and_takes_every_step() {
    // The same traces each time.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let traces = Contract::sequential_strategy(100);
    for _ in 0..400 {
        let (mut model, steps, _) = traces.new_tree(&mut runner).expect("steps to take").current();
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
    assert!(rare.is_empty(), "less than 3 times each in 400 traces: {rare:?} of {counts:#?}");
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

/// What must happen in the traces: news of sessions and zones, and what clients saw.
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
