//! The way from a peer to the server, and what peers say and wait.

use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::StdRng;
use waystation::client::{AnyDial, Detour, UrlError};
use waystation::testing::{Network, Outages};
use waystation::wire::v1::{Anonymous, Credentials, Hello, Resume, credentials::Kind};
use waystation::wire::{PROTOCOL, encode};

/// A URL of one transport, and relays or none.
pub(crate) struct Way {
    pub(crate) url: String,
    pub(crate) through: Detour,
}

impl Way {
    pub(crate) fn dial(&self) -> Result<AnyDial, UrlError> {
        Ok(AnyDial::new([&self.url])?.through(self.through))
    }
}

/// A network on which few connections live for long.
pub(crate) fn bad() -> Network {
    let [every, shortest, longest] = [8_000, 500, 4_000].map(Duration::from_millis);
    let often = Some(Duration::from_secs(2));
    let outages = Some(Outages { every, shortest, longest });
    let [delay, jitter] = [5, 30].map(Duration::from_millis);
    let bad = Network { loss: 0.05, delay, jitter, reordered: 0.1, doubled: 0.05, ..Network::default() };
    Network { one_way: outages, rebind_every: often, reset_every: often, ..bad }
}

/// A Hello for a new session, or for that of a token.
pub(crate) fn hello(token: Option<Bytes>) -> Bytes {
    let kind = Some(Kind::Anonymous(Anonymous { name: "eve".to_owned() }));
    let resume = token.map(|token| Resume { token, resync: true, ..Resume::default() });
    let credentials = resume.is_none().then_some(Credentials { kind });
    encode(&Hello { protocol: PROTOCOL, credentials, resume, ..Hello::default() })
}

/// A pause of up to twice the timeout of a link; most are short.
pub(crate) fn pause(dice: &mut StdRng) -> Duration {
    let most = if dice.random_bool(0.2) { 10_000 } else { 500 };
    Duration::from_millis(dice.random_range(1..most))
}
