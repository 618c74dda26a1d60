//! What one address may ask of the HTTP server.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often addresses have asked in their running second.
#[derive(Debug)]
pub(super) struct Rates {
    seconds: BTreeMap<IpAddr, (Duration, u32)>,
    per_second: u32,
}

/// How many connections addresses have.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug)]
struct Taken {
    all: usize,
    by_address: BTreeMap<IpAddr, usize>,
    max: usize,
    max_per_address: usize,
}

/// A connection's place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    address: Option<IpAddr>,
}

impl Rates {
    pub(super) fn new(per_second: u32) -> Self {
        Self { seconds: BTreeMap::new(), per_second }
    }

    /// Whether an address may ask once more.
    pub(super) fn admit(&mut self, ip: IpAddr, now: Duration) -> bool {
        let ip = network(ip);
        if self.seconds.len() >= ADDRESSES_MAX && !self.seconds.contains_key(&ip) {
            self.seconds.retain(|_, (begun, _)| now.saturating_sub(*begun) < SECOND);
            if self.seconds.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        let (begun, count) = self.seconds.entry(ip).or_insert((now, 0));
        if now.saturating_sub(*begun) >= SECOND {
            (*begun, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= self.per_second
    }
}

impl Places {
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        let by_address = BTreeMap::new();
        Self(Arc::new(Mutex::new(Taken { all: 0, by_address, max, max_per_address })))
    }

    /// A place for a connection, if there is one; `limited` says whether its address has a share of
    /// its own only.
    pub(super) fn take(&self, ip: IpAddr, limited: bool) -> Option<Place> {
        let mut taken = self.lock();
        if taken.all >= taken.max {
            return None;
        }
        let address = limited.then(|| network(ip));
        if let Some(address) = address {
            let max = taken.max_per_address;
            let count = taken.by_address.entry(address).or_default();
            if *count >= max {
                return None;
            }
            *count += 1;
        }
        taken.all += 1;
        Some(Place { places: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        if let Some(address) = self.address
            && let Some(count) = taken.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

/// Whoever has an IPv6 address has 2^64 of them. A socket for both families writes IPv4 addresses
/// as IPv6.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        ip @ IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// Addresses whose rate is known at a time, some 1 MiB: so many that ask in one second are an
/// attack, and those that are not known yet are refused in it.
const ADDRESSES_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn each_address_has_a_rate_and_an_ipv6_network_is_one_address() {
        let mut rates = Rates::new(2);
        let v4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let v6 = |host| IpAddr::V6(Ipv6Addr::from((0x2001_0DB8_u128 << 96) | host));

        let asked: Vec<bool> = (0..3).map(|_| rates.admit(v4, SECOND)).collect();
        let others: Vec<bool> = (1..=3).map(|host| rates.admit(v6(host), SECOND)).collect();

        assert_eq!(asked, [true, true, false]);
        assert_eq!(others, [true, true, false]);
        assert!(rates.admit(v6(1 << 64), SECOND), "another network");
        assert!(rates.admit(v4, SECOND * 2), "the next second");
    }

    #[test]
    fn the_table_is_bounded_and_forgets_those_who_asked_before() {
        let mut rates = Rates::new(2);
        for host in 0..20_000_u32 {
            let _ = rates.admit(IpAddr::V4(host.into()), SECOND);
        }

        assert_eq!(rates.seconds.len(), ADDRESSES_MAX);
        assert!(!rates.admit(IpAddr::V4(20_001.into()), SECOND));
        assert!(rates.admit(IpAddr::V4(20_001.into()), SECOND * 3));
        assert_eq!(rates.seconds.len(), 1);
    }

    #[test]
    fn places_are_given_back_and_no_address_has_all_of_them() {
        let places = Places::new(3, 2);
        let (one, two) = (IpAddr::V4(1.into()), IpAddr::V4(2.into()));

        let held: Vec<_> = (0..2).map(|_| places.take(one, true).expect("a place")).collect();
        assert!(places.take(one, true).is_none());
        let last = places.take(one, false).expect("without a share, any is its own");
        assert!(places.take(two, true).is_none(), "all are taken");

        drop((held, last));
        assert!(places.take(two, true).is_some());
        assert!(places.lock().by_address.is_empty());
    }
}
