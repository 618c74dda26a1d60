//! The network that an address belongs to: what limits by address go by.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The network of one client: an IPv4 address, or an IPv6 prefix of 64 bits.
///
/// A provider gives each customer an IPv6 prefix of 64 bits or shorter, so one customer has at least 2^64
/// addresses, and a limit by single addresses would not limit it. An IPv4 address that is written as
/// IPv6 (`::ffff:192.0.2.1`), as a socket for both families does, is the IPv4 address.
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
    /// The network of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            // The prefix of the loopback address is that of other special addresses, which are not loopback.
            IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from_bits(ip.to_bits() & PREFIX_MASK).into(),
            ip => ip,
        })
    }

    /// Returns true if only this machine has such addresses: 127.0.0.0/8, or `::1`.
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

/// The first 64 of 128 bits.
const PREFIX_MASK: u128 = !(u64::MAX as u128);

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::of(text.parse().expect("an address"))
    }

    #[test]
    fn each_ipv4_address_is_a_network_however_it_is_written() {
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
    fn loopback_is_known_in_all_its_forms_and_nothing_else_is_loopback() {
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
