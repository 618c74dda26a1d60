//! The server beside a model of it: whatever clients, links and games do, both are alike.
//!
//! The model is SESSIONS.md's state table in plain Rust: [`reference`] has the state,
//! [`clients`] what clients do, [`server`] a tick. [`steps`] says what may happen; [`subject`] does the same to the
//! server and compares: states, counts, deadlines, memberships, what the game was told and heard, and
//! every reliable frame that a client saw. The invariants are checked after each tick besides.

mod clients;
mod reference;
mod server;
mod steps;
mod subject;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use waystation::session::Planted;

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
        Subject::new(None)
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

/// The same traces each time.
fn runner(cases: u32) -> TestRunner {
    let config =
        Config { cases, max_shrink_iters: SHRINKS_MAX, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// A model that hardly gets anywhere proves nothing.
#[test]
fn the_model_gets_to_every_row() {
    let mut runner = runner(400);
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

/// Runs the model against a server with a bug until that is found: the shortest trace that shows
/// it, and what did.
fn find(bug: Planted) -> (Vec<Step>, String) {
    let found = runner(CASES_MAX).run(&Contract::sequential_strategy(100), |(_, steps, seen)| {
        let count = || {
            if let Some(seen) = &seen {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        };
        let steps: Vec<Step> = steps.iter().map(|shown| shown.0).collect();
        run(bug, &steps, count).map_err(|reason| TestCaseError::fail(reason.unwrap_or_default()))
    });
    let Err(TestError::Fail(reason, (_, steps, _))) = found else {
        panic!("{bug:?} was not found in {CASES_MAX} cases: {found:?}");
    };
    let mut steps: Vec<Step> = steps.iter().map(|shown| shown.0).collect();
    let mut reason = reason.message().to_owned();
    // What had to stay in the first round may not be needed any more.
    while let Some((shorter, shown)) = shorten(bug, &steps) {
        (steps, reason) = (shorter, shown);
    }
    (steps, reason)
}

/// A trace without one step, or with a shorter one, that still shows the bug.
fn shorten(bug: Planted, steps: &[Step]) -> Option<(Vec<Step>, String)> {
    let others = (0..steps.len()).flat_map(|at| {
        let without = [&steps[..at], &steps[at + 1..]].concat();
        let simpler = steps[at].simpler().map(|step| {
            let mut steps = steps.to_vec();
            steps[at] = step;
            steps
        });
        std::iter::once(without).chain(simpler)
    });
    others
        .filter_map(|steps| Some((run(bug, &steps, || {}).err()??, steps)))
        .map(|(reason, steps)| (steps, reason))
        .next()
}

/// Runs a trace against a server with a bug. An error says how it shows, or is empty if the trace is
/// impossible.
fn run(bug: Planted, steps: &[Step], mut count: impl FnMut()) -> Result<(), Option<String>> {
    let mut model = Reference::new();
    let mut subject = Subject::new(Some(bug));
    for step in steps {
        if !is_possible(&model, *step) {
            return Err(None);
        }
        count();
        model.apply(*step);
        let compared = catch_unwind(AssertUnwindSafe(|| {
            subject.apply(*step, &model);
            subject.compare(&model);
        }));
        compared.map_err(|panic| Some(panic.downcast_ref::<String>().cloned().unwrap_or_default()))?;
    }
    Ok(())
}

#[test]
fn planted_a_timer_that_a_resume_does_not_cancel_is_caught() {
    let (steps, reason) = find(Planted::TimerNotCancelled);

    shows(&steps, &reason, "3: ExpiresAt");
}

#[test]
fn planted_a_double_part_is_caught() {
    let (steps, reason) = find(Planted::DoublePart);

    shows(&steps, &reason, "8: parted");
}

#[test]
fn planted_a_stale_epoch_that_is_accepted_is_caught() {
    let (steps, reason) = find(Planted::StaleEpochAccepted);

    shows(&steps, &reason, "state of session");
}

#[test]
fn planted_members_that_leak_are_caught() {
    let (steps, reason) = find(Planted::MembersLeak);

    shows(&steps, &reason, "members");
}

#[test]
fn planted_a_replay_that_comes_twice_is_caught() {
    let (steps, reason) = find(Planted::ReplayTwice);

    shows(&steps, &reason, "12: took");
}

#[test]
fn planted_a_token_that_is_not_rotated_is_caught() {
    let (steps, reason) = find(Planted::TokenNotRotated);

    shows(&steps, &reason, "tokens");
}

/// The trace is short enough to be read, and the bug was found for what it is.
#[allow(
    clippy::print_stdout,
    reason = "the trace of a planted bug is worth seeing: cargo test planted -- --nocapture"
)]
fn shows(steps: &[Step], reason: &str, what: &str) {
    println!("{steps:?}\n  {reason}");
    assert!(reason.contains(what), "found for another reason: {reason}");
    assert!(steps.len() <= STEPS_MAX, "a trace of {} steps: {steps:?}", steps.len());
}

/// A planted bug is found in so many cases, or the model is too weak.
const CASES_MAX: u32 = 200;
/// Shorter traces that are tried.
const SHRINKS_MAX: u32 = 10_000;
/// Longest trace that a planted bug is shrunk to.
const STEPS_MAX: usize = 12;
