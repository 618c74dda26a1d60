//! How often each network may do something: some times at once, and then at a pace.
//!
//! Of each [`Network`] two times are kept, and of 16,384 networks at most. It is not a limit of how many
//! there are at a time: a [`Crowd`](super::crowd::Crowd) is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Network;
use crate::wire::retry;

/// How often a network may do something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// Times in a second, in the long run.
    pub(crate) per_second: u32,
    /// Times at once, after it did nothing for a while.
    pub(crate) burst: u32,
}

/// What networks have used of their rates lately.
#[derive(Debug, Default)]
pub(crate) struct NetworkRates {
    networks: BTreeMap<Network, Recent>,
}

/// What a network has used of its rate.
#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    /// When all that it took will have been refilled.
    refilled_at: Duration,
    /// The latest time at which a client of it was told to come again.
    promised: Duration,
}

impl NetworkRates {
    /// Takes once from the rate of a network, or says how long to wait for it, which costs the network nothing.
    /// Those who wait are told different times, so that they come one by one.
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

    /// Forgets networks if there are too many to know another one: those that have used nothing of their rate,
    /// and if that is not enough, the half that has used least.
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

/// The table holds this many networks at most, which takes about 1 MiB. An attacker with more networks than this has
/// a burst from each of them anyway. Refusing networks that are not in the table would keep players out.
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
    fn a_network_has_a_burst_and_then_a_rate_and_those_who_wait_come_one_by_one() {
        let mut rates = NetworkRates::default();
        let now = Duration::from_secs(100);

        let first: Vec<_> = (0..8).map(|_| rates.admit(network(1), now, RATE)).collect();
        let other = rates.admit(network(2), now, RATE);

        let wait = |ms| Err(Duration::from_millis(ms));
        assert_eq!(first, [Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), wait(100), wait(200), wait(300)]);
        assert_eq!(other, Ok(()));
        for waited_ms in [100, 200, 300] {
            let now = now + Duration::from_millis(waited_ms);
            assert_eq!(rates.admit(network(1), now, RATE), Ok(()), "it waited for {waited_ms} ms as told");
        }
        assert!(rates.admit(network(1), now + Duration::from_millis(300), RATE).is_err());
    }

    #[test]
    fn no_wait_is_longer_than_the_longest() {
        let mut rates = NetworkRates::default();

        let waits: Vec<_> = (0..1_000).map(|_| rates.admit(network(1), Duration::ZERO, RATE)).collect();

        assert_eq!(waits.last(), Some(&Err(retry::RATE_MAX)));
    }

    #[test]
    fn the_networks_that_are_known_are_bounded_and_the_busiest_are_kept() {
        let mut rates = NetworkRates::default();
        let now = Duration::from_secs(100);
        for _ in 0..5 {
            assert_eq!(rates.admit(network(0), now, RATE), Ok(()));
        }

        for number in 1..100_000 {
            assert_eq!(rates.admit(network(number), now, RATE), Ok(()), "a network that is not known yet");
            assert!(rates.networks.len() <= NETWORKS_MAX);
        }

        assert!(rates.admit(network(0), now, RATE).is_err(), "the busy one is still known");
        let later = now + Duration::from_secs(10);
        rates.admit(network(200_000), later, RATE).expect("room");
        rates.make_room(network(200_001), later);
        assert!(rates.networks.len() <= NETWORKS_MAX);
    }

    #[test]
    fn what_is_refused_costs_a_network_nothing() {
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
    fn networks_that_have_their_rate_again_are_forgotten_when_the_table_is_full() {
        let mut rates = NetworkRates::default();
        for number in 0..16_384 {
            rates.admit(network(number), SECOND, RATE).expect("a network that is not known yet");
        }

        rates.admit(network(20_001), SECOND * 3, RATE).expect("room");

        assert_eq!(rates.networks.len(), 1);
    }
}
