//! Caches the addresses of host names from one dial to the next, so that a resume does not wait for the system's
//! resolver.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::client::stream::resolve;

/// A cache of the addresses of hosts.
pub(super) struct AddressCache {
    known: BTreeMap<(String, u16), Known>,
    look_up: LookUp,
}

/// Looks up the addresses of a host. It may block.
pub(super) type LookUp = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

#[derive(Debug)]
struct Known {
    addresses: Vec<SocketAddr>,
    /// True if no server answered at the addresses. The host is then looked up again, and the addresses are kept
    /// if the look-up fails.
    is_doubted: bool,
}

impl Default for AddressCache {
    fn default() -> Self {
        Self::new(|host, port| resolve(host, port, 0))
    }
}

impl AddressCache {
    pub(super) fn new(look_up: LookUp) -> Self {
        Self { known: BTreeMap::new(), look_up }
    }

    /// Returns the addresses of a host. `turn` selects the first one, so that successive tries use different
    /// addresses.
    ///
    /// # Errors
    ///
    /// Returns an error if the look-up fails and no addresses of the host are cached.
    pub(super) fn addresses(&mut self, host: &str, port: u16, turn: usize) -> io::Result<Vec<SocketAddr>> {
        let key = (host.to_owned(), port);
        if self.known.get(&key).is_none_or(|known| known.is_doubted) {
            match (self.look_up)(host, port) {
                Ok(addresses) if !addresses.is_empty() => {
                    if self.known.len() >= NAMES_MAX {
                        self.known.clear();
                    }
                    self.known.insert(key.clone(), Known { addresses, is_doubted: false });
                }
                Ok(_) => {}
                Err(error) if !self.known.contains_key(&key) => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, host, "the look-up failed; the cached addresses are used")
                }
            }
        }
        let known = self.known.get(&key).ok_or(io::ErrorKind::NotFound)?;
        let mut addresses = known.addresses.clone();
        let turn = turn % addresses.len();
        addresses.rotate_left(turn);
        Ok(addresses)
    }

    /// Marks all addresses as doubtful, so that each host is looked up again by the next dial.
    pub(super) fn mark_stale(&mut self) {
        for known in self.known.values_mut() {
            known.is_doubted = true;
        }
    }
}

impl fmt::Debug for AddressCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.known).finish()
    }
}

/// The most hosts in the cache. The URLs of a client and the offers of its servers name fewer hosts.
const NAMES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static LOOK_UPS: Cell<usize> = const { Cell::new(0) };
    }

    /// Returns three addresses for one host, and fails from the fourth look-up on.
    fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        LOOK_UPS.set(LOOK_UPS.get() + 1);
        if host != "play.example" || LOOK_UPS.get() > 3 {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok((1..=3).map(|last| ([192, 0, 2, last], port).into()).collect())
    }

    #[test]
    fn a_host_is_looked_up_once_and_its_addresses_take_turns() {
        LOOK_UPS.set(0);
        let mut addresses = AddressCache::new(look_up);

        let first: Vec<_> = (0..4)
            .map(|turn| addresses.addresses("play.example", 7, turn).expect("it is known")[0].to_string())
            .collect();

        assert_eq!(first, ["192.0.2.1:7", "192.0.2.2:7", "192.0.2.3:7", "192.0.2.1:7"]);
        assert_eq!(LOOK_UPS.get(), 1);
        assert!(addresses.addresses("elsewhere.example", 7, 0).is_err());
    }

    #[test]
    fn a_doubted_host_is_looked_up_again_and_keeps_its_addresses_if_the_system_fails() {
        LOOK_UPS.set(2);
        let mut addresses = AddressCache::new(look_up);
        let before = addresses.addresses("play.example", 7, 0).expect("it is known");

        addresses.mark_stale();
        let after = addresses.addresses("play.example", 7, 0).expect("it was known");

        assert_eq!((after, LOOK_UPS.get()), (before, 4));
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut addresses = AddressCache::new(|_, port| Ok(vec![([192, 0, 2, 1], port).into()]));

        for port in 0..1_000 {
            addresses.addresses("play.example", port, 0).expect("it is known");
        }

        assert!(addresses.known.len() <= NAMES_MAX);
    }
}
