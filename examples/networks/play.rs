//! One run: a server, a relay, and bots.

use std::path::Path;
use std::time::Duration;

use waystation::bot::{self, ArenaBot, BotOptions, BotReport, Transports};
use waystation::client::{RelayAddresses, Transport};
use waystation::testing::{Network, Relay, RelayConfig, RelayCounts, Route};

use crate::server::Server;

/// The parameters of a run.
pub(crate) struct Plan {
    /// The row in the table, from 0.
    pub(crate) index: usize,
    /// The name of the network.
    pub(crate) name: &'static str,
    pub(crate) network: Network,
    pub(crate) transport: Transport,
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    pub(crate) duration: Duration,
}

/// The outcome of a run.
pub(crate) enum Played {
    /// The run took place.
    Ended {
        report: Box<BotReport>,
        relayed: Box<RelayCounts>,
        /// What the server still holds after its players have left. `None`: nothing.
        left: Option<String>,
        /// The errors that the server has logged.
        errors: Vec<String>,
    },
    /// The run could not begin, and why.
    NotBegun(String),
}

impl Plan {
    /// Runs the plan against a server that it starts from this binary.
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
            // The network is faultless when the bots have played, so that their last messages arrive.
            heals_after: Some(self.duration),
        })?;
        let [udp, quic, http] = [0, 1, 2].map(|route| Some(relay.addresses()[route]));
        let options = BotOptions {
            server: format!("http://{}", server.address("http")?),
            through: RelayAddresses { udp, quic, http },
            transports: Transports::One(self.transport),
            clients: self.clients,
            duration: self.duration,
            seed: self.seed,
            ..BotOptions::default()
        };
        let report = bot::run(&options, |_| ArenaBot::default())?;
        let left = server.left_after(LEFT_FOR_MAX)?;
        let (report, relayed) = (Box::new(report), Box::new(relay.stop()));
        Ok(Played::Ended { report, relayed, left, errors: server.stop() })
    }
}

impl Played {
    /// Returns the reasons for which the run has failed. Empty if it has passed.
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

/// The time within which the server releases all links and sessions after its players have left. It is longer than
/// the timeouts of links and sessions, because the machine may be busy.
const LEFT_FOR_MAX: Duration = Duration::from_secs(30);
