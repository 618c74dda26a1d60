//! Whom a client takes for its server: what it asks of a certificate.

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

/// What a client of QUIC, WebTransport or `wss` asks of the server's certificate.
///
/// ```
/// use waystation::client::Trust;
///
/// // What discovery says of a server that signs its certificate itself.
/// let hex = "00".repeat(32);
/// assert_eq!(Trust::from_offer(Some(&hex))?, Trust::Sha256([0; 32]));
/// // And of one with a certificate from an authority.
/// assert_eq!(Trust::from_offer(None)?, Trust::WebPki);
/// # Ok::<(), waystation::client::TrustError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It is the one with this SHA-256, whatever its name and dates: for a server that signs its
    /// certificate itself and says its hash over a way that is trusted, such as discovery on the same
    /// machine or over HTTPS.
    Sha256([u8; 32]),
    /// One of the public authorities that browsers trust vouches for it and the server's name.
    WebPki,
}

/// A trust that cannot be put to use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// A hash that is none.
    #[error("`{0}` is no SHA-256: it takes 64 hex digits, as the server's discovery gives them")]
    Hash(String),
    /// The cryptography does not offer what TLS needs; a bug.
    #[error("TLS cannot be set up: {0}; report this as a bug")]
    Setup(String),
}

impl Trust {
    /// What `cert_sha256` of discovery's offers asks for: that certificate, or without it any that an
    /// authority vouches for.
    ///
    /// # Errors
    ///
    /// [`TrustError::Hash`] if it is not 64 hex digits.
    pub fn from_offer(cert_sha256: Option<&str>) -> Result<Self, TrustError> {
        let Some(hex) = cert_sha256 else {
            return Ok(Self::WebPki);
        };
        let hash = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok().and_then(|hash| hash.try_into().ok());
        let error = || TrustError::Hash(hex.chars().take(SHOWN_MAX_CHARS).collect());
        Ok(Self::Sha256(hash.ok_or_else(error)?))
    }

    /// What a connection with this trust is opened with; `alpn` are the application protocols it
    /// speaks, the preferred first. TLS 1.3, and 1.2 where the transport allows it; no early data,
    /// which can be replayed. Share it between connections to a server, and handshakes get cheaper.
    ///
    /// # Errors
    ///
    /// [`TrustError::Setup`], which would be a bug.
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

/// Takes one certificate, and looks that the server has its key.
#[derive(Debug)]
struct Pinned {
    sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

/// Another certificate than the one that was told.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server's certificate has the SHA-256 {}, and {} was expected: it is another server, or it \
     has a new certificate; ask its discovery again",
    HEXLOWER.encode(.found),
    HEXLOWER.encode(.expected)
)]
struct OtherCertificate {
    found: [u8; 32],
    expected: [u8; 32],
}

impl fmt::Debug for OtherCertificate {
    /// As it is displayed: rustls shows what others report in this form only.
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
        // Both are public: nothing is learned from how long the comparison takes.
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

/// Of what should have been a hash, in an error: somewhat more than a hash has.
const SHOWN_MAX_CHARS: usize = 80;

#[cfg(test)]
mod tests;
