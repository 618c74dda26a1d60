//! Resume tokens: issued with every Welcome, kept as hashes only.

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

    /// Reads a hash; `None` if it does not have 32 bytes.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A new token: what the client is told, and what the server keeps.
pub(crate) struct Issued {
    pub(super) secret: [u8; TOKEN_BYTES],
    pub(super) hash: TokenHash,
}

impl Issued {
    /// Draws a token.
    pub(crate) fn draw(secrets: &mut Secrets) -> Self {
        let token = secrets.token();
        Self { secret: token.secret, hash: TokenHash(token.hash) }
    }

    /// A token that a test knows.
    #[cfg(test)]
    pub(super) fn fixed(secret: [u8; TOKEN_BYTES]) -> Self {
        Self { secret, hash: TokenHash::of(&secret) }
    }
}

/// The tokens that resume a session: the newest one, and until the client has shown that it got that
/// one, the token that it presented last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tokens {
    newest: TokenHash,
    presented: Option<TokenHash>,
}

impl Tokens {
    pub(super) fn new(first: TokenHash) -> Self {
        Self { newest: first, presented: None }
    }

    /// After `presented` has resumed the session, a new token takes the place of all others. Returns those
    /// that are void.
    pub(super) fn rotate(
        &mut self,
        presented: TokenHash,
        new: TokenHash,
    ) -> impl Iterator<Item = TokenHash> + use<> {
        let old = std::mem::replace(self, Self { newest: new, presented: Some(presented) });
        old.hashes().filter(move |hash| *hash != presented)
    }

    /// The client has the newest token. Returns the one before, which is void.
    pub(super) fn confirm(&mut self) -> Option<TokenHash> {
        self.presented.take()
    }

    pub(super) fn of(newest: TokenHash, presented: Option<TokenHash>) -> Self {
        Self { newest, presented }
    }

    /// Returns the newest, and the one that was presented last while that is valid.
    pub(super) fn both(&self) -> (TokenHash, Option<TokenHash>) {
        (self.newest, self.presented)
    }

    /// All valid ones.
    pub(super) fn hashes(&self) -> impl Iterator<Item = TokenHash> + use<> {
        [Some(self.newest), self.presented].into_iter().flatten()
    }
}
