//! The configuration of a client.

use std::time::Duration;

use crate::wire::{Credentials, LINK_TIMEOUT};

crate::settings! {
    /// The configuration of a client. Each field has a default:
    ///
    /// ```
    /// use waystation::client::ClientConfig;
    ///
    /// let config = ClientConfig { game: "arena/1".to_owned(), ..ClientConfig::default() };
    /// assert_eq!(config.tries, 15);
    /// ```
    #[derive(Debug, Clone)]
    pub struct ClientConfig {
        /// Name and version of the game as `name/version`, at most 1 KiB. Default: empty, which every server accepts.
        pub game: String = String::new(),
        /// Credentials for a new session. They and [`game`](Self::game) must fit into a Hello of 4 KiB. Default:
        /// anonymous without a name.
        pub credentials: Credentials = Credentials::default() => skipped,
        /// Silence after which a link is lost. Range: 1 s to 60 s. Default: 5 s, as on the server.
        ///
        /// A link is silent while nothing arrives on it. It is also lost if the client was not updated for this long:
        /// see [`Client::update`](super::Client::update). A [stream](super::Link::is_stream), such as a link over
        /// WebSocket, is also lost if the server's Beacons show that the server has received nothing for one second
        /// more than this. The client compares the Beacons with what it has sent in about the last 16 s. So a stream
        /// whose round trip stays above about 15 s is lost even if this timeout is longer.
        pub link_timeout: Duration = LINK_TIMEOUT,
        /// Time within which a link must open. Range: 200 ms to 60 s. Default: 2.5 s.
        ///
        /// The time doubles after each failed try for a new session. It is at least four round trips of the last link
        /// that opened. It does not grow beyond 6 s. Discovery is not included and may take another 8 s.
        ///
        /// A link that has opened is closed if its Hello is not answered within 2.5 s or three round trips, whichever
        /// is longer. For a new session, the 2.5 s are doubled after each failed try, up to
        /// [`link_timeout`](Self::link_timeout), because the server may have to wait for an authenticator.
        pub dial_timeout: Duration = DIAL_TIMEOUT,
        /// Shortest pause before another try. Range: 10 ms to 10 min. Default: 100 ms.
        pub backoff_min: Duration = BACKOFF_MIN,
        /// Longest pause before another try. Range: [`backoff_min`](Self::backoff_min) to 10 min. Default: 5 s.
        ///
        /// The client waits longer if the server asks for it. While the session can still be resumed, a pause is at
        /// most 300 ms, or 1/32 of the time without a link if that is longer.
        pub backoff_max: Duration = BACKOFF_MAX,
        /// Number of failed tries in a row after which the client stops. Minimum: 1. Default: 15, which take well over
        /// a minute. Tries do not count while the session can still be resumed.
        pub tries: u32 = TRIES,
        /// Seed for the jitter of the pauses, for tests. Default: none, which takes a seed from the operating system.
        pub seed: Option<u64> = None,
    }
}

/// Four round trips of about 600 ms each, as on a bad mobile network.
const DIAL_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Long enough that the client does not ask a refusing server in a tight loop, and too short for a player to
/// notice.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Short enough that the client soon notices that the server is back.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Number of tries that lasts longer than the restart of a server.
const TRIES: u32 = 15;
