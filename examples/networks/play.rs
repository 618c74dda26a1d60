//! One run: a server, a relay, and bots.

use std::path::Path;
use std::time::Duration;

use waystation::bot::{self, BotOptions, BotReport, Transports};
use waystation::client::{Detour, Transport};
use waystation::testing::{Network, Relay, RelayConfig, RelayCounts, Route};

use crate::server::Server;

/// What a run is told.
pub(crate) struct Plan {
    /// Its place in the table.
    pub(crate) index: usize,
    /// The network's name.
    pub(crate) name: &'static str,
    pub(crate) network: Network,
    pub(crate) transport: Transport,
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    pub(crate) duration: Duration,
}

/// What came of a run.
pub(crate) enum Played {
    /// It took place.
    Ended {
        report: Box<BotReport>,
        relayed: Box<RelayCounts>,
        /// What the server still has after its players have left; nothing if it is empty.
        left: Option<String>,
        /// Errors that the server has logged.
        errors: Vec<String>,
    },
    /// It could not begin, and why.
    NotBegun(String),
}

impl Plan {
    /// Plays it with a server of this binary.
    pub(crate) fn play(&self, binary: &Path) -> Played {
        self.try_to_play(binary).unwrap_or_else(|error| Played::NotBegun(format!("{error:#}")))
    }

    fn try_to_play(&self, binary: &Path) -> anyhow::Result<Played> {
        let server = Server::start(binary)?;
        let relay = Relay::start(RelayConfig {
            seed: self.seed,
            routes: vec![
                Route::udp(server.address("udp")?),
                Route::udp(server.address("quic")?),
                Route::tcp(server.address("http")?),
            ],
            network: self.network,
            // What is said at the end may take the network's time, but not its outages.
            heals_after: Some(self.duration),
        })?;
        let [udp, quic, http] = [0, 1, 2].map(|route| Some(relay.addresses()[route]));
        let report = bot::run(&BotOptions {
            server: format!("http://{}", server.address("http")?),
            through: Detour { udp, quic, http },
            transports: Transports::One(self.transport),
            clients: self.clients,
            duration: self.duration,
            seed: self.seed,
            ..BotOptions::default()
        })?;
        let left = server.left_after(LEFT_FOR_MAX)?;
        let (report, relayed) = (Box::new(report), Box::new(relay.stop()));
        Ok(Played::Ended { report, relayed, left, errors: server.stop() })
    }
}

impl Played {
    /// What did not go as it must, in words.
    pub(crate) fn failures(&self) -> Vec<String> {
        match self {
            Self::Ended { report, left, errors, .. } => {
                let text = report.to_string();
                let said = text.lines().skip_while(|line| *line != "FAILED").skip(1);
                let left = left.as_ref().map(|left| format!("left at the server: {left}"));
                let said = said.map(|line| line.trim_start_matches("- ").to_owned());
                said.chain(left).chain(errors.iter().cloned()).collect()
            }
            Self::NotBegun(why) => vec![why.clone()],
        }
    }
}

/// How long links and sessions may outlive their players: the link timeout and the session's, and
/// as much again for a machine that is busy.
const LEFT_FOR_MAX: Duration = Duration::from_secs(30);
