//! Reads a certificate and its key from PEM files.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};

use super::{Current, FILE_MAX, TlsError, provider};

/// The two files and the hash of their content when they were last read.
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// Hash of the content of both files. Modification times are not used, because replacing a symbolic link or
    /// restoring a copy may not change them.
    seen: Option<[u8; 32]>,
}

impl Files {
    pub(super) fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, seen: None }
    }

    /// Returns the certificate in the files if their content has changed. Content that cannot be used is remembered
    /// too, so it causes one error only.
    pub(super) fn look(&mut self) -> Result<Option<Current>, TlsError> {
        let certificate = read(&self.certificate)?;
        let key = read(&self.key)?;
        let mut hash = Sha256::new();
        hash.update((certificate.len() as u64).to_be_bytes());
        hash.update(&certificate);
        hash.update(&key);
        let content = Some(hash.finalize().into());
        if self.seen == content {
            return Ok(None);
        }
        self.seen = content;
        self.parse(&certificate, &key).map(Some)
    }

    fn parse(&self, certificate: &[u8], key: &[u8]) -> Result<Current, TlsError> {
        let pem = |path: &Path, wanted, cause: String| TlsError::Pem { path: path.to_owned(), wanted, cause };
        let chain = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| pem(&self.certificate, "certificate", error.to_string()))?;
        if chain.is_empty() {
            return Err(pem(&self.certificate, "certificate", "no items found".to_owned()));
        }
        let secret = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| pem(&self.key, "unencrypted private key", error.to_string()))?;
        let key = CertifiedKey::from_der(chain, secret, &provider()).map_err(|cause| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            cause,
        })?;
        Ok(Current::new(key, false))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut content))
        .map_err(|cause| TlsError::Read { path: path.to_owned(), cause })?;
    if content.len() as u64 > FILE_MAX {
        return Err(TlsError::Long { path: path.to_owned() });
    }
    Ok(content)
}
