//! Links over QUIC and WebTransport, on one UDP port.
//!
//! The adapter is a thread of its own, called `quic`, around [`quinn_proto::Endpoint`], which does
//! no I/O itself. What the handshake negotiates says what a connection is: `waystation/1` is a link
//! as it stands, `h3` is one when it has opened a WebTransport session on the path `/wt`; from then
//! on both are alike ([`Lanes`](crate::wire::quic::Lanes)). A connection survives a change of its
//! client's address, and its link with it. Nothing is read before the handshake is over: 0-RTT,
//! which can be replayed, is off.
//!
//! Strangers can make it hold little: handshakes under way are bounded, and as soon as there are some, clients
//! are asked to come again with a token that shows that their address is theirs.
//!
//! A panic of the thread, which would be a bug, is logged, and the thread begins anew on the same
//! socket: its links are lost, the tick goes on, and clients resume. After five such in a minute it
//! gives up, and the server stops with an error.
//!
//! Data flow: socket → endpoint → connection → lanes → event port; command port → lanes →
//! connection → socket, once a tick.

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
use super::{AdapterPort, Asked, Listener, ListenerHandle, OfferSource, Origins};
use crate::tick::UnixClock;
use crate::wire::discovery::{Offer, QUIC, WEBTRANSPORT};
use crate::wire::quic::{ALPN_QUIC, ALPN_WEBTRANSPORT, QuicLimits, WEBTRANSPORT_PATH};
use crate::wire::{ConfigError, HELLO_TIMEOUT};

/// How to listen, and for whom.
#[derive(Debug, Clone)]
pub struct QuicConfig {
    /// Where to listen. Default: `127.0.0.1:7778`, which only this machine reaches. Port 0 lets
    /// the system choose one.
    pub listen: SocketAddr,
    /// Where clients reach the server, for discovery: a host that the certificate names, and a port unless it is the
    /// bound one, as in `play.example:4433` or `[2001:db8::1]`. Default: `None`, which is the bound address; so it must
    /// be given where that is `0.0.0.0` or `[::]`, or behind an address translation.
    pub public_address: Option<String>,
    /// Connections at a time, those being closed included and handshakes under way not, 1 to
    /// [`QUIC_LINKS_MAX`]; a client beyond is refused. Default: 1,024. At worst each holds 704 KiB on
    /// its way to a client that does not read, and 384 KiB from one that is not read: 1.1 GiB for
    /// 1,024. One that keeps up holds some 25 KiB.
    pub max_links: usize,
    /// Handshakes at a time, at least 1. Default 512, some 14 MiB. For a further one, the oldest of the
    /// [network](super::Network) that has most of them is given up, so that no network keeps others out.
    pub max_handshakes: usize,
    /// While so many handshakes are under way, a further client must show that its address is its
    /// own, which takes it one round trip more. Default 64; 0 asks it of all.
    pub retry_above: usize,
    /// How long a connection may take to become a link: for QUIC's handshake, and for the session
    /// of WebTransport. Default 5 s.
    pub handshake_timeout: Duration,
    /// What one connection may take. Its idle timeout must be no shorter than the sessions' link
    /// timeout, or the adapter ends links before their sessions would.
    pub limits: QuicLimits,
    /// Which pages may open WebTransport sessions. Default: all.
    pub origins: Origins,
    /// Bytes of each of the socket's two buffers in the kernel. Default: 4 MiB, some 3,000
    /// full datagrams. Safe from 64 KiB up; the kernel takes the lesser of this and its own limit.
    pub socket_buffer_bytes: usize,
}

impl Default for QuicConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], PORT_DEFAULT)),
            public_address: None,
            max_links: 1_024,
            max_handshakes: 512,
            retry_above: 64,
            handshake_timeout: HELLO_TIMEOUT,
            limits: QuicLimits::default(),
            origins: Origins::default(),
            socket_buffer_bytes: SOCKET_BUFFER_BYTES,
        }
    }
}

/// The adapter cannot start.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// The socket cannot be bound; as a rule another server has the port.
    #[error("cannot listen on UDP {address}: {cause}; choose a free address of this machine")]
    Bind {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// A value with which no link can work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// TLS has been configured without what QUIC needs.
    #[error("TLS cannot serve QUIC: {0}; it needs TLS 1.3 and AES-128-GCM")]
    Cipher(String),
    /// The system gives no thread or no means to wait on a socket.
    #[error("the QUIC thread cannot start: {0}; raise the limits of threads and open files")]
    Thread(#[source] io::Error),
}

/// A bound socket that nobody reads yet.
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
    /// Binds the socket, so that what is wrong with it is known before the server starts.
    ///
    /// # Errors
    ///
    /// All of [`QuicError`].
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

    /// Where it listens; the port is the one that the system chose, if it was to choose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.bound.address
    }

    /// What it will count.
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

    /// QUIC and WebTransport, at [`QuicConfig::public_address`]. If the certificate is self-signed, its hash is offered.
    fn offers(&self) -> Box<dyn OfferSource> {
        let bound = self.bound.address;
        let address = match &self.config.public_address {
            None => bound.to_string(),
            Some(public) if has_port(public) => public.clone(),
            Some(host) => format!("{host}:{}", bound.port()),
        };
        Box::new(Certified { address, tls: self.tls.clone() })
    }

    /// All times are the port's clock's: if that stands still, no link times out.
    #[allow(clippy::disallowed_methods, reason = "quinn counts in instants; the clock says how far they are")]
    fn start(self, port: AdapterPort) -> io::Result<ListenerHandle> {
        port.set_places(self.config.max_links);
        port.set_counters(self.stats());
        let epoch = (Instant::now(), port.clock.now());
        let core = Core::new(self.config, self.server, self.stats, epoch);
        self.bound.start(core, port)
    }
}

/// Offers QUIC and WebTransport, with the hash of the certificate that is in use when a client asks.
struct Certified {
    address: String,
    tls: Tls,
}

impl OfferSource for Certified {
    fn offers(&self, _asked: &Asked<'_>) -> Result<Vec<Offer>, Box<dyn Error + Send + Sync>> {
        let cert_sha256 = self.tls.sha256().map(|hash| HEXLOWER.encode(&hash));
        let quic = Offer::new(QUIC, format!("quic://{}", self.address));
        let webtransport = Offer::new(WEBTRANSPORT, format!("https://{}{WEBTRANSPORT_PATH}", self.address));
        Ok([quic, webtransport].map(|offer| Offer { cert_sha256: cert_sha256.clone(), ..offer }).into())
    }
}

/// Whether a port follows the host, which may be an IPv6 address in brackets.
fn has_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, _)| !host.starts_with('[') || host.ends_with(']'))
}

/// When the tokens expire by which clients show that an address is theirs. quinn would read the wall
/// clock at both ends of a token's life, and refuse it if that was set forward in between.
struct AddressTokenTime(UnixClock);

impl TimeSource for AddressTokenTime {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.0.now()
    }
}

/// Connections that one adapter serves at most: what its sweeps are made for.
pub const QUIC_LINKS_MAX: usize = 65_536;
/// The port of the QUIC transport.
const PORT_DEFAULT: u16 = 7_778;
/// Room for a tick of a thousand clients that all send three datagrams.
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
    fn an_address_in_use_is_an_error_that_names_it() {
        let first = QuicProxy::bind(config(), &tls()).expect("a free port");

        let second = QuicProxy::bind(QuicConfig { listen: first.local_addr(), ..config() }, &tls());

        let error = second.expect_err("the port is taken").to_string();
        assert!(error.contains(&first.local_addr().to_string()), "{error}");
        assert!(error.contains("in use"), "{error}");
    }

    #[test]
    fn a_public_host_without_a_port_is_offered_at_the_bound_one() {
        let asked = Asked { unix_now: Duration::ZERO, identity: None, authority: "host", is_tls: false };
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
    fn limits_with_which_nothing_works_are_refused_by_name() {
        let crowded = QuicConfig { max_links: QUIC_LINKS_MAX + 1, ..config() };
        let limits = QuicLimits { uni_streams: 2, ..QuicLimits::default() };
        let narrow = QuicConfig { limits, ..config() };

        let error = QuicProxy::bind(crowded, &tls()).expect_err("too many").to_string();
        assert!(error.contains("65537"), "{error}");
        let error = QuicProxy::bind(narrow, &tls()).expect_err("HTTP/3 has three").to_string();
        assert!(error.contains("uni_streams"), "{error}");
    }
}
