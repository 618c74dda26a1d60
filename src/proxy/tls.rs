//! Certificates: what the server shows to clients of QUIC, WebTransport and `wss`.
//!
//! A [`Tls`] has a certificate from PEM files, or makes one that it signs itself, and hands out
//! configurations for as many listeners as there are. All of them show the newest certificate: a
//! thread of its own, called `tls`, looks every few seconds whether the files have changed, or the
//! self-signed certificate is old, and the next handshake sees what it found. It is not where
//! anything is encrypted, and it asks no authority for certificates: a tool beside the server does
//! and replaces the files.
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

/// A certificate with its key, renewed while the server runs. Clones share it.
///
/// It is kept up to date for as long as a clone of it or a configuration from it is there.
///
/// ```
/// use waystation::proxy::tls::Tls;
///
/// let tls = Tls::self_signed(&["localhost".to_owned(), "127.0.0.1".to_owned()])?;
/// let config = tls.server_config(&[b"waystation/1", b"h3"])?;
/// assert_eq!(config.alpn_protocols.len(), 2);
/// assert!(tls.sha256().is_some()); // what a client pins
/// # Ok::<(), waystation::proxy::tls::TlsError>(())
/// ```
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

/// A certificate that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there or must not be read.
    #[error("cannot read {path}: {cause}; name a PEM file that the server's user may read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// A file is too long to be what it should be.
    #[error("{path} is longer than {FILE_MAX} bytes: name the PEM file of one certificate chain or key")]
    Long {
        /// Which file.
        path: PathBuf,
    },
    /// A file has nothing of use in it, or is damaged.
    #[error("{path} holds no {wanted} ({cause}); write it as PEM")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// What the parser says.
        cause: String,
    },
    /// The two files do not belong together, or cannot be used.
    #[error(
        "the certificate in {certificate} and the key in {key} cannot be used together: {cause}; the \
         server's own certificate comes first in its file, and the key is the one it was issued for"
    )]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What rustls says.
        #[source]
        cause: rustls::Error,
    },
    /// No self-signed certificate can be made.
    #[error("no certificate can be made for {names:?}: {cause}; give host names or addresses, without ports")]
    SelfSigned {
        /// For whom.
        names: Vec<String>,
        /// What failed.
        cause: String,
    },
    /// The system gives no thread.
    #[error("the thread that renews certificates cannot start: {0}; raise the limit of threads")]
    Thread(#[source] io::Error),
    /// The cryptography does not offer what TLS needs; a bug.
    #[error("TLS cannot be set up: {0}; report this as a bug")]
    Setup(#[source] rustls::Error),
}

impl Tls {
    /// Takes a certificate chain, the server's own first, and its key, not encrypted, from PEM files.
    ///
    /// The files are read again every 5 s. What has changed is used from the next handshake on; while
    /// the two do not fit together, because they are being replaced or wrongly so, the server goes on
    /// with what it had and says so in the log. An expired certificate is used and warned of.
    ///
    /// # Errors
    ///
    /// [`TlsError`], if there is nothing to start with.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files::new(certificate.to_owned(), key.to_owned());
        Self::start(Source::Files(files), watch::EVERY, UnixClock::system())
    }

    /// Makes a certificate for these host names and addresses and signs it itself: for development,
    /// since nobody trusts it who was not told its [hash](Self::sha256). It uses ECDSA on P-256 and
    /// is valid for less than 14 days, as browsers want; a new one takes its place after a week, and
    /// when the wall clock is set to a time at which clients would refuse the present one or soon will.
    ///
    /// # Errors
    ///
    /// [`TlsError::SelfSigned`] if a name is none, [`TlsError::Thread`].
    pub fn self_signed(names: &[String]) -> Result<Self, TlsError> {
        let source = Source::SelfSigned(SelfSigned::new(names.to_vec()));
        Self::start(source, watch::EVERY, UnixClock::system())
    }

    fn start(source: Source, every: Duration, unix: UnixClock) -> Result<Self, TlsError> {
        let (alive, ended) = std::sync::mpsc::channel();
        let now = unix.wall();
        let mut source = source;
        let Some(current) = source.look(now)? else {
            // A source that has looked at nothing yet has news.
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

    /// Looks now whether there is a new certificate, as the thread does every 5 s: for a signal that
    /// asks for it. True if there was one; it is used from now on.
    ///
    /// # Errors
    ///
    /// [`TlsError`]; the old certificate stays in use. Files that were refused are looked at again
    /// when they have changed, and are no news until then.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.shared.look()
    }

    /// A configuration for a listener that speaks these application protocols, the preferred first;
    /// TLS 1.3, and 1.2 where the listener allows it. No client certificates and no early data,
    /// which can be replayed.
    ///
    /// # Errors
    ///
    /// [`TlsError::Setup`], which would be a bug.
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

    /// The clock that it goes by.
    pub(super) fn unix(&self) -> &UnixClock {
        &self.shared.unix
    }

    /// The SHA-256 of the self-signed certificate in use, to be told to clients; none for one from
    /// files, which authorities vouch for, and whose hash browsers do not take if it is valid for more
    /// than 14 days.
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

/// What all clones, all configurations and the thread share.
struct Shared {
    source: Mutex<Source>,
    current: RwLock<Arc<Current>>,
    /// Its wall clock counts: clients compare a certificate with their own clocks, and not with this
    /// server's.
    unix: UnixClock,
    /// The thread ends with the last of those who need it.
    _alive: Sender<()>,
}

impl Shared {
    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what is new; true if something was.
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
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Where certificates come from.
enum Source {
    Files(Files),
    SelfSigned(SelfSigned),
}

impl Source {
    /// A certificate, if there is one that was not seen yet.
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
    /// Whether the log has been told that clients refuse it.
    warned: AtomicBool,
}

impl Current {
    fn new(key: CertifiedKey, is_self_signed: bool) -> Self {
        let leaf = key.cert.first().map(|certificate| certificate.as_ref()).unwrap_or_default();
        let sha256 = is_self_signed.then(|| Sha256::digest(leaf).into());
        Self { sha256, key: Arc::new(key), warned: AtomicBool::new(false) }
    }

    /// Why clients whose clocks say `now` refuse the certificate's dates, if they do.
    fn refusal(&self, now: Duration) -> Option<CertificateError> {
        let leaf = ParsedCertificate::try_from(self.key.end_entity_cert().ok()?).ok()?;
        let (roots, now) = (RootCertStore::empty(), UnixTime::since_unix_epoch(now));
        // Nobody vouches for it here, which rustls finds after it has looked at the dates.
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

    /// Clients refuse it, and the log says why before anybody asks; once.
    fn warn_if_invalid(&self, now: Duration) {
        let Some(why) = self.refusal(now) else { return };
        if self.warned.swap(true, Ordering::Relaxed) {
            return;
        }
        if matches!(why, CertificateError::Expired | CertificateError::ExpiredContext { .. }) {
            tracing::warn!("the certificate has expired, and clients refuse it: replace its files");
        } else {
            tracing::warn!("the certificate is not valid yet: look at this machine's clock");
        }
    }
}

/// Always the same cryptography, whatever else in the process installs its own.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::ring::default_provider())
}

/// Longest file that is read, in bytes: some hundred certificates.
const FILE_MAX: u64 = 256 * 1024;

#[cfg(test)]
mod tests;
