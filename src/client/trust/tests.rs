//! Tests of TLS handshakes without a network, with a server that has a self-signed certificate.

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConnection, ProtocolVersion, ServerConfig, ServerConnection};

use super::*;

#[test]
fn the_pinned_certificate_is_accepted_for_any_server_name() {
    let server = Server::new();

    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let negotiated = handshake(Trust::Sha256(server.sha256()), &server.config(version));

        assert_eq!(negotiated, Ok(version.version));
    }
}

#[test]
fn another_certificate_is_refused_with_both_hashes_and_what_to_do() {
    let (server, other) = (Server::new(), Server::new());

    let refused = handshake(Trust::Sha256(other.sha256()), &server.config(&rustls::version::TLS13));

    let told = refused.expect_err("another certificate").to_string();
    let hashes = [server.sha256(), other.sha256()].map(|hash| HEXLOWER.encode(&hash));
    assert!(hashes.iter().all(|hash| told.contains(hash)), "{told}");
    assert!(told.contains("ask its discovery again"), "{told}");
}

#[test]
fn a_server_without_the_key_of_the_pinned_certificate_is_refused() {
    let (server, thief) = (Server::new(), Server::new());
    let stolen = Server { certificate: server.certificate.clone(), key: thief.key };

    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let refused = handshake(Trust::Sha256(server.sha256()), &stolen.config(version));

        let bad_signature = Error::InvalidCertificate(CertificateError::BadSignature);
        assert_eq!(refused, Err(bad_signature));
    }
}

#[test]
fn without_a_pin_a_certificate_that_no_authority_signed_is_refused() {
    let refused = handshake(Trust::WebPki, &Server::new().config(&rustls::version::TLS13));

    assert_eq!(refused, Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)));
}

#[test]
fn a_hash_is_64_hex_digits_in_either_case() {
    let upper = Trust::from_offer(Some(&"aF".repeat(32)));
    let short = Trust::from_offer(Some("af"));
    let other = Trust::from_offer(Some(&"ä".repeat(32)));
    let sign = Trust::from_offer(Some(&"+1".repeat(32)));

    assert_eq!(upper, Ok(Trust::Sha256([0xAF; 32])));
    assert_eq!(short, Err(TrustError::Hash("af".to_owned())));
    assert!(other.is_err() && sign.is_err());
}

/// A server's certificate and key.
struct Server {
    certificate: CertificateDer<'static>,
    key: String,
}

impl Server {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["elsewhere".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        Self { certificate, key: key.serialize_pem() }
    }

    fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// Returns a configuration that presents the certificate and signs with the key, also if they do not match.
    fn config(&self, version: &'static rustls::SupportedProtocolVersion) -> Arc<ServerConfig> {
        let provider = ring::default_provider();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        let key = provider.key_provider.load_private_key(key).expect("a key that signs");
        let shown = CertifiedKey::new(vec![self.certificate.clone()], key);
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Shown(Arc::new(shown))));
        Arc::new(config)
    }
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Runs a handshake, and returns the client's result.
fn handshake(trust: Trust, server: &Arc<ServerConfig>) -> Result<ProtocolVersion, Error> {
    let config = trust.client_config(&[]).expect("a configuration");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let mut client = ClientConnection::new(config, name).expect("a client");
    let mut server = ServerConnection::new(Arc::clone(server)).expect("a server");
    let mut wire = Vec::new();
    for _ in 0..10 {
        client.write_tls(&mut wire).expect("memory");
        server.read_tls(&mut wire.as_slice()).expect("memory");
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).expect("memory");
        client.read_tls(&mut wire.as_slice()).expect("memory");
        client.process_new_packets()?;
        wire.clear();
        if let (false, Some(version)) = (client.is_handshaking(), client.protocol_version()) {
            return Ok(version);
        }
    }
    panic!("the handshake did not end");
}
