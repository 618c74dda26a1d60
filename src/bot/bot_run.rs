//! All bots of a run, from their start to their Bye.

use std::time::Duration;

use super::plan::{self, CutPlan};
use super::player::{Player, Step, TransportOf};
use super::report::BotReport;
use super::rng::BotRng;
use super::rows::{RoundTrips, TransportTally};
use super::{Bot, BotOptions, Transports};
use crate::client::{Client, ClientConfig, Credentials, Dial, Transport};

/// All bots of a run, and the time since its start.
pub(super) struct BotRun<D: Dial> {
    players: Vec<Player<D>>,
    /// The number of bots that have started.
    started: usize,
    now: Duration,
    stage: Stage,
    duration: Duration,
    report: BotReport,
    trips: RoundTrips,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Playing,
    /// The bots send nothing new and wait for answers, since this time.
    Settling(Duration),
    /// The bots have sent Bye, at this time.
    Leaving(Duration),
    Done,
}

impl<D: Dial> BotRun<D> {
    /// Returns a run with one bot for each dial. `bots` returns the bot with an index, from 0. `used` are the transports of the report.
    pub(super) fn new(
        options: &BotOptions,
        used: &[Transport],
        dials: impl IntoIterator<Item = D>,
        transport_of: TransportOf<D>,
        mut bots: impl FnMut(usize) -> Box<dyn Bot>,
    ) -> Self {
        let until = plan::cuts_until(options.duration);
        let players: Vec<_> = dials
            .into_iter()
            .enumerate()
            .map(|(index, dial)| {
                let name = format!("bot {}", index + 1);
                let config = ClientConfig {
                    credentials: Credentials::Anonymous { name: name.clone() },
                    seed: Some(options.seed.wrapping_add(index as u64)),
                    ..ClientConfig::default()
                };
                let plan = options.cut_every.map(|every| CutPlan::new(every, until, index, options.seed));
                let rng = BotRng::new(options.seed, index);
                Player::new(bots(index), name, Client::new(dial, config), transport_of, plan, rng)
            })
            .collect();
        Self {
            players,
            started: 0,
            now: Duration::ZERO,
            stage: Stage::Playing,
            duration: options.duration,
            report: BotReport {
                clients: options.clients as u64,
                every_kind_due: options
                    .cut_every
                    .is_some_and(|every| plan::every_kind_is_due(every, options.duration, options.clients)),
                transports: used.iter().copied().map(TransportTally::new).collect(),
                mixed: options.transports == Transports::Mix && used.len() > 1,
                ..BotReport::default()
            },
            trips: RoundTrips::default(),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    pub(super) fn step(&mut self, dt: Duration) {
        self.now += dt;
        let now = self.now;
        if let Stage::Leaving(since) = self.stage {
            for player in &mut self.players {
                player.update_leaving(dt);
            }
            if self.players.iter().all(Player::is_stopped) || now >= since + LEAVE_MAX {
                self.stage = Stage::Done;
            }
            return;
        }
        while self.started < self.players.len() && now >= START_EVERY * self.started as u32 {
            self.started += 1;
        }
        let is_playing = self.stage == Stage::Playing;
        let mut step = Step { now, dt, is_playing, report: &mut self.report, trips: &mut self.trips };
        for player in &mut self.players[..self.started] {
            // The following update sends what `play` has queued.
            if is_playing {
                player.play(&mut step);
            }
            player.update(&mut step);
        }
        self.advance_stage();
    }

    fn advance_stage(&mut self) {
        let now = self.now;
        match self.stage {
            Stage::Playing if now >= self.duration => self.stage = Stage::Settling(now),
            Stage::Settling(since) => {
                let settled = self.players.iter().all(Player::is_settled);
                if settled || now >= since + SETTLE_MAX {
                    for player in &mut self.players {
                        player.leave(now, &mut self.report);
                    }
                    self.stage = Stage::Leaving(now);
                }
            }
            Stage::Playing | Stage::Leaving(_) | Stage::Done => {}
        }
    }

    /// Returns the time since the start of the run.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// Returns the number of bots that have joined.
    pub(super) fn joined(&self) -> u64 {
        self.report.joined
    }

    pub(super) fn into_report(mut self) -> BotReport {
        self.report.timed(&self.trips);
        self.report
    }
}

/// The time between two starts of bots: 100 bots start per second, so that the start does not dominate the load.
const START_EVERY: Duration = Duration::from_millis(10);
/// The longest wait for answers: enough for a silent cut just before the end, and a few tries.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// The longest wait for the answers to Bye. The server answers at once.
const LEAVE_MAX: Duration = Duration::from_secs(6);
