//! Discovery: what `GET /v1/connect` answers, as the server writes it and clients read it.
//!
//! ```
//! use waystation::wire::discovery::Discovery;
//!
//! let offer = Discovery::parse(
//!     br#"{"protocol":1,"name":"arena","websocket":{"url":"ws://127.0.0.1:7780/ws"}}"#,
//! )?;
//! assert_eq!(offer.websocket.map(|offer| offer.url).as_deref(), Some("ws://127.0.0.1:7780/ws"));
//! assert!(offer.udp.is_none()); // not enabled
//! # Ok::<(), waystation::wire::discovery::DiscoveryError>(())
//! ```

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::PROTOCOL;

/// Where and how a server is reached. What it has not enabled is absent.
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
    /// UDP, with a connect token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<UdpOffer>,
    /// QUIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quic: Option<QuicOffer>,
    /// WebTransport.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webtransport: Option<WebTransportOffer>,
    /// WebSocket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket: Option<WebSocketOffer>,
    /// What the client shows in the Hello of one new session, over any transport: `Hello.ticket`. A
    /// resume needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Seconds for which the ticket can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket_expires_s: Option<u32>,
}

/// How to open one link over UDP.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpOffer {
    /// Where the server is reached; the token names all such addresses.
    pub address: SocketAddr,
    /// A connect token in base64, good for one link.
    pub token: String,
    /// Seconds for which the token can be used.
    pub expires_s: u32,
}

/// How to open links over QUIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuicOffer {
    /// Where the server is reached: an address or a name, and a port.
    pub address: String,
    /// The SHA-256 of the server's certificate in hex, where no authority signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_sha256: Option<String>,
}

/// How to open links over WebTransport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebTransportOffer {
    /// Where the server is reached.
    pub url: String,
    /// The SHA-256 of the server's certificate in hex, where no authority signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_sha256: Option<String>,
}

/// How to open links over WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSocketOffer {
    /// Where the server is reached: `ws:` or `wss:`.
    pub url: String,
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
    /// Reads an answer. What it holds besides is ignored.
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
            .field("udp", &self.udp)
            .field("quic", &self.quic)
            .field("webtransport", &self.webtransport)
            .field("websocket", &self.websocket)
            .field("has_ticket", &self.ticket.is_some())
            .field("ticket_expires_s", &self.ticket_expires_s)
            .finish()
    }
}

impl fmt::Debug for UdpOffer {
    /// Without the connect token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpOffer")
            .field("address", &self.address)
            .field("expires_s", &self.expires_s)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_and_says_nothing_of_what_is_not_enabled() {
        let offer = Discovery {
            protocol: PROTOCOL,
            name: "arena".to_owned(),
            draining: false,
            udp: Some(UdpOffer {
                address: ([127, 0, 0, 1], 7_777).into(),
                token: "AA==".to_owned(),
                expires_s: 300,
            }),
            quic: None,
            webtransport: None,
            websocket: None,
            ticket: Some("AXN0aWNrZXQ".to_owned()),
            ticket_expires_s: Some(30),
        };

        let json = offer.to_json();

        assert_eq!(
            json,
            r#"{"protocol":1,"name":"arena","udp":{"address":"127.0.0.1:7777","token":"AA==","expires_s":300},"ticket":"AXN0aWNrZXQ","ticket_expires_s":30}"#
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
