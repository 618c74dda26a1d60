//! Checks the configuration of a server, and makes its listeners.
//!
//! Without a key file, the server runs the `dev` profile: it listens on this machine only, and needs no configuration.
//! With a key file, the operator must set the certificate and the public name that the listeners need. Discovery then
//! answers no client unless there is a bearer token.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::cli::text_of;
use super::config::{LaunchConfig, PublicUrl, TransportOption};
use super::descriptors::ConnectionCaps;
use super::key::{key, read_secret};
use super::log;
use crate::admin::{ConnectAuth, HttpConfig, HttpServer, TrustedRelays};
use crate::config::ConfigError;
use crate::gate::GatePolicy;
use crate::proxy::Origins;
use crate::proxy::quic::{QuicConfig, QuicProxy};
use crate::proxy::renet::{RenetConfig, RenetProxy};
use crate::proxy::tls::Tls;
use crate::proxy::websocket::{WebSocketConfig, WebSocketProxy};
use crate::wire::ticket::TicketKey;

impl LaunchConfig {
    /// Returns true in the dev profile.
    pub(super) fn is_dev(&self) -> bool {
        self.key_file.is_none()
    }

    fn has(&self, what: TransportOption) -> bool {
        !self.without.contains(&what)
    }

    /// Returns all mistakes in values that have the right types.
    pub(super) fn mistakes(&self) -> Vec<ConfigError> {
        let mut mistakes = self.server.check_all();
        mistakes.extend(self.udp.check_all());
        mistakes.extend(self.quic.check_all());
        mistakes.extend(self.http.check_all());
        mistakes.extend(self.websocket.check_all());
        mistakes.extend(self.outside_of_dev());
        mistakes.extend(self.missing());
        mistakes.extend(self.unreadable());
        mistakes
    }

    /// In the dev profile, returns an error for each address that other machines can reach.
    fn outside_of_dev(&self) -> Vec<ConfigError> {
        let listening = [
            (self.has(TransportOption::Udp), "RenetConfig::listen", self.udp.listen),
            (self.has(TransportOption::Quic), "QuicConfig::listen", self.quic.listen),
            (true, "HttpConfig::listen", self.http.listen),
        ];
        let outside =
            listening.into_iter().filter(|(is_used, _, address)| *is_used && !address.ip().is_loopback());
        outside
            .filter(|_| self.is_dev())
            .map(|(_, field, address)| ConfigError {
                field,
                value: address.to_string(),
                range: "an address of this machine only, such as 127.0.0.1:7777, in the dev profile".to_owned(),
                cure: "the key of the dev profile is public; set key_file (--key-file) to serve other machines",
            })
            .collect()
    }

    /// Returns an error for each key that has no value and needs one: outside the dev profile, or because of the value
    /// of another key.
    fn missing(&self) -> Vec<ConfigError> {
        let none = |field, range: &str, cure| ConfigError {
            field,
            value: "none".to_owned(),
            range: range.to_owned(),
            cure,
        };
        let mut missing = Vec::new();
        let needs_certificate = !self.is_dev() && (self.has(TransportOption::Quic) || !self.http_plain);
        if self.tls_cert.is_none() && (self.tls_key.is_some() || needs_certificate) {
            missing.push(none(
                "LaunchConfig::tls_cert",
                "a PEM file with a certificate, outside the dev profile or with tls_key",
                "QUIC and HTTPS need a certificate, for example from certbot; to run without one, disable QUIC \
                 (without = [\"quic\"], --without quic) and set http_plain (--http-plain) behind a relay that adds \
                 TLS",
            ));
        }
        if self.tls_key.is_none() && self.tls_cert.is_some() {
            missing.push(none("LaunchConfig::tls_key", "a PEM file", "a certificate needs its private key"));
        }
        let quic_is_nameless = self.has(TransportOption::Quic) && self.quic.public_address.is_none();
        let http_is_nameless = self.has(TransportOption::Ws) && self.http_plain && self.public_url.is_none();
        if !self.is_dev() && self.public_host.is_none() && (quic_is_nameless || http_is_nameless) {
            missing.push(none(
                "LaunchConfig::public_host",
                "a host name outside the dev profile",
                "clients need a host name of the certificate; quic.public_address (--public-quic) and, behind a \
                 relay, public_url (--public-url) can replace it",
            ));
        }
        missing
    }

    /// Returns an error for each file that cannot be used, and for each unknown topic of the log.
    fn unreadable(&self) -> Vec<ConfigError> {
        let refused = |field, file: &Path, cause: &anyhow::Error| ConfigError {
            field,
            value: format!("{:?}", file.display().to_string()),
            range: format!("a file that can be used ({})", text_of(cause)),
            cure: "name another file, or mend this one",
        };
        let mut mistakes = Vec::new();
        if let Some(file) = &self.key_file {
            mistakes
                .extend(key(Some(file)).err().map(|cause| refused("LaunchConfig::key_file", file, &cause)));
        }
        if let Some(file) = &self.bearer_file {
            let bearer = read_secret(file).err();
            mistakes.extend(bearer.map(|cause| refused("LaunchConfig::bearer_file", file, &cause)));
        }
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let tls = Tls::from_files(certificate, key).err();
            mistakes.extend(tls.map(|cause| refused("LaunchConfig::tls_cert", certificate, &cause.into())));
        }
        mistakes.extend(self.log.iter().filter(|topic| !log::is_topic(topic)).map(|topic| ConfigError {
            field: "LaunchConfig::log",
            value: format!("{topic:?}"),
            range: "\"transitions\", \"peers\", or a crate and a level, as in \"my_rules=debug\"".to_owned(),
            cure: "levels are error, warn, info, debug and trace",
        }));
        mistakes
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

    /// Loads the certificate, or makes one in the dev profile. Returns `None` if no listener needs a certificate.
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
        let mut public_addresses = self.udp.public_addresses.clone();
        // Connect tokens list addresses, not names. If the port is 0, the system has not chosen it yet.
        let is_known = public_addresses.is_empty() && self.udp.listen.port() != 0;
        if let Some(address) = self.public_ip().filter(|_| is_known) {
            public_addresses.push((address, self.udp.listen.port()).into());
        }
        let config =
            RenetConfig { key: key(self.key_file.as_deref())?, public_addresses, ..self.udp.clone() };
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
            public_address: self.quic_address(),
            origins: Origins::Only(self.page_origins(http)),
            ..self.quic.clone()
        };
        Ok(Some(QuicProxy::bind(config, tls)?))
    }

    /// Returns the configured origins, and the origins of the server's own pages. The own origins are needed where the
    /// server cannot compare `Origin` with the host of the request.
    fn page_origins(&self, http: SocketAddr) -> Vec<String> {
        let port = http.port();
        let mut origins = self.origins.clone();
        origins.extend(self.public_url.as_ref().map(|url| url.0.origin().ascii_serialization()));
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

    /// Binds the HTTP server. The list of origins contains the server's own pages, because the host in a relay's
    /// request may differ from the host in the browser's request.
    pub(super) fn http(
        &self,
        name: &str,
        tls: Option<&Tls>,
        room: ConnectionCaps,
    ) -> anyhow::Result<HttpServer> {
        let connect_auth = match &self.bearer_file {
            Some(file) => ConnectAuth::bearer(&read_secret(file)?),
            None if self.is_dev() => ConnectAuth::everybody(),
            None => ConnectAuth::nobody(),
        };
        Ok(HttpServer::bind(HttpConfig {
            tls: tls.cloned().filter(|_| self.http_scheme() == "https"),
            name: if self.http.name == HttpConfig::default().name {
                name.to_owned()
            } else {
                self.http.name.clone()
            },
            origins: Origins::Only(self.page_origins(self.http.listen)),
            connect_auth,
            tickets: Some(self.tickets()?),
            trusted_relays: self.trusted_relays(),
            max_connections: room.http,
            exempt_loopback: self.http.exempt_loopback || self.is_dev(),
            ..self.http.clone()
        })?)
    }

    fn trusted_relays(&self) -> TrustedRelays {
        TrustedRelays::new(self.trusted_relays.iter().copied(), self.relay_header)
    }

    /// Returns how many connections the server accepts if there are enough open files.
    pub(super) fn room(&self) -> ConnectionCaps {
        let links = if self.has(TransportOption::Ws) { self.websocket.max_links } else { 0 };
        ConnectionCaps { http: self.http.max_connections, websocket: links }
    }

    /// Returns the proxy of WebSocket, unless it is disabled. It accepts as many links as there is room for.
    pub(super) fn websocket(&self, room: ConnectionCaps) -> anyhow::Result<Option<WebSocketProxy>> {
        if !self.has(TransportOption::Ws) {
            return Ok(None);
        }
        let origins = Origins::Only(self.page_origins(self.http.listen));
        let config = WebSocketConfig {
            max_links: room.websocket,
            origins,
            public_url: self.websocket_url(),
            ..self.websocket.clone()
        };
        Ok(Some(WebSocketProxy::new(config)?))
    }

    /// Returns the public URL of WebSocket. A server behind a relay needs it, because the relay may not pass on the
    /// host of a client's request. Returns `None` if clients use the host of their request to discovery.
    fn websocket_url(&self) -> Option<String> {
        if let Some(PublicUrl(url)) = &self.public_url {
            let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
            let base = url.as_str().trim_start_matches(url.scheme()).trim_end_matches('/');
            return Some(format!("{scheme}{base}/ws"));
        }
        let host = self.public_host.as_deref().filter(|_| self.http_plain)?;
        Some(format!("wss://{}/ws", bracketed(host)))
    }

    /// Returns the URL at which clients reach HTTP, as far as the configuration determines it.
    pub(super) fn http_url(&self, bound: SocketAddr) -> String {
        match &self.public_url {
            Some(PublicUrl(url)) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("{}://{}", self.http_scheme(), self.public(bound)),
        }
    }

    /// Returns the public address of QUIC, or `None` if clients use the bound address.
    fn quic_address(&self) -> Option<String> {
        self.quic.public_address.clone().or_else(|| self.public_host.as_deref().map(bracketed))
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

/// The names in the certificate of the dev profile, and the hosts of its pages.
const DEV_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut LaunchConfig)) -> LaunchConfig {
        let mut config = LaunchConfig::default();
        change(&mut config);
        config
    }

    /// Returns a configuration outside the dev profile. Its key file does not exist, which only `unreadable` checks.
    fn real(change: impl FnOnce(&mut LaunchConfig)) -> LaunchConfig {
        config(|config| {
            config.key_file = Some("key.hex".into());
            change(config);
        })
    }

    fn fields(mistakes: &[ConfigError]) -> Vec<&'static str> {
        mistakes.iter().map(|mistake| mistake.field).collect()
    }

    #[test]
    fn the_dev_profile_listens_on_loopback_only() {
        let anywhere = ([0, 0, 0, 0], 0).into();
        let open = |config: &mut LaunchConfig| {
            (config.udp.listen, config.quic.listen, config.http.listen) = (anywhere, anywhere, anywhere);
        };

        let mistakes = config(open).mistakes();

        assert_eq!(fields(&mistakes), ["RenetConfig::listen", "QuicConfig::listen", "HttpConfig::listen"]);
        assert!(mistakes.iter().all(|mistake| mistake.cure.contains("--key-file")));
        assert_eq!(config(|_| {}).mistakes(), []);
        assert_eq!(real(open).outside_of_dev(), []);
        let unused = config(|config| {
            config.quic.listen = anywhere;
            config.without = vec![TransportOption::Quic];
        });
        assert_eq!(unused.outside_of_dev(), []);
    }

    #[test]
    fn outside_the_dev_profile_a_certificate_and_a_name_are_needed() {
        let missing = |config: &LaunchConfig| fields(&config.missing());
        let bare = real(|_| {});
        let relayed = real(|config| {
            config.http_plain = true;
            config.without = vec![TransportOption::Quic];
        });
        let named = real(|config| {
            (config.tls_cert, config.tls_key) = (Some("c.pem".into()), Some("k.pem".into()));
            config.public_host = Some("play.example".to_owned());
        });
        let half = config(|config| config.tls_cert = Some("c.pem".into()));

        assert_eq!(missing(&bare), ["LaunchConfig::tls_cert", "LaunchConfig::public_host"]);
        assert_eq!(missing(&relayed), ["LaunchConfig::public_host"]);
        assert_eq!(missing(&named), [""; 0]);
        assert_eq!(missing(&half), ["LaunchConfig::tls_key"]);
    }

    #[test]
    fn files_that_cannot_be_used_are_mistakes() {
        let config = real(|config| {
            config.bearer_file = Some("no such file".into());
            (config.tls_cert, config.tls_key) = (Some("no such file".into()), Some("no such file".into()));
            config.log = vec!["everything".to_owned(), "peers".to_owned()];
        });

        let mistakes = config.unreadable();

        assert_eq!(
            fields(&mistakes),
            [
                "LaunchConfig::key_file",
                "LaunchConfig::bearer_file",
                "LaunchConfig::tls_cert",
                "LaunchConfig::log"
            ]
        );
        assert!(mistakes[2].to_string().contains("PEM"), "{}", mistakes[2]);
    }

    #[test]
    fn the_origins_of_the_servers_own_pages_are_allowed() {
        let http = ([127, 0, 0, 1], 7_780).into();

        let dev =
            config(|config| config.origins = vec!["https://play.example".to_owned()]).page_origins(http);
        let public = real(|config| config.public_host = Some("2001:db8::1".to_owned())).page_origins(http);

        for origin in ["https://play.example", "http://localhost:7780", "http://[::1]:7780"] {
            assert!(dev.iter().any(|known| known == origin), "{dev:?}");
        }
        assert_eq!(public, ["https://[2001:db8::1]", "https://[2001:db8::1]:7780"]);
    }

    #[test]
    fn clients_get_the_public_url_and_the_public_quic_address() {
        let http: SocketAddr = ([127, 0, 0, 1], 7_780).into();
        let url = |text: &str| Some(text.parse().expect("a URL"));
        let mapped = real(|config| {
            config.http_plain = true;
            config.public_url = url("https://play.example:8443/eu/");
            config.quic.public_address = Some("play.example:4433".to_owned());
        });
        let plain = config(|config| config.public_url = url("http://127.0.0.1:8080"));
        let relayed = real(|config| {
            config.http_plain = true;
            config.public_host = Some("2001:db8::1".to_owned());
        });

        assert_eq!(fields(&mapped.missing()), ["LaunchConfig::tls_cert"], "no public_host is needed");
        assert_eq!(mapped.websocket_url().as_deref(), Some("wss://play.example:8443/eu/ws"));
        assert_eq!(mapped.http_url(http), "https://play.example:8443/eu");
        assert_eq!(mapped.quic_address().as_deref(), Some("play.example:4433"));
        assert!(mapped.page_origins(http).contains(&"https://play.example:8443".to_owned()));
        assert_eq!(plain.websocket_url().as_deref(), Some("ws://127.0.0.1:8080/ws"));
        assert_eq!(relayed.websocket_url().as_deref(), Some("wss://[2001:db8::1]/ws"));
        assert_eq!(relayed.quic_address().as_deref(), Some("[2001:db8::1]"));
        assert_eq!(config(|_| {}).websocket_url(), None, "clients use the host of their request");
    }

    #[test]
    fn the_default_ports_are_those_that_clients_expect() {
        let config = LaunchConfig::default();

        let ports = [config.udp.listen, config.quic.listen, config.http.listen].map(|address| address.port());

        assert_eq!(ports, [7_777, 7_778, 7_780]);
    }
}
