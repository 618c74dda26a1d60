//! Determines the addresses of clients behind trusted relays.
//!
//! A relay is a reverse proxy or a load balancer, such as nginx or HAProxy. It opens connections of its own to the
//! server, so all of its clients seem to have one address. [`TrustedRelays`] lists the relays whose reports of
//! client addresses are accepted, and how they report: in a header of each request, or in a [PROXY
//! header](super::proxy_header) before the first request. Limits by network and the address of a link then use the
//! address of the client. Reports of all other peers are ignored.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName, header};

use crate::settings::{Choice, Leaf, Value, from_text};

/// The relays whose reports of client addresses are accepted. By default no relay is trusted.
///
/// ```
/// use waystation::admin::{RelayHeader, TrustedRelays};
///
/// let relays = TrustedRelays::new(["10.0.0.0/8".parse()?, "::1".parse()?], RelayHeader::XForwardedFor);
/// assert!(relays.trusts([10, 1, 2, 3].into()));
/// assert!(!relays.trusts([192, 0, 2, 1].into()));
/// # Ok::<(), waystation::admin::CidrError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedRelays {
    networks: Vec<Cidr>,
    header: RelayHeader,
}

/// How trusted relays report the address of a client.
///
/// The way must be configured and is not detected. A relay forwards request headers that it does not write itself,
/// so a client could forge them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayHeader {
    /// Each relay appends the address of its client to the request header `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// Each relay appends an element with `for=` to the request header `Forwarded` (RFC 7239).
    Forwarded,
    /// Each connection from a relay begins with a header of the PROXY protocol, version 1 or 2. A connection from a
    /// trusted relay without a valid header is closed.
    ProxyProtocol,
}

impl Choice for RelayHeader {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("x-forwarded-for", Self::XForwardedFor),
        ("forwarded", Self::Forwarded),
        ("proxy-protocol", Self::ProxyProtocol),
    ];
}

/// A network of IP addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u32,
}

/// An error of parsing a [`Cidr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network of IP addresses; write 10.0.0.0/8, 2001:db8::/32, or one address")]
pub struct CidrError(String);

impl TrustedRelays {
    /// Trusts the relays in these networks, which report the addresses of their clients in this way.
    #[must_use]
    pub fn new(networks: impl IntoIterator<Item = Cidr>, header: RelayHeader) -> Self {
        Self { networks: networks.into_iter().collect(), header }
    }

    /// Returns true if this is the address of a trusted relay.
    #[must_use]
    pub fn trusts(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(ip))
    }

    /// Returns true if a connection from this address has to begin with a PROXY header.
    pub(super) fn expects_header_from(&self, ip: IpAddr) -> bool {
        self.header == RelayHeader::ProxyProtocol && self.trusts(ip)
    }

    /// Returns the address of the client that sent a request. `peer` is the other end of the connection.
    ///
    /// Each relay appends an entry with the address of its own peer, so the list is read from the right. The result
    /// is the first address that does not belong to a trusted relay. If an entry is not an address, the result is
    /// the address that was read before it.
    pub(super) fn client_of(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        let mut client = peer;
        if !self.trusts(peer.ip()) {
            return client;
        }
        let (name, read): (HeaderName, fn(&str) -> Option<SocketAddr>) = match self.header {
            RelayHeader::XForwardedFor => (X_FORWARDED_FOR, node),
            RelayHeader::Forwarded => (header::FORWARDED, forwarded_for),
            RelayHeader::ProxyProtocol => return client,
        };
        let values: Vec<_> = headers.get_all(name).iter().collect();
        for value in values.into_iter().rev() {
            let Ok(value) = value.to_str() else { return client };
            for entry in value.rsplit(',').take(HOPS_MAX) {
                let Some(address) = read(entry.trim()) else { return client };
                client = address;
                if !self.trusts(client.ip()) {
                    return client;
                }
            }
        }
        client
    }
}

impl Cidr {
    fn contains(&self, ip: IpAddr) -> bool {
        // A dual-stack socket reports IPv4 addresses as IPv6.
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(u32::BITS - self.prefix).unwrap_or(0);
                own.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(u128::BITS - self.prefix).unwrap_or(0);
                own.to_bits() & mask == ip.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError(text.to_owned());
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let max = if address.is_ipv4() { u32::BITS } else { u128::BITS };
        let prefix = prefix.map_or(Some(max), decimal).filter(|prefix| *prefix <= max).ok_or_else(error)?;
        Ok(Self { address, prefix })
    }
}

impl Leaf for Cidr {
    fn read(value: &Value) -> Result<Self, String> {
        from_text(value, "a network such as \"10.0.0.0/8\" or \"2001:db8::/32\", or one address")
    }

    fn write(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Returns the value of `for=` in an element of `Forwarded`, if it is an address.
fn forwarded_for(element: &str) -> Option<SocketAddr> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    })?;
    node(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// Parses an address with or without a port. An IPv6 address with a port is in brackets. Without a port, the port
/// of the result is 0.
fn node(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    Some(SocketAddr::new(bare.parse().ok()?, 0))
}

/// Parses a number of decimal digits, without a sign or spaces.
pub(super) fn decimal<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Maximum number of entries that are read per header. Requests pass few relays, but a client can send a list as
/// long as the head of a request.
const HOPS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn relays(header: RelayHeader) -> TrustedRelays {
        let networks = ["127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48"];
        TrustedRelays::new(networks.map(|network| network.parse().expect(network)), header)
    }

    /// Returns the address of the client for a request that the relay at 127.0.0.1 forwarded.
    fn client(header: RelayHeader, name: &'static str, values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_str(value).expect(value));
        }
        relays(header).client_of(([127, 0, 0, 1], 4_000).into(), &headers).to_string()
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let holds =
            |network: &str, ip: &str| network.parse::<Cidr>().expect(network).contains(ip.parse().expect(ip));

        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.6"));
        assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.0.0.1"), "as a dual-stack socket reports it");
        assert!(holds("2001:db8::/33", "2001:db8:7fff::1") && !holds("2001:db8::/33", "2001:db8:8000::1"));
        assert!(holds("::/0", "2001:db8::1") && holds("::1", "::1"));
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "relay.example", "10.0.0/8"] {
            let error = wrong.parse::<Cidr>().expect_err(wrong).to_string();
            assert!(error.contains("10.0.0.0/8"), "{error}");
        }
    }

    #[test]
    fn x_forwarded_for_is_read_from_the_right_up_to_the_first_address_of_no_relay() {
        let told = |values: &[&str]| client(RelayHeader::XForwardedFor, "x-forwarded-for", values);

        assert_eq!(told(&["203.0.113.9"]), "203.0.113.9:0");
        assert_eq!(told(&["198.51.100.1, 203.0.113.9"]), "203.0.113.9:0", "the client wrote the first");
        assert_eq!(told(&["203.0.113.9, 10.0.0.7"]), "203.0.113.9:0", "two relays");
        assert_eq!(told(&["198.51.100.1", "203.0.113.9,10.0.0.7"]), "203.0.113.9:0", "two headers");
        assert_eq!(told(&["203.0.113.9:5000"]), "203.0.113.9:5000");
        assert_eq!(told(&["2001:db8::9"]), "[2001:db8::9]:0");
        assert_eq!(told(&["[2001:db8::9]:5000, 2001:db8:1::7"]), "[2001:db8::9]:5000");
    }

    #[test]
    fn an_entry_without_an_address_leaves_the_last_known_address() {
        let told = |values: &[&str]| client(RelayHeader::XForwardedFor, "x-forwarded-for", values);

        assert_eq!(told(&[]), "127.0.0.1:4000");
        assert_eq!(told(&[""]), "127.0.0.1:4000");
        assert_eq!(told(&["203.0.113.9, unknown"]), "127.0.0.1:4000");
        assert_eq!(told(&["203.0.113.9, unknown, 10.0.0.7"]), "10.0.0.7:0");
        assert_eq!(told(&["10.0.0.7, 10.0.0.8"]), "10.0.0.7:0", "a relay can be the client");
        assert_eq!(client(RelayHeader::XForwardedFor, "forwarded", &["for=203.0.113.9"]), "127.0.0.1:4000");
        assert_eq!(client(RelayHeader::ProxyProtocol, "x-forwarded-for", &["203.0.113.9"]), "127.0.0.1:4000");
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        let told = |values: &[&str]| client(RelayHeader::Forwarded, "forwarded", values);

        assert_eq!(told(&["for=203.0.113.9;proto=https;by=127.0.0.1"]), "203.0.113.9:0");
        assert_eq!(told(&["For=\"[2001:db8::9]:4711\""]), "[2001:db8::9]:4711");
        assert_eq!(told(&["for=198.51.100.1, proto=http; for=\"203.0.113.9:80\""]), "203.0.113.9:80");
        assert_eq!(told(&["for=203.0.113.9, for=_hidden"]), "127.0.0.1:4000");
        assert_eq!(told(&["by=203.0.113.9"]), "127.0.0.1:4000");
    }

    #[test]
    fn reports_of_untrusted_peers_are_ignored() {
        let stranger: SocketAddr = ([203, 0, 113, 9], 4_000).into();
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("198.51.100.1"));

        assert_eq!(relays(RelayHeader::XForwardedFor).client_of(stranger, &headers), stranger);
        assert_eq!(TrustedRelays::default().client_of(([127, 0, 0, 1], 1).into(), &headers).port(), 1);
        assert!(!relays(RelayHeader::ProxyProtocol).expects_header_from(stranger.ip()));
        assert!(relays(RelayHeader::ProxyProtocol).expects_header_from([10, 0, 0, 1].into()));
    }
}
