//! Resume tokens. Each Welcome carries a new one, and the server keeps hashes only.

use sha2::{Digest as _, Sha256};

use crate::tick::SecretRng;
use crate::wire::TOKEN_BYTES;

/// The hash of a resume token. Tokens are 256 random bits, so a fast hash is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    /// Returns the hash of a token that a peer presents.
    pub(crate) fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Reads a hash. Returns `None` if it does not have 32 bytes.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A new token: the secret for the client, and the hash that the server keeps.
pub(crate) struct Issued {
    pub(super) secret: [u8; TOKEN_BYTES],
    pub(super) hash: TokenHash,
}

impl Issued {
    /// Draws a random token.
    pub(crate) fn draw(secrets: &mut SecretRng) -> Self {
        let token = secrets.token();
        Self { secret: token.secret, hash: TokenHash(token.hash) }
    }

    /// Creates a token with a fixed secret.
    #[cfg(test)]
    pub(super) fn fixed(secret: [u8; TOKEN_BYTES]) -> Self {
        Self { secret, hash: TokenHash::of(&secret) }
    }
}

/// The tokens that resume a session: the newest token, and the token that was presented last. The presented
/// token is void once the client has shown that it has the newest one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tokens {
    newest: TokenHash,
    presented: Option<TokenHash>,
}

impl Tokens {
    pub(super) fn new(first: TokenHash) -> Self {
        Self { newest: first, presented: None }
    }

    /// Makes `new` the newest token after `presented` has resumed the session. Returns the tokens that become
    /// void.
    pub(super) fn rotate(
        &mut self,
        presented: TokenHash,
        new: TokenHash,
    ) -> impl Iterator<Item = TokenHash> + use<> {
        let old = std::mem::replace(self, Self { newest: new, presented: Some(presented) });
        old.hashes().filter(move |hash| *hash != presented)
    }

    /// Notes that the client has the newest token. Returns the presented token, which becomes void.
    pub(super) fn confirm(&mut self) -> Option<TokenHash> {
        self.presented.take()
    }

    pub(super) fn of(newest: TokenHash, presented: Option<TokenHash>) -> Self {
        Self { newest, presented }
    }

    /// Returns the newest token, and the presented token while it is valid.
    pub(super) fn both(&self) -> (TokenHash, Option<TokenHash>) {
        (self.newest, self.presented)
    }

    /// Returns all valid tokens.
    pub(super) fn hashes(&self) -> impl Iterator<Item = TokenHash> + use<> {
        [Some(self.newest), self.presented].into_iter().flatten()
    }
}
