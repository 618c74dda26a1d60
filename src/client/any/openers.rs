//! Opens links to offers of discovery, with the opener of the offer's transport.

use std::fmt;
use std::net::SocketAddr;

use url::Url;

use super::addresses::AddressCache;
use super::url::{ServerUrl, Transport};
use crate::client::link::{Dial as _, DialError, Link};
use crate::client::quic::{QuicDial, QuicRoute, QuicTarget};
use crate::client::trust::Trust;
use crate::client::udp::UdpLink;
use crate::client::websocket::WebSocketDial;
use crate::wire::discovery::Offer;
use crate::wire::udp::token_from_text;

/// The context in which a custom transport opens a link. It resolves host names, and determines which certificate to
/// trust.
#[derive(Debug)]
pub struct DialContext<'a> {
    place: &'a ServerUrl,
    addresses: &'a mut AddressCache,
    turn: usize,
}

/// A link of any transport.
pub(super) type BoxedLink = Box<dyn Link + Send>;

/// Opens links to the offers of one transport.
pub(super) type Opener = Box<dyn FnMut(&Offer, &mut DialContext<'_>) -> Result<BoxedLink, DialError> + Send>;

/// The openers of all transports, in the order in which a client prefers them.
pub(super) struct Openers(Vec<(Transport, Opener)>);

impl<'a> DialContext<'a> {
    /// Creates a context. `turn` selects the address of a host that is tried first.
    pub(super) fn new(place: &'a ServerUrl, addresses: &'a mut AddressCache, turn: usize) -> Self {
        Self { place, addresses, turn }
    }

    /// Returns the addresses of a host, in the order in which to try them. After a failed opening, the next opening
    /// gets another address first. The system looks up each host once, which may block, and the addresses
    /// are kept for later dials.
    ///
    /// # Errors
    ///
    /// Returns [`DialError::Other`] if the host cannot be looked up.
    pub fn addresses(&mut self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        let unknown = |cause| DialError::Other(format!("{host} cannot be looked up: {cause}"));
        self.addresses.addresses(host, port, self.turn).map_err(unknown)
    }

    /// Returns which certificate of the server to trust. If the offer has a hash, only the certificate with this
    /// hash is trusted. If the offer has no hash and is on the host of the URL that is dialled, the trust of that
    /// URL applies, because one certificate serves all ports of a host. Any other offer needs a certificate that
    /// an authority has signed.
    ///
    /// # Errors
    ///
    /// Returns [`DialError::Other`] if the offer's hash is not a SHA-256.
    pub fn trust(&self, offer: &Offer) -> Result<Trust, DialError> {
        if offer.cert_sha256.is_some() {
            return Trust::from_offer(offer.cert_sha256.as_deref())
                .map_err(|error| unusable(offer, &error.to_string()));
        }
        let url = Url::parse(&offer.url);
        let is_same = url.is_ok_and(|url| url.host_str() == Some(self.place.host.as_str()));
        Ok(if is_same { self.place.trust } else { Trust::WebPki })
    }
}

impl Openers {
    /// Returns the transports in the order of preference.
    pub(super) fn transports(&self) -> Vec<Transport> {
        self.0.iter().map(|(transport, _)| *transport).collect()
    }

    /// Adds a transport, which is preferred to all others. A transport of the same name is replaced.
    pub(super) fn add(&mut self, transport: Transport, opener: Opener) {
        self.0.retain(|(known, _)| *known != transport);
        self.0.insert(0, (transport, opener));
    }

    /// Begins to open a link.
    pub(super) fn open(
        &mut self,
        transport: Transport,
        offer: &Offer,
        context: &mut DialContext<'_>,
    ) -> Result<BoxedLink, DialError> {
        let opener = self.0.iter_mut().find(|(known, _)| *known == transport);
        let (_, open) = opener.ok_or_else(|| unusable(offer, "this client does not have this transport"))?;
        open(offer, context)
    }
}

impl Default for Openers {
    fn default() -> Self {
        Self(vec![
            (Transport::Udp, Box::new(open_udp)),
            (Transport::Quic, Box::new(|offer, context| open_quic(offer, context, |_| QuicRoute::Quic))),
            (Transport::WebTransport, Box::new(|offer, context| open_quic(offer, context, webtransport))),
            (Transport::WebSocket, Box::new(open_websocket)),
        ])
    }
}

impl fmt::Debug for Openers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.transports()).finish()
    }
}

fn open_udp(offer: &Offer, _context: &mut DialContext<'_>) -> Result<BoxedLink, DialError> {
    let token = offer.token.as_deref().ok_or_else(|| unusable(offer, "the offer has no connect token"))?;
    let token = token_from_text(token).map_err(|error| DialError::Token(error.to_string()))?;
    Ok(Box::new(UdpLink::open(token)?))
}

fn open_quic(
    offer: &Offer,
    context: &mut DialContext<'_>,
    route: fn(&Url) -> QuicRoute,
) -> Result<BoxedLink, DialError> {
    let url = Url::parse(&offer.url).map_err(|error| unusable(offer, &error.to_string()))?;
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| unusable(offer, "the URL has no host"))?;
    let port = url.port_or_known_default().ok_or_else(|| unusable(offer, "the URL has no port"))?;
    let trust = context.trust(offer)?;
    let address = context.addresses(host, port)?[0];
    let target = QuicTarget { address, server_name: host.to_owned(), trust, route: route(&url) };
    Ok(Box::new(QuicDial::new(target).dial()?))
}

fn webtransport(url: &Url) -> QuicRoute {
    QuicRoute::WebTransport { path: url.path().to_owned() }
}

fn open_websocket(offer: &Offer, context: &mut DialContext<'_>) -> Result<BoxedLink, DialError> {
    let mut dial = WebSocketDial::new(&offer.url, context.trust(offer)?)?;
    let (host, port) = dial.endpoint();
    let addresses = context.addresses(host, port)?;
    Ok(Box::new(dial.dial_at(&addresses)?))
}

fn unusable(offer: &Offer, why: &str) -> DialError {
    let Offer { transport, url, .. } = offer;
    DialError::Other(format!(
        "the offer of {transport} at {url} is unusable: {why}; correct the server's configuration"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_on_the_host_of_the_url_uses_the_pin_of_the_url() {
        let pin = Trust::Sha256([0xAB; 32]);
        let asked = format!("https://play.example:7780?cert_sha256={}", "ab".repeat(32));
        let place: ServerUrl = asked.parse().expect("a place");
        let mut addresses = AddressCache::default();
        let context = DialContext::new(&place, &mut addresses, 0);
        let trust = |url: &str, cert_sha256: Option<&str>| {
            let cert_sha256 = cert_sha256.map(|byte| byte.repeat(32));
            context.trust(&Offer { cert_sha256, ..Offer::new("quic", url) }).expect("a hash, if any")
        };

        assert_eq!(trust("quic://play.example:7778", None), pin);
        assert_eq!(trust("quic://elsewhere.example:7778", None), Trust::WebPki);
        assert_eq!(trust("quic://play.example:7778", Some("cd")), Trust::Sha256([0xCD; 32]));
        assert_eq!(trust("wss://play.example:7780/ws", None), pin);
    }
}
