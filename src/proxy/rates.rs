//! Limits the rate of an action per network, with a burst.
//!
//! The table holds two times for each [`Network`], and up to 16,384 networks. It limits rates; a
//! [`Grouped`](super::grouped::Grouped) limits how many members exist at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Network;
use crate::wire::retry;

/// The rate limit of one network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// Sustained rate, in actions per second.
    pub(crate) per_second: u32,
    /// Number of actions at once after an idle time.
    pub(crate) burst: u32,
}

/// The recent use of the rate limit by each network.
#[derive(Debug, Default)]
pub(crate) struct NetworkRates {
    networks: BTreeMap<Network, Recent>,
}

/// The recent use of the rate limit by one network.
#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    /// The time at which the network will have its full burst again.
    refilled_at: Duration,
    /// The latest time that was assigned to a refused client of the network.
    promised: Duration,
}

impl NetworkRates {
    /// Admits one action of a network, or returns the time to wait. A refused action does not count against the
    /// rate. Refused clients get different times, so that they return one by one.
    pub(crate) fn admit(&mut self, network: Network, now: Duration, rate: Rate) -> Result<(), Duration> {
        self.make_room(network, now);
        let interval = Duration::from_secs(1) / rate.per_second.max(1);
        let recent = self.networks.entry(network).or_default();
        let refilled_at = recent.refilled_at.max(now) + interval;
        let ahead_max = interval.saturating_mul(rate.burst.max(1));
        if refilled_at <= now + ahead_max {
            recent.refilled_at = refilled_at;
            return Ok(());
        }
        let free_at = refilled_at - ahead_max;
        recent.promised = free_at.max(recent.promised + interval).min(now + retry::RATE_MAX);
        Err((recent.promised - now).max(retry::RATE_MIN))
    }

    /// Makes room for a network if the table is full. Removes the networks that have their full burst again. If
    /// there are no such networks, removes the half of the networks with the least use.
    fn make_room(&mut self, network: Network, now: Duration) {
        if self.networks.len() < NETWORKS_MAX || self.networks.contains_key(&network) {
            return;
        }
        self.networks.retain(|_, recent| recent.refilled_at > now);
        if self.networks.len() < NETWORKS_MAX {
            return;
        }
        let mut by_use: Vec<(Duration, Network)> =
            self.networks.iter().map(|(network, recent)| (recent.refilled_at, *network)).collect();
        by_use.sort_unstable();
        for (_, network) in by_use.into_iter().take(NETWORKS_MAX / 2) {
            self.networks.remove(&network);
        }
    }
}

/// Maximum number of networks in the table, which takes about 1 MiB. An attacker with more networks than this gets
/// a burst from each of them in any case. Refusing networks that are not in the table would lock out players.
const NETWORKS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 5 };
    const SECOND: Duration = Duration::from_secs(1);

    fn network(number: u32) -> Network {
        Network::of(std::net::Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn a_network_has_a_burst_and_then_a_rate_and_waiting_clients_return_one_by_one() {
        let mut rates = NetworkRates::default();
        let now = Duration::from_secs(100);

        let first: Vec<_> = (0..8).map(|_| rates.admit(network(1), now, RATE)).collect();
        let other = rates.admit(network(2), now, RATE);

        let wait = |ms| Err(Duration::from_millis(ms));
        assert_eq!(first, [Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), wait(100), wait(200), wait(300)]);
        assert_eq!(other, Ok(()));
        for waited_ms in [100, 200, 300] {
            let now = now + Duration::from_millis(waited_ms);
            assert_eq!(rates.admit(network(1), now, RATE), Ok(()), "it waited for {waited_ms} ms as asked");
        }
        assert!(rates.admit(network(1), now + Duration::from_millis(300), RATE).is_err());
    }

    #[test]
    fn a_wait_has_an_upper_bound() {
        let mut rates = NetworkRates::default();

        let waits: Vec<_> = (0..1_000).map(|_| rates.admit(network(1), Duration::ZERO, RATE)).collect();

        assert_eq!(waits.last(), Some(&Err(retry::RATE_MAX)));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_busiest_networks() {
        let mut rates = NetworkRates::default();
        let now = Duration::from_secs(100);
        for _ in 0..5 {
            assert_eq!(rates.admit(network(0), now, RATE), Ok(()));
        }

        for number in 1..100_000 {
            assert_eq!(rates.admit(network(number), now, RATE), Ok(()), "a network that is not in the table");
            assert!(rates.networks.len() <= NETWORKS_MAX);
        }

        assert!(rates.admit(network(0), now, RATE).is_err(), "the busy network is still in the table");
        let later = now + Duration::from_secs(10);
        rates.admit(network(200_000), later, RATE).expect("room");
        rates.make_room(network(200_001), later);
        assert!(rates.networks.len() <= NETWORKS_MAX);
    }

    #[test]
    fn a_refused_action_does_not_count_against_the_rate() {
        let mut rates = NetworkRates::default();
        let rate = Rate { per_second: 10, burst: 100 };
        let count = |rates: &mut NetworkRates, now| {
            (0..1_000).filter(|_| rates.admit(network(1), now, rate).is_ok()).count()
        };

        assert_eq!(count(&mut rates, SECOND), 100);
        assert_eq!(count(&mut rates, SECOND * 2), 10);
        assert_eq!(count(&mut rates, SECOND * 3), 10);
        assert_eq!(count(&mut rates, SECOND * 60), 100);
    }

    #[test]
    fn a_full_table_removes_networks_that_have_their_full_burst_again() {
        let mut rates = NetworkRates::default();
        for number in 0..16_384 {
            rates.admit(network(number), SECOND, RATE).expect("a network that is not in the table");
        }

        rates.admit(network(20_001), SECOND * 3, RATE).expect("room");

        assert_eq!(rates.networks.len(), 1);
    }
}
