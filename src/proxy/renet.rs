//! The adapter for UDP: renet's channels over netcode's encrypted connections.
//!
//! The adapter runs on a thread named `udp`. The thread does the I/O for [`renetcode::NetcodeServer`] and
//! [`renet::RenetServer`]. It opens a link for each client that shows an unused connect token, which
//! [`wire::udp`](crate::wire::udp) mints. A guard checks every datagram before netcode, and every decrypted payload
//! before renet, because neither library is safe against hostile input. The adapter does not interpret frames: a
//! client that follows the rules of renet can send any bytes.
//!
//! If the thread panics, which is a bug, the panic is logged and the thread restarts on the same socket. Its links
//! are lost, the tick continues, and clients resume. After five restarts within a minute the next failure stops the
//! server with an error.
//!
//! Data flow: socket → guard → netcode → guard → renet → event port; command port → renet → netcode → socket, once
//! per tick.

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
use super::{AdapterPort, DiscoveryRequest, Listener, ListenerHandle, OfferSource};
use crate::settings::{ConfigError, at_least, failures, first, within};
use crate::tick::UnixClock;
use crate::wire::discovery::{Offer, UDP};
use crate::wire::udp::{DEV_KEY, TOKEN_EXPIRE, TokenMint, token_to_text};
use crate::wire::whole_seconds;

crate::settings! {
    /// The configuration of a [`RenetProxy`].
    #[derive(Clone)]
    pub struct RenetConfig {
        /// Address to listen on for UDP. Default: `127.0.0.1:7777`, which only clients on this machine reach. With
        /// port 0, the operating system chooses the port.
        pub listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], PORT_DEFAULT)),
        /// Addresses at which clients reach the server, up to 32. A connect token is valid only if it lists one of
        /// them. Default: empty, which stands for the bound address. Set it if the bound address is `0.0.0.0` or
        /// `[::]`, or if the server is behind a network address translation.
        pub public_addresses: Vec<SocketAddr> = Vec::new(),
        /// Secret key that mints connect tokens. Default: all zeros, with which [`RenetProxy::bind`] fails, because
        /// netcode takes zeros as "no encryption".
        pub key: [u8; NETCODE_KEY_BYTES] = [0; NETCODE_KEY_BYTES] => skipped,
        /// Maximum number of links. Range: 1 to 1,024 ([`RENET_LINKS_MAX`]). Default: 1,024. A further client is
        /// refused because the server is full. A link with a session occupies up to 4.9 MiB
        /// ([`LinkMemory::of_udp`](super::link_memory::LinkMemory::of_udp)), so 1,024 links occupy up to 4.9 GiB. A
        /// client that keeps up occupies about 20 KiB.
        pub max_links: usize = RENET_LINKS_MAX,
        /// Size in bytes of each of the two kernel buffers of the socket. Minimum: 64 KiB. Default: 4 MiB, about 3,000
        /// full datagrams. The kernel applies its own maximum if that is lower.
        pub socket_buffer_bytes: usize = SOCKET_BUFFER_BYTES,
        /// Clock of the Unix time by which connect tokens expire. Default: the system clock of this process. It has to
        /// agree with the clock of [`HttpConfig`](crate::admin::HttpConfig), by which discovery mints tokens.
        pub unix: UnixClock = UnixClock::system() => skipped,
    }
}

impl RenetConfig {
    /// Returns the default configuration with this key.
    #[must_use]
    pub fn new(key: [u8; NETCODE_KEY_BYTES]) -> Self {
        Self { key, ..Self::default() }
    }

    /// Checks the values. [`RenetProxy::bind`] calls this method.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] for the first field whose value is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        first(self.check_all())
    }

    /// Returns an error for each field whose value is out of range.
    #[must_use]
    pub fn check_all(&self) -> Vec<ConfigError> {
        failures([
            within(
                "RenetConfig::max_links",
                &self.max_links,
                1..=RENET_LINKS_MAX,
                "netcode supports at most 1,024 links, and no client can connect with 0; the default is 1,024",
            ),
            at_least(
                "RenetConfig::socket_buffer_bytes",
                &self.socket_buffer_bytes,
                &SOCKET_BUFFER_MIN_BYTES,
                "the buffer must hold the datagrams that arrive between two reads; the default is 4 MiB",
            ),
        ])
    }
}

impl fmt::Debug for RenetConfig {
    /// Formats the configuration without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenetConfig")
            .field("listen", &self.listen)
            .field("public_addresses", &self.public_addresses)
            .field("max_links", &self.max_links)
            .field("socket_buffer_bytes", &self.socket_buffer_bytes)
            .finish_non_exhaustive()
    }
}

/// An error of [`RenetProxy::bind`].
#[derive(Debug, thiserror::Error)]
pub enum RenetError {
    /// The socket cannot be bound. Usually another process uses the port.
    #[error("cannot listen on UDP {address}: {cause}; choose a free address of this machine")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// The error of the operating system.
        #[source]
        cause: io::Error,
    },
    /// The key is all zeros.
    #[error("the key is all zeros, which disables encryption; use 32 random bytes")]
    Key,
    /// A value of the configuration is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Clients cannot connect to the bound address and there are no public addresses, or there are more than 32.
    #[error(
        "clients cannot connect to the bound address {0}, or there are too many public addresses; \
         configure 1 to 32 public addresses"
    )]
    PublicAddresses(SocketAddr),
    /// The operating system does not provide the means to wait on the socket.
    #[error("cannot start the UDP thread: {0}; raise the limits of threads and open files")]
    Thread(#[source] io::Error),
}

/// A bound UDP socket whose thread does not run yet.
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
/// let mint = udp.mint(); // mints connect tokens
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
    /// Binds the socket.
    ///
    /// # Errors
    ///
    /// Returns a [`RenetError`] if the configuration is invalid or the socket cannot be bound.
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

    /// Returns the bound address. If the configured port was 0, it contains the port that the operating system
    /// chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.bound.address
    }

    /// Returns a mint of connect tokens for this server.
    #[must_use]
    pub fn mint(&self) -> TokenMint {
        TokenMint::new(self.config.key, self.config.public_addresses.clone())
    }

    /// Returns the counters of the adapter.
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

    /// Returns a source that mints a connect token for each offer, because a token opens one link. The offer has
    /// the first address of [`RenetConfig::public_addresses`].
    fn offers(&self) -> Box<dyn OfferSource> {
        let address = self.config.public_addresses.first().copied().unwrap_or(self.bound.address);
        Box::new(Tokens { address, mint: self.mint() })
    }

    /// Starts the thread. Links time out by the clock of the port: if that clock stands still, no link times out.
    /// Connect tokens expire by [`RenetConfig::unix`].
    fn start(self, port: AdapterPort) -> io::Result<ListenerHandle> {
        port.set_places(self.config.max_links);
        port.set_counters(self.stats());
        // The development key is public, so anyone can mint a connect token with it.
        if self.config.key != DEV_KEY {
            port.vouch_for_links();
        }
        let core = Core::new(self.config, self.stats, port.clock.now());
        self.bound.start(core, port)
    }
}

/// Makes UDP offers, each with a new connect token.
struct Tokens {
    address: SocketAddr,
    mint: TokenMint,
}

impl OfferSource for Tokens {
    fn offers(&self, asked: &DiscoveryRequest<'_>) -> Result<Vec<Offer>, Box<dyn Error + Send + Sync>> {
        let token = self.mint.mint(asked.unix_now, SysRng.try_next_u64()?, asked.identity)?;
        Ok(vec![Offer {
            token: Some(token_to_text(&token)),
            expires_s: Some(whole_seconds(TOKEN_EXPIRE)),
            ..Offer::new(UDP, format!("udp://{}", self.address))
        }])
    }
}

/// Largest number of links of one adapter. It is the limit of netcode.
pub const RENET_LINKS_MAX: usize = 1_024;
/// Default port of the UDP transport.
const PORT_DEFAULT: u16 = 7_777;
/// Largest number of addresses in a connect token.
const PUBLIC_ADDRESSES_MAX: usize = 32;
/// Default size of a kernel buffer: three datagrams from each of a thousand clients.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RenetConfig {
        RenetConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..RenetConfig::new(DEV_KEY) }
    }

    #[test]
    fn an_address_in_use_is_an_error_with_the_address() {
        let first = RenetProxy::bind(config()).expect("a free port");

        let second = RenetProxy::bind(RenetConfig { listen: first.local_addr(), ..config() });

        let error = second.expect_err("the port is taken").to_string();
        assert!(error.contains(&first.local_addr().to_string()), "{error}");
        assert!(error.contains("in use"), "{error}");
    }

    #[test]
    fn unsafe_and_unreachable_configurations_are_refused() {
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
