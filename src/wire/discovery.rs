//! Discovery: what `GET /v1/connect` answers, as the server writes it and clients read it.
//!
//! ```
//! use waystation::wire::discovery::{Discovery, QUIC, WEBSOCKET};
//!
//! let discovery = Discovery::parse(
//!     br#"{"protocol":1,"name":"arena","offers":[{"transport":"websocket","url":"ws://127.0.0.1:7780/ws"}]}"#,
//! )?;
//! assert_eq!(discovery.offer(WEBSOCKET).map(|offer| &*offer.url), Some("ws://127.0.0.1:7780/ws"));
//! assert!(discovery.offer(QUIC).is_none()); // not enabled
//! # Ok::<(), waystation::wire::discovery::DiscoveryError>(())
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use super::PROTOCOL;

/// Where and how a server is reached.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// The version of the protocol.
    pub protocol: u32,
    /// The server's name.
    pub name: String,
    /// Whether the server is about to stop: it takes no new session, and those that it has can still
    /// be resumed. Absent if it is not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub draining: bool,
    /// The ways to open a link. A transport that the server has not enabled has no offer. A client takes the first
    /// offer of each transport, and ignores transports that it does not know.
    #[serde(default)]
    pub offers: Vec<Offer>,
    /// What the client shows in the Hello of one new session, over any transport: `Hello.ticket`. A
    /// resume needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Seconds for which the ticket can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket_expires_s: Option<u32>,
}

/// How to open links over one transport.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The transport's name: [`UDP`], [`QUIC`], [`WEBTRANSPORT`], [`WEBSOCKET`], or the name of a transport of a
    /// game's own.
    pub transport: String,
    /// Where the server is reached: `udp:`, `quic:`, `https:` for WebTransport, `ws:` or `wss:`. A game's own transport
    /// puts here all that its clients need.
    pub url: String,
    /// The SHA-256 of the server's certificate in hex. It is absent if an authority signed the certificate, or if there
    /// is no certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_sha256: Option<String>,
    /// What opens one link: over UDP a connect token in base64, which also lists all addresses of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Seconds for which the token can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u32>,
}

impl Offer {
    /// An offer without a certificate's hash and without a token.
    #[must_use]
    pub fn new(transport: impl Into<String>, url: impl Into<String>) -> Self {
        Self { transport: transport.into(), url: url.into(), cert_sha256: None, token: None, expires_s: None }
    }
}

/// An answer of discovery that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Not the JSON of a discovery.
    #[error("this is no answer of a discovery: {0}; ask a Waystation server's /v1/connect")]
    Json(#[from] serde_json::Error),
    /// A server of another time.
    #[error("the server speaks protocol {0}, this client {PROTOCOL}: update the older of the two")]
    Protocol(u32),
}

impl Discovery {
    /// The first offer of a transport; `None` if the server does not offer it.
    #[must_use]
    pub fn offer(&self, transport: &str) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.transport == transport)
    }

    /// Reads an answer. Fields that this version does not know are ignored.
    ///
    /// # Errors
    ///
    /// [`DiscoveryError`].
    pub fn parse(json: &[u8]) -> Result<Self, DiscoveryError> {
        let offer: Self = serde_json::from_slice(json)?;
        if offer.protocol == PROTOCOL { Ok(offer) } else { Err(DiscoveryError::Protocol(offer.protocol)) }
    }

    /// Writes an answer.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and numbers always have a JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl fmt::Debug for Discovery {
    /// Without the ticket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery")
            .field("protocol", &self.protocol)
            .field("name", &self.name)
            .field("draining", &self.draining)
            .field("offers", &self.offers)
            .field("has_ticket", &self.ticket.is_some())
            .field("ticket_expires_s", &self.ticket_expires_s)
            .finish()
    }
}

impl fmt::Debug for Offer {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("transport", &self.transport)
            .field("url", &self.url)
            .field("cert_sha256", &self.cert_sha256)
            .field("expires_s", &self.expires_s)
            .finish_non_exhaustive()
    }
}

/// The name of renet over UDP in [`Offer::transport`].
pub const UDP: &str = "udp";
/// The name of QUIC in [`Offer::transport`].
pub const QUIC: &str = "quic";
/// The name of WebTransport in [`Offer::transport`].
pub const WEBTRANSPORT: &str = "webtransport";
/// The name of WebSocket in [`Offer::transport`].
pub const WEBSOCKET: &str = "websocket";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_and_says_nothing_of_what_is_not_enabled() {
        let offer = Discovery {
            protocol: PROTOCOL,
            name: "arena".to_owned(),
            draining: false,
            offers: vec![Offer {
                token: Some("AA==".to_owned()),
                expires_s: Some(300),
                ..Offer::new(UDP, "udp://127.0.0.1:7777")
            }],
            ticket: Some("AXN0aWNrZXQ".to_owned()),
            ticket_expires_s: Some(30),
        };

        let json = offer.to_json();

        assert_eq!(
            json,
            r#"{"protocol":1,"name":"arena","offers":[{"transport":"udp","url":"udp://127.0.0.1:7777","token":"AA==","expires_s":300}],"ticket":"AXN0aWNrZXQ","ticket_expires_s":30}"#
        );
        let shown = format!("{offer:?}");
        assert!(!shown.contains("AXN0") && !shown.contains("AA=="), "{shown}");
        assert_eq!(Discovery::parse(json.as_bytes()).expect("our own"), offer);
        let draining = Discovery { draining: true, ..offer };
        let json = draining.to_json();
        assert!(json.contains(r#""name":"arena","draining":true,"#), "{json}");
        assert_eq!(Discovery::parse(json.as_bytes()).expect("our own"), draining);
    }

    #[test]
    fn another_protocol_and_what_is_no_discovery_are_errors() {
        let later = Discovery::parse(br#"{"protocol":2,"name":"arena"}"#);
        let other = Discovery::parse(b"<html>");

        assert!(matches!(later, Err(DiscoveryError::Protocol(2))));
        assert!(matches!(other, Err(DiscoveryError::Json(_))));
    }
}
