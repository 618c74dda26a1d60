//! The options of the listeners, their checks, and the configurations that follow from them.
//!
//! There are two profiles. The `dev` profile, without a key file, listens on this machine only and needs no further
//! options. Otherwise the operator must give the certificate and the public name that the listeners need. Without a
//! bearer token, discovery answers no client then.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use url::Url;
use waystation::admin::{Cidr, ConnectAuth, HttpConfig, HttpServer, RelayHeader, TrustedRelays};
use waystation::gate::GatePolicy;
use waystation::proxy::Origins;
use waystation::proxy::quic::{QuicConfig, QuicProxy};
use waystation::proxy::renet::{RenetConfig, RenetProxy};
use waystation::proxy::tls::Tls;
use waystation::proxy::websocket::{WebSocketConfig, WebSocketProxy};
use waystation::wire::ticket::TicketKey;

use super::descriptors::ConnectionCaps;
use super::key::{key, read_secret};

#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// The file with the server's key, 32 bytes in hex. Without it, the server runs in the dev profile: on
    /// loopback only, with a public key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The address to listen on for UDP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7777")]
    listen: SocketAddr,
    /// The address to listen on for QUIC and WebTransport
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7778")]
    quic_listen: SocketAddr,
    /// The address to listen on for HTTP: WebSocket, discovery, health, and the arena's page
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7780")]
    http_listen: SocketAddr,
    /// An address at which clients reach UDP, if it differs from --listen. May be given more than once
    #[arg(long, value_name = "ADDRESS")]
    public_addr: Vec<SocketAddr>,
    /// The host name at which clients reach this server. The certificate must contain it
    #[arg(long, value_name = "HOST")]
    pub(super) public_host: Option<String>,
    /// The certificate for QUIC and HTTPS, a PEM file that is read again when it changes. Without it, the dev
    /// profile makes a certificate for QUIC and serves plain HTTP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve plain HTTP outside the dev profile, behind a relay that adds TLS. The relay is reached on port 443 of
    /// the public host unless --public-url is given
    #[arg(long)]
    pub(super) http_plain: bool,
    /// The URL at which clients reach HTTP, if a relay or a container changes the port or adds a path, as in
    /// https://play.example:8443/eu. The relay must remove the path again
    #[arg(long, value_name = "URL", value_parser = public_url)]
    public_url: Option<Url>,
    /// The host name and the port at which clients reach QUIC and WebTransport, if they differ from --public-host
    /// and --quic-listen. The certificate must contain the name
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    public_quic: Option<String>,
    /// A relay that may report the addresses of its clients: an address, or a network like 10.0.0.0/8. May be
    /// given more than once
    #[arg(long, value_name = "CIDR")]
    trusted_relay: Vec<Cidr>,
    /// How trusted relays report the address of a client
    #[arg(long, value_name = "WAY", default_value = "x-forwarded-for", requires = "trusted_relay")]
    relay_header: RelayHeaderOption,
    /// An origin whose pages may connect, as in https://play.example, in addition to the server's own pages. May be
    /// given more than once
    #[arg(long, value_name = "ORIGIN")]
    origin: Vec<String>,
    /// A file with one line: the bearer token that discovery requires. Outside the dev profile, discovery answers no
    /// client without this option, so no client gets the ticket that a new session needs
    #[arg(long, value_name = "FILE")]
    pub(super) bearer_file: Option<PathBuf>,
    /// A transport to disable. May be given more than once
    #[arg(long, value_name = "TRANSPORT")]
    without: Vec<TransportOption>,
}

/// A transport that can be disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TransportOption {
    /// UDP
    Udp,
    /// QUIC and WebTransport
    Quic,
    /// WebSocket
    Ws,
}

/// A way in which relays report the address of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RelayHeaderOption {
    /// The request header X-Forwarded-For
    XForwardedFor,
    /// The request header Forwarded (RFC 7239)
    Forwarded,
    /// A header of the PROXY protocol at the beginning of each connection
    ProxyProtocol,
}

impl ListenArgs {
    /// Returns true in the dev profile.
    pub(crate) fn is_dev(&self) -> bool {
        self.key_file.is_none()
    }

    fn has(&self, what: TransportOption) -> bool {
        !self.without.contains(&what)
    }

    /// Returns an error if the dev profile would listen beyond loopback, or if another profile lacks an option.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let udp = [(TransportOption::Udp, self.listen), (TransportOption::Quic, self.quic_listen)];
        let listening = udp.into_iter().filter_map(|(left, address)| self.has(left).then_some(address));
        let outside = listening.chain([self.http_listen]).find(|address| !address.ip().is_loopback());
        if let Some(address) = outside.filter(|_| self.is_dev()) {
            bail!(
                "cannot listen on {address} in the dev profile: its key is public, so it listens on loopback \
                 only; give --key-file"
            );
        }
        if self.is_dev() {
            return Ok(());
        }
        let needs_certificate = self.has(TransportOption::Quic) || !self.http_plain;
        ensure!(
            self.tls_cert.is_some() || !needs_certificate,
            "outside the dev profile QUIC and HTTPS need a certificate: give --tls-cert and --tls-key, PEM \
             files such as certbot writes. To run without a certificate, give --without quic, and \
             --http-plain behind a relay that adds TLS"
        );
        let quic_is_nameless = self.has(TransportOption::Quic) && self.public_quic.is_none();
        let http_is_nameless = self.has(TransportOption::Ws) && self.http_plain && self.public_url.is_none();
        ensure!(
            self.public_host.is_some() || !(quic_is_nameless || http_is_nameless),
            "outside the dev profile clients need a host name from the certificate: give --public-host, or \
             --public-quic and, behind a relay, --public-url"
        );
        Ok(())
    }

    /// Returns the policy for new sessions: `Open` in the dev profile, and `Identified` otherwise.
    pub(super) fn policy(&self) -> GatePolicy {
        if self.is_dev() { GatePolicy::Open } else { GatePolicy::Identified }
    }

    /// Returns true if discovery gives clients the ticket that a new session needs.
    pub(super) fn admits_anybody(&self) -> bool {
        self.is_dev() || self.bearer_file.is_some()
    }

    /// Returns the key with which tickets are minted and opened.
    pub(super) fn tickets(&self) -> anyhow::Result<TicketKey> {
        Ok(TicketKey::new(key(self.key_file.as_deref())?))
    }

    /// Loads the certificate, or makes one in the dev profile. `None` if no listener needs a certificate.
    pub(super) fn tls(&self) -> anyhow::Result<Option<Tls>> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Ok(Some(Tls::from_files(certificate, key)?)),
            _ if self.is_dev() && self.has(TransportOption::Quic) => {
                let names = DEV_NAMES.iter().map(|name| (*name).to_owned()).chain(self.public_host.clone());
                Ok(Some(Tls::self_signed(&names.collect::<Vec<_>>())?))
            }
            _ => Ok(None),
        }
    }

    /// Binds the listener of UDP, unless it is disabled.
    pub(super) fn udp(&self) -> anyhow::Result<Option<RenetProxy>> {
        if !self.has(TransportOption::Udp) {
            return Ok(None);
        }
        let mut public_addresses = self.public_addr.clone();
        // Connect tokens list addresses, not names. If the port is 0, the system has not chosen it yet.
        let is_known = public_addresses.is_empty() && self.listen.port() != 0;
        if let Some(address) = self.public_ip().filter(|_| is_known) {
            public_addresses.push((address, self.listen.port()).into());
        }
        let config = RenetConfig {
            listen: self.listen,
            public_addresses,
            ..RenetConfig::new(key(self.key_file.as_deref())?)
        };
        Ok(Some(RenetProxy::bind(config)?))
    }

    fn public_ip(&self) -> Option<IpAddr> {
        self.public_host.as_deref()?.trim_matches(['[', ']']).parse().ok()
    }

    /// Binds the listener of QUIC and WebTransport, unless it is disabled. `http` is the address of the server's own
    /// pages.
    pub(super) fn quic(&self, tls: Option<&Tls>, http: SocketAddr) -> anyhow::Result<Option<QuicProxy>> {
        let Some(tls) = tls.filter(|_| self.has(TransportOption::Quic)) else { return Ok(None) };
        let config = QuicConfig {
            listen: self.quic_listen,
            public_address: self.quic_address(),
            origins: Origins::Only(self.page_origins(http)),
            ..QuicConfig::default()
        };
        Ok(Some(QuicProxy::bind(config, tls)?))
    }

    /// Returns the origins that were given, and the origins of the server's own pages. The server's own origins are
    /// needed where the server cannot compare `Origin` with the host of the request.
    fn page_origins(&self, http: SocketAddr) -> Vec<String> {
        let port = http.port();
        let mut origins = self.origin.clone();
        origins.extend(self.public_url.as_ref().map(|url| url.origin().ascii_serialization()));
        if let Some(host) = &self.public_host {
            let host = bracketed(host);
            origins.extend([format!("https://{host}"), format!("https://{host}:{port}")]);
        }
        if self.is_dev() {
            let scheme = self.http_scheme();
            origins.extend(DEV_NAMES.iter().map(|host| format!("{scheme}://{}:{port}", bracketed(host))));
        }
        origins
    }

    /// Returns the scheme of HTTP. The dev profile uses plain HTTP: browsers trust pages of this machine without
    /// TLS, and they do not trust the certificate that the dev profile makes.
    pub(super) fn http_scheme(&self) -> &'static str {
        if self.http_plain || self.tls_cert.is_none() { "http" } else { "https" }
    }

    /// Binds the HTTP server. Its own pages are in the list of origins, since a relay may use another host than the
    /// browser does.
    pub(super) fn http(&self, tls: Option<&Tls>, room: ConnectionCaps) -> anyhow::Result<HttpServer> {
        let connect_auth = match &self.bearer_file {
            Some(file) => ConnectAuth::bearer(&read_secret(file)?),
            None if self.is_dev() => ConnectAuth::everybody(),
            None => ConnectAuth::nobody(),
        };
        Ok(HttpServer::bind(HttpConfig {
            listen: self.http_listen,
            tls: tls.cloned().filter(|_| self.http_scheme() == "https"),
            name: NAME.to_owned(),
            origins: Origins::Only(self.page_origins(self.http_listen)),
            connect_auth,
            tickets: Some(self.tickets()?),
            trusted_relays: self.trusted_relays(),
            max_connections: room.http,
            exempt_loopback: self.is_dev(),
            ..HttpConfig::default()
        })?)
    }

    fn trusted_relays(&self) -> TrustedRelays {
        let header = match self.relay_header {
            RelayHeaderOption::XForwardedFor => RelayHeader::XForwardedFor,
            RelayHeaderOption::Forwarded => RelayHeader::Forwarded,
            RelayHeaderOption::ProxyProtocol => RelayHeader::ProxyProtocol,
        };
        TrustedRelays::new(self.trusted_relay.iter().copied(), header)
    }

    /// Returns how many connections the server accepts if there are enough open files.
    pub(super) fn room(&self) -> ConnectionCaps {
        let links = if self.has(TransportOption::Ws) { WebSocketConfig::default().max_links } else { 0 };
        ConnectionCaps { http: HttpConfig::default().max_connections, websocket: links }
    }

    /// Returns the proxy of WebSocket, unless it is disabled. It accepts as many links as there is room for.
    pub(super) fn websocket(&self, room: ConnectionCaps) -> anyhow::Result<Option<WebSocketProxy>> {
        if !self.has(TransportOption::Ws) {
            return Ok(None);
        }
        let origins = Origins::Only(self.page_origins(self.http_listen));
        let config = WebSocketConfig {
            max_links: room.websocket,
            origins,
            public_url: self.websocket_url(),
            ..WebSocketConfig::default()
        };
        Ok(Some(WebSocketProxy::new(config)?))
    }

    /// Returns the public URL of WebSocket. A server behind a relay needs it, since the relay may not pass on the host
    /// of a client's request. `None`: clients use the host of their request to discovery.
    fn websocket_url(&self) -> Option<String> {
        if let Some(url) = &self.public_url {
            let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
            let base = url.as_str().trim_start_matches(url.scheme()).trim_end_matches('/');
            return Some(format!("{scheme}{base}/ws"));
        }
        let host = self.public_host.as_deref().filter(|_| self.http_plain)?;
        Some(format!("wss://{}/ws", bracketed(host)))
    }

    /// Returns the URL at which clients reach HTTP, as far as the options tell.
    pub(super) fn http_url(&self, bound: SocketAddr) -> String {
        match &self.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("{}://{}", self.http_scheme(), self.public(bound)),
        }
    }

    /// Returns the public address of QUIC. `None` if it is the bound address.
    fn quic_address(&self) -> Option<String> {
        self.public_quic.clone().or_else(|| self.public_host.as_deref().map(bracketed))
    }

    /// Returns the public address of a listener without a relay.
    fn public(&self, bound: SocketAddr) -> String {
        match &self.public_host {
            Some(host) => format!("{}:{}", bracketed(host), bound.port()),
            None => bound.to_string(),
        }
    }
}

/// Returns a host as in URLs: an IPv6 address gets brackets.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// Parses the public URL of a server: HTTP or HTTPS, a host, and optionally a port and a path.
fn public_url(text: &str) -> Result<Url, String> {
    let url: Url =
        text.parse().map_err(|error| format!("{error}: write it like https://play.example:8443/eu"))?;
    let is_bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if matches!(url.scheme(), "http" | "https") && is_bare && url.password().is_none() {
        Ok(url)
    } else {
        Err("write http or https, a host, and optionally a port and a path".to_owned())
    }
}

/// Parses a host and a port.
fn host_and_port(text: &str) -> Result<String, String> {
    let url: Url =
        format!("https://{text}/").parse().map_err(|error| format!("{error}: write a host and a port"))?;
    let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port > 0);
    let is_bare = url.path() == "/" && url.query().is_none() && url.username().is_empty();
    match (url.host_str(), port) {
        (Some(host), Some(port)) if is_bare => Ok(format!("{host}:{port}")),
        _ => Err("write a host and a port, like play.example:7778".to_owned()),
    }
}

/// The name of the server in discovery.
const NAME: &str = "waystation arena";
/// The names in the certificate of the dev profile, and the hosts of its pages.
const DEV_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Listening {
        #[command(flatten)]
        args: ListenArgs,
    }

    fn args(words: &[&str]) -> ListenArgs {
        let words = std::iter::once("waystation").chain(words.iter().copied());
        Listening::try_parse_from(words).expect("arguments").args
    }

    fn refused(words: &[&str]) -> String {
        args(words).check().expect_err("it should not start").to_string()
    }

    #[test]
    fn the_dev_profile_listens_on_loopback_only() {
        assert!(args(&[]).check().is_ok());
        for option in ["--listen", "--quic-listen", "--http-listen"] {
            let error = refused(&[option, "0.0.0.0:0"]);
            assert!(error.contains("0.0.0.0:0") && error.contains("--key-file"), "{error}");
        }
        assert!(args(&["--quic-listen", "0.0.0.0:0", "--without", "quic"]).check().is_ok());
    }

    #[test]
    fn outside_the_dev_profile_nothing_starts_without_a_certificate_and_a_name() {
        let error = refused(&["--key-file", "k"]);
        assert!(error.contains("--tls-cert") && error.contains("--http-plain"), "{error}");
        let error = refused(&["--key-file", "k", "--without", "quic"]);
        assert!(error.contains("--tls-cert"), "{error}");
        for nameless in [&["--tls-cert", "c", "--tls-key", "p"][..], &["--http-plain", "--without", "quic"]] {
            let words = [&["--key-file", "k"], nameless].concat();
            assert!(refused(&words).contains("--public-host"));
            assert!(args(&[&words[..], &["--public-host", "h"]].concat()).check().is_ok());
        }
        assert!(Listening::try_parse_from(["waystation", "--tls-cert", "alone.pem"]).is_err());
        let missing = ["--key-file", "k", "--tls-cert", "no such file", "--tls-key", "no such file"];
        let error = args(&missing).tls().expect_err("there are no such files").to_string();
        assert!(error.contains("no such file") && error.contains("PEM"), "{error}");
    }

    #[test]
    fn the_origins_of_the_servers_own_pages_are_allowed() {
        let http = ([127, 0, 0, 1], 7_780).into();

        let dev = args(&["--origin", "https://play.example"]).page_origins(http);
        let public = args(&["--key-file", "k", "--public-host", "2001:db8::1"]).page_origins(http);

        for origin in ["https://play.example", "http://localhost:7780", "http://[::1]:7780"] {
            assert!(dev.iter().any(|known| known == origin), "{dev:?}");
        }
        assert_eq!(public, ["https://[2001:db8::1]", "https://[2001:db8::1]:7780"]);
    }

    #[test]
    fn clients_get_the_public_url_and_the_public_quic_address() {
        let http: SocketAddr = ([127, 0, 0, 1], 7_780).into();
        let real = ["--key-file", "k", "--http-plain", "--tls-cert", "c", "--tls-key", "p"];
        let public = ["--public-url", "https://play.example:8443/eu/", "--public-quic", "play.example:4433"];
        let mapped = args(&[&real[..], &public].concat());
        let plain = args(&["--public-url", "http://127.0.0.1:8080"]);
        let relayed = args(&[&real[..], &["--public-host", "2001:db8::1"]].concat());

        assert!(mapped.check().is_ok(), "no --public-host is needed");
        assert_eq!(mapped.websocket_url().as_deref(), Some("wss://play.example:8443/eu/ws"));
        assert_eq!(mapped.http_url(http), "https://play.example:8443/eu");
        assert_eq!(mapped.quic_address().as_deref(), Some("play.example:4433"));
        assert!(mapped.page_origins(http).contains(&"https://play.example:8443".to_owned()));
        assert_eq!(plain.websocket_url().as_deref(), Some("ws://127.0.0.1:8080/ws"));
        assert_eq!(relayed.websocket_url().as_deref(), Some("wss://[2001:db8::1]/ws"));
        assert_eq!(relayed.quic_address().as_deref(), Some("[2001:db8::1]"));
        assert_eq!(args(&[]).websocket_url(), None, "clients use the host of their request");
    }

    #[test]
    fn addresses_that_no_client_could_use_are_refused() {
        for wrong in [
            ["--public-url", "play.example"],
            ["--public-url", "ftp://play.example"],
            ["--public-url", "https://play.example/?a=b"],
            ["--public-url", "https://ada@play.example/"],
            ["--public-quic", "play.example"],
            ["--public-quic", "play.example:0"],
            ["--public-quic", "https://play.example:1"],
            ["--public-quic", "2001:db8::1:7778"],
            ["--trusted-relay", "10.0.0.0/33"],
            ["--relay-header", "forwarded"],
        ] {
            let words = std::iter::once("waystation").chain(wrong);
            assert!(Listening::try_parse_from(words).is_err(), "{wrong:?}");
        }
        let quic = args(&["--public-quic", "[2001:db8::1]:7778"]);
        assert_eq!(quic.public_quic.as_deref(), Some("[2001:db8::1]:7778"));
        let relays =
            args(&["--trusted-relay", "10.0.0.0/8", "--relay-header", "proxy-protocol"]).trusted_relays();
        assert!(relays.trusts([10, 0, 0, 1].into()));
    }

    #[test]
    fn the_default_ports_are_those_that_clients_expect() {
        let args = args(&[]);

        assert_eq!(
            [args.listen, args.quic_listen, args.http_listen].map(|address| address.port()),
            [7_777, 7_778, 7_780]
        );
    }
}
