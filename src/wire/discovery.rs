//! Writes and reads the answer of discovery, `GET /v1/connect`.
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

/// The answer of discovery: how a client reaches a server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// The version of the protocol.
    pub protocol: u32,
    /// The server's name.
    pub name: String,
    /// True while the server drains: it opens no new session, but sessions can be resumed. The JSON has
    /// this field only if it is true.
    #[serde(default, skip_serializing_if = "is_false")]
    pub draining: bool,
    /// The offers. A transport that the server has not enabled has no offer. A client uses the first offer of
    /// each transport, and ignores unknown transports.
    #[serde(default)]
    pub offers: Vec<Offer>,
    /// A ticket for one new session over any transport. The client sends it as `Hello.ticket`. A resume
    /// needs no ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// The lifetime of the ticket in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket_expires_s: Option<u32>,
}

/// An offer: a transport, its URL, and what a client needs to open a link over it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The name of the transport: [`UDP`], [`QUIC`], [`WEBTRANSPORT`], [`WEBSOCKET`], or the name that a game has
    /// given to a transport of its own.
    pub transport: String,
    /// The URL of the server. Its scheme is `udp:`, `quic:`, `https:` for WebTransport, `ws:` or `wss:`. A game
    /// chooses the URL of a transport of its own.
    pub url: String,
    /// The SHA-256 of the server's certificate in hex. `None` if a certificate authority signed the certificate,
    /// or if there is no certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_sha256: Option<String>,
    /// A token that opens one link. Over UDP: a connect token in base64, which also lists all addresses of the
    /// server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The lifetime of the token in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u32>,
}

impl Offer {
    /// Returns an offer without a certificate hash and without a token.
    #[must_use]
    pub fn new(transport: impl Into<String>, url: impl Into<String>) -> Self {
        Self { transport: transport.into(), url: url.into(), cert_sha256: None, token: None, expires_s: None }
    }
}

/// The error of reading an answer of discovery.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The answer is not the JSON of discovery.
    #[error("this is not an answer of discovery: {0}; use the URL of a Waystation server's /v1/connect")]
    Json(#[from] serde_json::Error),
    /// The server uses another version of the protocol.
    #[error("the server speaks protocol {0}, this client speaks protocol {PROTOCOL}: update the older one")]
    Protocol(u32),
}

impl Discovery {
    /// Returns the first offer of a transport, or `None` if the server does not offer it.
    #[must_use]
    pub fn offer(&self, transport: &str) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.transport == transport)
    }

    /// Parses an answer. Unknown fields are ignored.
    ///
    /// # Errors
    ///
    /// Returns [`DiscoveryError`] if the JSON is not an answer of discovery, or if the server uses another
    /// version of the protocol.
    pub fn parse(json: &[u8]) -> Result<Self, DiscoveryError> {
        let offer: Self = serde_json::from_slice(json)?;
        if offer.protocol == PROTOCOL { Ok(offer) } else { Err(DiscoveryError::Protocol(offer.protocol)) }
    }

    /// Returns the answer as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and numbers can always be written as JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl fmt::Debug for Discovery {
    /// Omits the ticket.
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
    /// Omits the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("transport", &self.transport)
            .field("url", &self.url)
            .field("cert_sha256", &self.cert_sha256)
            .field("expires_s", &self.expires_s)
            .finish_non_exhaustive()
    }
}

/// The name of UDP (with netcode and renet) in [`Offer::transport`].
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
    fn an_answer_survives_its_json_and_absent_fields_are_not_written() {
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
    fn another_protocol_and_other_texts_are_errors() {
        let later = Discovery::parse(br#"{"protocol":2,"name":"arena"}"#);
        let other = Discovery::parse(b"<html>");

        assert!(matches!(later, Err(DiscoveryError::Protocol(2))));
        assert!(matches!(other, Err(DiscoveryError::Json(_))));
    }
}
