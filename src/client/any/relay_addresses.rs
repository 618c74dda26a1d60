//! Replaces the addresses that discovery offers by the addresses of relays.

use std::net::SocketAddr;
use std::str::FromStr;

use url::Url;

use crate::wire::discovery::{Discovery, QUIC, UDP, WEBSOCKET, WEBTRANSPORT};
use crate::wire::udp::{token_from_text, token_to_text};

/// Relays through which a client reaches a server, for tests of bad networks.
///
/// Each address replaces the host and the port that discovery offers for a transport. A transport
/// without an address is reached directly. Certificates are checked as without a relay, so a
/// certificate that an authority has signed for a host name is not accepted at a relay's address.
///
/// ```
/// use waystation::client::RelayAddresses;
///
/// let relays: RelayAddresses = "udp=127.0.0.1:17777,http=127.0.0.1:17780".parse()?;
/// assert_eq!(relays.udp, Some(([127, 0, 0, 1], 17777).into()));
/// assert_eq!(relays.quic, None);
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayAddresses {
    /// Address of the relay for UDP. Default: `None`, no relay.
    pub udp: Option<SocketAddr>,
    /// Address of the relay for QUIC and WebTransport. Default: `None`, no relay.
    pub quic: Option<SocketAddr>,
    /// Address of the relay for HTTP: discovery and WebSocket. Default: `None`, no relay.
    pub http: Option<SocketAddr>,
}

impl RelayAddresses {
    /// Puts the relays' addresses into an answer of discovery. A URL or a token that cannot be parsed is left
    /// unchanged, and the dial reports it.
    pub(super) fn rewrite(&self, answer: &mut Discovery) {
        for offer in &mut answer.offers {
            let relay = match &*offer.transport {
                UDP => self.udp,
                QUIC | WEBTRANSPORT => self.quic,
                WEBSOCKET => self.http,
                _ => None,
            };
            let Some(relay) = relay else { continue };
            offer.url = moved(&offer.url, relay);
            if let Some(token) = &mut offer.token
                && let Ok(mut read) = token_from_text(token)
            {
                // Only the client reads this list. The server reads the list in the encrypted part.
                read.server_addresses = [None; 32];
                read.server_addresses[0] = Some(relay);
                *token = token_to_text(&read);
            }
        }
    }
}

impl FromStr for RelayAddresses {
    type Err = String;

    /// Parses a list of `udp=ADDRESS`, `quic=ADDRESS` and `http=ADDRESS`, separated by commas. Each of them
    /// is optional.
    ///
    /// # Errors
    ///
    /// Returns a message that names the part that cannot be parsed.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut relays = Self::default();
        for part in text.split(',') {
            let unusable = || format!("{part:?} is not one of udp=ADDRESS, quic=ADDRESS and http=ADDRESS");
            let (name, address) = part.split_once('=').ok_or_else(unusable)?;
            let field = match name.trim() {
                "udp" => &mut relays.udp,
                "quic" => &mut relays.quic,
                "http" => &mut relays.http,
                _ => return Err(unusable()),
            };
            *field = Some(address.trim().parse().map_err(|_| unusable())?);
        }
        Ok(relays)
    }
}

/// Returns the URL with the host and port of the relay.
fn moved(url: &str, relay: SocketAddr) -> String {
    let Ok(mut parsed) = Url::parse(url) else { return url.to_owned() };
    let is_moved = parsed.set_ip_host(relay.ip()).is_ok() && parsed.set_port(Some(relay.port())).is_ok();
    if is_moved { parsed.into() } else { url.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::PROTOCOL;
    use crate::wire::discovery::Offer;
    use crate::wire::udp::{DEV_KEY, TokenMint};
    use std::time::Duration;

    fn offer() -> Discovery {
        let server = SocketAddr::from(([192, 0, 2, 1], 7_777));
        let servers = vec![server, ([192, 0, 2, 2], 7_777).into()];
        let token = TokenMint::new(DEV_KEY, servers).mint(Duration::from_secs(1), 7, None).expect("a token");
        let cert_sha256 = Some("ab".repeat(32));
        let udp = Offer { token: Some(token_to_text(&token)), ..Offer::new(UDP, format!("udp://{server}")) };
        let quic = Offer { cert_sha256: cert_sha256.clone(), ..Offer::new(QUIC, "quic://play.example:7778") };
        let webtransport = Offer { cert_sha256, ..Offer::new(WEBTRANSPORT, "https://play.example:7778/wt") };
        let websocket = Offer::new(WEBSOCKET, "ws://play.example:7780/ws?room=1");
        Discovery {
            protocol: PROTOCOL,
            name: "arena".to_owned(),
            draining: false,
            offers: vec![udp, quic, webtransport, websocket, Offer::new("radio", "radio://play.example:1")],
            ticket: Some("AXN0aWNrZXQ".to_owned()),
            ticket_expires_s: Some(30),
        }
    }

    #[test]
    fn every_transport_of_an_offer_goes_through_its_relay() {
        let relays: RelayAddresses =
            "udp=127.0.0.1:1,quic=127.0.0.1:2, http=[::1]:3".parse().expect("three addresses");
        let mut rewritten = offer();

        relays.rewrite(&mut rewritten);

        let urls: Vec<&str> = rewritten.offers.iter().map(|offer| &*offer.url).collect();
        let moved =
            ["udp://127.0.0.1:1", "quic://127.0.0.1:2", "https://127.0.0.1:2/wt", "ws://[::1]:3/ws?room=1"];
        assert_eq!(urls, [&moved[..], &["radio://play.example:1"]].concat());
        let token = rewritten.offers[0].token.as_deref().map(token_from_text);
        let token = token.expect("the offer has a token").expect("the token can be parsed");
        assert_eq!(
            token.server_addresses.iter().flatten().collect::<Vec<_>>(),
            [&([127, 0, 0, 1], 1).into()]
        );
        let hashes = |answer: &Discovery| -> Vec<Option<String>> {
            answer.offers.iter().map(|offer| offer.cert_sha256.clone()).collect()
        };
        assert_eq!(hashes(&rewritten), hashes(&offer()));
    }

    #[test]
    fn an_offer_without_a_relay_is_unchanged() {
        let offered = offer();
        let mut rewritten = offered.clone();
        RelayAddresses::default().rewrite(&mut rewritten);
        assert_eq!(rewritten, offered);

        let mut without = offered;
        without.offers.remove(0);
        let mut rewritten = without.clone();
        "udp=127.0.0.1:1".parse::<RelayAddresses>().expect("an address").rewrite(&mut rewritten);
        assert_eq!(rewritten, without);
    }

    #[test]
    fn the_error_for_a_malformed_relay_shows_the_syntax() {
        for text in ["", "udp", "udp=here", "tcp=127.0.0.1:1", "udp=127.0.0.1:1,"] {
            let error = text.parse::<RelayAddresses>().expect_err(text);
            assert!(error.contains("udp=ADDRESS"), "{text}: {error}");
        }
    }
}
