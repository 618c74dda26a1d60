//! Bots: real clients that play the arena, lose their links on purpose, and check that nothing is
//! lost by it.
//!
//! A run is a test of a server from outside: it knows nothing but the client library and the
//! arena's messages, and measures neither the server's memory nor its ticks.
//!
//! Data flow: all bots live in one thread and one loop. Each joins the zone `arena`, sends an
//! unreliable `Input` 20 times a second and a reliable, numbered `Say` five times a second, and
//! checks each `Echo`; its plan says when it is cut. After the time there is a grace for all to
//! settle, then each says Bye, and what was seen becomes a [`BotReport`].

mod check;
mod plan;
mod player;
mod report;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::ProgressBar;

pub use check::LaneTally;
pub use plan::CutKind;
pub use report::{BotReport, CutTally};

use crate::client::{Client, ClientConfig, ConnectToken, Dial, UdpDial};
use plan::CutPlan;
use player::Player;

/// The arena's messages, as any client would generate them for itself.
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "generated: a client uses a part of them"
)]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/arena.v1.rs"));
}

/// What a run of bots is told.
#[derive(Debug, Clone)]
pub struct BotOptions {
    /// How many clients. Each takes a socket and up to some 2 MiB; 1 to 1,000, which is what one
    /// UDP server holds.
    pub clients: usize,
    /// How long they play. Connecting counts, settling at the end (15 s at most) does not.
    pub duration: Duration,
    /// How often each one is cut on average; none: never. A second or more.
    pub cut_every: Option<Duration>,
    /// Where the jitter of the cuts comes from.
    pub seed: u64,
}

impl Default for BotOptions {
    /// 20 clients for 20 s, without cuts.
    fn default() -> Self {
        Self {
            clients: 20,
            duration: Duration::from_secs(20),
            cut_every: None,
            seed: 1,
        }
    }
}

/// Runs bots over UDP, at the pace of the machine's clock, and returns what they saw. `mint` is
/// asked once a bot for the source of its connect tokens, which gives one for every link.
///
/// A progress bar goes to stderr if that is a terminal.
pub fn run<S, E>(options: &BotOptions, mut mint: impl FnMut() -> S) -> BotReport
where
    S: FnMut() -> Result<ConnectToken, E> + Send + 'static,
    E: fmt::Display,
{
    let mut crowd = Crowd::new(options, |_| UdpDial::new(mint()));
    let bar = ProgressBar::new(options.duration.as_secs());
    let mut last = now();
    while !crowd.is_done() {
        let due = last + LOOP_EVERY;
        std::thread::sleep(due.saturating_duration_since(now()));
        let woken = now();
        crowd.step(woken.saturating_duration_since(last));
        last = woken;
        bar.set_position(crowd.now.as_secs().min(options.duration.as_secs()));
    }
    bar.finish_and_clear();
    crowd.into_report()
}

#[allow(
    clippy::disallowed_methods,
    reason = "bots are clients: the loop is paced by the machine's clock"
)]
fn now() -> Instant {
    Instant::now()
}

/// All bots of a run, and its time.
struct Crowd<D: Dial> {
    players: Vec<Player<D>>,
    /// Bots that have started.
    started: usize,
    now: Duration,
    stage: Stage,
    duration: Duration,
    report: BotReport,
    /// Round trips in microseconds; none if the histogram could not be made.
    rtt: Option<Histogram<u64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Playing,
    /// Nothing new is sent; since when.
    Settling(Duration),
    /// Bye is said; since when.
    Leaving(Duration),
    Done,
}

impl<D: Dial> Crowd<D> {
    fn new(options: &BotOptions, mut dial: impl FnMut(usize) -> D) -> Self {
        let until = plan::cuts_until(options.duration);
        let players = (0..options.clients)
            .map(|index| {
                let config = ClientConfig {
                    seed: Some(options.seed.wrapping_add(index as u64)),
                    ..ClientConfig::default()
                };
                let plan = options
                    .cut_every
                    .map(|every| CutPlan::new(every, until, index, options.seed));
                Player::new(Client::new(dial(index), config), plan)
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
                ..BotReport::default()
            },
            rtt: Histogram::new_with_bounds(1, RTT_MAX_MICROS, 3).ok(),
        }
    }

    fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    fn step(&mut self, dt: Duration) {
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
        let playing = self.stage == Stage::Playing;
        let rtt = &mut self.rtt;
        let mut timed = |took: Duration| {
            if let Some(rtt) = rtt {
                rtt.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            }
        };
        for player in &mut self.players[..self.started] {
            player.update(dt, now, &mut self.report, &mut timed);
            if playing {
                player.play(now, &mut self.report);
            }
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
                        player.leave(&mut self.report);
                    }
                    self.stage = Stage::Leaving(now);
                }
            }
            Stage::Playing | Stage::Leaving(_) | Stage::Done => {}
        }
    }

    fn into_report(mut self) -> BotReport {
        if let Some(rtt) = &self.rtt {
            self.report.echoes_timed = rtt.len();
            self.report.rtt_p50 = Duration::from_micros(rtt.value_at_quantile(0.5));
            self.report.rtt_p99 = Duration::from_micros(rtt.value_at_quantile(0.99));
        }
        self.report
    }
}

/// A minute: longer than any echo that is waited for.
const RTT_MAX_MICROS: u64 = 60_000_000;
/// 50 Hz, like a game on a weak machine.
const LOOP_EVERY: Duration = Duration::from_millis(20);
/// Bots start a hundred a second, so that the first second is not the test.
const START_EVERY: Duration = Duration::from_millis(10);
/// A silent cut just before the end, and a few tries.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// The server answers a Bye at once or not at all.
const LEAVE_MAX: Duration = Duration::from_secs(6);
