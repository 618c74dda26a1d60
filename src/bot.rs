//! Runs bots: real clients that play the arena, cut their links, and check that no message is lost.
//!
//! A run tests a server from outside. It uses only the client library and the arena's messages. It does not
//! measure the server's memory or ticks.
//!
//! All bots run on one thread, in one loop. Each bot joins the zone `arena`. It sends an unreliable `Input` 20
//! times a second and a reliable, numbered `Say` five times a second, and checks each `Echo`. Its plan decides when
//! its link is cut. At the end of the run, the bots wait until all calls are answered. Then they send Bye.
//!
//! Data flow: discovery → the transports to use → one client per bot → checks and tallies → a [`BotReport`].

mod check;
mod plan;
mod player;
mod report;
mod rows;
#[cfg(test)]
mod tests;
mod transports;

use std::fmt;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

pub use check::LaneTally;
pub use plan::CutKind;
pub use report::{BotReport, CutTally};
pub use rows::TransportTally;
pub use transports::Transports;

use crate::client::{
    AnyLink, Client, ClientConfig, Credentials, Dial, FetchError, RelayAddresses, Transport,
};
use plan::CutPlan;
use player::{Player, TransportOf};
use rows::RoundTrips;

/// The arena's messages, generated as in a client outside of this crate.
#[allow(dead_code, missing_docs, unreachable_pub, reason = "generated: the bots use a part of them")]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/arena.v1.rs"));
}

/// The options of a run of bots.
#[derive(Clone)]
pub struct BotOptions {
    /// The URL of the server's discovery: `http:` or `https:`, without a fragment. Default:
    /// `http://127.0.0.1:7780`.
    pub server: String,
    /// The bearer token for discovery, if the server requires one. Default: `None`.
    pub bearer: Option<String>,
    /// The transports of the links. Default: UDP.
    pub transports: Transports,
    /// The relays through which the bots connect. Default: no relays.
    pub through: RelayAddresses,
    /// The number of clients, 1 to 1,000. Each takes a socket and up to about 2 MiB. A UDP server holds 1,000
    /// clients. Default: 20.
    pub clients: usize,
    /// How long the bots play. The time includes connecting. It does not include the wait for answers at the end,
    /// which takes 15 s at most. Default: 20 s.
    pub duration: Duration,
    /// The average time between two cuts of a bot's link: 1 s or more. `None`: no link is cut. Default: `None`.
    pub cut_every: Option<Duration>,
    /// The seed of the times of the cuts. Default: 1.
    pub seed: u64,
}

/// The error of bots that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BotError {
    /// Discovery has failed.
    #[error("{0}")]
    Discovery(#[from] FetchError),
    /// Discovery does not answer in time.
    #[error("{0} does not answer in time: check that it is reachable and not overloaded")]
    Silent(String),
    /// The server does not offer the wanted transports.
    #[error("{server} offers no {wanted}; it offers: {offered}")]
    NotOffered {
        /// The URL of the server.
        server: String,
        /// The wanted transports.
        wanted: String,
        /// The offered transports.
        offered: String,
    },
}

impl fmt::Debug for BotOptions {
    /// Omits the bearer token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BotOptions")
            .field("server", &self.server)
            .field("transports", &self.transports)
            .field("through", &self.through)
            .field("clients", &self.clients)
            .field("duration", &self.duration)
            .field("cut_every", &self.cut_every)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl Default for BotOptions {
    /// Returns options for 20 clients that play for 20 s over UDP, without cuts, on a server of this machine.
    fn default() -> Self {
        Self {
            server: "http://127.0.0.1:7780".to_owned(),
            bearer: None,
            through: RelayAddresses::default(),
            transports: Transports::One(Transport::Udp),
            clients: 20,
            duration: Duration::from_secs(20),
            cut_every: None,
            seed: 1,
        }
    }
}

/// Runs bots in real time and returns their report.
///
/// Shows a progress bar on standard error if that is a terminal.
///
/// # Errors
///
/// Returns [`BotError`] if discovery fails or does not offer the wanted transports.
pub fn run(options: &BotOptions) -> Result<BotReport, BotError> {
    let used = transports::used(options)?;
    let dials: Vec<_> = (0..options.clients)
        .map(|index| transports::dial(options, &used, index))
        .collect::<Result<_, _>>()?;
    let mut crowd = BotRun::new(options, &used, dials, AnyLink::transport);
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
    Ok(crowd.into_report())
}

#[allow(clippy::disallowed_methods, reason = "bots are clients and run in real time")]
fn now() -> Instant {
    Instant::now()
}

/// All bots of a run, and the time since its start.
struct BotRun<D: Dial> {
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
    /// Returns one bot for each dial. `used` are the transports of the report.
    fn new(
        options: &BotOptions,
        used: &[Transport],
        dials: impl IntoIterator<Item = D>,
        transport_of: TransportOf<D>,
    ) -> Self {
        let until = plan::cuts_until(options.duration);
        let players: Vec<_> = dials
            .into_iter()
            .enumerate()
            .map(|(index, dial)| {
                let config = ClientConfig {
                    credentials: Credentials::Anonymous { name: format!("bot {}", index + 1) },
                    seed: Some(options.seed.wrapping_add(index as u64)),
                    ..ClientConfig::default()
                };
                let plan = options.cut_every.map(|every| CutPlan::new(every, until, index, options.seed));
                Player::new(Client::new(dial, config), transport_of, plan)
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
        for player in &mut self.players[..self.started] {
            // The following update sends what `play` has queued.
            if playing {
                player.play(now, &mut self.report);
            }
            player.update(dt, now, &mut self.report, &mut self.trips);
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
        self.report.timed(&self.trips);
        self.report
    }
}

/// The period of the loop: 50 Hz, as a game on a weak machine.
const LOOP_EVERY: Duration = Duration::from_millis(20);
/// The time between two starts of bots: 100 bots start per second, so that the start does not dominate the load.
const START_EVERY: Duration = Duration::from_millis(10);
/// The longest wait for answers: enough for a silent cut just before the end, and a few tries.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// The longest wait for the answers to Bye. The server answers at once.
const LEAVE_MAX: Duration = Duration::from_secs(6);
