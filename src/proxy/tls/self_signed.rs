//! A certificate that the server makes for itself.

use std::time::Duration;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;

use super::{Current, TlsError, provider};

/// Whom the certificate names, and when the last one was made.
pub(super) struct SelfSigned {
    names: Vec<String>,
    made_at: Option<Duration>,
}

impl SelfSigned {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self { names, made_at: None }
    }

    /// A new certificate with a new key, if by the wall clock the last one is old, or is made too late
    /// for clients whose clocks are late.
    pub(super) fn look(&mut self, now: Duration) -> Result<Option<Current>, TlsError> {
        let keeps = |made_at| now + LATE_MAX >= made_at && now < made_at + RENEW_AFTER;
        if self.made_at.is_some_and(keeps) {
            return Ok(None);
        }
        let key = self.make(now)?;
        self.made_at = Some(now);
        Ok(Some(Current::new(key, true)))
    }

    fn make(&self, now: Duration) -> Result<CertifiedKey, TlsError> {
        let failed = |cause: String| TlsError::SelfSigned { names: self.names.clone(), cause };
        let mut params =
            CertificateParams::new(self.names.clone()).map_err(|error| failed(error.to_string()))?;
        params.distinguished_name.push(DnType::CommonName, "waystation, self-signed");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(BACKDATED);
        params.not_after = date_time_ymd(1970, 1, 1) + now + VALID_FOR;
        let pair =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| failed(error.to_string()))?;
        let certificate = params.self_signed(&pair).map_err(|error| failed(error.to_string()))?;
        let secret =
            PrivateKeyDer::try_from(pair.serialize_der()).map_err(|error| failed(error.to_owned()))?;
        CertifiedKey::from_der(vec![certificate.der().clone()], secret, &provider())
            .map_err(|error| failed(error.to_string()))
    }
}

/// How long before it is made a certificate begins: clients' clocks are late by less than this.
const BACKDATED: Duration = Duration::from_secs(60 * 60);
/// How far the wall clock may be behind the time at which the certificate was made: half of [`BACKDATED`],
/// so that the other half is left for clients whose clocks are late.
const LATE_MAX: Duration = Duration::from_secs(30 * 60);
/// How long it is valid. With [`BACKDATED`] less than the 14 days beyond which browsers take no hash.
const VALID_FOR: Duration = Duration::from_secs(13 * 24 * 60 * 60);
/// When the next one is made: a client that was told a hash just before has days to use the new one.
const RENEW_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);
