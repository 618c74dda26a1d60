//! Tests of links that are opened in advance, with scripted links and on virtual time.

use super::super::race::tests::{Script, Scripted, SharedLog, ms, routes};
use super::super::url::Transport::WebSocket;
use super::*;

const STEP: Duration = Duration::from_millis(50);

struct Scene {
    standby: Standby<Scripted>,
    log: SharedLog,
    script: Script,
}

impl Scene {
    fn new(script: Script) -> Self {
        Self { standby: Standby::Idle, log: SharedLog::default(), script }
    }

    /// Lets time pass on a silent link whose silence is `silence_ms` at the beginning.
    fn silent(&mut self, silence_ms: u64, time: Duration) {
        let mut passed = Duration::ZERO;
        while passed < time {
            self.step(Some(ms(silence_ms) + passed));
            passed += STEP;
        }
    }

    fn step(&mut self, silence: Option<Duration>) {
        self.step_with(&DialState { silence, ..DialState::default() });
    }

    fn step_with(&mut self, state: &DialState) {
        let (log, script) = (&self.log, self.script);
        self.standby.update(STEP, state, routes(&[WebSocket]), |route| {
            Start::Link(Scripted::begin(log, route.transport, script))
        });
    }

    fn close_counts(&self) -> Vec<usize> {
        self.log.borrow().close_counts.clone()
    }
}

#[test]
fn a_link_is_opened_after_2_5_s_of_silence_and_returned_by_the_next_dial() {
    let mut scene = Scene::new(Script::OpensAfter(ms(300)));
    scene.silent(0, ms(2_500));
    assert!(scene.close_counts().is_empty(), "nothing is opened yet");

    scene.silent(2_500, ms(2_500));
    scene.step(None);

    let taken = scene.standby.take();
    assert!(matches!(&taken, Standby::Open(won, _) if won.link.status() == LinkStatus::Open));
    assert_eq!(scene.close_counts(), [0], "one link was opened, and it is open");
}

#[test]
fn a_link_is_opened_when_the_hello_of_a_resume_has_had_no_answer_for_a_second() {
    let mut scene = Scene::new(Script::OpensAfter(ms(300)));
    let unanswered = |time| DialState { unanswered: Some(time), ..DialState::default() };

    for passed in (0..1_000).step_by(50) {
        scene.step_with(&unanswered(ms(passed)));
    }
    assert!(scene.close_counts().is_empty(), "nothing is opened yet");
    for passed in (1_000..2_500).step_by(50) {
        scene.step_with(&unanswered(ms(passed)));
    }
    assert!(matches!(&scene.standby, Standby::Open(..)));
    scene.step(Some(Duration::ZERO));

    assert_eq!(scene.close_counts(), [1], "the Hello was answered");
}

#[test]
fn a_link_opened_in_advance_is_closed_when_the_link_of_the_session_is_no_longer_silent() {
    for (script, open_for_ms) in [(Script::OpensAfter(ms(300)), 1_000), (Script::Silent, 200)] {
        let mut scene = Scene::new(script);
        scene.silent(2_500, ms(open_for_ms));
        assert_eq!(scene.close_counts(), [0]);

        scene.silent(0, ms(2_000));

        assert_eq!(scene.close_counts(), [1]);
        assert!(matches!(scene.standby, Standby::Idle));
    }
}

#[test]
fn a_link_opened_in_advance_is_closed_before_the_server_closes_it() {
    let mut scene = Scene::new(Script::OpensAfter(ms(100)));
    scene.silent(2_500, ms(1_000));

    for _ in 0..100 {
        scene.step(None);
    }

    assert_eq!(scene.close_counts(), [1]);
    assert!(matches!(scene.standby.take(), Standby::Idle));
}

#[test]
fn a_refused_websocket_is_opened_again_after_a_pause() {
    let mut scene = Scene::new(Script::RefusesAfter(ms(50)));

    scene.silent(2_500, ms(2_500));

    let count = scene.close_counts().len();
    assert!((2..=3).contains(&count), "{count} openings within 2.5 s");
    assert!(scene.close_counts().iter().all(|closes| *closes == 1));
}

#[test]
fn with_a_longer_link_timeout_the_link_is_opened_shortly_before_the_loss() {
    assert_eq!(begins_after(ms(5_000)), ms(2_500));
    assert_eq!(begins_after(ms(60_000)), ms(57_500));
    assert_eq!(begins_after(ms(1_000)), ms(2_500), "the link timeout comes first");
}
