//! Decides which QUIC handshakes begin. The number of handshakes is bounded, and no network can block the others.
//!
//! Networks have no fixed shares, because any handshake may belong to a client that resumes a session. When there
//! are too many handshakes, the oldest one of the network with the most handshakes ends before the next one begins.

use std::net::IpAddr;

use quinn_proto::ConnectionHandle;

use super::QuicConfig;
use crate::proxy::Network;
use crate::proxy::grouped::{Grouped, Spot};

/// The handshakes under way, by network. Handshakes from addresses that are not validated are under `None`, because
/// an attacker could forge the addresses of other networks.
#[derive(Debug, Default)]
pub(super) struct Admission(Grouped<Option<Network>, ConnectionHandle>);

/// The position of a handshake under way.
pub(super) type HalfOpen = Spot<Option<Network>>;

/// The decision about a new handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Accepts the handshake. It counts for this network, if its address is validated.
    Accept(Option<Network>),
    /// Answers with a Retry, which needs no memory on the server.
    Retry,
    /// Sends no answer. A real client tries again after about a second.
    Ignore,
    /// Refuses the connection because the server is full.
    Refuse,
}

impl Admission {
    /// Decides about a new handshake. `connection_count` is the number of all connections, including handshakes
    /// under way.
    pub(super) fn judge(
        &self,
        ip: IpAddr,
        is_validated: bool,
        connection_count: usize,
        config: &QuicConfig,
    ) -> Verdict {
        // Handshakes do not count as links. Otherwise an attacker could fill the server with handshakes.
        let is_full = connection_count.saturating_sub(self.0.count()) >= config.max_links;
        match is_validated {
            true if is_full => Verdict::Refuse,
            true => Verdict::Accept(Some(Network::of(ip))),
            false if is_full || self.0.count() >= config.retry_above => Verdict::Retry,
            false if self.0.count() >= config.max_handshakes => Verdict::Ignore,
            false => Verdict::Accept(None),
        }
    }

    /// Counts an accepted handshake until it [leaves](Self::leave).
    pub(super) fn enter(&mut self, network: Option<Network>, handle: ConnectionHandle) -> HalfOpen {
        self.0.enter(network, handle)
    }

    /// Removes a handshake that has succeeded or failed.
    pub(super) fn leave(&mut self, half_open: HalfOpen) {
        self.0.leave(half_open);
    }

    /// Returns true if no handshake is under way.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.count() == 0 && self.0.groups().is_empty()
    }

    /// Returns the handshake that has to end before another one begins, if there are too many.
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

    /// Begins handshakes from one address, and ends the surplus ones. Returns the handles of the ended handshakes.
    fn begin(admission: &mut Admission, from: IpAddr, handles: std::ops::Range<usize>) -> Vec<usize> {
        let mut given_up = Vec::new();
        for handle in handles {
            let Verdict::Accept(network) = admission.judge(from, true, 0, &config()) else { continue };
            if let Some(ConnectionHandle(surplus)) = admission.surplus(&config()) {
                given_up.push(surplus);
                let (half_open, _) = admission.0.first_of_fullest().expect("a handshake under way");
                admission.leave(half_open);
            }
            admission.enter(network, ConnectionHandle(handle));
        }
        given_up
    }

    #[test]
    fn clients_get_a_retry_when_some_handshakes_are_under_way() {
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
        assert_eq!(admission.0.groups(), [None], "addresses that are not validated count for no network");
    }

    #[test]
    fn surplus_handshakes_of_the_largest_network_end_first() {
        let mut admission = Admission::default();

        let first = begin(&mut admission, ip(1), 0..12);
        let other = begin(&mut admission, ip(2), 12..15);
        let third = begin(&mut admission, ip(3), 15..16);

        assert_eq!(first, [0, 1], "there are ten in all, and the oldest ends");
        assert_eq!(other, [2, 3, 4], "the first address has more");
        assert_eq!(third, [5]);
        assert_eq!(admission.0.count(), 10);
    }

    #[test]
    fn no_state_is_left_of_finished_handshakes() {
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
    fn a_full_server_refuses_validated_clients_and_does_not_count_handshakes() {
        let mut admission = Admission::default();
        admission.enter(None, ConnectionHandle(0));

        assert_eq!(admission.judge(ip(1), true, 101, &config()), Verdict::Refuse);
        assert_eq!(admission.judge(ip(1), false, 101, &config()), Verdict::Retry);
        assert!(matches!(admission.judge(ip(1), true, 100, &config()), Verdict::Accept(Some(_))));
    }
}
