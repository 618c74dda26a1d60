//! One of the transports' links, and what dials it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use url::Url;

use super::names::Names;
use super::url::{Kind, Place, Transport};
use crate::client::link::{Dial as _, DialError, Link, LinkStatus};
use crate::client::quic::{QuicDial, QuicLink, QuicRoute, QuicTarget};
use crate::client::trust::Trust;
use crate::client::udp::UdpLink;
use crate::client::websocket::{WebSocketDial, WebSocketLink};
use crate::wire::Lane;
use crate::wire::discovery::Discovery;
use crate::wire::udp::token_from_text;

/// All that a transport needs to open a link.
#[derive(Clone)]
pub(super) enum Target {
    /// A connect token in base64, good for one link.
    Udp { token: String },
    /// QUIC, raw or as WebTransport.
    Quic { host: String, port: u16, trust: Trust, route: QuicRoute },
    /// WebSocket.
    WebSocket { url: String, trust: Trust },
}

/// A link of one of the transports.
#[derive(Debug)]
pub(super) enum Carrier {
    Udp(Box<UdpLink>),
    Quic(Box<QuicLink>),
    WebSocket(Box<WebSocketLink>),
}

impl Target {
    /// What a URL says by itself; none if its discovery is to be asked.
    pub(super) fn direct(place: &Place) -> Option<Self> {
        let (host, port, trust) = (place.host.clone(), place.port, place.trust);
        match &place.kind {
            Kind::Discovery { .. } => None,
            Kind::Quic => Some(Self::Quic { host, port, trust, route: QuicRoute::Quic }),
            Kind::WebTransport { path } => {
                let route = QuicRoute::WebTransport { path: path.clone() };
                Some(Self::Quic { host, port, trust, route })
            }
            Kind::WebSocket { tls, path } => {
                let scheme = if *tls { "wss" } else { "ws" };
                Some(Self::WebSocket { url: format!("{scheme}://{host}:{port}{path}"), trust })
            }
        }
    }

    /// What the discovery of a place offers; none if it does not offer this transport.
    pub(super) fn offered(
        place: &Place,
        offer: &Discovery,
        transport: Transport,
    ) -> Option<Result<Self, DialError>> {
        let target = match transport {
            Transport::Udp => Ok(Self::Udp { token: offer.udp.as_ref()?.token.clone() }),
            Transport::Quic => {
                let offer = offer.quic.as_ref()?;
                quic(place, &format!("quic://{}", offer.address), offer.cert_sha256.as_deref(), false)
            }
            Transport::WebTransport => {
                let offer = offer.webtransport.as_ref()?;
                quic(place, &offer.url, offer.cert_sha256.as_deref(), true)
            }
            Transport::WebSocket => {
                let url = offer.websocket.as_ref()?.url.clone();
                let trust = trust_of_offered(place, &url);
                Ok(Self::WebSocket { url, trust })
            }
        };
        Some(target)
    }
}

/// What an offer of QUIC or WebTransport says.
fn quic(
    place: &Place,
    url: &str,
    cert_sha256: Option<&str>,
    is_webtransport: bool,
) -> Result<Target, DialError> {
    let unusable = |what: String| {
        DialError::Other(format!("discovery offers {url}: {what}; mend the server's configuration"))
    };
    let parsed = Url::parse(url).map_err(|error| unusable(error.to_string()))?;
    let host = parsed.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| unusable("it names no host".to_owned()))?.to_owned();
    let port = parsed.port_or_known_default().ok_or_else(|| unusable("it names no port".to_owned()))?;
    let trust = match cert_sha256 {
        None => trust_of_offered(place, url),
        hash => Trust::from_offer(hash).map_err(|error| unusable(error.to_string()))?,
    };
    let route = if is_webtransport {
        QuicRoute::WebTransport { path: parsed.path().to_owned() }
    } else {
        QuicRoute::Quic
    };
    Ok(Target::Quic { host, port, trust, route })
}

/// Whom a client takes for the server at a URL that discovery offers without a hash: on the host that was
/// asked, whatever it was asked with, since one certificate serves all its ports; else whom the
/// authorities vouch for.
fn trust_of_offered(place: &Place, url: &str) -> Trust {
    let is_same = Url::parse(url).is_ok_and(|url| url.host_str() == Some(place.host.as_str()));
    if is_same { place.trust } else { Trust::WebPki }
}

impl Carrier {
    /// Begins to open a link. `turn` says which of a host's addresses is first.
    pub(super) fn open(target: &Target, turn: usize, names: &mut Names) -> Result<Self, DialError> {
        let mut addresses = |host: &str, port| {
            let unknown = |cause| DialError::Other(format!("{host} cannot be looked up: {cause}"));
            names.addresses(host, port, turn).map_err(unknown)
        };
        match target {
            Target::Udp { token } => {
                let token = token_from_text(token).map_err(|error| DialError::Token(error.to_string()))?;
                Ok(Self::Udp(Box::new(UdpLink::open(token)?)))
            }
            Target::Quic { host, port, trust, route } => {
                let address = addresses(host, *port)?[0];
                let target =
                    QuicTarget { address, server_name: host.clone(), trust: *trust, route: route.clone() };
                Ok(Self::Quic(Box::new(QuicDial::new(target).dial()?)))
            }
            Target::WebSocket { url, trust } => {
                let mut dial = WebSocketDial::new(url, *trust)?;
                let (host, port) = dial.endpoint();
                let addresses = addresses(host, port)?;
                Ok(Self::WebSocket(Box::new(dial.dial_at(&addresses)?)))
            }
        }
    }

    /// Moves the link to another socket, where the transport can; whether it did.
    pub(super) fn rebind(&mut self) -> io::Result<bool> {
        match self {
            Self::Quic(link) => link.rebind().map(|_| true),
            _ => Ok(false),
        }
    }

    fn link_mut(&mut self) -> &mut dyn Link {
        match self {
            Self::Udp(link) => &mut **link,
            Self::Quic(link) => &mut **link,
            Self::WebSocket(link) => &mut **link,
        }
    }

    fn link(&self) -> &dyn Link {
        match self {
            Self::Udp(link) => &**link,
            Self::Quic(link) => &**link,
            Self::WebSocket(link) => &**link,
        }
    }
}

impl Link for Carrier {
    fn update(&mut self, dt: Duration) {
        self.link_mut().update(dt);
    }

    fn status(&self) -> LinkStatus {
        self.link().status()
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        self.link_mut().receive()
    }

    fn send(&mut self, frame: Bytes) -> bool {
        self.link_mut().send(frame)
    }

    fn flush(&mut self) {
        self.link_mut().flush();
    }

    fn is_stream(&self) -> bool {
        self.link().is_stream()
    }

    fn close(&mut self) {
        self.link_mut().close();
    }

    fn failure(&self) -> Option<String> {
        self.link().failure()
    }

    fn breach(&self) -> Option<String> {
        self.link().breach()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_on_the_host_that_was_asked_is_held_to_the_same_pin() {
        let pin = Trust::Sha256([0xAB; 32]);
        let asked = format!("https://play.example:7780?cert_sha256={}", "ab".repeat(32));
        let place: Place = asked.parse().expect("a place");
        let trust = |url: &str, hash| match quic(&place, url, hash, false) {
            Ok(Target::Quic { trust, .. }) => trust,
            _ => panic!("QUIC was offered"),
        };

        assert_eq!(trust("quic://play.example:7778", None), pin);
        assert_eq!(trust("quic://elsewhere.example:7778", None), Trust::WebPki);
        assert_eq!(trust("quic://play.example:7778", Some(&"cd".repeat(32))), Trust::Sha256([0xCD; 32]));
        assert_eq!(trust_of_offered(&place, "wss://play.example:7780/ws"), pin);
    }
}
