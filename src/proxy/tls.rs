//! The server's certificates for QUIC, WebTransport and `wss`.
//!
//! A [`Tls`] holds a certificate from PEM files, or a self-signed certificate that it creates. It makes the TLS
//! configurations of any number of listeners, and all of them use the newest certificate. Every 5 s, a thread named
//! `tls` checks whether the files have changed or the self-signed certificate has to be renewed. A new certificate
//! is used from the next handshake on. The module does not request certificates from an authority: use a separate
//! tool that replaces the files.
//!
//! Data flow: files, or a key pair → [`Tls`] → [`Tls::server_config`] → a listener's handshakes.

mod files;
mod self_signed;
mod watch;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore, ServerConfig, crypto};
use sha2::{Digest as _, Sha256};

use crate::tick::UnixClock;
use files::Files;
use self_signed::SelfSigned;

/// A certificate with its key, which is renewed while the server runs. Clones share the certificate.
///
/// Renewal ends when all clones and all configurations of a `Tls` were dropped.
///
/// ```
/// use waystation::proxy::tls::Tls;
///
/// let tls = Tls::self_signed(&["localhost".to_owned(), "127.0.0.1".to_owned()])?;
/// let config = tls.server_config(&[b"waystation/1", b"h3"])?;
/// assert_eq!(config.alpn_protocols.len(), 2);
/// assert!(tls.sha256().is_some()); // the hash for discovery
/// # Ok::<(), waystation::proxy::tls::TlsError>(())
/// ```
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

/// An error of loading or creating a certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {cause}; name a PEM file that the server's user may read")]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        cause: io::Error,
    },
    /// A file is too long for a certificate chain or a key.
    #[error("{path} is longer than {FILE_MAX} bytes; name a PEM file with one certificate chain or key")]
    Long {
        /// The path of the file.
        path: PathBuf,
    },
    /// A file does not contain the expected items, or is damaged.
    #[error("{path} contains no {wanted}: {cause}; write the file in PEM format")]
    Pem {
        /// The path of the file.
        path: PathBuf,
        /// The expected item.
        wanted: &'static str,
        /// The error of the parser.
        cause: String,
    },
    /// The certificate and the key do not match, or cannot be used.
    #[error(
        "the certificate in {certificate} and the key in {key} cannot be used together: {cause}; put the \
         server's own certificate first in its file, and use the key that belongs to it"
    )]
    Pair {
        /// The path of the certificate file.
        certificate: PathBuf,
        /// The path of the key file.
        key: PathBuf,
        /// The error of rustls.
        #[source]
        cause: rustls::Error,
    },
    /// No self-signed certificate can be created.
    #[error(
        "cannot create a certificate for {names:?}: {cause}; give host names or IP addresses, without ports"
    )]
    SelfSigned {
        /// The host names and addresses for the certificate.
        names: Vec<String>,
        /// The failure.
        cause: String,
    },
    /// The operating system cannot start a thread.
    #[error("cannot start the thread that renews certificates: {0}; raise the limit of threads")]
    Thread(#[source] io::Error),
    /// The cryptography library lacks what TLS requires, which is a bug.
    #[error("cannot set up TLS: {0}; please report this bug")]
    Setup(#[source] rustls::Error),
}

impl Tls {
    /// Loads a certificate chain and its key from PEM files. The server's own certificate comes first in the chain.
    /// The key must not be encrypted.
    ///
    /// The files are read again every 5 s, and a new certificate is used from the next handshake on. While the new
    /// files cannot be used, for example because only one of them was replaced, the old certificate stays in use
    /// and a warning is logged. An expired certificate is used, with a warning in the log.
    ///
    /// # Errors
    ///
    /// Returns a [`TlsError`] if the files cannot be read or used.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files::new(certificate.to_owned(), key.to_owned());
        Self::start(Source::Files(files), watch::EVERY, UnixClock::system())
    }

    /// Creates a self-signed certificate for these host names and addresses, for development. Clients accept it
    /// only by its [hash](Self::sha256).
    ///
    /// The certificate uses ECDSA on P-256 and is valid for less than 14 days, as browsers require. It is renewed
    /// after a week. It is also renewed when the wall clock is set to a time at which clients would refuse it, or
    /// would soon refuse it.
    ///
    /// # Errors
    ///
    /// Returns [`TlsError::SelfSigned`] if a name is invalid, and [`TlsError::Thread`] if the operating system
    /// cannot start a thread.
    pub fn self_signed(names: &[String]) -> Result<Self, TlsError> {
        let source = Source::SelfSigned(SelfSigned::new(names.to_vec()));
        Self::start(source, watch::EVERY, UnixClock::system())
    }

    fn start(source: Source, every: Duration, unix: UnixClock) -> Result<Self, TlsError> {
        let (alive, ended) = std::sync::mpsc::channel();
        let now = unix.wall();
        let mut source = source;
        let Some(current) = source.look(now)? else {
            // The first look of a source always returns a certificate or an error.
            return Err(TlsError::Setup(rustls::Error::NoCertificatesPresented));
        };
        current.warn_if_invalid(now);
        let shared = Arc::new(Shared {
            source: Mutex::new(source),
            current: RwLock::new(Arc::new(current)),
            unix,
            _alive: alive,
        });
        watch::spawn(Arc::downgrade(&shared), ended, every).map_err(TlsError::Thread)?;
        Ok(Self { shared })
    }

    /// Checks for a new certificate now, for example in a signal handler. The thread does the same every 5 s.
    /// Returns true if there is a new certificate; it is used from the next handshake on.
    ///
    /// # Errors
    ///
    /// Returns a [`TlsError`] if the files cannot be read or used. The old certificate stays in use. Files that
    /// cannot be used cause one error; they are ignored until they change.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.shared.look()
    }

    /// Returns a TLS configuration for a listener with these ALPN protocols, the preferred one first. It allows TLS
    /// 1.3, and TLS 1.2 if the listener supports it. It requests no client certificates and accepts no early data,
    /// which can be replayed.
    ///
    /// # Errors
    ///
    /// Returns [`TlsError::Setup`], which is a bug.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.shared) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    /// Returns the clock for renewals and checks of dates.
    pub(super) fn unix(&self) -> &UnixClock {
        &self.shared.unix
    }

    /// Returns the SHA-256 of the current self-signed certificate, for clients to verify it by. Returns `None` for
    /// a certificate from files, which clients verify by its authorities. Browsers reject the hash of a certificate
    /// that is valid for more than 14 days.
    #[must_use]
    pub fn sha256(&self) -> Option<[u8; 32]> {
        self.shared.current().sha256
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("sha256", &self.sha256()).finish_non_exhaustive()
    }
}

/// The state that all clones, all configurations and the thread share.
struct Shared {
    source: Mutex<Source>,
    current: RwLock<Arc<Current>>,
    /// Only the wall clock is used, because clients compare the dates of a certificate with their wall clocks.
    unix: UnixClock,
    /// Dropping it ends the thread.
    _alive: Sender<()>,
}

impl Shared {
    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks for a new certificate and adopts it. Returns true if there is one.
    fn look(&self) -> Result<bool, TlsError> {
        let now = self.unix.wall();
        let found = self.source.lock().unwrap_or_else(PoisonError::into_inner).look(now);
        let Ok(Some(found)) = found else {
            self.current().warn_if_invalid(now);
            return found.map(|_| false);
        };
        found.warn_if_invalid(now);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
        Ok(true)
    }
}

impl ResolvesServerCert for Shared {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current().key))
    }
}

impl fmt::Debug for Shared {
    /// Formats nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The source of certificates.
enum Source {
    Files(Files),
    SelfSigned(SelfSigned),
}

impl Source {
    /// Returns a certificate if there is one that was not returned before.
    fn look(&mut self, now: Duration) -> Result<Option<Current>, TlsError> {
        match self {
            Self::Files(files) => files.look(),
            Self::SelfSigned(own) => own.look(now),
        }
    }
}

/// The certificate in use.
struct Current {
    key: Arc<CertifiedKey>,
    sha256: Option<[u8; 32]>,
    /// True if a warning was logged that clients refuse the certificate.
    warned: AtomicBool,
}

impl Current {
    fn new(key: CertifiedKey, is_self_signed: bool) -> Self {
        let leaf = key.cert.first().map(|certificate| certificate.as_ref()).unwrap_or_default();
        let sha256 = is_self_signed.then(|| Sha256::digest(leaf).into());
        Self { sha256, key: Arc::new(key), warned: AtomicBool::new(false) }
    }

    /// Returns the error with which clients refuse the dates of the certificate at the time `now`, if they do.
    fn refusal(&self, now: Duration) -> Option<CertificateError> {
        let leaf = ParsedCertificate::try_from(self.key.end_entity_cert().ok()?).ok()?;
        let (roots, now) = (RootCertStore::empty(), UnixTime::since_unix_epoch(now));
        // There are no roots, so verification always fails. rustls checks the dates first.
        match verify_server_cert_signed_by_trust_anchor(&leaf, &roots, &[], now, &[]) {
            Err(Error::InvalidCertificate(
                why @ (CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }),
            )) => Some(why),
            _ => None,
        }
    }

    /// Logs a warning, once per certificate, if clients refuse the dates of the certificate.
    fn warn_if_invalid(&self, now: Duration) {
        let Some(why) = self.refusal(now) else { return };
        if self.warned.swap(true, Ordering::Relaxed) {
            return;
        }
        if matches!(why, CertificateError::Expired | CertificateError::ExpiredContext { .. }) {
            tracing::warn!("the certificate has expired and clients refuse it; replace its files");
        } else {
            tracing::warn!(
                "the certificate is not valid yet and clients refuse it; check the clock of this machine"
            );
        }
    }
}

/// Returns the cryptography provider. It does not depend on the default provider of the process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::ring::default_provider())
}

/// Length of the longest file that is accepted, in bytes: more than a hundred certificates.
const FILE_MAX: u64 = 256 * 1024;

#[cfg(test)]
mod tests;
