//! Runs bots: real clients that play a game, cut their links, and check that no message is lost.
//!
//! A run tests a server from outside. It uses only the client library and the game's messages. It does not measure
//! the server's memory or ticks.
//!
//! A game's bot implements [`Bot`]. [`ArenaBot`] plays the arena. All bots run on one thread, in one loop. Each bot
//! joins its zone and plays. The plan of cuts decides when its link is cut. At the end of the run, the bots wait until
//! all calls are answered. Then they send Bye.
//!
//! Data flow: discovery → the transports to use → one client and one bot per player → checks and tallies → a
//! [`BotReport`].
//!
//! # A bot of a game
//!
//! Players of this game throw dice at a table. A player gets a `Thrown` for each `Throw`, with the same number:
//!
//! ```no_run
//! use std::time::Duration;
//! use waystation::bot::{self, Bot, BotOptions, Play};
//! use waystation::client::Frame;
//! # use waystation::{ident::MessageId, wire::{WireMessage, prost}};
//! # #[derive(Clone, PartialEq, prost::Message)]
//! # struct Throw { #[prost(uint32, tag = 1)] sides: u32, #[prost(uint64, tag = 2)] number: u64 }
//! # impl WireMessage for Throw {
//! #     const ID: MessageId = MessageId::new(0x0100);
//! #     const NAME: &'static str = "dice.Throw";
//! # }
//! # #[derive(Clone, PartialEq, prost::Message)]
//! # struct Thrown { #[prost(uint32, tag = 1)] pips: u32, #[prost(uint64, tag = 2)] number: u64 }
//! # impl WireMessage for Thrown {
//! #     const ID: MessageId = MessageId::new(0x0101);
//! #     const NAME: &'static str = "dice.Thrown";
//! # }
//!
//! #[derive(Default)]
//! struct DiceBot {
//!     throw_at: Duration,
//! }
//!
//! impl Bot for DiceBot {
//!     fn zone(&self) -> &str {
//!         "table"
//!     }
//!
//!     fn on_tick(&mut self, play: &mut Play<'_>) {
//!         if play.now() >= self.throw_at {
//!             self.throw_at = play.now() + Duration::from_millis(500);
//!             let sides = 2 + play.rng().below(19);
//!             play.call_numbered(|number| Throw { sides, number });
//!         }
//!     }
//!
//!     fn on_message(&mut self, frame: &Frame, play: &mut Play<'_>) {
//!         if let Ok(thrown) = frame.decode::<Thrown>() {
//!             play.answered(thrown.number);
//!         }
//!     }
//! }
//!
//! let options = BotOptions { cut_every: Some(Duration::from_secs(5)), ..BotOptions::default() };
//! let report = bot::run(&options, |_| DiceBot::default())?;
//! println!("{report}");
//! assert!(report.passed());
//! # Ok::<(), bot::BotError>(())
//! ```
//!
//! # What is checked
//!
//! Each lost link must be followed by a resume of the same session. This is checked for each bot.
//!
//! [Numbered calls](Play::call_numbered) are also checked: each must be answered exactly once and in order. What the
//! check finds depends on the content of the answers:
//!
//! | content of an answer | call or answer lost | doubled | out of order |
//! | --- | --- | --- | --- |
//! | the number, and the count of calls that the game has received | with its direction | with its direction | with its direction |
//! | the number only | found; the direction is known only if the server has not acknowledged the call | found | found |
//! | neither, or there is no numbered call | not checked | not checked | not checked |
//!
//! If no bot of a run has made a numbered call, the report says that no call was checked.

mod arena;
mod bar;
mod bot_run;
mod check;
mod membership;
mod plan;
mod play;
mod player;
mod report;
mod rng;
mod rows;
#[cfg(test)]
mod tests;
mod transports;

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use arena::ArenaBot;
pub use check::LaneTally;
pub use plan::CutKind;
pub use play::Play;
pub use report::{BotReport, CutTally};
pub use rng::BotRng;
pub use rows::TransportTally;
pub use transports::Transports;

use crate::client::v1::Joined;
use crate::client::{AnyLink, FetchError, Frame, RelayAddresses, Transport};
use bar::ProgressLine;
use bot_run::BotRun;

/// What a bot does in a game.
///
/// The methods run on the thread of all bots, and must not block. A bot outlives its session: if the session is lost,
/// the bot goes on with a new one.
pub trait Bot {
    /// Returns the name of the zone to join. A bot joins it whenever its session is in no zone. After Parted and
    /// Refused, it waits for a second, or for the `retry_after_ms` of Refused if that is longer.
    fn zone(&self) -> &str;

    /// Returns the payload of each Join of [`zone`](Self::zone). The default is empty.
    fn join_payload(&self) -> Bytes {
        Bytes::new()
    }

    /// Handles a Joined: the session is in a zone, for the first time or again. The default does nothing.
    fn on_join(&mut self, joined: &Joined, play: &mut Play<'_>) {
        let _ = (joined, play);
    }

    /// Handles any other message from the server: the messages of the game, and Parted, Refused, Members and Notice.
    /// The default does nothing.
    fn on_message(&mut self, frame: &Frame, play: &mut Play<'_>) {
        let _ = (frame, play);
    }

    /// Lets the bot act. This is called 50 times a second while the session is in a zone, with or without a link, until
    /// the time of the run is over. The default does nothing.
    fn on_tick(&mut self, play: &mut Play<'_>) {
        let _ = play;
    }
}

impl<B: Bot + ?Sized> Bot for Box<B> {
    fn zone(&self) -> &str {
        (**self).zone()
    }

    fn join_payload(&self) -> Bytes {
        (**self).join_payload()
    }

    fn on_join(&mut self, joined: &Joined, play: &mut Play<'_>) {
        (**self).on_join(joined, play);
    }

    fn on_message(&mut self, frame: &Frame, play: &mut Play<'_>) {
        (**self).on_message(frame, play);
    }

    fn on_tick(&mut self, play: &mut Play<'_>) {
        (**self).on_tick(play);
    }
}

/// A function that makes the bot with a given index, counted from 0. It hides the type of the bot, so it can be stored
/// and passed to [`run`].
///
/// ```
/// use waystation::bot::{ArenaBot, BotFactory};
///
/// let mut bots: BotFactory = Box::new(|_index| Box::new(ArenaBot::default()));
/// assert_eq!(bots(0).zone(), "arena");
/// ```
pub type BotFactory = Box<dyn FnMut(usize) -> Box<dyn Bot> + Send>;

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
    /// The seed of the times of the cuts, and of [`Play::rng`]. Default: 1.
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
/// `bots` makes the bot with a given index, from 0 to [`clients`](BotOptions::clients) - 1. The progress is shown on
/// standard error if that is a terminal.
///
/// # Errors
///
/// Returns [`BotError`] if discovery fails or does not offer the wanted transports.
pub fn run<B>(options: &BotOptions, mut bots: impl FnMut(usize) -> B) -> Result<BotReport, BotError>
where
    B: Bot + 'static,
{
    let used = transports::used(options)?;
    let dials: Vec<_> = (0..options.clients)
        .map(|index| transports::dial(options, &used, index))
        .collect::<Result<_, _>>()?;
    let mut run = BotRun::new(options, &used, dials, AnyLink::transport, |index| Box::new(bots(index)));
    let mut progress = ProgressLine::on_stderr();
    let mut last = now();
    while !run.is_done() {
        let due = last + LOOP_EVERY;
        std::thread::sleep(due.saturating_duration_since(now()));
        let woken = now();
        run.step(woken.saturating_duration_since(last));
        last = woken;
        progress.show(run.now(), options.duration, run.joined(), options.clients);
    }
    Ok(run.into_report())
}

#[allow(clippy::disallowed_methods, reason = "bots are clients and run in real time")]
fn now() -> Instant {
    Instant::now()
}

/// The period of the loop: 50 Hz, like a client on a slow machine.
const LOOP_EVERY: Duration = Duration::from_millis(20);
