//! Groups client addresses into networks, to which the limits by address apply.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// One IPv4 address, or one IPv6 prefix of 64 bits.
///
/// Providers assign an IPv6 prefix of 64 bits or less to each customer. A customer therefore has at least 2^64
/// addresses, and a limit per address would have no effect.
///
/// An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`), as reported by a dual-stack socket, counts as the IPv4
/// address.
///
/// ```
/// use std::net::IpAddr;
/// use waystation::proxy::Network;
///
/// let of = |text: &str| Network::of(text.parse::<IpAddr>().expect("an address"));
/// assert_eq!(of("2001:db8::1"), of("2001:db8::2:0:0:1"));
/// assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
/// assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// Returns the network of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            // `::1` shares its prefix with special addresses that are not loopback, so it is not masked.
            IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from_bits(ip.to_bits() & PREFIX_MASK).into(),
            ip => ip,
        })
    }

    /// Returns true for a loopback address: one in 127.0.0.0/8, or `::1`.
    #[must_use]
    pub fn is_loopback(self) -> bool {
        self.0.is_loopback()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V6(ip) if !ip.is_loopback() => write!(f, "{ip}/64"),
            ip => write!(f, "{ip}"),
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network({self})")
    }
}

/// Mask of the first 64 of 128 bits.
const PREFIX_MASK: u128 = !(u64::MAX as u128);

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::of(text.parse().expect("an address"))
    }

    #[test]
    fn each_ipv4_address_is_one_network_in_both_notations() {
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_ne!(network("::ffff:192.0.2.1"), network("::ffff:192.0.2.2"));
        assert_eq!(network("::ffff:192.0.2.1").to_string(), "192.0.2.1");
    }

    #[test]
    fn ipv6_addresses_with_the_first_64_bits_in_common_are_one_network() {
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn all_forms_of_loopback_and_no_other_addresses_are_loopback() {
        assert!(
            ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
                .map(network)
                .iter()
                .all(|it| it.is_loopback())
        );
        assert!(["::2", "::", "192.0.2.1", "2001:db8::1"].map(network).iter().all(|it| !it.is_loopback()));
        assert_ne!(network("::1"), network("::2"));
    }
}
