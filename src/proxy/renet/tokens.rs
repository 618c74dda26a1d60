//! Connect tokens that have opened a link.
//!
//! netcode takes a token again if it comes from the same address: who has recorded a link's
//! datagrams could play it from the start, under the same keys and sequences. So a token that
//! has opened a link is remembered until it expires, and never opens another. It is not who
//! decides whether a token is genuine: that is netcode, and only what netcode answered is kept.
//!
//! Data flow: connection request → [`UsedTokens::admits`] → netcode answers →
//! [`note_request`](UsedTokens::note_request) → the link opens →
//! [`note_opened`](UsedTokens::note_opened) → [`expire`](UsedTokens::expire).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// When a token expires, in Unix seconds, and its MAC, which no other token has.
pub(super) type TokenMark = (u64, [u8; MAC_BYTES]);

/// Tokens that have opened a link, and those that may be about to.
#[derive(Debug, Default)]
pub(super) struct UsedTokens {
    used: BTreeSet<TokenMark>,
    /// The tokens that an address has asked with.
    asked: BTreeSet<(SocketAddr, TokenMark)>,
}

impl UsedTokens {
    /// The token of a connection request; `None` for any other datagram.
    pub(super) fn read(datagram: &[u8]) -> Option<TokenMark> {
        if datagram.first() != Some(&0) {
            return None;
        }
        let expires = datagram.get(EXPIRES_AT..)?.first_chunk()?;
        let mac = datagram.last_chunk()?;
        Some((u64::from_le_bytes(*expires), *mac))
    }

    /// Whether a datagram is not a connection request with a used token.
    pub(super) fn admits(&self, datagram: &[u8]) -> bool {
        Self::read(datagram).is_none_or(|token| !self.used.contains(&token))
    }

    /// netcode found a request's token genuine, and answered.
    pub(super) fn note_request(&mut self, from: SocketAddr, token: TokenMark) {
        self.asked.insert((from, token));
        if self.asked.len() > ASKED_MAX {
            self.asked.pop_first();
        }
    }

    /// An address has a link now. netcode does not say by which of the tokens that it asked with.
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

    /// Forgets tokens that netcode will not take any more.
    pub(super) fn expire(&mut self, unix_now: Duration) {
        let now = unix_now.as_secs();
        while self.used.first().is_some_and(|(expires, _)| *expires <= now) {
            self.used.pop_first();
        }
        self.asked.retain(|(_, (expires, _))| *expires > now);
    }
}

/// Where a connection request says when its token expires: after the prefix, the version and the
/// protocol.
const EXPIRES_AT: usize = 1 + 13 + 8;
const MAC_BYTES: usize = 16;
/// Tokens remembered, about 3 MiB: more than two hundred links a second, for as long as a token
/// lasts. Beyond, the first to expire is forgotten.
const USED_MAX: usize = 65_536;
/// Genuine requests remembered until their link opens: twice the handshakes that netcode holds.
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
        assert!(tokens.admits(&first), "a request may be sent again until it is answered");
        tokens.note_opened(address);

        assert!(!tokens.admits(&first));
        assert!(tokens.admits(&second));
        tokens.expire(Duration::from_secs(100));
        assert!(tokens.used.is_empty());
    }

    #[test]
    fn what_is_no_request_has_no_token() {
        assert_eq!(UsedTokens::read(&[5; 100]), None);
        assert_eq!(UsedTokens::read(&[0; 12]), None);
        assert!(UsedTokens::default().admits(&[5; 100]));
    }
}
