//! Tests of races between scripted links, on virtual time.

use super::*;
use crate::wire::Lane;
use Transport::{Quic, Udp, WebSocket, WebTransport};
use bytes::Bytes;
use proptest::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;

const STEP: Duration = Duration::from_millis(20);
const RULES: Rules = Rules { limit: Duration::from_millis(2_500), is_urgent: false, is_single: false };
const URGENT: Rules = Rules { is_urgent: true, ..RULES };

/// The behaviour of a link.
#[derive(Debug, Clone, Copy)]
pub(in crate::client::any) enum Script {
    OpensAfter(Duration),
    RefusesAfter(Duration),
    /// The link stays opening.
    Silent,
}

/// What happened to each link.
#[derive(Debug, Default)]
pub(in crate::client::any) struct Log {
    pub(in crate::client::any) begun: Vec<Transport>,
    pub(in crate::client::any) close_counts: Vec<usize>,
    sent: usize,
}

pub(in crate::client::any) type SharedLog = Rc<RefCell<Log>>;

/// A link that follows its script.
#[derive(Debug)]
pub(in crate::client::any) struct Scripted {
    pub(in crate::client::any) id: usize,
    script: Script,
    age: Duration,
    closed: bool,
    log: SharedLog,
}

impl Scripted {
    pub(in crate::client::any) fn begin(log: &SharedLog, transport: Transport, script: Script) -> Self {
        let mut entries = log.borrow_mut();
        entries.begun.push(transport);
        entries.close_counts.push(0);
        let id = entries.close_counts.len() - 1;
        Self { id, script, age: Duration::ZERO, closed: false, log: Rc::clone(log) }
    }
}

impl Link for Scripted {
    fn update(&mut self, dt: Duration) {
        self.age += dt;
    }

    fn status(&self) -> LinkStatus {
        match self.script {
            _ if self.closed => LinkStatus::Closed,
            Script::OpensAfter(after) if self.age >= after => LinkStatus::Open,
            Script::RefusesAfter(after) if self.age >= after => LinkStatus::Closed,
            _ => LinkStatus::Opening,
        }
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        None
    }

    fn send(&mut self, _frame: Bytes) -> bool {
        self.log.borrow_mut().sent += 1;
        true
    }

    fn flush(&mut self) {}

    fn close(&mut self) {
        self.closed = true;
        self.log.borrow_mut().close_counts[self.id] += 1;
    }
}

pub(in crate::client::any) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(in crate::client::any) fn routes(transports: &[Transport]) -> Vec<Route> {
    transports.iter().map(|transport| Route { place: 0, transport: *transport }).collect()
}

/// The result of a race, and the time that it took.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Won(Transport, Duration),
    Lost(Duration),
}

/// Runs a race to its end. `script` returns the behaviour of the n-th link.
fn run(
    race: &mut Race<Scripted>,
    log: &SharedLog,
    mut script: impl FnMut(Transport, usize) -> Script,
) -> End {
    run_with(race, |route, _| {
        let count = log.borrow().begun.len();
        Start::Link(Scripted::begin(log, route.transport, script(route.transport, count)))
    })
}

fn run_with(race: &mut Race<Scripted>, mut start: impl FnMut(Route, Duration) -> Start<Scripted>) -> End {
    let mut now = Duration::ZERO;
    loop {
        match race.update(STEP, |route| start(route, now)) {
            Standing::Running => now += STEP,
            Standing::Won(won) => return End::Won(won.route.transport, now),
            Standing::Lost => return End::Lost(now),
        }
        assert!(race.openings.len() <= OPENINGS_MAX);
        assert!(now < Duration::from_secs(60), "the race did not end");
    }
}

fn all() -> Vec<Route> {
    routes(&[Udp, WebSocket, Quic, WebTransport])
}

#[test]
fn if_the_best_route_opens_in_time_no_other_is_opened() {
    let log = SharedLog::default();

    let end = run(&mut Race::new(all(), RULES), &log, |_, _| Script::OpensAfter(ms(300)));

    assert!(matches!(end, End::Won(Udp, at) if at <= ms(340)), "{end:?}");
    assert_eq!(log.borrow().begun, [Udp]);
    assert_eq!(log.borrow().close_counts, [0], "the winner stays open");
}

#[test]
fn if_datagrams_are_dropped_websocket_wins_within_a_second() {
    let log = SharedLog::default();

    let end = run(&mut Race::new(all(), RULES), &log, |transport, _| match transport {
        WebSocket => Script::OpensAfter(ms(200)),
        _ => Script::Silent,
    });

    assert!(matches!(end, End::Won(WebSocket, at) if at <= ms(680)), "{end:?}");
    assert_eq!(log.borrow().begun, [Udp, WebSocket]);
    assert_eq!(log.borrow().close_counts, [1, 0]);
    assert_eq!(log.borrow().sent, 0);
}

#[test]
fn a_refused_opening_is_followed_by_the_next_at_once_and_its_reason_is_kept() {
    let log = SharedLog::default();
    let mut race = Race::new(routes(&[Udp, Quic]), RULES);

    let end = run(&mut race, &log, |_, _| Script::RefusesAfter(ms(40)));

    assert!(matches!(end, End::Lost(at) if at <= ms(160)), "{end:?}");
    assert_eq!(log.borrow().begun, [Udp, Quic]);
    assert!(race.failure().is_some_and(|why| why.contains("quic")));
    assert!(!race.is_silent());
}

#[test]
fn while_one_discovery_is_asked_the_next_server_begins_and_the_answer_is_used_at_once() {
    let log = SharedLog::default();
    let relay = Route { place: 1, transport: WebSocket };
    let order = vec![Route { place: 0, transport: Udp }, Route { place: 0, transport: Quic }, relay];
    let slow = |answers_at: Duration| {
        let log = Rc::clone(&log);
        move |route: Route, now: Duration| match route.place {
            0 if now < answers_at => Start::Asking,
            0 => Start::Link(Scripted::begin(&log, route.transport, Script::OpensAfter(ms(40)))),
            _ => Start::Link(Scripted::begin(&log, route.transport, Script::Silent)),
        }
    };

    let quick = run_with(&mut Race::new(order.clone(), RULES), slow(ms(100)));
    assert!(matches!(quick, End::Won(Udp, at) if at <= ms(180)), "{quick:?}");
    assert_eq!(std::mem::take(&mut log.borrow_mut().begun), [Udp]);
    log.borrow_mut().close_counts.clear();

    let late = run_with(&mut Race::new(order, RULES), slow(ms(3_000)));
    assert!(matches!(late, End::Won(Udp, at) if at <= ms(3_500)), "{late:?}");
    assert_eq!(log.borrow().begun[0], WebSocket);
}

#[test]
fn silence_ends_a_race_after_its_limit_which_a_measured_round_trip_lengthens() {
    let log = SharedLog::default();
    let mut race = Race::new(routes(&[Udp, WebSocket]), RULES);

    let end = run(&mut race, &log, |_, _| Script::Silent);
    let End::Lost(at) = end else { panic!("{end:?}") };
    assert!((ms(2_900)..=ms(3_400)).contains(&at), "{at:?}");
    assert!(race.is_silent());
    assert!(log.borrow().close_counts.iter().all(|count| *count == 1));

    let mut race = Race::new(routes(&[Udp]), RULES);
    race.allow(ms(6_000));
    let end = run(&mut race, &SharedLog::default(), |_, _| Script::OpensAfter(ms(5_900)));
    assert!(matches!(end, End::Won(Udp, _)), "{end:?}");
}

#[test]
fn a_slow_websocket_is_opened_a_second_time_and_netcode_is_not() {
    let log = SharedLog::default();

    let end =
        run(&mut Race::new(routes(&[Udp, WebSocket]), RULES), &log, |transport, count| match transport {
            WebSocket if count >= 2 => Script::OpensAfter(ms(100)),
            _ => Script::Silent,
        });

    assert!(matches!(end, End::Won(WebSocket, at) if at <= ms(1_600)), "{end:?}");
    assert_eq!(log.borrow().begun, [Udp, WebSocket, WebSocket]);
    assert_eq!(log.borrow().close_counts, [1, 1, 0]);
}

#[test]
fn an_urgent_race_sends_a_packet_soon_after_the_network_is_back_at_any_time() {
    for heals_at in (100..9_500).step_by(100).map(ms) {
        let mut race = Race::new(routes(&[WebSocket]), URGENT);
        let log = SharedLog::default();

        let end = run_with(&mut race, |route, now| {
            // TCP sends its first packet at once, and again after 1 s and after 3 s.
            let arrives_at = [0, 1_000, 3_000].map(|at| now + ms(at)).into_iter().find(|at| *at >= heals_at);
            let script = arrives_at.map_or(Script::Silent, |at| Script::OpensAfter(at - now + ms(100)));
            Start::Link(Scripted::begin(&log, route.transport, script))
        });

        let End::Won(_, at) = end else { panic!("lost, healed at {heals_at:?}") };
        assert!(at <= heals_at + ms(700), "healed at {heals_at:?}, open at {at:?}");
    }
}

#[test]
fn a_single_race_opens_the_first_route_that_is_offered_and_no_other() {
    let log = SharedLog::default();
    let single = Rules { is_single: true, ..RULES };
    let mut race = Race::new(all(), single);

    let end = run_with(&mut race, |route, _| match route.transport {
        Udp => Start::NotOffered,
        transport => Start::Link(Scripted::begin(&log, transport, Script::Silent)),
    });

    assert!(matches!(end, End::Lost(_)), "{end:?}");
    assert!(log.borrow().begun.iter().all(|transport| *transport == WebSocket));
    assert!(log.borrow().close_counts.iter().all(|count| *count == 1));
}

#[test]
fn after_a_stall_an_opening_is_read_before_it_times_out() {
    let log = SharedLog::default();
    let mut race = Race::new(routes(&[Udp]), RULES);
    let mut start =
        |route: Route| Start::Link(Scripted::begin(&log, route.transport, Script::OpensAfter(ms(600))));
    assert!(matches!(race.update(STEP, &mut start), Standing::Running));

    let mut stalls = 0;
    while matches!(race.update(Duration::from_secs(10), &mut start), Standing::Running) {
        stalls += 1;
        assert!(stalls < 10, "the race did not end");
    }

    assert_eq!(log.borrow().close_counts, [0], "the link has won");
}

#[test]
fn a_race_continues_the_openings_of_another_race() {
    let log = SharedLog::default();
    let mut first = Race::new(routes(&[WebSocket]), RULES);
    let begin =
        |route: Route| Start::Link(Scripted::begin(&log, route.transport, Script::OpensAfter(ms(200))));
    assert!(matches!(first.update(STEP, begin), Standing::Running));

    let mut race = Race::new(routes(&[Udp, WebSocket]), RULES);
    race.adopt(first);
    let end = run(&mut race, &log, |_, _| Script::Silent);

    assert!(matches!(end, End::Won(WebSocket, at) if at <= ms(240)), "{end:?}");
    assert_eq!(log.borrow().begun, [WebSocket, Udp], "WebSocket does not begin again");
    assert_eq!(log.borrow().close_counts, [0, 1]);
}

fn scripts() -> impl Strategy<Value = Script> {
    prop_oneof![
        (0u64..4_000).prop_map(|after| Script::OpensAfter(ms(after))),
        (0u64..4_000).prop_map(|after| Script::RefusesAfter(ms(after))),
        Just(Script::Silent),
    ]
}

/// The results of starts: 0 is `Asking`, 1 is `NotOffered`, 2 is `Failed`, other numbers are `Link`.
type Starts = Vec<(u8, Script)>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn in_any_race_each_link_is_closed_once_or_wins_and_nothing_is_sent(
        starts in prop::collection::vec((0u8..8, scripts()), 1..12),
        steps in prop::collection::vec(1u64..400, 1..24),
        count in 1usize..=4, is_urgent: bool, is_single: bool, closes_after in 0usize..400,
    ) {
        let starts: Starts = starts;
        let log = SharedLog::default();
        let mut race = Race::new(all()[..count].to_vec(), Rules { is_urgent, is_single, ..RULES });
        let (mut calls, mut winner, mut asks) = (0, None, 0);
        let mut is_over = false;
        for index in 0..4_000 {
            if index == closes_after {
                race.close();
                is_over = true;
                break;
            }
            let dt = ms(steps[index % steps.len()]);
            let standing = race.update(dt, |route| {
                let (kind, script) = starts[calls % starts.len()];
                calls += 1;
                match kind {
                    // Discovery answers after 20 starts.
                    0 if asks < 20 => { asks += 1; Start::Asking }
                    1 => Start::NotOffered,
                    2 => Start::Failed("unusable".to_owned()),
                    _ => Start::Link(Scripted::begin(&log, route.transport, script)),
                }
            });
            prop_assert!(race.openings.len() <= OPENINGS_MAX);
            match standing {
                Standing::Running => continue,
                Standing::Won(won) => {
                    prop_assert_eq!(won.link.status(), LinkStatus::Open);
                    winner = Some(won.link.id);
                }
                Standing::Lost => {}
            }
            is_over = true;
            break;
        }

        prop_assert!(is_over, "the race did not end");
        let log = log.borrow();
        prop_assert_eq!(log.sent, 0);
        for (id, closes) in log.close_counts.iter().enumerate() {
            prop_assert_eq!(*closes, usize::from(winner != Some(id)), "link {} of {:?}", id, log.begun);
        }
    }
}
