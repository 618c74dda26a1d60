//! Tests of certificates in handshakes without a network.

use std::fs;
use std::time::Instant;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

use super::*;
use crate::tick::Clock;

#[test]
fn the_next_handshake_of_every_listener_uses_replaced_files() {
    let folder = Folder::new("replaced");
    let (old, new) = (Pair::new(), Pair::new());
    folder.write(&old.certificate, &old.key);
    let tls = Tls::from_files(&folder.certificate(), &folder.key()).expect("a certificate");
    let config = tls.server_config(&[b"h3"]).expect("a configuration");
    assert_eq!(shown(&config, &[&old, &new]), Ok(old.der.clone()));

    folder.write(&new.certificate, &new.key);
    let reloaded = tls.reload().expect("both files are whole");

    assert!(reloaded);
    assert_eq!(shown(&config, &[&old, &new]), Ok(new.der.clone()));
    assert!(!tls.reload().expect("both files are whole"), "nothing has changed since");
}

#[test]
fn while_certificate_and_key_do_not_match_the_old_ones_stay_in_use() {
    let folder = Folder::new("half");
    let (old, new) = (Pair::new(), Pair::new());
    folder.write(&old.certificate, &old.key);
    let tls = Tls::from_files(&folder.certificate(), &folder.key()).expect("a certificate");
    let config = tls.server_config(&[b"h3"]).expect("a configuration");

    folder.write(&new.certificate, &old.key);
    let mismatch = tls.reload();
    folder.write(&new.certificate[..new.certificate.len() / 2], &new.key);
    let cut = tls.reload();
    fs::remove_file(folder.certificate()).expect("it was there");
    let missing = tls.reload();

    assert!(matches!(mismatch, Err(TlsError::Pair { .. })), "{mismatch:?}");
    assert!(matches!(cut, Err(TlsError::Pem { .. })), "{cut:?}");
    assert!(matches!(missing, Err(TlsError::Read { .. })), "{missing:?}");
    assert_eq!(shown(&config, &[&old, &new]), Ok(old.der.clone()));
    folder.write(&new.certificate, &new.key);
    assert!(tls.reload().expect("both files are whole"));
    assert_eq!(shown(&config, &[&old, &new]), Ok(new.der.clone()));
}

#[test]
fn the_thread_finds_replaced_files_and_ends_with_the_last_configuration() {
    let folder = Folder::new("thread");
    let (old, new) = (Pair::new(), Pair::new());
    folder.write(&old.certificate, &old.key);
    let source = Source::Files(Files::new(folder.certificate(), folder.key()));
    let tls = Tls::start(source, Duration::from_millis(1), UnixClock::system()).expect("a certificate");
    let config = tls.server_config(&[b"h3"]).expect("a configuration");
    let shared = Arc::downgrade(&tls.shared);

    // The thread runs as long as a configuration exists.
    drop(tls);
    folder.write(&new.certificate, &new.key);

    until(|| shown(&config, &[&old, &new]) == Ok(new.der.clone()));
    drop(config);
    until(|| shared.strong_count() == 0);
}

#[test]
fn the_thread_ends_at_once_during_a_long_interval() {
    let own = SelfSigned::new(vec!["localhost".to_owned()]);
    let shared = Arc::new(Shared {
        source: Mutex::new(Source::SelfSigned(own)),
        current: RwLock::new(Arc::new(Current::new(Pair::new().certified(), false))),
        unix: UnixClock::system(),
        _alive: std::sync::mpsc::channel().0,
    });
    let (alive, ended) = std::sync::mpsc::channel::<()>();
    let thread = watch::spawn(Arc::downgrade(&shared), ended, Duration::from_secs(3_600)).expect("a thread");

    drop(alive);

    thread.join().expect("it ends");
}

#[test]
fn unusable_files_are_errors_that_name_a_cure() {
    let folder = Folder::new("start");
    let pair = Pair::new();
    let start = || Tls::from_files(&folder.certificate(), &folder.key()).map(|_| ()).expect_err("unusable");

    let missing = start().to_string();
    folder.write("no certificate", &pair.key);
    let empty = start().to_string();
    folder.write(&pair.certificate, &pair.certificate);
    let no_key = start().to_string();
    folder.write(&pair.certificate, &Pair::new().key);
    let mismatch = start().to_string();
    folder.write(&"x".repeat(300_000), &pair.key);
    let long = start().to_string();

    assert!(missing.contains("cert.pem") && missing.contains("name a PEM file"), "{missing}");
    assert!(empty.contains("contains no certificate"), "{empty}");
    assert!(no_key.contains("key.pem contains no unencrypted private key"), "{no_key}");
    assert!(mismatch.contains("cannot be used together"), "{mismatch}");
    assert!(long.contains("longer than"), "{long}");
}

#[test]
fn browsers_accept_a_self_signed_certificate_by_its_hash() {
    let tls = Tls::self_signed(&["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("a certificate");
    let config = tls.server_config(&[b"h3"]).expect("a configuration");
    let current = tls.shared.current();
    let der = current.key.cert[0].to_vec();

    let (begins, ends) = dates(&tls);

    assert_eq!(current.refusal(UnixClock::system().wall()), None);
    assert!(ends - begins <= Duration::from_secs(14 * 24 * 3_600));
    assert_eq!(current.key.key.algorithm(), rustls::SignatureAlgorithm::ECDSA);
    assert_eq!(tls.sha256(), Some(Sha256::digest(&der).into()));
    assert_eq!(shown_as(&config, &der, "localhost"), Ok(der.clone()));
    assert_eq!(shown_as(&config, &der, "127.0.0.1"), Ok(der.clone()));
    assert!(shown_as(&config, &der, "elsewhere").is_err());
}

#[test]
fn a_self_signed_certificate_is_renewed_long_before_it_expires() {
    let (tls, unix) = self_signed();
    let (first, (_, ends)) = (tls.sha256(), dates(&tls));

    unix.set_wall(START + Duration::from_secs(24 * 3_600));
    let early = tls.reload();
    let unchanged = tls.sha256();
    unix.set_wall(ends - Duration::from_secs(3 * 24 * 3_600));
    let later = tls.reload();

    assert!(matches!(early, Ok(false)) && unchanged == first);
    assert!(matches!(later, Ok(true)) && tls.sha256() != first);
    assert!(dates(&tls).1 > ends);
}

#[test]
fn after_a_step_of_the_wall_clock_clients_accept_the_self_signed_certificate() {
    for (step_s, renews) in
        [(1, [false, false]), (600, [false, false]), (7_200, [false, true]), (YEAR_S, [true; 2])]
    {
        let step = Duration::from_secs(step_s);
        for (wall, renews) in [START + step, START - step].into_iter().zip(renews) {
            let (tls, unix) = self_signed();
            let first = tls.sha256();

            unix.set_wall(wall);
            let renewed = tls.reload().expect("a certificate");

            let refusals =
                [wall, wall - Duration::from_secs(30 * 60)].map(|at| tls.shared.current().refusal(at));
            assert_eq!(renewed, renews, "the wall clock moves by {step_s} s, to {wall:?}");
            assert_eq!(tls.sha256() != first, renewed);
            assert_eq!(refusals, [None, None], "{step_s} s, to {wall:?}, and half an hour before");
            assert!(!tls.reload().expect("a certificate"), "the next renewal is in a week");
            unix.set_wall(START);
            tls.reload().expect("a certificate");
            assert_eq!(tls.shared.current().refusal(START), None);
        }
    }
}

#[test]
fn an_expired_certificate_is_used_with_a_warning() {
    let folder = Folder::new("expired");
    let (expired, valid) = (Pair::until(2025), Pair::new());
    folder.write(&expired.certificate, &expired.key);
    let files = Source::Files(Files::new(folder.certificate(), folder.key()));
    let unix = UnixClock::manual(Clock::manual(), START);
    let tls = Tls::start(files, Duration::from_secs(3_600), unix.clone()).expect("a certificate");
    let is_warned = || tls.shared.current().warned.load(Ordering::Relaxed);
    assert!(is_warned());

    folder.write(&valid.certificate, &valid.key);
    tls.reload().expect("both files are whole");

    assert!(!is_warned());
    let (_, ends) = dates(&tls);
    unix.set_wall(ends);
    assert!(matches!(tls.reload(), Ok(false)));
    assert!(!is_warned(), "it is valid until its last second");
    unix.set_wall(ends + Duration::from_secs(1));
    assert!(matches!(tls.reload(), Ok(false)));
    assert!(is_warned(), "it has expired while it was in use");
}

#[test]
fn the_dates_of_a_certificate_are_read_in_both_notations() {
    let refused = |year, wall_s| {
        let current = Current::new(Pair::until(year).certified(), false);
        current.refusal(Duration::from_secs(wall_s)).is_some()
    };

    // The first second of 2026, in UTCTime, and of 2051, in GeneralizedTime.
    for (year, begins_s) in [(2026, 1_767_225_600), (2051, 2_556_144_000)] {
        assert_eq!([begins_s, begins_s + 1].map(|wall_s| refused(year, wall_s)), [false, true], "{year}");
    }
}

#[test]
fn an_invalid_name_is_an_error_and_debug_output_has_no_key() {
    let error = Tls::self_signed(&["ä ö".to_owned()]).expect_err("no name");
    let tls = Tls::self_signed(&["localhost".to_owned()]).expect("a certificate");

    assert!(error.to_string().contains("without ports"), "{error}");
    assert!(!format!("{tls:?}").contains("key"), "{tls:?}");
    assert_eq!(tls.server_config(&[]).expect("a configuration").max_early_data_size, 0);
}

/// Returns a self-signed certificate and the manual wall clock that it follows.
fn self_signed() -> (Tls, UnixClock) {
    let unix = UnixClock::manual(Clock::manual(), START);
    let source = Source::SelfSigned(SelfSigned::new(vec!["localhost".to_owned()]));
    (Tls::start(source, Duration::from_secs(3_600), unix.clone()).expect("a certificate"), unix)
}

/// Returns the first and the last second of the current certificate, from the errors of rustls.
fn dates(tls: &Tls) -> (Duration, Duration) {
    let current = tls.shared.current();
    let (early, late) = (current.refusal(Duration::ZERO), current.refusal(START * 100));
    let Some(CertificateError::NotValidYetContext { not_before, .. }) = early else { panic!("{early:?}") };
    let Some(CertificateError::ExpiredContext { not_after, .. }) = late else { panic!("{late:?}") };
    (Duration::from_secs(not_before.as_secs()), Duration::from_secs(not_after.as_secs()))
}

/// The wall clock at the start: in November 2027.
const START: Duration = Duration::from_secs(1_826_000_000);
const YEAR_S: u64 = 365 * 86_400;

/// A certificate with its key.
struct Pair {
    certificate: String,
    key: String,
    der: Vec<u8>,
}

impl Pair {
    fn new() -> Self {
        Self::until(4_000)
    }

    /// Creates a certificate that is valid until the beginning of this year.
    fn until(year: i32) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }

    fn certified(&self) -> CertifiedKey {
        let key = rustls::pki_types::pem::PemObject::from_pem_slice(self.key.as_bytes()).expect("a key");
        CertifiedKey::from_der(vec![CertificateDer::from(self.der.clone())], key, &provider())
            .expect("a pair")
    }
}

/// A folder for the files. It is removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("waystation-tls-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn certificate(&self) -> PathBuf {
        self.0.join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.join("key.pem")
    }

    fn write(&self, certificate: &str, key: &str) {
        fs::write(self.certificate(), certificate).expect("disk space");
        fs::write(self.key(), key).expect("disk space");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the certificate that a client with these trusted roots receives.
fn shown(config: &Arc<ServerConfig>, trusted: &[&Pair]) -> Result<Vec<u8>, rustls::Error> {
    let ders: Vec<&[u8]> = trusted.iter().map(|pair| pair.der.as_slice()).collect();
    handshake(config, &ders, "localhost")
}

/// Returns the certificate that a client receives that connects to the server by this name.
fn shown_as(config: &Arc<ServerConfig>, trusted: &[u8], name: &str) -> Result<Vec<u8>, rustls::Error> {
    handshake(config, &[trusted], name)
}

fn handshake(config: &Arc<ServerConfig>, trusted: &[&[u8]], name: &str) -> Result<Vec<u8>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for der in trusted {
        roots.add(CertificateDer::from(der.to_vec())).expect("a certificate");
    }
    let mut client_config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client_config.alpn_protocols = config.alpn_protocols.clone();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(client_config), name)?;
    let mut server = ServerConnection::new(Arc::clone(config))?;
    let mut wire = Vec::new();
    while client.is_handshaking() {
        client.write_tls(&mut wire).expect("memory");
        server.read_tls(&mut wire.as_slice()).expect("memory");
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).expect("memory");
        client.read_tls(&mut wire.as_slice()).expect("memory");
        client.process_new_packets()?;
        wire.clear();
    }
    Ok(client.peer_certificates().expect("shown")[0].to_vec())
}

/// Waits until a condition holds that another thread brings about.
fn until(mut done: impl FnMut() -> bool) {
    let begin = now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(30), "the condition did not become true within 30 s");
        std::thread::yield_now();
    }
}

#[allow(clippy::disallowed_methods, reason = "a thread takes real time")]
fn now() -> Instant {
    Instant::now()
}
