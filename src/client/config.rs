//! What a client is told before it starts.

use std::time::Duration;

use crate::wire::{Credentials, LINK_TIMEOUT};

/// How a client behaves. Every field has a default, so set what differs:
///
/// ```
/// use waystation::client::ClientConfig;
///
/// let config = ClientConfig { game: "arena/1".to_owned(), ..ClientConfig::default() };
/// assert_eq!(config.tries, 15);
/// ```
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `name/version` of the game; empty (the default) fits any server. A few dozen bytes.
    pub game: String,
    /// Who asks for a new session; nobody in particular by default. With [`game`](Self::game) it
    /// must fit into a frame of 4 KiB.
    pub credentials: Credentials,
    /// A link on which nothing arrived for this long is lost. So is the link of a client that was not
    /// updated for this long: see [`Client::update`](super::Client::update). A link over WebSocket is also
    /// lost if the server has received nothing for this long, as far as its Beacons tell: within a second
    /// more. 5 s by default, which is the server's; 1 s to 60 s.
    pub link_timeout: Duration,
    /// A link that has not opened after this long is given up. 2.5 s by default; 200 ms to 10 s.
    ///
    /// The time grows, up to 6 s: it doubles after each failed try for a new session, and it is at
    /// least four round trips of the last link that opened. It does not include discovery, which has
    /// 8 s of its own.
    ///
    /// A link that has opened is given up if its Hello is not answered within 2.5 s or three round
    /// trips, whichever is longer. For a new session, which the server may have to authenticate, the
    /// 2.5 s double after each failed try, up to [`link_timeout`](Self::link_timeout).
    pub dial_timeout: Duration,
    /// The shortest pause before another try. 100 ms by default; 10 ms to 10 s.
    pub backoff_min: Duration,
    /// The longest pause before another try, unless the server asks for a longer one. 5 s by
    /// default; it also bounds how late a client notices that the server is back. While the server
    /// still keeps the session, pauses take at most 300 ms or a thirtieth of the absence.
    pub backoff_max: Duration,
    /// Tries in a row that may fail before the client stops. 15 by default, which is well over a
    /// minute; at least 1. Tries are not counted while the server still keeps the session.
    pub tries: u32,
    /// Where the jitter of the pauses comes from: the operating system (`None`, the default), or a
    /// seed, for tests.
    pub seed: Option<u64>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            game: String::new(),
            credentials: Credentials::default(),
            link_timeout: LINK_TIMEOUT,
            dial_timeout: DIAL_TIMEOUT,
            backoff_min: BACKOFF_MIN,
            backoff_max: BACKOFF_MAX,
            tries: TRIES,
            seed: None,
        }
    }
}

/// Four round trips of a bad mobile link, which takes 600 ms each.
const DIAL_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Long enough that a server which refuses is not asked in a tight loop, short enough to go
/// unnoticed.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// A player who waits sees a try every few seconds.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// More than a server needs to restart.
const TRIES: u32 = 15;
