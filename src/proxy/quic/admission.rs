//! Which handshakes are begun: so that strangers can make the server hold only so much.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::QuicConfig;
use crate::proxy::Network;

/// Handshakes under way.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Admission {
    half_open_count: usize,
    /// Of those, the ones from addresses that are known to be their senders'. From others anybody
    /// could fill the share of somebody else.
    networks: BTreeMap<Network, usize>,
}

/// One handshake under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HalfOpen {
    /// Where it comes from, if that is certain.
    network: Option<Network>,
}

/// What becomes of a client that begins a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The handshake goes on.
    Accept(HalfOpen),
    /// It is to come again with a token, which costs the server no memory.
    Retry,
    /// It gets no answer; if it is honest, it tries again in a second.
    Ignore,
    /// It is told that there is no room.
    Refuse,
}

impl Admission {
    /// Judges a handshake; one that goes on is counted until it [leaves](Self::leave).
    pub(super) fn judge(
        &mut self,
        ip: IpAddr,
        is_validated: bool,
        connection_count: usize,
        config: &QuicConfig,
    ) -> Verdict {
        if connection_count >= config.max_links {
            return if is_validated { Verdict::Refuse } else { Verdict::Retry };
        }
        if !is_validated && self.half_open_count >= config.retry_above {
            return Verdict::Retry;
        }
        let network = Network::of(ip);
        let is_exempt = config.exempt_loopback && network.is_loopback();
        let from_there = self.networks.get(&network).copied().unwrap_or_default();
        let too_many = is_validated && !is_exempt && from_there >= config.max_handshakes_per_address;
        if self.half_open_count >= config.max_handshakes || too_many {
            return Verdict::Ignore;
        }
        self.half_open_count += 1;
        if is_validated {
            *self.networks.entry(network).or_default() += 1;
        }
        Verdict::Accept(HalfOpen { network: is_validated.then_some(network) })
    }

    /// A handshake is over, one way or the other.
    pub(super) fn leave(&mut self, half_open: HalfOpen) {
        self.half_open_count = self.half_open_count.saturating_sub(1);
        let Some(network) = half_open.network else { return };
        if let Some(count) = self.networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn config() -> QuicConfig {
        QuicConfig {
            max_links: 100,
            max_handshakes: 10,
            retry_above: 3,
            max_handshakes_per_address: 4,
            ..QuicConfig::default()
        }
    }

    fn count(verdicts: &[Verdict], wanted: impl Fn(&Verdict) -> bool) -> usize {
        verdicts.iter().filter(|verdict| wanted(verdict)).count()
    }

    #[test]
    fn strangers_are_asked_to_come_again_as_soon_as_there_are_some() {
        let mut admission = Admission::default();

        let verdicts: Vec<Verdict> =
            (0..100).map(|last| admission.judge(ip(last), false, 0, &config())).collect();

        assert_eq!(count(&verdicts, |verdict| matches!(verdict, Verdict::Accept(_))), 3);
        assert_eq!(count(&verdicts, |verdict| *verdict == Verdict::Retry), 97);
        assert!(admission.networks.is_empty(), "nobody's share is used up by forged addresses");
    }

    #[test]
    fn one_address_has_its_share_and_others_theirs() {
        let mut admission = Admission::default();

        let first: Vec<Verdict> = (0..20).map(|_| admission.judge(ip(1), true, 0, &config())).collect();
        let other: Vec<Verdict> = (0..20).map(|_| admission.judge(ip(2), true, 0, &config())).collect();
        let third: Vec<Verdict> = (0..20).map(|_| admission.judge(ip(3), true, 0, &config())).collect();

        assert_eq!(count(&first, |verdict| matches!(verdict, Verdict::Accept(_))), 4);
        assert_eq!(count(&other, |verdict| matches!(verdict, Verdict::Accept(_))), 4);
        assert_eq!(count(&third, |verdict| matches!(verdict, Verdict::Accept(_))), 2, "ten in all");
        for verdict in first.into_iter().chain(other).chain(third) {
            if let Verdict::Accept(half_open) = verdict {
                admission.leave(half_open);
            }
        }
        assert!(admission.networks.is_empty() && admission.half_open_count == 0);
    }

    #[test]
    fn a_full_server_says_so_to_those_whose_address_is_certain() {
        let mut admission = Admission::default();

        assert_eq!(admission.judge(ip(1), true, 100, &config()), Verdict::Refuse);
        assert_eq!(admission.judge(ip(1), false, 100, &config()), Verdict::Retry);
    }

    #[test]
    fn a_development_server_leaves_loopback_alone() {
        let config = QuicConfig { exempt_loopback: true, ..config() };
        let mut admission = Admission::default();

        let here = IpAddr::from([127, 0, 0, 1]);
        let verdicts: Vec<Verdict> = (0..10).map(|_| admission.judge(here, true, 0, &config)).collect();

        assert_eq!(count(&verdicts, |verdict| matches!(verdict, Verdict::Accept(_))), 10);
    }
}
