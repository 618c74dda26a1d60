//! Measures a resume of one client, from the dial until all waiting frames have arrived.

use std::cell::RefCell;
use std::time::Duration;

use bevy_app::Update;
use bevy_ecs::prelude::*;
use bytes::Bytes;
use divan::Bencher;
use waystation::arena::v1::{Echo, Say};
use waystation::client::{Client, ClientConfig, ClientEvent, Cut, Dial, DialError, Link, LinkStatus};
use waystation::proxy::LinkInfo;
use waystation::proxy::loopback::{Loopback, LoopbackLink};
use waystation::rpc::{AppRpc as _, Call, Sender};
use waystation::session::Session;
use waystation::wire::{Lane, lane_of};

use crate::stage::Stage;

/// Dials within the process.
struct Dialer(Loopback);

struct Dialled(LoopbackLink);

impl Dial for Dialer {
    type Link = Dialled;

    fn dial(&mut self) -> Result<Dialled, DialError> {
        Ok(Dialled(self.0.connect(LinkInfo::default())))
    }
}

impl Link for Dialled {
    fn update(&mut self, _dt: Duration) {}

    fn status(&self) -> LinkStatus {
        if self.0.is_closed() { LinkStatus::Closed } else { LinkStatus::Open }
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        let frame = self.0.receive()?;
        Some((lane_of(&frame), frame))
    }

    fn send(&mut self, frame: Bytes) -> bool {
        self.0.send(lane_of(&frame), frame).is_ok()
    }

    fn flush(&mut self) {}

    fn close(&mut self) {
        self.0.close();
    }
}

/// Number of calls that the game has read.
#[derive(Resource, Debug, Default)]
struct Heard(u64);

/// Number of messages that the game sends to the session in its next tick.
#[derive(Resource, Debug, Default)]
struct Backlog(u64);

fn hear(mut calls: MessageReader<Call<Say>>, mut heard: ResMut<Heard>) {
    heard.0 += calls.read().count() as u64;
}

fn speak(mut backlog: ResMut<Backlog>, sessions: Query<Entity, With<Session>>, mut sender: Sender) {
    for number in 0..std::mem::take(&mut backlog.0) {
        for session in &sessions {
            sender.send(session, &Echo { number, taken: number });
        }
    }
}

/// A server and its only client, which is a member of a zone.
struct Pair {
    stage: Stage,
    client: Client<Dialer>,
}

impl Pair {
    fn new() -> RefCell<Self> {
        let mut stage = Stage::new(&["hall"]);
        stage
            .app
            .add_call::<Say>()
            .init_resource::<Heard>()
            .init_resource::<Backlog>()
            .add_systems(Update, (hear, speak));
        let client = Client::new(Dialer(stage.loopback.clone()), ClientConfig::default());
        let mut pair = Self { stage, client };
        pair.until(|pair| pair.client.session_id().is_some());
        pair.client.join("hall", "").expect("a session");
        pair.settle();
        RefCell::new(pair)
    }

    /// Runs one update of the client and one tick. No time passes on the server.
    fn step(&mut self) {
        self.client.update(STEP);
        while let Some(event) = self.client.poll() {
            assert!(!matches!(event, ClientEvent::SessionLost { .. }), "{event:?}");
        }
        self.stage.tick();
    }

    fn until(&mut self, is_done: impl Fn(&Self) -> bool) {
        let mut steps = 0;
        while !is_done(self) {
            self.step();
            steps += 1;
            assert!(steps < STEPS_MAX, "the client does not reach the expected state: {:?}", self.client);
        }
    }

    fn heard(&self) -> u64 {
        self.stage.app.world().resource::<Heard>().0
    }

    /// Lets both sides acknowledge all frames, which takes up to one second of their time.
    fn settle(&mut self) {
        for _ in 0..30 {
            self.stage.tick_after(STEP);
            self.step();
        }
        assert_eq!(self.client.acked_count(), self.client.sent_count());
    }
}

/// Resumes with frames that the client sent while it had no link.
#[divan::bench(args = [0, 512], sample_count = 200, sample_size = 1)]
fn frames_of_the_client(bencher: Bencher, frames: u64) {
    let pair = Pair::new();

    bencher
        .with_inputs(|| {
            let mut pair = pair.borrow_mut();
            pair.settle();
            pair.client.cut(Cut::Silent { hold: Duration::ZERO });
            for number in 0..frames {
                pair.client.send(&Say { number }).expect("room for 512");
            }
            (pair.heard() + frames, pair.client.resume_count() + 1)
        })
        .bench_local_values(|(heard, resumes)| {
            let is_done = |pair: &Pair| pair.heard() == heard && pair.client.resume_count() == resumes;
            pair.borrow_mut().until(is_done);
        });
}

/// Resumes with frames that the server sent while the client had no link.
#[divan::bench(args = [0, 512], sample_count = 200, sample_size = 1)]
fn frames_of_the_server(bencher: Bencher, frames: u64) {
    let pair = Pair::new();

    bencher
        .with_inputs(|| {
            let mut pair = pair.borrow_mut();
            pair.settle();
            pair.client.cut(Cut::Silent { hold: Duration::ZERO });
            pair.stage.app.insert_resource(Backlog(frames));
            pair.stage.tick();
            (pair.client.received_count() + frames, pair.client.resume_count() + 1)
        })
        .bench_local_values(|(received, resumes)| {
            let is_done = |pair: &Pair| {
                pair.client.received_count() == received && pair.client.resume_count() == resumes
            };
            pair.borrow_mut().until(is_done);
        });
}

/// Time that passes for the client in each step.
const STEP: Duration = Duration::from_millis(50);
/// Number of steps after which a wait fails. No wait needs as many.
const STEPS_MAX: u32 = 100;
