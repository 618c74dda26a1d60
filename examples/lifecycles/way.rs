//! How a peer reaches the server, its Hello, and its pauses.

use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::StdRng;
use waystation::client::{AnyDial, RelayAddresses, UrlError};
use waystation::testing::{Network, Outages};
use waystation::wire::v1::{Anonymous, Credentials, Hello, Resume, credentials::Kind};
use waystation::wire::{PROTOCOL, encode};

/// The URL of the server for one transport, and the relays to go through, if any.
pub(crate) struct Way {
    pub(crate) url: String,
    pub(crate) through: RelayAddresses,
}

impl Way {
    pub(crate) fn dial(&self) -> Result<AnyDial, UrlError> {
        Ok(AnyDial::new([&self.url])?.through(self.through))
    }
}

/// Returns a network with loss, disorder, outages and resets.
pub(crate) fn bad() -> Network {
    let [every, shortest, longest] = [8_000, 500, 4_000].map(Duration::from_millis);
    let often = Some(Duration::from_secs(2));
    let outages = Some(Outages { every, shortest, longest });
    let [delay, jitter] = [5, 30].map(Duration::from_millis);
    let bad = Network { loss: 0.05, delay, jitter, reordered: 0.1, doubled: 0.05, ..Network::default() };
    Network { one_way: outages, rebind_every: often, reset_every: often, ..bad }
}

/// Returns a Hello: with a token it resumes a session, and without one it opens a new session.
pub(crate) fn hello(token: Option<Bytes>) -> Bytes {
    let kind = Some(Kind::Anonymous(Anonymous { name: "eve".to_owned() }));
    let resume = token.map(|token| Resume { token, resync: true, ..Resume::default() });
    let credentials = resume.is_none().then_some(Credentials { kind });
    encode(&Hello { protocol: PROTOCOL, credentials, resume, ..Hello::default() })
}

/// Returns a random pause: four of five are below 0.5 s, the others below 10 s, twice the link timeout.
pub(crate) fn pause(rng: &mut StdRng) -> Duration {
    let most = if rng.random_bool(0.2) { 10_000 } else { 500 };
    Duration::from_millis(rng.random_range(1..most))
}
