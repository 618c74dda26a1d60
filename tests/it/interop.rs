//! Tests the QUIC adapter with clients built on the published `quinn` and `wtransport` crates.
//! These crates share no code with our transport.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bevy_app::App;
use bytes::{BufMut as _, Bytes, BytesMut};
use quinn::crypto::rustls::QuicClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use waystation::arena::v1::{Echo, Say};
use waystation::arena::{ArenaPlugin, ZONE};
use waystation::client::Trust;
use waystation::config::ServerConfig;
use waystation::proxy::quic::{QuicConfig, QuicProxy};
use waystation::proxy::tls::Tls;
use waystation::proxy::{AddListener as _, Proxies};
use waystation::server::ServerPlugins;
use waystation::tick::TickRate;
use waystation::wire::quic::{ALPN_QUIC, QuicKind};
use waystation::wire::v1::credentials::Kind;
use waystation::wire::v1::{Ack, Anonymous, Credentials, Hello, Join, Joined, Resume, Welcome};
use waystation::wire::{Frame, PROTOCOL, WireMessage, encode};

use crate::stage::now;

type Failure = Box<dyn Error + Send + Sync>;

/// A link: length-prefixed frames on the first stream of a connection.
struct Link {
    send: Box<dyn AsyncWrite + Unpin>,
    receive: Box<dyn AsyncRead + Unpin>,
    close: Box<dyn Fn()>,
}

/// Opens links, over plain QUIC or over WebTransport.
enum Dialer {
    Quinn(quinn::Endpoint),
    WTransport(wtransport::Endpoint<wtransport::endpoint::endpoint_side::Client>),
}

impl Link {
    async fn open(dialer: &Dialer, server: SocketAddr) -> Result<Self, Failure> {
        match dialer {
            Dialer::Quinn(endpoint) => {
                let connection = endpoint.connect(server, "localhost")?.await?;
                let (send, receive) = connection.open_bi().await?;
                let close = Box::new(move || connection.close(0_u32.into(), b""));
                Ok(Self { send: Box::new(send), receive: Box::new(receive), close })
            }
            Dialer::WTransport(endpoint) => {
                let connection = endpoint.connect(format!("https://{server}/wt")).await?;
                let (send, receive) = connection.open_bi().await?.await?;
                let close = Box::new(move || connection.close(0_u32.into(), b""));
                Ok(Self { send: Box::new(send), receive: Box::new(receive), close })
            }
        }
    }

    async fn say<M: WireMessage>(&mut self, message: &M) -> Result<(), Failure> {
        let frame = encode(message);
        let mut bytes = BytesMut::new();
        let mut length = frame.len();
        while length >= 0x80 {
            bytes.put_u8(u8::try_from(0x80 | (length & 0x7F))?);
            length >>= 7;
        }
        bytes.put_u8(u8::try_from(length)?);
        bytes.put_slice(&frame);
        self.send.write_all(&bytes).await?;
        Ok(())
    }

    /// Returns the next message of type `M`, and skips all others.
    async fn hear<M: WireMessage>(&mut self) -> Result<M, Failure> {
        loop {
            let (mut length, mut shift) = (0, 0);
            loop {
                let mut byte = [0];
                self.receive.read_exact(&mut byte).await?;
                length |= usize::from(byte[0] & 0x7F) << shift;
                shift += 7;
                if byte[0] & 0x80 == 0 {
                    break;
                }
            }
            let mut frame = vec![0; length];
            self.receive.read_exact(&mut frame).await?;
            let frame = Frame::parse(Bytes::from(frame))?;
            if frame.id == M::ID {
                return Ok(frame.decode()?);
            }
        }
    }

    async fn greet(&mut self, resume: Option<Resume>) -> Result<Welcome, Failure> {
        let anonymous = Kind::Anonymous(Anonymous { name: "quinn".to_owned() });
        let credentials = resume.is_none().then_some(Credentials { kind: Some(anonymous) });
        let hello = Hello { protocol: PROTOCOL, credentials, resume, ..Hello::default() };
        self.say(&hello).await?;
        let welcome: Welcome = self.hear().await?;
        self.say(&Ack { received: 0 }).await?;
        Ok(welcome)
    }
}

/// Plays, loses the link, resumes over another link, and plays on.
async fn play(kind: QuicKind, server: SocketAddr, sha256: [u8; 32]) -> Result<(), Failure> {
    let here = SocketAddr::from(([127, 0, 0, 1], 0));
    let dialer = match kind {
        QuicKind::Quic => {
            let tls = Trust::Sha256(sha256).client_config(&[ALPN_QUIC])?;
            let mut endpoint = quinn::Endpoint::client(here)?;
            let config = QuicClientConfig::try_from(tls)?;
            endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
            Dialer::Quinn(endpoint)
        }
        QuicKind::WebTransport => {
            let config = wtransport::ClientConfig::builder()
                .with_bind_address(here)
                .with_server_certificate_hashes([wtransport::tls::Sha256Digest::new(sha256)])
                .build();
            Dialer::WTransport(wtransport::Endpoint::client(config)?)
        }
    };

    let mut link = Link::open(&dialer, server).await?;
    let welcome = link.greet(None).await?;
    link.say(&Join { request: 1, zone: ZONE.to_owned(), payload: Bytes::new() }).await?;
    let joined: Joined = link.hear().await?;
    for number in 1..=3 {
        link.say(&Say { number }).await?;
        let echo: Echo = link.hear().await?;
        assert_eq!(echo.number, number);
    }
    (link.close)();

    let mut link = Link::open(&dialer, server).await?;
    // The client counts no frames: on a resume it asks for a resync instead of a replay.
    let resume = Resume { token: welcome.token, resync: true, ..Resume::default() };
    let again = link.greet(Some(resume)).await?;
    link.say(&Say { number: 4 }).await?;
    let echo: Echo = link.hear().await?;

    assert!(joined.zone == ZONE && again.resumed && again.session == welcome.session);
    assert_eq!(echo.number, 4);
    (link.close)();
    match dialer {
        Dialer::Quinn(endpoint) => endpoint.wait_idle().await,
        Dialer::WTransport(endpoint) => endpoint.wait_idle().await,
    }
    Ok(())
}

#[test]
fn a_client_on_plain_quinn_plays_and_resumes_a_session() {
    assert_plays(QuicKind::Quic);
}

#[test]
fn a_client_on_wtransport_plays_and_resumes_a_session() {
    assert_plays(QuicKind::WebTransport);
}

fn assert_plays(kind: QuicKind) {
    let mut config = ServerConfig { rate: TickRate::new(100).expect("in range"), ..ServerConfig::default() };
    config.session.timeout = Duration::from_secs(600);
    let mut app = App::new();
    app.add_plugins((ServerPlugins::new(config), ArenaPlugin { agents: 0, ..ArenaPlugin::default() }));
    let tls = Tls::self_signed(&["localhost".to_owned()]).expect("a certificate");
    let listen = ([127, 0, 0, 1], 0).into();
    let quic = QuicProxy::bind(QuicConfig { listen, ..QuicConfig::default() }, &tls).expect("a free port");
    let (server, sha256) = (quic.local_addr(), tls.sha256().expect("self-signed"));
    app.add_listener(quic).expect("a thread");

    let player = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(play(kind, server, sha256))
    });
    let deadline = now() + Duration::from_secs(60);
    while !player.is_finished() {
        assert!(now() < deadline, "the client did not finish in time");
        app.update();
        thread::sleep(Duration::from_millis(5));
    }

    player.join().expect("no panic").expect("a session");
    let links = |app: &App| app.world().resource::<Proxies>().link_counts()[0].1;
    while links(&app) > 0 {
        assert!(now() < deadline, "a link is still open");
        app.update();
        thread::sleep(Duration::from_millis(5));
    }
}
