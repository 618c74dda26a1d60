//! Sets up logging to standard error.

use std::fmt;
use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

use crate::tick::Clock;

/// The log of the process. Its topics can be changed while it runs.
#[derive(Debug, Clone)]
pub(super) struct Log {
    games: Vec<&'static str>,
    filter: reload::Handle<Targets, Registry>,
}

impl Log {
    /// Writes the logs of this crate and of the game's crates to standard error. The logs of other crates are
    /// discarded: netcode logs an error for each bad datagram.
    pub(super) fn to_stderr(
        games: Vec<&'static str>,
        topics: &[String],
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let (filter, handle) = reload::Layer::new(filter(&games, topics));
        let lines = tracing_subscriber::fmt::layer()
            .with_timer(SinceStart(clock))
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr)
            .log_internal_errors(false);
        let subscriber = tracing_subscriber::registry().with(filter).with(lines);
        tracing::subscriber::set_global_default(subscriber).context("cannot set up the log")?;
        Ok(Self { games, filter: handle })
    }

    /// Replaces the topics.
    pub(super) fn set_topics(&self, topics: &[String]) {
        if let Err(error) = self.filter.reload(filter(&self.games, topics)) {
            tracing::warn!(%error, "the topics of the log were not changed");
        }
    }
}

/// Returns true if a text is a topic of the log. The key `log` of the configuration documents the topics.
pub(super) fn is_topic(text: &str) -> bool {
    [TRANSITIONS, PEERS].contains(&text) || directive(text).is_some()
}

fn filter(games: &[&str], topics: &[String]) -> Targets {
    let chosen = |topic: &str, yes, no| if topics.iter().any(|chosen| chosen == topic) { yes } else { no };
    Targets::new()
        .with_targets(games.iter().map(|game| (*game, LevelFilter::INFO)))
        .with_target("waystation", chosen(PEERS, LevelFilter::DEBUG, LevelFilter::INFO))
        .with_target("waystation::transitions", chosen(TRANSITIONS, LevelFilter::INFO, LevelFilter::OFF))
        .with_targets(topics.iter().filter_map(|topic| directive(topic)))
}

/// Returns the crate or module and the level of a topic like `my_rules=debug`.
fn directive(topic: &str) -> Option<(String, LevelFilter)> {
    let (target, level) = topic.split_once('=')?;
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let is_target = !target.is_empty() && target.chars().all(is_path);
    is_target.then_some((target.to_owned(), level.parse().ok()?))
}

/// A timer that writes the seconds since the start with three decimals.
struct SinceStart(Clock);

impl FormatTime for SinceStart {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = self.0.now();
        write!(writer, "{:>8}.{:03}", now.as_secs(), now.subsec_millis())
    }
}

/// The topic of a line for each change of a session's state.
const TRANSITIONS: &str = "transitions";
/// The topic of the protocol errors of peers.
const PEERS: &str = "peers";

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn the_game_and_this_crate_are_logged_and_other_crates_on_request() {
        let quiet = filter(&["two_dice"], &[]);
        let more = filter(&["two_dice"], &["peers".to_owned(), "my_rules=debug".to_owned()]);

        assert!(quiet.would_enable("two_dice::rules", &Level::INFO));
        assert!(quiet.would_enable("waystation::gate", &Level::WARN));
        assert!(!quiet.would_enable("waystation::gate", &Level::DEBUG));
        assert!(!quiet.would_enable("waystation::transitions", &Level::INFO));
        assert!(
            !quiet.would_enable("renetcode", &Level::ERROR) && !quiet.would_enable("my_rules", &Level::ERROR)
        );
        assert!(more.would_enable("waystation::gate", &Level::DEBUG));
        assert!(more.would_enable("my_rules", &Level::DEBUG));
    }

    #[test]
    fn a_topic_is_known_or_names_a_level() {
        for topic in ["transitions", "peers", "a_b::c=trace", "hyper=off"] {
            assert!(is_topic(topic), "{topic}");
        }
        for wrong in ["", "transition", "a=loud", "=info", "a b=info"] {
            assert!(!is_topic(wrong), "{wrong}");
        }
    }
}
