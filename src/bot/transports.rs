//! The choice of transports of a run, and how bots dial.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{BotError, BotOptions, LOOP_EVERY, now};
use crate::client::{AnyDial, Discovery, Fetch, FetchError, Transport};

/// The transports that bots use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transports {
    /// One transport for all links.
    One(Transport),
    /// All transports that the server offers. The first links of the bots are spread over them. Each further link of
    /// a bot uses another transport than the link before.
    Mix,
}

impl FromStr for Transports {
    type Err = String;

    /// Parses `udp`, `quic`, `wt`, `ws` or `mix`.
    fn from_str(name: &str) -> Result<Self, String> {
        if name == "mix" {
            return Ok(Self::Mix);
        }
        let one = Transport::ALL.into_iter().find(|transport| transport.name() == name);
        one.map(Self::One).ok_or_else(|| format!("unknown transport {name}: use udp, quic, wt, ws or mix"))
    }
}

impl fmt::Display for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(transport) => transport.fmt(f),
            Self::Mix => f.pad("mix"),
        }
    }
}

/// Asks discovery, and returns the transports that bots use.
pub(super) fn used(options: &BotOptions) -> Result<Vec<Transport>, BotError> {
    let offered = offered(&discover(options)?);
    options.transports.among(&offered).ok_or_else(|| BotError::NotOffered {
        server: options.server.clone(),
        wanted: options.transports.to_string(),
        offered: names(&offered),
    })
}

/// Asks discovery. Asks again a few times if no answer arrives, since a bad network may lose it.
fn discover(options: &BotOptions) -> Result<Discovery, BotError> {
    for _ in 0..DISCOVERY_TRIES {
        let mut fetch = Fetch::through(&options.server, options.bearer.as_deref(), options.through)?;
        let begun = now();
        while now().saturating_duration_since(begun) < DISCOVERY_MAX {
            if let Some(offer) = fetch.poll()? {
                return Ok(offer);
            }
            std::thread::sleep(LOOP_EVERY);
        }
    }
    Err(BotError::Silent(options.server.clone()))
}

/// Returns the transports that discovery offers.
fn offered(offer: &Discovery) -> Vec<Transport> {
    let is_there = |transport: &Transport| offer.offer(transport.offered_as()).is_some();
    Transport::ALL.into_iter().filter(is_there).collect()
}

fn names(transports: &[Transport]) -> String {
    let names: Vec<&str> = transports.iter().map(|transport| transport.name()).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

impl Transports {
    /// Returns the offered transports that bots use, or `None` if there are none.
    fn among(self, offered: &[Transport]) -> Option<Vec<Transport>> {
        let wanted = |transport: &Transport| self == Self::Mix || self == Self::One(*transport);
        let used: Vec<Transport> = offered.iter().copied().filter(wanted).collect();
        (!used.is_empty()).then_some(used)
    }
}

/// Returns the dial of a bot.
pub(super) fn dial(options: &BotOptions, used: &[Transport], index: usize) -> Result<AnyDial, FetchError> {
    let mut dial = match (options.transports, used) {
        (Transports::Mix, [_, _, ..]) => {
            AnyDial::new([&options.server])?.rotate_from(used[index % used.len()])
        }
        (_, [only, ..]) => AnyDial::new([format!("{}#{only}", options.server)])?,
        (_, []) => AnyDial::new([&options.server])?,
    };
    dial = dial.through(options.through);
    if let Some(bearer) = &options.bearer {
        dial = dial.bearer(bearer);
    }
    Ok(dial)
}

/// The longest wait for an answer of discovery.
const DISCOVERY_MAX: Duration = Duration::from_secs(5);
/// The most tries of discovery. Over a network with outages of a few seconds, one of them is answered.
const DISCOVERY_TRIES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use Transport::{Quic, Udp, WebSocket};

    #[test]
    fn a_choice_has_a_name_and_selects_from_the_offered_transports() {
        let mix: Transports = "mix".parse().expect("a name");
        let ws: Transports = "ws".parse().expect("a name");

        assert_eq!((mix.to_string(), ws.to_string()), ("mix".to_owned(), "ws".to_owned()));
        assert_eq!(mix.among(&[Udp, Quic]), Some(vec![Udp, Quic]));
        assert_eq!(ws.among(&[Udp, WebSocket]), Some(vec![WebSocket]));
        assert_eq!(ws.among(&[Udp, Quic]), None);
        assert_eq!(mix.among(&[]), None);
        assert!("tcp".parse::<Transports>().expect_err("unknown").contains("udp, quic, wt, ws or mix"));
    }

    #[test]
    fn the_bearer_is_not_in_the_debug_output() {
        let options = BotOptions { bearer: Some("hunter2".to_owned()), ..BotOptions::default() };

        let shown = format!("{options:?}");

        assert!(shown.contains("clients") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_run_without_a_server_is_an_error() {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr();
        let server = format!("http://{}", free.expect("bound"));

        let options = BotOptions { server: server.clone(), ..BotOptions::default() };
        let error = crate::bot::run(&options, |_| crate::bot::ArenaBot::default());

        let error = error.expect_err("nobody listens").to_string();
        assert!(error.contains(&server) && error.contains("is the server running"), "{error}");
    }
}
