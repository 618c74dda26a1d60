//! How a player comes over each transport.

use waystation::client::{Dial, UdpDial};
use waystation::proxy;
use waystation::proxy::renet::{RenetConfig, RenetHandle, RenetProxy};
use waystation::testing::{Harness, Player, Via};
use waystation::wire::udp::DEV_KEY;

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Loopback,
    Udp,
}

/// All of them.
pub(crate) const ALL: &[Transport] = &[Transport::Loopback, Transport::Udp];

/// The adapters of a server, each started when somebody comes over it.
#[derive(Default)]
pub(crate) struct Adapters {
    udp: Option<(UdpDial, RenetHandle)>,
    loopback_count: usize,
}

impl Adapters {
    pub(crate) fn have_sockets(&self) -> bool {
        self.udp.is_some()
    }

    /// Gives a player a link that need not be open yet.
    pub(crate) fn connect(&mut self, game: &mut Harness, player: &mut Player, over: Transport) {
        match over {
            Transport::Loopback => {
                self.loopback_count += 1;
                let via = if self.loopback_count.is_multiple_of(2) { Via::Alpha } else { Via::Beta };
                player.connect(game, via);
            }
            Transport::Udp => {
                let (dial, _) = self.udp.get_or_insert_with(|| start_udp(game));
                player.connect_over(game, Box::new(dial.dial().expect("a link")));
            }
        }
    }
}

fn start_udp(game: &mut Harness) -> (UdpDial, RenetHandle) {
    let listen = ([127, 0, 0, 1], 0).into();
    let bound = RenetProxy::bind(RenetConfig { listen, ..RenetConfig::new(DEV_KEY) }).expect("a free port");
    let dial = UdpDial::minting(bound.mint());
    (dial, bound.start(proxy::attach(&mut game.app, "udp")).expect("a thread"))
}
