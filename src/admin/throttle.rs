//! How often one address may ask discovery.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::proxy::Network;

/// How often networks may ask: so many times at once, and then at a pace.
#[derive(Debug)]
pub(super) struct Rates {
    /// When each network has its whole burst again. One that has it now is not listed.
    whole_at: BTreeMap<Network, Duration>,
    /// How long it takes until one more question is free.
    period: Duration,
    /// How long it takes until the whole burst is.
    burst: Duration,
}

impl Rates {
    /// Admits `burst` questions at once from a network, and `per_second` in the long run.
    pub(super) fn new(burst: u32, per_second: u32) -> Self {
        let period = SECOND / per_second.max(1);
        Self { whole_at: BTreeMap::new(), period, burst: period * burst }
    }

    /// Whether an address may ask once more.
    pub(super) fn admit(&mut self, ip: IpAddr, now: Duration) -> bool {
        let network = Network::of(ip);
        if self.whole_at.len() >= NETWORKS_MAX && !self.whole_at.contains_key(&network) {
            self.whole_at.retain(|_, whole_at| *whole_at > now);
            if self.whole_at.len() >= NETWORKS_MAX {
                return false;
            }
        }
        let whole_at = self.whole_at.entry(network).or_default();
        let next = now.max(*whole_at) + self.period;
        let is_free = next.saturating_sub(now) <= self.burst;
        if is_free {
            *whole_at = next;
        }
        is_free
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// Networks whose rate is known at a time, some 1 MiB. More that ask at the same moment are an attack,
/// and those that are not known yet are refused until the first have their burst again.
const NETWORKS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn each_address_has_a_burst_and_an_ipv6_network_is_one_address() {
        let mut rates = Rates::new(2, 2);
        let v4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let v6 = |host| IpAddr::V6(Ipv6Addr::from((0x2001_0DB8_u128 << 96) | host));

        let asked: Vec<bool> = (0..3).map(|_| rates.admit(v4, SECOND)).collect();
        let others: Vec<bool> = (1..=3).map(|host| rates.admit(v6(host), SECOND)).collect();

        assert_eq!(asked, [true, true, false]);
        assert_eq!(others, [true, true, false]);
        assert!(rates.admit(v6(1 << 64), SECOND), "another network");
    }

    #[test]
    fn after_its_burst_a_network_asks_at_a_pace_and_what_is_refused_costs_it_nothing() {
        let mut rates = Rates::new(100, 10);
        let ip = IpAddr::V4(1.into());
        let count = |rates: &mut Rates, now| (0..1_000).filter(|_| rates.admit(ip, now)).count();

        assert_eq!(count(&mut rates, SECOND), 100);
        assert_eq!(count(&mut rates, SECOND * 2), 10);
        assert_eq!(count(&mut rates, SECOND * 3), 10);
        assert_eq!(count(&mut rates, SECOND * 60), 100);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_those_who_asked_before() {
        let mut rates = Rates::new(2, 1);
        for host in 0..20_000_u32 {
            let _ = rates.admit(IpAddr::V4(host.into()), SECOND);
        }

        assert_eq!(rates.whole_at.len(), NETWORKS_MAX);
        assert!(!rates.admit(IpAddr::V4(20_001.into()), SECOND));
        assert!(rates.admit(IpAddr::V4(20_001.into()), SECOND * 3));
        assert_eq!(rates.whole_at.len(), 1);
    }
}
