//! Which handshakes are begun: so that strangers can make the server hold only so much, and keep nobody out.
//!
//! No network has a share of its own, since any handshake may be that of a player who comes back. When there
//! are too many, the oldest one of the network that has most of them is given up for the next.

use std::net::IpAddr;

use quinn_proto::ConnectionHandle;

use super::QuicConfig;
use crate::proxy::Network;
use crate::proxy::crowd::{Crowd, Spot};

/// Handshakes under way, by network. Those from addresses that are not known to be their senders' are under
/// `None`: from such addresses an attacker could fill the networks of others.
#[derive(Debug, Default)]
pub(super) struct Admission(Crowd<Option<Network>, ConnectionHandle>);

/// One handshake under way.
pub(super) type HalfOpen = Spot<Option<Network>>;

/// What becomes of a client that begins a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The handshake goes on. It comes from this network, if that is certain.
    Accept(Option<Network>),
    /// It is to come again with a token, which costs the server no memory.
    Retry,
    /// It gets no answer; if it is honest, it tries again in a second.
    Ignore,
    /// It is told that there is no room.
    Refuse,
}

impl Admission {
    /// Judges a handshake. `connection_count` counts all connections, those under way included.
    pub(super) fn judge(
        &self,
        ip: IpAddr,
        is_validated: bool,
        connection_count: usize,
        config: &QuicConfig,
    ) -> Verdict {
        // Handshakes take no place of a link: with those an attacker could fill the server.
        let is_full = connection_count.saturating_sub(self.0.count()) >= config.max_links;
        match is_validated {
            true if is_full => Verdict::Refuse,
            true => Verdict::Accept(Some(Network::of(ip))),
            false if is_full || self.0.count() >= config.retry_above => Verdict::Retry,
            false if self.0.count() >= config.max_handshakes => Verdict::Ignore,
            false => Verdict::Accept(None),
        }
    }

    /// Counts a handshake that goes on, until it [leaves](Self::leave).
    pub(super) fn enter(&mut self, network: Option<Network>, handle: ConnectionHandle) -> HalfOpen {
        self.0.enter(network, handle)
    }

    /// A handshake is over, one way or the other.
    pub(super) fn leave(&mut self, half_open: HalfOpen) {
        self.0.leave(half_open);
    }

    /// Whether no handshake is under way.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.count() == 0 && self.0.groups().is_empty()
    }

    /// The handshake that is to be given up before another one begins, if there are too many.
    pub(super) fn surplus(&self, config: &QuicConfig) -> Option<ConnectionHandle> {
        let surplus = (self.0.count() >= config.max_handshakes).then(|| self.0.first_of_fullest());
        surplus?.map(|(_, handle)| *handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn config() -> QuicConfig {
        QuicConfig { max_links: 100, max_handshakes: 10, retry_above: 3, ..QuicConfig::default() }
    }

    /// Lets clients of one address begin handshakes, and gives up those that are too many. Returns the
    /// handles that were given up.
    fn begin(admission: &mut Admission, from: IpAddr, handles: std::ops::Range<usize>) -> Vec<usize> {
        let mut given_up = Vec::new();
        for handle in handles {
            let Verdict::Accept(network) = admission.judge(from, true, 0, &config()) else { continue };
            if let Some(ConnectionHandle(surplus)) = admission.surplus(&config()) {
                given_up.push(surplus);
                let (half_open, _) = admission.0.first_of_fullest().expect("it is under way");
                admission.leave(half_open);
            }
            admission.enter(network, ConnectionHandle(handle));
        }
        given_up
    }

    #[test]
    fn strangers_are_asked_to_come_again_as_soon_as_there_are_some() {
        let mut admission = Admission::default();

        let verdicts: Vec<Verdict> = (0..100)
            .map(|last| {
                let verdict = admission.judge(ip(last), false, 0, &config());
                if let Verdict::Accept(network) = verdict {
                    admission.enter(network, ConnectionHandle(last.into()));
                }
                verdict
            })
            .collect();

        assert_eq!(verdicts[..3], [Verdict::Accept(None); 3]);
        assert_eq!(verdicts[3..], [Verdict::Retry; 97]);
        assert_eq!(admission.0.groups(), [None], "forged addresses fill no network");
    }

    #[test]
    fn the_fullest_network_gives_way_and_all_others_get_in() {
        let mut admission = Admission::default();

        let first = begin(&mut admission, ip(1), 0..12);
        let other = begin(&mut admission, ip(2), 12..15);
        let third = begin(&mut admission, ip(3), 15..16);

        assert_eq!(first, [0, 1], "ten in all, and the oldest goes");
        assert_eq!(other, [2, 3, 4], "the first address has more");
        assert_eq!(third, [5]);
        assert_eq!(admission.0.count(), 10);
    }

    #[test]
    fn handshakes_that_are_over_leave_nothing() {
        let mut admission = Admission::default();
        let mut half_open = Vec::new();
        for last in 0..8 {
            half_open.push(admission.enter(Some(Network::of(ip(last % 3))), ConnectionHandle(last.into())));
        }

        for half_open in half_open.iter().chain(&half_open) {
            admission.leave(*half_open);
        }

        assert!(admission.is_empty());
    }

    #[test]
    fn a_full_server_says_so_to_those_whose_address_is_certain_and_handshakes_do_not_fill_it() {
        let mut admission = Admission::default();
        admission.enter(None, ConnectionHandle(0));

        assert_eq!(admission.judge(ip(1), true, 101, &config()), Verdict::Refuse);
        assert_eq!(admission.judge(ip(1), false, 101, &config()), Verdict::Retry);
        assert!(matches!(admission.judge(ip(1), true, 100, &config()), Verdict::Accept(Some(_))));
    }
}
