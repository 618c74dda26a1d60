//! Tests of dials by URL, against a small discovery and small servers.

use super::*;
use crate::client::quic::host::Host as QuicHost;
use crate::client::udp::UdpLink;
use crate::client::udp::host::Host;
use crate::wire::discovery::{Discovery, QUIC, UDP, WEBSOCKET, WEBTRANSPORT};
use crate::wire::quic::{ALPN_QUIC, ALPN_WEBTRANSPORT};
use crate::wire::udp::{token_from_text, token_to_text};
use data_encoding::HEXLOWER;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Time of an update, on the client's clock and at least on the machine's, because discovery answers on another
/// thread.
const STEP: Duration = Duration::from_millis(1);
const BEAT: Bytes = Bytes::from_static(&[0x80, 0x01]);

/// A discovery that answers each request with the next of its answers, and then always with the last one.
struct Desk {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Desk {
    fn open(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let (asked, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (counter, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let mut stream = stream.expect("a connection");
                let count = counter.fetch_add(1, Ordering::AcqRel);
                let mut question = Vec::new();
                let mut byte = [0];
                while !question.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                    question.push(byte[0]);
                }
                let answer = &answers[count.min(answers.len() - 1)];
                let _ = stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{answer}").as_bytes());
            }
        });
        Self { address, asked, stop, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Acquire)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns answers that offer UDP, each with a fresh token.
fn offers(host: &Host, count: usize) -> Vec<String> {
    let mut tokens = host.tokens(1);
    (0..count)
        .map(|_| {
            let token = token_to_text(&tokens().expect("a token"));
            offering([Offer { token: Some(token), ..Offer::new(UDP, "udp://127.0.0.1:1") }]).to_json()
        })
        .collect()
}

fn quic_host() -> QuicHost {
    QuicHost::bind("127.0.0.1", &[ALPN_QUIC, ALPN_WEBTRANSPORT])
}

fn hex(host: &QuicHost) -> String {
    HEXLOWER.encode(&host.sha256())
}

/// Returns an answer that offers QUIC.
fn quic_offer(host: &QuicHost) -> String {
    let offered = offering([quic_at(host.address(), host)]);
    Discovery { ticket: Some("AXN0aWNrZXQ".to_owned()), ..offered }.to_json()
}

fn quic_at(address: SocketAddr, host: &QuicHost) -> Offer {
    Offer { cert_sha256: Some(hex(host)), ..Offer::new(QUIC, format!("quic://{address}")) }
}

fn offering<const N: usize>(offers: [Offer; N]) -> Discovery {
    Discovery {
        protocol: 1,
        name: "test".to_owned(),
        draining: false,
        offers: offers.into(),
        ticket: None,
        ticket_expires_s: None,
    }
}

/// Returns a URL where nothing listens.
fn nobody() -> String {
    let address = TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr();
    format!("http://{}", address.expect("bound"))
}

/// A server's end.
trait Serve {
    fn pump(&mut self);

    /// Sends a frame over the newest link, if there is one.
    fn beat(&mut self);
}

impl Serve for Host {
    fn pump(&mut self) {
        Host::pump(self, STEP);
    }

    fn beat(&mut self) {
        if let Some(id) = self.opened.last().copied() {
            self.send(id, BEAT);
        }
    }
}

impl Serve for QuicHost {
    fn pump(&mut self) {
        QuicHost::pump(self, STEP);
    }

    fn beat(&mut self) {
        if let Some(link) = self.links.last_mut().filter(|link| link.opened.is_some()) {
            link.send(&BEAT);
        }
    }
}

/// Runs both ends until the link is no longer opening.
fn settle(link: &mut AnyLink, host: &mut impl Serve) -> LinkStatus {
    for _ in 0..20_000 {
        std::thread::sleep(STEP);
        link.update(STEP);
        link.flush();
        host.pump();
        if link.status() != LinkStatus::Opening {
            return link.status();
        }
    }
    panic!("the link neither opened nor closed in time");
}

/// Waits for a frame from the newest link of the host.
fn hear(link: &mut AnyLink, host: &mut impl Serve) {
    for _ in 0..20_000 {
        std::thread::sleep(STEP);
        host.beat();
        host.pump();
        link.update(STEP);
        link.flush();
        if link.receive().is_some() {
            return;
        }
    }
    panic!("no frame arrived in time");
}

/// Dials as a client that resumes its session.
fn resume(dial: &mut AnyDial) -> AnyLink {
    dial.prepare(STEP, &DialState { resumes: true, is_urgent: true, ..DialState::default() });
    dial.dial().expect("a race")
}

#[test]
fn discovery_gives_each_link_a_fresh_token_without_blocking() {
    let mut host = Host::bind();
    let desk = Desk::open(offers(&host, 3));
    let mut dial = AnyDial::new([desk.url()]).expect("a URL");

    for count in 1..=3 {
        let mut link = dial.dial().expect("a socket");
        assert_eq!((link.status(), link.transport()), (LinkStatus::Opening, None));
        assert!(!link.send(BEAT));
        assert_eq!(settle(&mut link, &mut host), LinkStatus::Open);
        assert_eq!(link.transport(), Some(Transport::Udp));
        hear(&mut link, &mut host);
        assert!(!link.rebind().expect("no socket is opened"), "netcode identifies a client by its address");
        link.close();
        assert_eq!(desk.asked(), count);
    }
}

#[test]
fn a_custom_transport_whose_offer_has_a_token_gets_another_offer_for_each_link() {
    // Given a server that offers a transport of this name, with a token for one link.
    let mut host = Host::bind();
    let mut tokens = host.tokens(1);
    let offers = (0..3).map(|_| {
        let token = token_to_text(&tokens().expect("a token"));
        offering([Offer { token: Some(token), ..Offer::new("radio", "radio://127.0.0.1:1") }]).to_json()
    });
    let desk = Desk::open(offers.collect());
    let open = |offer: &Offer, _: &mut DialContext<'_>| {
        let token = token_from_text(offer.token.as_deref().expect("a token")).expect("a connect token");
        Ok(Box::new(UdpLink::open(token)?) as Box<dyn Link + Send>)
    };
    let mut dial = AnyDial::new([desk.url()]).expect("a URL").transport("radio", open);

    // When the session is resumed over one link after the other.
    for count in 1..=3 {
        let mut link = if count == 1 { dial.dial().expect("a race") } else { resume(&mut dial) };
        assert_eq!(settle(&mut link, &mut host), LinkStatus::Open);
        hear(&mut link, &mut host);
        link.close();

        // Then each link has asked for an offer of its own.
        assert_eq!((link.transport(), desk.asked()), (Some(Transport::named("radio")), count));
    }
}

#[test]
fn an_unreachable_server_is_followed_by_the_next_one_which_is_then_tried_first() {
    let mut host = Host::bind();
    let desk = Desk::open(offers(&host, 2));
    let mut dial = AnyDial::new([nobody(), desk.url()]).expect("URLs");

    let mut first = dial.dial().expect("a race");
    assert_eq!(settle(&mut first, &mut host), LinkStatus::Open);
    hear(&mut first, &mut host);
    drop(first);
    let mut second = resume(&mut dial);

    assert_eq!(settle(&mut second, &mut host), LinkStatus::Open);
    assert_eq!(desk.asked(), 2);
}

#[test]
fn a_dial_without_a_server_reports_the_cause() {
    let mut host = Host::bind();
    let mut dial = AnyDial::new([nobody()]).expect("a URL");

    let mut link = dial.dial().expect("a race");

    assert_eq!(settle(&mut link, &mut host), LinkStatus::Closed);
    let why = link.failure().expect("a reason");
    assert!(why.contains("is the server running"), "{why}");
}

#[test]
fn after_an_open_link_without_a_frame_the_next_dial_uses_another_server() {
    let mut host = Host::bind();
    let desk = Desk::open(offers(&host, 1));
    let other = Desk::open(offers(&host, 2).split_off(1));
    let mut dial =
        AnyDial::new([format!("{}#udp", desk.url()), format!("{}#udp", other.url())]).expect("URLs");

    let mut mute = dial.dial().expect("a race");
    assert_eq!(settle(&mut mute, &mut host), LinkStatus::Open);
    drop(mute);
    let mut link = dial.dial().expect("a race");
    settle(&mut link, &mut host);

    assert_eq!((desk.asked(), other.asked()), (1, 1));
}

#[test]
fn if_datagrams_are_dropped_a_link_opens_over_websocket() {
    // given an address that receives datagrams and does not answer them, and a WebSocket server
    let hole = std::net::UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
    let streams = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let mut host = quic_host();
    let websocket = Offer::new(WEBSOCKET, format!("ws://{}/ws", streams.local_addr().expect("bound")));
    let offer = offering([quic_at(host.address(), &host), websocket]);
    let desk = Desk::open(vec![offer.to_json()]);
    let relays =
        RelayAddresses { quic: Some(hole.local_addr().expect("bound")), ..RelayAddresses::default() };
    let mut dial = AnyDial::new([desk.url()]).expect("a URL").through(relays);
    let server = std::thread::spawn(move || {
        let (stream, _) = streams.accept().expect("a connection");
        let mut socket = tungstenite::accept(stream).expect("a handshake");
        socket.send(tungstenite::Message::Binary(BEAT)).expect("room");
        socket.read()
    });

    let mut link = dial.dial().expect("a race");
    assert_eq!(settle(&mut link, &mut host), LinkStatus::Open);

    assert_eq!(link.transport(), Some(Transport::WebSocket));
    hear(&mut link, &mut host);
    link.close();
    assert!(server.join().expect("no panic").expect("a Close").is_close());
}

#[test]
fn a_resume_uses_an_offer_that_worked_without_asking_discovery() {
    let mut host = quic_host();
    let desk = Desk::open(vec![quic_offer(&host)]);
    let mut dial = AnyDial::new([desk.url()]).expect("a URL");

    for resumes in [false, true, true, false, true] {
        dial.prepare(STEP, &DialState { resumes, is_urgent: resumes, ..DialState::default() });
        let mut link = dial.dial().expect("a race");
        assert_eq!(settle(&mut link, &mut host), LinkStatus::Open);
        assert_eq!(link.transport(), Some(Transport::Quic));
        assert_eq!(link.ticket(), (!resumes).then_some("AXN0aWNrZXQ"));
        hear(&mut link, &mut host);
    }

    assert_eq!(desk.asked(), 2, "discovery is asked once for each new session");
}

#[test]
fn after_a_restart_of_the_server_discovery_is_asked_again_and_the_transport_stays() {
    let mut old = quic_host();
    let mut new = quic_host();
    let desk = Desk::open(vec![quic_offer(&old), quic_offer(&new)]);
    let mut dial = AnyDial::new([desk.url()]).expect("a URL");
    let mut link = dial.dial().expect("a socket");
    settle(&mut link, &mut old);
    hear(&mut link, &mut old);
    drop((link, old));

    let mut from_cache = resume(&mut dial);
    assert_eq!(settle(&mut from_cache, &mut new), LinkStatus::Closed);
    let mut asked = resume(&mut dial);

    assert_eq!(settle(&mut asked, &mut new), LinkStatus::Open);
    assert_eq!((asked.transport(), desk.asked()), (Some(Transport::Quic), 2));
}

#[test]
fn an_offer_that_does_not_work_is_followed_by_the_next_transport() {
    let mut host = quic_host();
    let offer = offering([
        Offer::new(QUIC, "quic://nowhere"),
        Offer {
            cert_sha256: Some(hex(&host)),
            ..Offer::new(WEBTRANSPORT, format!("https://{}/wt", host.address()))
        },
    ]);
    let desk = Desk::open(vec![offer.to_json()]);
    let mut dial = AnyDial::new([desk.url()]).expect("a URL");

    let mut link = dial.dial().expect("a race");

    assert_eq!(settle(&mut link, &mut host), LinkStatus::Open);
    assert_eq!(link.transport(), Some(Transport::WebTransport));
}

#[test]
fn a_url_of_a_transport_is_dialled_directly_with_the_certificate_in_the_url() {
    let mut host = quic_host();
    let (address, hex) = (host.address(), hex(&host));
    for (url, transport) in [
        (format!("quic://{address}?cert_sha256={hex}"), Transport::Quic),
        (format!("webtransport://{address}?cert_sha256={hex}"), Transport::WebTransport),
    ] {
        let mut link = AnyDial::new([url]).expect("a URL").dial().expect("a socket");

        assert_eq!(settle(&mut link, &mut host), LinkStatus::Open);
        assert_eq!(link.transport(), Some(transport));
        hear(&mut link, &mut host);
        assert!(link.rebind().expect("a socket"), "it moves to another socket");
        hear(&mut link, &mut host);
        link.close();
    }
}

#[test]
fn discovery_that_does_not_answer_fails_after_its_own_timeout() {
    // The system accepts the connection, and nothing reads the request.
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let mut link = AnyDial::new([url]).expect("a URL").dial().expect("a socket");

    let mut asked = Duration::ZERO;
    while link.status() == LinkStatus::Opening {
        link.update(Duration::from_millis(20));
        asked += Duration::from_millis(20);
        assert!(asked <= Duration::from_secs(9), "the request has no timeout");
    }

    assert!(asked >= Duration::from_secs(7), "given up after {asked:?}");
    let why = link.failure().expect("a reason");
    assert!(why.contains("does not answer in time"), "{why}");
}

#[test]
fn a_missing_offer_is_reported() {
    let mut host = Host::bind();
    let desk = Desk::open(vec![offering([]).to_json()]);
    let mut any = AnyDial::new([desk.url()]).expect("a URL");
    let mut only = AnyDial::new([format!("{}#ws", desk.url())]).expect("a URL");

    let mut link = any.dial().expect("a socket");
    assert_eq!(settle(&mut link, &mut host), LinkStatus::Closed);
    let why = link.failure().expect("a reason");
    assert!(why.contains("offers none of udp, quic, wt, ws"), "{why}");
    let mut link = only.dial().expect("a socket");
    settle(&mut link, &mut host);
    let why = link.failure().expect("a reason");
    assert!(why.contains("offers none of ws;"), "{why}");
}

#[test]
fn a_wrong_url_is_an_error_of_new_and_secrets_are_not_printed() {
    let none: [&str; 0] = [];
    assert!(matches!(AnyDial::new(none), Err(UrlError::None)));
    assert!(matches!(AnyDial::new(["http://a:1", "udp://a:1"]), Err(UrlError::Udp(_))));

    let dial = AnyDial::new(["http://a:1"]).expect("a URL").bearer("hunter2");

    assert!(!format!("{dial:?}").contains("hunter2"));
}

#[test]
fn a_dial_through_relays_reaches_discovery_and_the_transports_there() {
    let mut host = quic_host();
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let desk = Desk::open(vec![offering([quic_at(elsewhere, &host)]).to_json()]);
    let relays =
        RelayAddresses { quic: Some(host.address()), http: Some(desk.address), ..RelayAddresses::default() };
    let mut dial = AnyDial::new([nobody()]).expect("a URL").through(relays);

    let mut link = dial.dial().expect("a socket");

    assert_eq!(settle(&mut link, &mut host), LinkStatus::Open);
    assert_eq!((link.transport(), desk.asked()), (Some(Transport::Quic), 1));
}
