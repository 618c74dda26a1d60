//! How a player comes over each transport.

use waystation::admin::{Health, HttpConfig, HttpHandle, HttpServer, Offers};
use waystation::client::{Dial as _, QuicDial, QuicRoute, QuicTarget, Trust, UdpDial, WebSocketDial};
use waystation::proxy;
use waystation::proxy::quic::{QuicConfig, QuicHandle, QuicProxy};
use waystation::proxy::renet::{RenetConfig, RenetHandle, RenetProxy};
use waystation::proxy::tls::Tls;
use waystation::proxy::websocket::{WebSocketConfig, WebSocketProxy};
use waystation::testing::{Harness, Player, Via};
use waystation::wire::quic::{QuicKind, WEBTRANSPORT_PATH};
use waystation::wire::udp::{DEV_KEY, TokenMint};

use super::crooked::{CrookedQuic, CrookedUdp, CrookedWebSocket, Offence};
use crate::{quic_stage, udp_stage, websocket_stage};

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Loopback,
    Udp,
    Quic,
    WebTransport,
    WebSocket,
}

/// All of them.
pub(crate) const ALL: &[Way] = &[Way::Loopback, Way::Udp, Way::Quic, Way::WebTransport, Way::WebSocket];

impl Way {
    /// What can be done on its links that no frame shows.
    pub(crate) fn offences(self) -> &'static [Offence] {
        match self {
            Self::Loopback | Self::Udp => &[Offence::Misplaced],
            Self::WebSocket => &[Offence::Text],
            Self::Quic | Self::WebTransport => &[Offence::Misplaced, Offence::Stream],
        }
    }
}

/// The adapters of a server, each started when somebody comes over it.
#[derive(Default)]
pub(crate) struct Adapters {
    udp: Option<Udp>,
    quic: Option<Quic>,
    http: Option<HttpHandle>,
    loopback_count: usize,
}

struct Udp {
    dial: UdpDial,
    mint: TokenMint,
    _handle: RenetHandle,
}

/// One adapter serves both.
struct Quic {
    raw: QuicDial,
    webtransport: QuicDial,
    tls: Tls,
    handle: QuicHandle,
}

impl Adapters {
    pub(crate) fn have_sockets(&self) -> bool {
        self.udp.is_some() || self.quic.is_some() || self.http.is_some()
    }

    /// Gives a player a link that need not be open yet.
    pub(crate) fn connect(&mut self, game: &mut Harness, player: &mut Player, over: Way) {
        match over {
            Way::Loopback => {
                self.loopback_count += 1;
                let via = if self.loopback_count.is_multiple_of(2) { Via::Alpha } else { Via::Beta };
                player.connect(game, via);
            }
            Way::Udp => {
                let udp = self.udp.get_or_insert_with(|| start_udp(game));
                player.connect_over(game, Box::new(udp.dial.dial().expect("a link")));
            }
            Way::Quic => {
                let quic = self.quic.get_or_insert_with(|| start_quic(game));
                player.connect_over(game, Box::new(quic.raw.dial().expect("a link")));
            }
            Way::WebTransport => {
                let quic = self.quic.get_or_insert_with(|| start_quic(game));
                player.connect_over(game, Box::new(quic.webtransport.dial().expect("a link")));
            }
            Way::WebSocket => {
                let http = self.http.get_or_insert_with(|| start_http(game));
                let url = format!("ws://{}/ws", http.local_addr());
                let mut dial = WebSocketDial::new(&url, Trust::WebPki).expect("a URL");
                player.connect_over(game, Box::new(dial.dial().expect("a link")));
            }
        }
    }

    /// The same, of a link that does what no client's does when it is told to.
    pub(crate) fn connect_crooked(&mut self, game: &mut Harness, player: &mut Player, over: Way) {
        match over {
            Way::Udp => {
                let udp = self.udp.get_or_insert_with(|| start_udp(game));
                let token = udp.mint.mint(udp_stage::unix_now(), CROOKED_ID, None).expect("a token");
                player.connect_over(game, Box::new(CrookedUdp(udp_stage::Client::new(token))));
            }
            Way::Quic | Way::WebTransport => {
                let quic = self.quic.get_or_insert_with(|| start_quic(game));
                let kind = if over == Way::Quic { QuicKind::Quic } else { QuicKind::WebTransport };
                let client = quic_stage::Client::of(quic.handle.local_addr(), &quic.tls, kind);
                player.connect_over(game, Box::new(CrookedQuic(client)));
            }
            Way::WebSocket => {
                let http = self.http.get_or_insert_with(|| start_http(game));
                let client = websocket_stage::Client::new(http.local_addr());
                player.connect_over(game, Box::new(CrookedWebSocket(client)));
            }
            Way::Loopback => self.connect(game, player, over),
        }
    }
}

fn start_udp(game: &mut Harness) -> Udp {
    let listen = ([127, 0, 0, 1], 0).into();
    let bound = RenetProxy::bind(RenetConfig { listen, ..RenetConfig::new(DEV_KEY) }).expect("a free port");
    let mint = bound.mint();
    let dial = UdpDial::minting(mint.clone());
    Udp { dial, mint, _handle: bound.start(proxy::attach(&mut game.app, "udp")).expect("a thread") }
}

fn start_quic(game: &mut Harness) -> Quic {
    let tls = Tls::self_signed(&["localhost".to_owned()]).expect("a certificate");
    let listen = ([127, 0, 0, 1], 0).into();
    let config = QuicConfig { listen, ..QuicConfig::default() };
    let bound = QuicProxy::bind(config, &tls).expect("a free port");
    let dial = |route| {
        QuicDial::new(QuicTarget {
            address: bound.local_addr(),
            server_name: "localhost".to_owned(),
            trust: Trust::Sha256(tls.sha256().expect("it is self-signed")),
            route,
        })
    };
    let raw = dial(QuicRoute::Quic);
    let webtransport = dial(QuicRoute::WebTransport { path: WEBTRANSPORT_PATH.to_owned() });
    let port = proxy::attach(&mut game.app, "quic");
    Quic { raw, webtransport, tls, handle: bound.start(port).expect("a thread") }
}

fn start_http(game: &mut Harness) -> HttpHandle {
    let listen = ([127, 0, 0, 1], 0).into();
    let config = HttpConfig { listen, exempt_loopback: true, ..HttpConfig::default() };
    let websocket = WebSocketProxy::new(WebSocketConfig::default()).expect("limits that work");
    let port = proxy::attach(&mut game.app, "websocket");
    let health = Health::watch(&mut game.app);
    let http = HttpServer::bind(config).expect("a free port");
    http.start(Offers::default(), health, Some((websocket, port))).expect("a thread")
}

/// netcode's id of a link that is the only one of its kind on its server.
const CROOKED_ID: u64 = 7;
