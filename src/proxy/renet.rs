//! Links over UDP: renet's channels over netcode's encrypted connections.
//!
//! The adapter is a thread of its own, called `udp`, around [`renetcode::NetcodeServer`] and
//! [`renet::RenetServer`], which do no I/O themselves. It opens a link for each client that
//! comes with a connect token of its own ([`wire::udp`](crate::wire::udp) mints them), and looks
//! at every datagram and every decrypted payload before those two do, because neither stands up
//! to hostile input. It is not where frames are understood: a client that keeps renet's rules
//! may send any bytes.
//!
//! A panic of the thread, which would be a bug, is logged, and the thread begins anew on the same
//! socket: its links are lost, the tick goes on, and clients resume. After five such in a minute it
//! gives up, and the server stops with an error.
//!
//! Data flow: socket → guard → netcode → guard → renet → event port; command port → renet →
//! netcode → socket, once a tick.

mod core;
mod links;
mod stats;
mod tokens;

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use rand::TryRng as _;
use rand::rngs::SysRng;
use renetcode::NETCODE_KEY_BYTES;

use self::core::Core;
pub use self::stats::{RenetCounts, RenetStats};
use super::pump::{Bound, Unbound};
use super::udp::SOCKET_BUFFER_MIN_BYTES;
use super::{AdapterPort, Asked, Listener, ListenerHandle, OfferSource};
use crate::tick::UnixClock;
use crate::wire::discovery::{Offer, UDP};
use crate::wire::udp::{DEV_KEY, TOKEN_EXPIRE, TokenMint, token_to_text};
use crate::wire::{ConfigError, at_least, whole_seconds, within};

/// How to listen.
#[derive(Clone)]
pub struct RenetConfig {
    /// Where to listen. Default: `127.0.0.1:7777`, which only this machine reaches. Port 0 lets
    /// the system choose one.
    pub listen: SocketAddr,
    /// Where clients reach the server, 1 to 32 addresses: a connect token is refused unless it
    /// lists one of them. Default: empty, which is the bound address; so it must be given where
    /// that is `0.0.0.0` or `[::]`, or behind an address translation.
    pub public_addresses: Vec<SocketAddr>,
    /// The secret that connect tokens are minted with. No default; not all zeros, which netcode
    /// takes for no encryption.
    pub key: [u8; NETCODE_KEY_BYTES],
    /// Links at a time, 1 to [`RENET_LINKS_MAX`]; a client beyond is told that the server is
    /// full. Default: 1,024. At worst each holds 512 KiB in each of renet's four channels, and
    /// about as much in bookkeeping if its client sends messages of one byte: 2.5 GiB for 1,024,
    /// and 16 MiB for handshakes. A client that keeps up makes it hold next to nothing.
    pub max_links: usize,
    /// Bytes of each of the socket's two buffers in the kernel. Default: 4 MiB, some 3,000
    /// full datagrams. Safe from 64 KiB up; the kernel takes the lesser of this and its own limit.
    pub socket_buffer_bytes: usize,
    /// The Unix time by which connect tokens expire. Default: the clock of this process, which is also
    /// that of [`HttpConfig`](crate::admin::HttpConfig), where tokens are minted.
    pub unix: UnixClock,
}

impl RenetConfig {
    /// The defaults, with this key.
    #[must_use]
    pub fn new(key: [u8; NETCODE_KEY_BYTES]) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], PORT_DEFAULT)),
            public_addresses: Vec::new(),
            key,
            max_links: RENET_LINKS_MAX,
            socket_buffer_bytes: SOCKET_BUFFER_BYTES,
            unix: UnixClock::system(),
        }
    }

    /// Checks that links can work with these values. [`RenetProxy::bind`] does it too.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first field with whose value no link works.
    pub fn check(&self) -> Result<(), ConfigError> {
        within(
            "RenetConfig::max_links",
            &self.max_links,
            1..=RENET_LINKS_MAX,
            "netcode serves no more, and without one nobody connects; 1,024 is the default",
        )?;
        at_least(
            "RenetConfig::socket_buffer_bytes",
            &self.socket_buffer_bytes,
            &SOCKET_BUFFER_MIN_BYTES,
            "the datagrams of a few clients must fit between two turns; 4 MiB is the default",
        )
    }
}

impl fmt::Debug for RenetConfig {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenetConfig")
            .field("listen", &self.listen)
            .field("public_addresses", &self.public_addresses)
            .field("max_links", &self.max_links)
            .field("socket_buffer_bytes", &self.socket_buffer_bytes)
            .finish_non_exhaustive()
    }
}

/// The adapter cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RenetError {
    /// The socket cannot be bound; as a rule another server has the port.
    #[error("cannot listen on UDP {address}: {cause}; choose a free address of this machine")]
    Bind {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// The key is all zeros.
    #[error("the key is all zeros, which means no encryption: use 32 random bytes")]
    Key,
    /// A value with which no link can work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Clients cannot connect to the bound address, and no other is known.
    #[error("{0} is no address that clients can connect to: give the public addresses, 32 at most")]
    PublicAddresses(SocketAddr),
    /// The system gives no thread or no means to wait on a socket.
    #[error("the UDP thread cannot start: {0}; raise the limits of threads and open files")]
    Thread(#[source] io::Error),
}

/// A bound socket that nobody reads yet.
///
/// ```
/// use bevy_app::App;
/// use waystation::proxy::AddListener as _;
/// use waystation::proxy::renet::{RenetConfig, RenetProxy};
/// use waystation::server::ServerPlugins;
/// use waystation::wire::udp::DEV_KEY;
///
/// let mut app = App::new();
/// let listen = ([127, 0, 0, 1], 0).into();
/// let udp = RenetProxy::bind(RenetConfig { listen, ..RenetConfig::new(DEV_KEY) })?;
/// let mint = udp.mint(); // for the tokens of clients
/// app.add_plugins(ServerPlugins::default()).add_listener(udp)?;
/// app.update();
/// # drop(mint);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RenetProxy {
    config: RenetConfig,
    bound: Bound,
    stats: RenetStats,
}

impl RenetProxy {
    /// Binds the socket, so that what is wrong with it is known before the server starts.
    ///
    /// # Errors
    ///
    /// All of [`RenetError`].
    pub fn bind(mut config: RenetConfig) -> Result<Self, RenetError> {
        if config.key == [0; NETCODE_KEY_BYTES] {
            return Err(RenetError::Key);
        }
        config.check()?;
        let bound =
            Bound::bind(config.listen, config.socket_buffer_bytes).map_err(|unbound| match unbound {
                Unbound::Address(cause) => RenetError::Bind { address: config.listen, cause },
                Unbound::Wait(cause) => RenetError::Thread(cause),
            })?;
        let address = bound.address;
        if config.public_addresses.is_empty() && !address.ip().is_unspecified() {
            config.public_addresses.push(address);
        }
        if !(1..=PUBLIC_ADDRESSES_MAX).contains(&config.public_addresses.len()) {
            return Err(RenetError::PublicAddresses(address));
        }
        Ok(Self { config, bound, stats: RenetStats::default() })
    }

    /// Where it listens; the port is the one that the system chose, if it was to choose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.bound.address
    }

    /// Mints connect tokens for this server.
    #[must_use]
    pub fn mint(&self) -> TokenMint {
        TokenMint::new(self.config.key, self.config.public_addresses.clone())
    }

    /// What it will count.
    #[must_use]
    pub fn stats(&self) -> RenetStats {
        self.stats.clone()
    }
}

impl Listener for RenetProxy {
    fn name(&self) -> &'static str {
        UDP
    }

    fn local_addr(&self) -> SocketAddr {
        self.bound.address
    }

    /// Over UDP each link takes a connect token of its own. The offer names the first of
    /// [`RenetConfig::public_addresses`].
    fn offers(&self) -> Box<dyn OfferSource> {
        let address = self.config.public_addresses.first().copied().unwrap_or(self.bound.address);
        Box::new(Tokens { address, mint: self.mint() })
    }

    /// Links time out by the port's clock: if that stands still, no link times out. Connect tokens expire by
    /// [`RenetConfig::unix`].
    fn start(self, port: AdapterPort) -> io::Result<ListenerHandle> {
        port.set_places(self.config.max_links);
        port.set_counters(self.stats());
        // With the key that everybody knows, everybody can mint a connect token.
        if self.config.key != DEV_KEY {
            port.vouch_for_links();
        }
        let core = Core::new(self.config, self.stats, port.clock.now());
        self.bound.start(core, port)
    }
}

/// Offers UDP with a connect token for each client that asks.
struct Tokens {
    address: SocketAddr,
    mint: TokenMint,
}

impl OfferSource for Tokens {
    fn offers(&self, asked: &Asked<'_>) -> Result<Vec<Offer>, Box<dyn Error + Send + Sync>> {
        let token = self.mint.mint(asked.unix_now, SysRng.try_next_u64()?, asked.identity)?;
        Ok(vec![Offer {
            token: Some(token_to_text(&token)),
            expires_s: Some(whole_seconds(TOKEN_EXPIRE)),
            ..Offer::new(UDP, format!("udp://{}", self.address))
        }])
    }
}

/// Links that one adapter serves at most: netcode's own bound.
pub const RENET_LINKS_MAX: usize = 1_024;
/// The port of the UDP transport.
const PORT_DEFAULT: u16 = 7_777;
/// Addresses that a connect token can list.
const PUBLIC_ADDRESSES_MAX: usize = 32;
/// Room for a tick of a thousand clients that all send three datagrams.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RenetConfig {
        RenetConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..RenetConfig::new(DEV_KEY) }
    }

    #[test]
    fn an_address_in_use_is_an_error_that_names_it() {
        let first = RenetProxy::bind(config()).expect("a free port");

        let second = RenetProxy::bind(RenetConfig { listen: first.local_addr(), ..config() });

        let error = second.expect_err("the port is taken").to_string();
        assert!(error.contains(&first.local_addr().to_string()), "{error}");
        assert!(error.contains("in use"), "{error}");
    }

    #[test]
    fn what_would_be_unsafe_or_unreachable_is_refused() {
        let keyless = RenetConfig { key: [0; 32], ..config() };
        let crowded = RenetConfig { max_links: RENET_LINKS_MAX + 1, ..config() };
        let nowhere = RenetConfig { listen: SocketAddr::from(([0, 0, 0, 0], 0)), ..config() };

        assert!(matches!(RenetProxy::bind(keyless), Err(RenetError::Key)));
        assert!(matches!(RenetProxy::bind(crowded), Err(RenetError::Config(_))));
        assert!(matches!(RenetProxy::bind(nowhere), Err(RenetError::PublicAddresses(_))));
    }

    #[test]
    fn the_key_is_not_in_the_debug_output() {
        let text = format!("{:?}", config());

        assert!(text.contains("max_links"), "{text}");
        assert!(!text.contains(&format!("{DEV_KEY:?}")), "{text}");
    }
}
