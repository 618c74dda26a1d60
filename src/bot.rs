//! Bots: real clients that play the arena, lose their links on purpose, and check that nothing is
//! lost by it.
//!
//! A run is a test of a server from outside: it knows nothing but the client library and the
//! arena's messages, and measures neither the server's memory nor its ticks.
//!
//! Data flow: discovery says which transports there are. All bots live in one thread and one loop.
//! Each joins the zone `arena`, sends an unreliable `Input` 20 times a second and a reliable,
//! numbered `Say` five times a second, and checks each `Echo`; its plan says when it is cut, and its
//! link over which transport it came back. After the time there is a grace for all to settle, then
//! each says Bye, and what was seen becomes a [`BotReport`].

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

use crate::client::{AnyLink, Client, ClientConfig, Credentials, Detour, Dial, FetchError, Transport};
use plan::CutPlan;
use player::{Player, TransportOf};
use rows::RoundTrips;

/// The arena's messages, as any client would generate them for itself.
#[allow(dead_code, missing_docs, unreachable_pub, reason = "generated: a client uses a part of them")]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/arena.v1.rs"));
}

/// What a run of bots is told.
#[derive(Clone)]
pub struct BotOptions {
    /// The server's discovery, an `http:` or `https:` URL without a fragment.
    pub server: String,
    /// What discovery is shown, where it wants to know who asks.
    pub bearer: Option<String>,
    /// What they connect over.
    pub transports: Transports,
    /// The relays through which they reach it; by default none.
    pub through: Detour,
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

/// Bots that cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BotError {
    /// The server's discovery cannot be asked.
    #[error("{0}")]
    Discovery(#[from] FetchError),
    /// It does not answer.
    #[error("{0} does not answer in time: is it reachable, or overloaded?")]
    Silent(String),
    /// It has not enabled what is asked for.
    #[error("{server} offers no {wanted}; it offers: {offered}")]
    NotOffered {
        /// Who was asked.
        server: String,
        /// What the bots were to use.
        wanted: String,
        /// What there is instead.
        offered: String,
    },
}

impl fmt::Debug for BotOptions {
    /// Without the bearer.
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
    /// 20 clients for 20 s, over UDP and without cuts, on a server of this machine.
    fn default() -> Self {
        Self {
            server: "http://127.0.0.1:7780".to_owned(),
            bearer: None,
            through: Detour::default(),
            transports: Transports::One(Transport::Udp),
            clients: 20,
            duration: Duration::from_secs(20),
            cut_every: None,
            seed: 1,
        }
    }
}

/// Runs bots at the pace of the machine's clock, and returns what they saw.
///
/// A progress bar goes to stderr if that is a terminal.
///
/// # Errors
///
/// [`BotError`]: discovery gives nothing that they can use.
pub fn run(options: &BotOptions) -> Result<BotReport, BotError> {
    let used = transports::used(options)?;
    let dials: Vec<_> = (0..options.clients)
        .map(|index| transports::dial(options, &used, index))
        .collect::<Result<_, _>>()?;
    let mut crowd = Crowd::new(options, &used, dials, AnyLink::transport);
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

#[allow(clippy::disallowed_methods, reason = "bots are clients: the loop is paced by the machine's clock")]
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
    trips: RoundTrips,
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
    /// Bots that use these transports, one for each dial.
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
            // What a bot sends leaves with the update that follows.
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

/// 50 Hz, like a game on a weak machine.
const LOOP_EVERY: Duration = Duration::from_millis(20);
/// Bots start a hundred a second, so that the first second is not the test.
const START_EVERY: Duration = Duration::from_millis(10);
/// A silent cut just before the end, and a few tries.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// The server answers a Bye at once or not at all.
const LEAVE_MAX: Duration = Duration::from_secs(6);
