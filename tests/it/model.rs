//! The server beside a model of it: whatever clients, links and games do, both are alike.
//!
//! The model is the state table of `docs/sessions.md` in plain Rust: [`reference`] has the state,
//! [`clients`] what clients do, [`server`] a tick. [`steps`] says what may happen; [`subject`] does the same to the
//! server and compares: states, counts, deadlines, memberships, what the game was told and heard, and
//! every reliable frame that a client saw. The invariants are checked after each tick besides.
//! `tests/planted` has bugs that all of this has to find.

mod clients;
mod reference;
mod server;
mod steps;
mod subject;

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
fn the_model_gets_to_every_row() {
    // The same traces each time.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let traces = Contract::sequential_strategy(100);
    for _ in 0..400 {
        let (mut model, steps, _) = traces.new_tree(&mut runner).expect("steps to take").current();
        for Shown(step) in steps {
            model.apply(step);
            for happened in model.happened() {
                *counts.entry(happened).or_default() += 1;
            }
        }
    }

    let rare: Vec<&str> =
        EVERYTHING.iter().copied().filter(|what| counts.get(*what).is_none_or(|count| *count < 3)).collect();
    assert!(rare.is_empty(), "less than 3 times each in 400 traces: {rare:?} of {counts:#?}");
}

/// What must happen in the traces: news of sessions and zones, and what clients saw.
const EVERYTHING: &[&str] = &[
    "Closed(Bye)",
    "Closed(Kicked)",
    "Closed(Protocol)",
    "Closed(Replaced)",
    "Closed(Slow)",
    "Closed(Timeout)",
    "Denied(Token)",
    "Disconnected(Link(ByPeer))",
    "Disconnected(Replaced)",
    "Disconnected(Silent)",
    "Disconnected(Slow)",
    "Echo",
    "Expired(Kicked)",
    "Expired(Protocol)",
    "Expired(Timeout)",
    "Joined false",
    "Joined true",
    "MemberDisconnected",
    "MemberResumed",
    "Parted Kicked",
    "Parted Left",
    "Parted Protocol",
    "Parted ZoneClosed",
    "Refused Disconnected",
    "Refused Full",
    "Refused NoSuchZone",
    "Refused NotInZone",
    "Registered",
    "Resumed { resync: false }",
    "Resumed { resync: true }",
    "SessionClosed Bye",
    "SessionClosed Kicked",
    "SessionClosed Protocol",
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
    "ZoneParted ZoneClosed",
];
