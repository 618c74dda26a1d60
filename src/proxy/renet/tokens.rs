//! Remembers the connect tokens that have opened a link, so that none is used twice.
//!
//! netcode accepts a token again from the same address. An attacker who has recorded the datagrams of a link could
//! therefore replay them under the same keys and sequence numbers. So this module remembers each token that has
//! opened a link until the token expires. netcode checks whether a token is genuine; the module keeps only tokens
//! that netcode has answered.
//!
//! Data flow: connection request → [`UsedTokens::admits`] → netcode answers →
//! [`note_request`](UsedTokens::note_request) → the link opens →
//! [`note_opened`](UsedTokens::note_opened) → [`expire`](UsedTokens::expire).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// The expiry of a token in Unix seconds, and its MAC, which identifies the token.
pub(super) type TokenMark = (u64, [u8; MAC_BYTES]);

/// The tokens that have opened a link, and those of pending requests.
#[derive(Debug, Default)]
pub(super) struct UsedTokens {
    used: BTreeSet<TokenMark>,
    /// The tokens of pending requests, with the addresses of the requests.
    asked: BTreeSet<(SocketAddr, TokenMark)>,
}

impl UsedTokens {
    /// Returns the token of a connection request, or `None` for any other datagram.
    pub(super) fn read(datagram: &[u8]) -> Option<TokenMark> {
        if datagram.first() != Some(&0) {
            return None;
        }
        let expires = datagram.get(EXPIRES_AT..)?.first_chunk()?;
        let mac = datagram.last_chunk()?;
        Some((u64::from_le_bytes(*expires), *mac))
    }

    /// Returns false if a datagram is a connection request with a used token.
    pub(super) fn admits(&self, datagram: &[u8]) -> bool {
        Self::read(datagram).is_none_or(|token| !self.used.contains(&token))
    }

    /// Notes that netcode has accepted the token of a request and has answered.
    pub(super) fn note_request(&mut self, from: SocketAddr, token: TokenMark) {
        self.asked.insert((from, token));
        if self.asked.len() > ASKED_MAX {
            self.asked.pop_first();
        }
    }

    /// Notes that a link was opened for an address. netcode does not report which token has opened it, so all
    /// pending tokens of the address become used.
    pub(super) fn note_opened(&mut self, address: SocketAddr) {
        let (first, last) = ((0, [0; MAC_BYTES]), (u64::MAX, [u8::MAX; MAC_BYTES]));
        let asked: Vec<_> = self.asked.range((address, first)..=(address, last)).copied().collect();
        for entry in asked {
            self.asked.remove(&entry);
            self.used.insert(entry.1);
            if self.used.len() > USED_MAX {
                self.used.pop_first();
            }
        }
    }

    /// Removes the tokens that have expired.
    pub(super) fn expire(&mut self, unix_now: Duration) {
        let now = unix_now.as_secs();
        while self.used.first().is_some_and(|(expires, _)| *expires <= now) {
            self.used.pop_first();
        }
        self.asked.retain(|(_, (expires, _))| *expires > now);
    }
}

/// Offset of the token's expiry in a connection request: after the prefix, the version and the protocol id.
const EXPIRES_AT: usize = 1 + 13 + 8;
const MAC_BYTES: usize = 16;
/// Maximum number of used tokens, which take about 3 MiB. That is enough for more than 200 links per second during
/// the lifetime of a token. When the table is full, the token that expires first is removed.
const USED_MAX: usize = 65_536;
/// Maximum number of tokens of pending requests: twice the number of handshakes that netcode holds.
const ASKED_MAX: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(expires: u64, mac: u8) -> Vec<u8> {
        let mut datagram = vec![0; 1_078];
        datagram[EXPIRES_AT..EXPIRES_AT + 8].copy_from_slice(&expires.to_le_bytes());
        datagram[1_078 - MAC_BYTES..].fill(mac);
        datagram
    }

    #[test]
    fn a_token_opens_one_link_and_is_remembered_until_it_expires() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let (first, second) = (request(100, 1), request(100, 2));
        let mut tokens = UsedTokens::default();

        assert!(tokens.admits(&first));
        tokens.note_request(address, UsedTokens::read(&first).expect("a request"));
        assert!(tokens.admits(&first), "a request may be sent again until its link opens");
        tokens.note_opened(address);

        assert!(!tokens.admits(&first));
        assert!(tokens.admits(&second));
        tokens.expire(Duration::from_secs(100));
        assert!(tokens.used.is_empty());
    }

    #[test]
    fn other_datagrams_have_no_token() {
        assert_eq!(UsedTokens::read(&[5; 100]), None);
        assert_eq!(UsedTokens::read(&[0; 12]), None);
        assert!(UsedTokens::default().admits(&[5; 100]));
    }
}
