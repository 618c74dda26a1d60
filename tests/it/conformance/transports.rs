//! Connects players over each transport.

use waystation::admin::HttpConfig;
use waystation::client::{Dial as _, Link, QuicDial, QuicRoute, QuicTarget, Trust, UdpDial, WebSocketDial};
use waystation::proxy::quic::QuicConfig;
use waystation::testing::{Harness, Player, Via};
use waystation::tick::UnixClock;
use waystation::wire::quic::{QuicKind, WEBTRANSPORT_PATH};

use super::crooked::{CrookedQuic, CrookedUdp, CrookedWebSocket, Offence};
use crate::stage::quic::Quic;
use crate::stage::udp::Udp;
use crate::stage::websocket::{self, Http, Setup};
use crate::stage::{Adapter, loopback};

/// A transport over which a player connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Loopback,
    Udp,
    Quic,
    WebTransport,
    WebSocket,
}

/// All transports.
pub(crate) const ALL: &[Way] = &[Way::Loopback, Way::Udp, Way::Quic, Way::WebTransport, Way::WebSocket];

impl Way {
    /// Returns the protocol violations without a frame that are possible over the transport.
    pub(crate) fn offences(self) -> &'static [Offence] {
        match self {
            Self::Loopback | Self::Udp => &[Offence::Misplaced],
            Self::WebSocket => &[Offence::Text],
            Self::Quic | Self::WebTransport => &[Offence::Misplaced, Offence::Stream],
        }
    }
}

/// The adapters of a server. Each starts when the first player connects over it.
#[derive(Default)]
pub(crate) struct Adapters {
    udp: Option<(Udp, UdpDial)>,
    quic: Option<(Quic, QuicDials)>,
    http: Option<Http>,
    loopback_count: usize,
}

/// The dials of raw QUIC and of WebTransport. One adapter serves both.
struct QuicDials {
    raw: QuicDial,
    webtransport: QuicDial,
}

impl Adapters {
    pub(crate) fn have_sockets(&self) -> bool {
        self.udp.is_some() || self.quic.is_some() || self.http.is_some()
    }

    pub(crate) fn have_links(&self) -> bool {
        self.udp.as_ref().is_some_and(|(udp, _)| udp.has_links())
            || self.quic.as_ref().is_some_and(|(quic, _)| quic.has_links())
            || self.http.as_ref().is_some_and(Http::has_links)
    }

    fn udp(&mut self, game: &mut Harness) -> &mut (Udp, UdpDial) {
        self.udp.get_or_insert_with(|| {
            let udp = Udp::start(&mut game.app, UnixClock::system());
            let dial = UdpDial::minting(udp.mint.clone());
            (udp, dial)
        })
    }

    fn quic(&mut self, game: &mut Harness) -> &mut (Quic, QuicDials) {
        self.quic.get_or_insert_with(|| {
            let quic = Quic::start(&mut game.app, QuicConfig::default());
            let dial = |route| {
                QuicDial::new(QuicTarget {
                    address: quic.local_addr(),
                    server_name: "localhost".to_owned(),
                    trust: Trust::Sha256(quic.tls.sha256().expect("the certificate is self-signed")),
                    route,
                })
            };
            let raw = dial(QuicRoute::Quic);
            let webtransport = dial(QuicRoute::WebTransport { path: WEBTRANSPORT_PATH.to_owned() });
            (quic, QuicDials { raw, webtransport })
        })
    }

    fn http(&mut self, game: &mut Harness) -> &Http {
        let http = HttpConfig { listen: loopback(), exempt_loopback: true, ..HttpConfig::default() };
        self.http.get_or_insert_with(|| Http::start(&mut game.app, Setup { http, ..Setup::default() }))
    }

    /// Gives a player a new link, which may not be open yet.
    pub(crate) fn connect(&mut self, game: &mut Harness, player: &mut Player, over: Way) {
        let link: Box<dyn Link> = match over {
            Way::Loopback => {
                self.loopback_count += 1;
                let via = if self.loopback_count.is_multiple_of(2) { Via::Alpha } else { Via::Beta };
                return player.connect(game, via);
            }
            Way::Udp => Box::new(self.udp(game).1.dial().expect("the dial starts")),
            Way::Quic => Box::new(self.quic(game).1.raw.dial().expect("the dial starts")),
            Way::WebTransport => Box::new(self.quic(game).1.webtransport.dial().expect("the dial starts")),
            Way::WebSocket => {
                let url = format!("ws://{}/ws", self.http(game).local_addr());
                let mut dial = WebSocketDial::new(&url, Trust::WebPki).expect("the URL is valid");
                Box::new(dial.dial().expect("the dial starts"))
            }
        };
        player.connect_over(game, link);
    }

    /// Gives a player a new link that commits an [`Offence`] when it is given the offence's [`word`](Offence::word).
    /// The link over loopback is an ordinary one.
    pub(crate) fn connect_crooked(&mut self, game: &mut Harness, player: &mut Player, over: Way) {
        let link: Box<dyn Link> = match over {
            Way::Loopback => return self.connect(game, player, over),
            Way::Udp => Box::new(CrookedUdp(self.udp(game).0.client(CROOKED_ID, None))),
            Way::Quic => Box::new(CrookedQuic(self.quic(game).0.client(QuicKind::Quic))),
            Way::WebTransport => Box::new(CrookedQuic(self.quic(game).0.client(QuicKind::WebTransport))),
            Way::WebSocket => {
                Box::new(CrookedWebSocket(websocket::Client::new(self.http(game).local_addr())))
            }
        };
        player.connect_over(game, link);
    }
}

/// netcode's client id of the crooked link over UDP. A server has at most one.
const CROOKED_ID: u64 = 7;
