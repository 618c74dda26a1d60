//! Resume tokens: issued with every Welcome, kept as hashes only.

use bevy_ecs::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::tick::Secrets;
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
    pub(crate) fn issue(secrets: &mut Secrets) -> (Self, [u8; TOKEN_BYTES]) {
        let token = secrets.token();
        (Self { newest: TokenHash(token.hash), presented: None }, token.secret)
    }

    /// After `presented` has resumed the session: a new token takes the place of all others.
    pub(crate) fn rotate(&mut self, presented: TokenHash, secrets: &mut Secrets) -> [u8; TOKEN_BYTES] {
        let token = secrets.token();
        self.newest = TokenHash(token.hash);
        self.presented = Some(presented);
        token.secret
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
