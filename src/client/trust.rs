//! Verifies the certificate of a server.

use std::fmt;
use std::sync::Arc;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use sha2::{Digest as _, Sha256};

/// The certificate that a client accepts over QUIC, WebTransport, `wss` and `https`.
///
/// ```
/// use waystation::client::Trust;
///
/// // The offer of a server with a self-signed certificate has a hash.
/// let hex = "00".repeat(32);
/// assert_eq!(Trust::from_offer(Some(&hex))?, Trust::Sha256([0; 32]));
/// // The offer of a server with a certificate from an authority has no hash.
/// assert_eq!(Trust::from_offer(None)?, Trust::WebPki);
/// # Ok::<(), waystation::client::TrustError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The certificate whose DER encoding has this SHA-256. Its name and its dates are not checked. Use this
    /// variant for a self-signed certificate whose hash was received over a trusted connection, such as discovery
    /// on the same machine or over HTTPS.
    Sha256([u8; 32]),
    /// A certificate for the server's name, signed by a public authority that browsers trust.
    WebPki,
}

/// The reason why a [`Trust`] cannot be created or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The text is not a SHA-256.
    #[error("`{0}` is not a SHA-256: give 64 hex digits, as the server's discovery does")]
    Hash(String),
    /// TLS cannot be set up, which is a bug.
    #[error("TLS cannot be set up: {0}; report this as a bug")]
    Setup(String),
}

impl Trust {
    /// Returns the trust for the `cert_sha256` of an offer of discovery. With a hash, the client accepts only the
    /// certificate with this hash. Without one, it accepts a certificate that a public authority has signed.
    ///
    /// # Errors
    ///
    /// Returns [`TrustError::Hash`] if the hash is not 64 hex digits.
    pub fn from_offer(cert_sha256: Option<&str>) -> Result<Self, TrustError> {
        let Some(hex) = cert_sha256 else {
            return Ok(Self::WebPki);
        };
        let hash = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok().and_then(|hash| hash.try_into().ok());
        let error = || TrustError::Hash(hex.chars().take(SHOWN_MAX_CHARS).collect());
        Ok(Self::Sha256(hash.ok_or_else(error)?))
    }

    /// Returns a rustls configuration with this trust. `alpn` lists the application protocols, the preferred one
    /// first. The configuration allows TLS 1.2 and 1.3; QUIC itself requires 1.3. It sends no early data, because
    /// early data can be replayed. Share it between connections to a server to make handshakes cheaper.
    ///
    /// # Errors
    ///
    /// Returns [`TrustError::Setup`] if TLS cannot be set up, which is a bug.
    pub fn client_config(self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TrustError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TrustError::Setup(error.to_string()))?;
        let mut config = match self {
            Self::Sha256(sha256) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Pinned { sha256, provider }))
                .with_no_client_auth(),
            Self::WebPki => {
                let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
                builder.with_root_certificates(roots).with_no_client_auth()
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// Accepts one certificate, and checks that the server has its key.
#[derive(Debug)]
struct Pinned {
    sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

/// The server has another certificate than the expected one.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server's certificate has the SHA-256 {}, but {} was expected: this is another server, or the server \
     has a new certificate; ask its discovery again",
    HEXLOWER.encode(.found),
    HEXLOWER.encode(.expected)
)]
struct OtherCertificate {
    found: [u8; 32],
    expected: [u8; 32],
}

impl fmt::Debug for OtherCertificate {
    /// Prints the message, because rustls prints the errors of other verifiers in this form only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Both hashes are public, so the comparison need not take constant time.
        let found = Sha256::digest(certificate).into();
        if found == self.sha256 {
            return Ok(ServerCertVerified::assertion());
        }
        let other = OtherCertificate { found, expected: self.sha256 };
        Err(CertificateError::Other(OtherError(Arc::new(other))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Maximum length of the part of a malformed hash that an error shows: somewhat more than the length of a hash.
const SHOWN_MAX_CHARS: usize = 80;

#[cfg(test)]
mod tests;
