//! The adapter for QUIC and WebTransport, on one UDP port.
//!
//! The adapter runs on a thread named `quic`. The thread does the I/O for [`quinn_proto::Endpoint`]. The ALPN of a
//! connection selects its use: `waystation/1` is a link at once, and `h3` becomes a link when the client has opened
//! a WebTransport session on the path `/wt`. After that, both are handled alike, by
//! [`Lanes`](crate::wire::quic::Lanes). If the address of a client changes, its connection and its link continue.
//! The adapter reads nothing before the handshake is over: 0-RTT data can be replayed, so 0-RTT is off.
//!
//! The memory for connections without a link is bounded, because the number of handshakes under way is bounded.
//! From [`QuicConfig::retry_above`] handshakes on, the adapter answers a new client with a Retry, so that the
//! client has to prove its address.
//!
//! If the thread panics, which is a bug, the panic is logged and the thread restarts on the same socket. Its links
//! are lost, the tick continues, and clients resume. After five restarts within a minute the next failure stops the
//! server with an error.
//!
//! Data flow: socket → endpoint → connection → lanes → event port; command port → lanes → connection → socket, once
//! per tick.

mod admission;
mod check;
mod core;
mod links;
mod stats;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use data_encoding::HEXLOWER;
use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::{ServerConfig, TimeSource};

use self::core::Core;
pub use self::stats::{QuicCounts, QuicStats};
use super::pump::{Bound, Unbound};
use super::tls::{Tls, TlsError};
use super::{AdapterPort, DiscoveryRequest, Listener, ListenerHandle, OfferSource, Origins};
use crate::tick::UnixClock;
use crate::wire::discovery::{Offer, QUIC, WEBTRANSPORT};
use crate::wire::quic::{ALPN_QUIC, ALPN_WEBTRANSPORT, QuicLimits, WEBTRANSPORT_PATH};
use crate::wire::{ConfigError, HELLO_TIMEOUT};

crate::settings! {
    /// The configuration of a [`QuicProxy`].
    #[derive(Debug, Clone)]
    pub struct QuicConfig {
        /// Address to listen on for QUIC and WebTransport. Default: `127.0.0.1:7778`, which only clients on this
        /// machine reach. With port 0, the operating system chooses the port.
        pub listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], PORT_DEFAULT)),
        /// Address of the offers in discovery: a host that the certificate names, and optionally a port, such as
        /// `play.example:4433` or `[2001:db8::1]`. Without a port, the bound port is used. Default: none, which stands
        /// for the bound address. Set it if the bound address is `0.0.0.0` or `[::]`, or if the server is behind a
        /// network address translation.
        pub public_address: Option<String> = None,
        /// Maximum number of connections, including closing connections and excluding handshakes under way. Range: 1 to
        /// 65,536 ([`QUIC_LINKS_MAX`]). Default: 1,024. A further client is refused. With the default limits a link
        /// with a session occupies up to 2.5 MiB ([`LinkMemory::of_quic`](super::link_memory::LinkMemory::of_quic)), so
        /// 1,024 links occupy up to 2.5 GiB. A link whose client keeps up occupies about 25 KiB.
        pub max_links: usize = 1_024,
        /// Maximum number of handshakes under way. Minimum: 1. Default: 512, which occupy about 14 MiB. For a further
        /// handshake, the oldest handshake of the [network](super::Network) with the most handshakes is ended, so that
        /// no network can block others.
        pub max_handshakes: usize = 512,
        /// Number of handshakes under way from which on a new client has to prove its address by a Retry. A Retry costs
        /// the client one more round trip. Default: 64. With 0, every client gets a Retry.
        pub retry_above: usize = 64,
        /// Time in which a connection has to become a link, including the QUIC handshake and the opening of a
        /// WebTransport session. Range: 0.5 s to 60 s. Default: 5 s.
        pub handshake_timeout: Duration = HELLO_TIMEOUT,
        /// Limits of one connection. Its idle timeout should not be shorter than the sessions' link timeout, because
        /// otherwise the adapter ends links before their sessions would.
        pub limits: QuicLimits = QuicLimits::default(),
        /// Origins whose pages may open WebTransport sessions. Default: all origins.
        pub origins: Origins = Origins::default() => skipped,
        /// Size in bytes of each of the two kernel buffers of the socket. Minimum: 64 KiB. Default: 4 MiB, about 3,000
        /// full datagrams. The kernel applies its own maximum if that is lower.
        pub socket_buffer_bytes: usize = SOCKET_BUFFER_BYTES,
    }
}

/// An error of [`QuicProxy::bind`].
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// The socket cannot be bound. Usually another process uses the port.
    #[error("cannot listen on UDP {address}: {cause}; choose a free address of this machine")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// The error of the operating system.
        #[source]
        cause: io::Error,
    },
    /// A value of the configuration is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The TLS configuration lacks what QUIC requires.
    #[error("cannot use this TLS configuration for QUIC: {0}; QUIC requires TLS 1.3 and AES-128-GCM")]
    Cipher(String),
    /// The operating system does not provide the means to wait on the socket.
    #[error("cannot start the QUIC thread: {0}; raise the limits of threads and open files")]
    Thread(#[source] io::Error),
}

/// A bound UDP socket for QUIC whose thread does not run yet.
///
/// ```
/// use bevy_app::App;
/// use waystation::proxy::AddListener as _;
/// use waystation::proxy::quic::{QuicConfig, QuicProxy};
/// use waystation::proxy::tls::Tls;
/// use waystation::server::ServerPlugins;
///
/// let mut app = App::new();
/// let tls = Tls::self_signed(&["localhost".to_owned()])?;
/// let listen = ([127, 0, 0, 1], 0).into();
/// let quic = QuicProxy::bind(QuicConfig { listen, ..QuicConfig::default() }, &tls)?;
/// app.add_plugins(ServerPlugins::default()).add_listener(quic)?;
/// app.update();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct QuicProxy {
    config: QuicConfig,
    tls: Tls,
    server: Arc<ServerConfig>,
    bound: Bound,
    stats: QuicStats,
}

impl QuicProxy {
    /// Binds the socket.
    ///
    /// # Errors
    ///
    /// Returns a [`QuicError`] if the configuration is invalid or the socket cannot be bound.
    pub fn bind(config: QuicConfig, tls: &Tls) -> Result<Self, QuicError> {
        config.check()?;
        let crypto = tls.server_config(&[ALPN_QUIC, ALPN_WEBTRANSPORT])?;
        let crypto =
            QuicServerConfig::try_from(crypto).map_err(|error| QuicError::Cipher(error.to_string()))?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(Arc::new(config.limits.transport()))
            .max_incoming(config.max_handshakes)
            .time_source(Arc::new(AddressTokenTime(tls.unix().clone())))
            .migration(true);
        let bound =
            Bound::bind(config.listen, config.socket_buffer_bytes).map_err(|unbound| match unbound {
                Unbound::Address(cause) => QuicError::Bind { address: config.listen, cause },
                Unbound::Wait(cause) => QuicError::Thread(cause),
            })?;
        Ok(Self { config, tls: tls.clone(), server: Arc::new(server), bound, stats: QuicStats::default() })
    }

    /// Returns the bound address. If the configured port was 0, it contains the port that the operating system
    /// chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.bound.address
    }

    /// Returns the counters of the adapter.
    #[must_use]
    pub fn stats(&self) -> QuicStats {
        self.stats.clone()
    }
}

impl Listener for QuicProxy {
    fn name(&self) -> &'static str {
        QUIC
    }

    fn local_addr(&self) -> SocketAddr {
        self.bound.address
    }

    /// Returns a source of an offer for QUIC and one for WebTransport, at [`QuicConfig::public_address`]. For a
    /// self-signed certificate, the offers contain its hash.
    fn offers(&self) -> Box<dyn OfferSource> {
        let bound = self.bound.address;
        let address = match &self.config.public_address {
            None => bound.to_string(),
            Some(public) if has_port(public) => public.clone(),
            Some(host) => format!("{host}:{}", bound.port()),
        };
        Box::new(Certified { address, tls: self.tls.clone() })
    }

    /// Starts the thread. All times are of the port's clock: if that clock stands still, no link times out.
    #[allow(
        clippy::disallowed_methods,
        reason = "quinn needs a first instant; later ones follow from the clock"
    )]
    fn start(self, port: AdapterPort) -> io::Result<ListenerHandle> {
        port.set_places(self.config.max_links);
        port.set_counters(self.stats());
        let epoch = (Instant::now(), port.clock.now());
        let core = Core::new(self.config, self.server, self.stats, epoch);
        self.bound.start(core, port)
    }
}

/// Makes offers for QUIC and WebTransport, with the hash of the current certificate.
struct Certified {
    address: String,
    tls: Tls,
}

impl OfferSource for Certified {
    fn offers(&self, _asked: &DiscoveryRequest<'_>) -> Result<Vec<Offer>, Box<dyn Error + Send + Sync>> {
        let cert_sha256 = self.tls.sha256().map(|hash| HEXLOWER.encode(&hash));
        let quic = Offer::new(QUIC, format!("quic://{}", self.address));
        let webtransport = Offer::new(WEBTRANSPORT, format!("https://{}{WEBTRANSPORT_PATH}", self.address));
        Ok([quic, webtransport].map(|offer| Offer { cert_sha256: cert_sha256.clone(), ..offer }).into())
    }
}

/// Returns true if an address has a port behind its host. The host may be an IPv6 address in brackets.
fn has_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, _)| !host.starts_with('[') || host.ends_with(']'))
}

/// The time source for the tokens of a Retry. quinn's own source reads the wall clock, so a token would expire if
/// the wall clock was set forward.
struct AddressTokenTime(UnixClock);

impl TimeSource for AddressTokenTime {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.0.now()
    }
}

/// Largest number of connections of one adapter. The adapter regularly checks all of its connections.
pub const QUIC_LINKS_MAX: usize = 65_536;
/// Default port of QUIC and WebTransport.
const PORT_DEFAULT: u16 = 7_778;
/// Default size of a kernel buffer: three datagrams from each of a thousand clients.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> QuicConfig {
        QuicConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..QuicConfig::default() }
    }

    fn tls() -> Tls {
        Tls::self_signed(&["localhost".to_owned()]).expect("a certificate")
    }

    #[test]
    fn an_address_in_use_is_an_error_with_the_address() {
        let first = QuicProxy::bind(config(), &tls()).expect("a free port");

        let second = QuicProxy::bind(QuicConfig { listen: first.local_addr(), ..config() }, &tls());

        let error = second.expect_err("the port is taken").to_string();
        assert!(error.contains(&first.local_addr().to_string()), "{error}");
        assert!(error.contains("in use"), "{error}");
    }

    #[test]
    fn a_public_host_without_a_port_is_offered_at_the_bound_port() {
        let asked =
            DiscoveryRequest { unix_now: Duration::ZERO, identity: None, authority: "host", is_tls: false };
        let offered = |public: Option<&str>| {
            let config = QuicConfig { public_address: public.map(str::to_owned), ..config() };
            let quic = QuicProxy::bind(config, &tls()).expect("a free port");
            let offers = quic.offers().offers(&asked).expect("QUIC has offers");
            (
                offers[0].url.replace(&format!(":{}", quic.local_addr().port()), ":bound"),
                offers[1].url.clone(),
            )
        };

        assert_eq!(offered(None).0, "quic://127.0.0.1:bound");
        assert_eq!(offered(Some("play.example")).0, "quic://play.example:bound");
        assert_eq!(offered(Some("[2001:db8::1]")).0, "quic://[2001:db8::1]:bound");
        let both = offered(Some("[2001:db8::1]:4433"));
        assert_eq!(
            both,
            ("quic://[2001:db8::1]:4433".to_owned(), "https://[2001:db8::1]:4433/wt".to_owned())
        );
    }

    #[test]
    fn limits_out_of_range_are_refused_with_the_field_or_value() {
        let crowded = QuicConfig { max_links: QUIC_LINKS_MAX + 1, ..config() };
        let limits = QuicLimits { uni_streams: 2, ..QuicLimits::default() };
        let narrow = QuicConfig { limits, ..config() };

        let error = QuicProxy::bind(crowded, &tls()).expect_err("too many").to_string();
        assert!(error.contains("65537"), "{error}");
        let error = QuicProxy::bind(narrow, &tls()).expect_err("HTTP/3 needs three").to_string();
        assert!(error.contains("uni_streams"), "{error}");
    }
}
