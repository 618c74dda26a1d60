//! Parses the URL of a server.

use std::fmt;
use std::str::FromStr;

use url::Url;

use super::relay_addresses::RelayAddresses;
use crate::client::trust::Trust;
use crate::wire::discovery::{Offer, QUIC, UDP, WEBSOCKET, WEBTRANSPORT};

/// A transport, which carries the frames of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// UDP, with renet over netcode.
    Udp,
    /// Raw QUIC.
    Quic,
    /// WebTransport, over QUIC.
    WebTransport,
    /// WebSocket, over TCP.
    WebSocket,
    /// A custom transport, by the name under which discovery offers it. Use [`Transport::named`] to create it.
    Other(&'static str),
}

/// The reason why a URL cannot be dialled. The message contains the URL and a correct form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The text is not a URL.
    #[error("{url:?} is not a URL: {cause}; write a URL like http://127.0.0.1:7780")]
    Malformed {
        /// Text that was given, without its ticket.
        url: String,
        /// Error of the parser.
        cause: url::ParseError,
    },
    /// The scheme belongs to no transport.
    #[error(
        "{0}: no transport has this scheme; write http: or https: to use the server's discovery, or quic:, \
         webtransport:, ws: or wss:"
    )]
    Scheme(String),
    /// The scheme is `udp:`, which cannot be dialled without discovery.
    #[error(
        "{0}: over UDP each link needs a fresh connect token from discovery; write http: or https: \
         with the HTTP port, and #udp at the end"
    )]
    Udp(String),
    /// The URL has no host.
    #[error("{0}: the host is missing; write a URL like http://127.0.0.1:7780")]
    Host(String),
    /// The URL has no port, and the scheme has no default port.
    #[error("{0}: the port is missing, and this scheme has no default port; a server's default port is 7778")]
    Port(String),
    /// The fragment is not the name of a transport, or the URL has a fragment and does not use discovery.
    #[error(
        "{0}: the text after # must be one of udp, quic, wt and ws, and only http: and https: URLs may have \
         it: with other schemes there is no discovery"
    )]
    Fragment(String),
    /// The `cert_sha256` is not a SHA-256 of 64 hex digits, or the URL does not use TLS.
    #[error(
        "{0}: cert_sha256 must be the SHA-256 of the server's certificate, 64 hex digits, and the URL must \
         use TLS"
    )]
    Hash(String),
    /// The `ticket` is empty, or the URL uses discovery.
    #[error(
        "{0}: ticket must be what `waystation token --ticket` prints, in a URL that does not use discovery; \
         discovery provides tickets itself"
    )]
    Ticket(String),
    /// There are no URLs.
    #[error("there is no URL to dial; give at least one, like http://127.0.0.1:7780")]
    None,
}

/// The parsed URL of a server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    pub(crate) kind: Kind,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The certificate to trust, under TLS.
    pub(crate) trust: Trust,
    /// The ticket in the URL.
    pub(crate) ticket: Option<String>,
    /// The URL without its ticket, for messages.
    pub(crate) text: String,
    /// Relays that replace the addresses of discovery and of its offers.
    pub(crate) relays: RelayAddresses,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The server's discovery is asked.
    Discovery {
        /// True for `https:`.
        tls: bool,
        /// Path of the request.
        path: String,
        /// The only transport to use, if the URL has a fragment.
        only: Option<Transport>,
    },
    /// Raw QUIC.
    Quic,
    /// WebTransport.
    WebTransport {
        /// Path of the session.
        path: String,
    },
    /// WebSocket.
    WebSocket {
        /// True for `wss:`.
        tls: bool,
        /// Path and query of the handshake.
        path: String,
    },
}

impl Transport {
    /// The transports of this crate, in the order in which a client prefers them.
    pub const ALL: [Self; 4] = [Self::Udp, Self::Quic, Self::WebTransport, Self::WebSocket];

    /// Returns the transport that discovery offers under this name. If the name is not the name of a transport of
    /// this crate, it is the name of a custom transport.
    #[must_use]
    pub fn named(name: &'static str) -> Self {
        Self::ALL.into_iter().find(|known| known.offered_as() == name).unwrap_or(Self::Other(name))
    }

    /// Returns the name under which discovery offers the transport: `udp`, `quic`, `webtransport`, `websocket`, or
    /// the name of a custom transport.
    #[must_use]
    pub fn offered_as(self) -> &'static str {
        match self {
            Self::Udp => UDP,
            Self::Quic => QUIC,
            Self::WebTransport => WEBTRANSPORT,
            Self::WebSocket => WEBSOCKET,
            Self::Other(name) => name,
        }
    }

    /// Returns the short name, as in the fragment of a URL: `udp`, `quic`, `wt`, `ws`, or the name of a custom
    /// transport.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WebTransport => "wt",
            Self::WebSocket => "ws",
            Self::Udp | Self::Quic | Self::Other(_) => self.offered_as(),
        }
    }
}

impl Transport {
    /// Returns the fewest round trips in which a link opens.
    pub(super) fn opening_round_trips(self) -> u32 {
        match self {
            Self::Quic => 1,
            Self::Udp | Self::WebTransport | Self::WebSocket | Self::Other(_) => 2,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl ServerUrl {
    /// Returns the transports that may reach this server, the preferred one first. `known` are the transports that
    /// discovery may offer.
    pub(crate) fn transports(&self, known: &[Transport]) -> Vec<Transport> {
        match &self.kind {
            Kind::Discovery { only: None, .. } => known.to_vec(),
            Kind::Discovery { only: Some(transport), .. } => vec![*transport],
            Kind::Quic => vec![Transport::Quic],
            Kind::WebTransport { .. } => vec![Transport::WebTransport],
            Kind::WebSocket { .. } => vec![Transport::WebSocket],
        }
    }

    /// Returns the offer that the URL itself describes, or `None` if the URL uses discovery.
    pub(super) fn offer(&self) -> Option<Offer> {
        let (host, port) = (&self.host, self.port);
        match &self.kind {
            Kind::Discovery { .. } => None,
            Kind::Quic => Some(Offer::new(QUIC, format!("quic://{host}:{port}"))),
            Kind::WebTransport { path } => {
                Some(Offer::new(WEBTRANSPORT, format!("https://{host}:{port}{path}")))
            }
            Kind::WebSocket { tls, path } => {
                let scheme = if *tls { "wss" } else { "ws" };
                Some(Offer::new(WEBSOCKET, format!("{scheme}://{host}:{port}{path}")))
            }
        }
    }
}

impl fmt::Debug for ServerUrl {
    /// Omits the ticket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerUrl")
            .field("text", &self.text)
            .field("trust", &self.trust)
            .field("relays", &self.relays)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ServerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let url =
            Url::parse(text).map_err(|cause| UrlError::Malformed { url: without_ticket(text), cause })?;
        let text = without_ticket(text);
        let tls = matches!(url.scheme(), "https" | "wss");
        let kind = match url.scheme() {
            "http" | "https" => Kind::Discovery { tls, path: question(url.path()), only: only(&url, &text)? },
            "quic" => Kind::Quic,
            "webtransport" => Kind::WebTransport { path: path_or(url.path(), "/wt") },
            "ws" | "wss" => Kind::WebSocket { tls, path: upgrade(&url) },
            "udp" => return Err(UrlError::Udp(text)),
            _ => return Err(UrlError::Scheme(text)),
        };
        if url.fragment().is_some() && !matches!(kind, Kind::Discovery { .. }) {
            return Err(UrlError::Fragment(text));
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let Some(host) = host else { return Err(UrlError::Host(text)) };
        let Some(port) = url.port_or_known_default() else { return Err(UrlError::Port(text)) };
        let trust = trust(&url, &text)?;
        let encrypted = tls || matches!(kind, Kind::Quic | Kind::WebTransport { .. });
        if trust != Trust::WebPki && !encrypted {
            return Err(UrlError::Hash(text));
        }
        let ticket =
            url.query_pairs().find(|(name, _)| name == TICKET).map(|(_, ticket)| ticket.into_owned());
        let is_misplaced = matches!(kind, Kind::Discovery { .. });
        if ticket.as_ref().is_some_and(|ticket| ticket.is_empty() || is_misplaced) {
            return Err(UrlError::Ticket(text));
        }
        Ok(Self { kind, host: host.to_owned(), port, trust, ticket, text, relays: RelayAddresses::default() })
    }
}

/// Returns the path of discovery, below the path of the URL.
fn question(path: &str) -> String {
    let base = path.trim_end_matches('/');
    if base.ends_with(DISCOVERY_PATH) { base.to_owned() } else { format!("{base}{DISCOVERY_PATH}") }
}

fn path_or(path: &str, default: &str) -> String {
    if matches!(path, "" | "/") { default.to_owned() } else { path.to_owned() }
}

/// Returns the path of a WebSocket handshake with its query, without the parameters for the client.
fn upgrade(url: &Url) -> String {
    let mut path = path_or(url.path(), "/ws");
    let kept: Vec<&str> = url
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && ![Some(HASH), Some(TICKET)].contains(&pair.split('=').next()))
        .collect();
    if !kept.is_empty() {
        path.push('?');
        path.push_str(&kept.join("&"));
    }
    path
}

/// Returns the URL without its ticket, for messages. An unused ticket is a secret.
fn without_ticket(text: &str) -> String {
    let Some((before, query)) = text.split_once('?') else { return text.to_owned() };
    let end = query.find('#').unwrap_or(query.len());
    let (query, after) = query.split_at(end);
    let hide = |pair: &str| match pair.split_once('=') {
        Some((TICKET, _)) => format!("{TICKET}=..."),
        _ => pair.to_owned(),
    };
    let shown: Vec<String> = query.split('&').map(hide).collect();
    format!("{before}?{}{after}", shown.join("&"))
}

/// Returns the transport that the fragment selects, if there is a fragment.
fn only(url: &Url, text: &str) -> Result<Option<Transport>, UrlError> {
    let Some(fragment) = url.fragment() else { return Ok(None) };
    let chosen = Transport::ALL.into_iter().find(|transport| transport.name() == fragment);
    chosen.map(Some).ok_or_else(|| UrlError::Fragment(text.to_owned()))
}

fn trust(url: &Url, text: &str) -> Result<Trust, UrlError> {
    let hash = url.query_pairs().find(|(name, _)| name == HASH).map(|(_, hash)| hash);
    Trust::from_offer(hash.as_deref()).map_err(|_| UrlError::Hash(text.to_owned()))
}

/// The path of discovery.
const DISCOVERY_PATH: &str = "/v1/connect";
/// The query parameter that pins a certificate.
const HASH: &str = "cert_sha256";
/// The query parameter with the ticket of a new session.
const TICKET: &str = "ticket";

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> ServerUrl {
        text.parse().expect(text)
    }

    #[test]
    fn an_http_url_asks_discovery_and_its_fragment_chooses_a_transport() {
        let any = place("http://127.0.0.1:7780");
        let only = place("https://play.example/eu/#ws");

        let Kind::Discovery { tls: false, path, only: None } = &any.kind else { panic!("{any:?}") };
        assert_eq!((any.host.as_str(), any.port, path.as_str()), ("127.0.0.1", 7780, "/v1/connect"));
        assert_eq!(any.transports(&Transport::ALL), Transport::ALL);
        let Kind::Discovery { tls: true, path, .. } = &only.kind else { panic!("{only:?}") };
        assert_eq!((only.host.as_str(), only.port, path.as_str()), ("play.example", 443, "/eu/v1/connect"));
        assert_eq!(only.transports(&Transport::ALL), [Transport::WebSocket]);
        for transport in Transport::ALL {
            assert_eq!(place(&format!("http://h:1#{transport}")).transports(&Transport::ALL), [transport]);
        }
        let whole = place("http://h:1/v1/connect");
        assert!(matches!(whole.kind, Kind::Discovery { path, .. } if path == "/v1/connect"));
    }

    #[test]
    fn other_schemes_dial_directly() {
        let hash = "ab".repeat(32);
        let quic = place(&format!("quic://[::1]:7778?cert_sha256={hash}"));
        let wt = place("webtransport://play.example:7778");
        let ws = place("ws://127.0.0.1:7780/ws");
        let wss = place(&format!("wss://play.example/?room=1&cert_sha256={hash}"));

        assert_eq!((quic.kind, quic.host.as_str(), quic.port), (Kind::Quic, "[::1]", 7778));
        assert_eq!(quic.trust, Trust::Sha256([0xAB; 32]));
        assert_eq!(wt.kind, Kind::WebTransport { path: "/wt".to_owned() });
        assert_eq!(
            (ws.kind, ws.trust),
            (Kind::WebSocket { tls: false, path: "/ws".to_owned() }, Trust::WebPki)
        );
        assert_eq!(wss.kind, Kind::WebSocket { tls: true, path: "/ws?room=1".to_owned() });
        assert_eq!((wss.port, wss.trust), (443, Trust::Sha256([0xAB; 32])));
    }

    #[test]
    fn the_error_for_an_unusable_url_says_what_to_write() {
        for (url, remedy) in [
            ("", "http://127.0.0.1:7780"),
            ("127.0.0.1:7780", "http"),
            ("localhost:7780", "http:"),
            ("udp://127.0.0.1:7777", "#udp"),
            ("tcp://127.0.0.1:7777", "quic:"),
            ("quic://", "http://127.0.0.1:7780"),
            ("quic://127.0.0.1", "7778"),
            ("http://127.0.0.1:7780#tcp", "udp, quic, wt and ws"),
            ("quic://127.0.0.1:7778#quic", "discovery"),
            ("quic://127.0.0.1:7778?cert_sha256=ab", "64 hex digits"),
            ("ws://127.0.0.1:7780/ws?cert_sha256=", "64 hex digits"),
            ("http://127.0.0.1:99999", "http://127.0.0.1:7780"),
            ("ws://127.0.0.1:7780/ws?ticket=", "waystation token --ticket"),
        ] {
            let error = url.parse::<ServerUrl>().expect_err(url).to_string();
            let shown = url.trim_end_matches("ticket=");
            assert!(error.contains(remedy) && error.contains(shown), "{url}: {error}");
        }
        let plain = format!("ws://127.0.0.1:7780/ws?cert_sha256={}", "ab".repeat(32));
        assert!(
            matches!(plain.parse::<ServerUrl>(), Err(UrlError::Hash(_))),
            "there is no certificate without TLS"
        );
    }

    #[test]
    fn a_ticket_goes_into_the_hello_and_neither_into_a_path_nor_into_a_message() {
        let hash = "ab".repeat(32);
        let urls = [
            format!("quic://[::1]:7778?cert_sha256={hash}&ticket=AXN0-_aw"),
            "webtransport://play.example:7778?ticket=AXN0-_aw".to_owned(),
            "ws://127.0.0.1:7780/ws?room=1&ticket=AXN0-_aw&seat=2".to_owned(),
            "wss://play.example/?ticket=AXN0-_aw".to_owned(),
        ];

        for url in &urls {
            let place = place(url);
            assert_eq!(place.ticket.as_deref(), Some("AXN0-_aw"), "{url}");
            assert!(!format!("{place} {place:?} {:?}", place.kind).contains("AXN0"), "{place:?}");
        }
        let Kind::WebSocket { path, .. } = place(&urls[2]).kind else { panic!("{}", urls[2]) };
        assert_eq!(path, "/ws?room=1&seat=2");
        assert_eq!(place("quic://h:1").ticket, None);
        for misplaced in ["http://h:1?ticket=AXN0#ws", "quic://h?ticket=AXN0", "ws://h:x/?ticket=AXN0"] {
            let error = misplaced.parse::<ServerUrl>().expect_err(misplaced).to_string();
            assert!(!error.contains("AXN0") && error.contains("ticket=..."), "{error}");
        }
    }
}
