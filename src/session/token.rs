//! Resume tokens: issued with every Welcome, kept as hashes only.

use bevy_ecs::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::tick::Entropy;
use crate::wire::TOKEN_BYTES;

/// What the server keeps of a token. Random tokens of 256 bits need no slow hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token that a peer presents.
    pub(crate) fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// The tokens that resume a session: the newest issued, and until the client has shown that it
/// got that one, the one it presented last.
#[derive(Component, Debug)]
pub struct Tokens {
    newest: TokenHash,
    presented: Option<TokenHash>,
}

impl Tokens {
    /// The first token of a session, and what to tell the client.
    pub(crate) fn issue(entropy: &mut Entropy) -> (Self, [u8; TOKEN_BYTES]) {
        let token = entropy.bytes();
        (
            Self {
                newest: TokenHash::of(&token),
                presented: None,
            },
            token,
        )
    }

    /// After `presented` has resumed the session: a new token takes the place of all others.
    pub(crate) fn rotate(&mut self, presented: TokenHash, entropy: &mut Entropy) -> [u8; TOKEN_BYTES] {
        let token = entropy.bytes();
        self.newest = TokenHash::of(&token);
        self.presented = Some(presented);
        token
    }

    /// The client has the newest token: the one before is void.
    pub(crate) fn confirm(&mut self) -> Option<TokenHash> {
        self.presented.take()
    }

    /// All valid ones.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = TokenHash> + use<> {
        [Some(self.newest), self.presented].into_iter().flatten()
    }
}
