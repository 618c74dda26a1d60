//! Creates and renews a self-signed certificate.

use std::time::Duration;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;

use super::{Current, TlsError, provider};

/// The names for the certificate, and the time at which the last one was created.
pub(super) struct SelfSigned {
    names: Vec<String>,
    made_at: Option<Duration>,
}

impl SelfSigned {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self { names, made_at: None }
    }

    /// Returns a new certificate with a new key if there is none, if the last one is due for renewal, or if the
    /// wall clock is too far behind the creation of the last one.
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

/// How long before its creation a certificate becomes valid, for clients whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(60 * 60);
/// How far the wall clock may be behind the creation of the certificate: half of [`BACKDATED`]. The other half is
/// left for clients whose clocks are behind.
const LATE_MAX: Duration = Duration::from_secs(30 * 60);
/// How long a certificate is valid after its creation. With [`BACKDATED`] it stays below 14 days, the limit of
/// browsers for certificates that are verified by a hash.
const VALID_FOR: Duration = Duration::from_secs(13 * 24 * 60 * 60);
/// Age at which a certificate is renewed.
const RENEW_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);
