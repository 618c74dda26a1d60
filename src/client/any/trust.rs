//! Builds the TLS configuration for discovery over HTTPS.

use std::io;

use rustls::pki_types::ServerName;

use super::url::ServerUrl;
use crate::client::stream::TlsPeer;

/// Returns the TLS configuration and the server name for a URL.
pub(super) fn of_http(place: &ServerUrl) -> io::Result<TlsPeer> {
    let config = place.trust.client_config(&[HTTP]).map_err(io::Error::other)?;
    let host = place.host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    Ok(TlsPeer { config, name })
}

/// The ALPN protocol.
const HTTP: &[u8] = b"http/1.1";
