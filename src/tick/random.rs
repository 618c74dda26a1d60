//! Randomness: secrets, which nobody may guess, and dice, which anybody may know.
//!
//! [`Secrets`] are session ids and resume tokens. Their generator is seeded once, when the server
//! starts, from the operating system. Knowing that seed means knowing every token, so it is never
//! logged and never recorded. [`Dice`] are a game's: their seed is logged, so that a run can be
//! repeated.
//!
//! No tick asks the operating system for random bytes.

use std::fmt;

use bevy_ecs::prelude::*;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng as _, RngExt as _, SeedableRng as _, TryRng as _};
use sha2::{Digest as _, Sha256};

use crate::wire::TOKEN_BYTES;

/// A game's randomness.
///
/// The same seed gives the same draws, with the same build of the server. The seed is drawn when the
/// server starts and logged as `dice`; insert `Dice::new(seed)` after the server's plugins to repeat
/// a run. Never use it for what a player must not guess in earnest: whoever reads the log knows all
/// draws.
///
/// ```
/// use waystation::tick::Dice;
///
/// let mut dice = Dice::new(7);
/// let pips = dice.below(6) + 1;
/// assert!((1..=6).contains(&pips));
/// assert!((0.0..1.0).contains(&dice.unit()));
/// assert_eq!(Dice::new(7).below(6) + 1, pips);
/// ```
#[derive(Resource, Debug)]
pub struct Dice {
    seed: u64,
    rng: StdRng,
}

impl Dice {
    /// Dice with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, rng: StdRng::seed_from_u64(seed) }
    }

    /// Dice with a seed from the operating system. If it has none, the process ends.
    #[must_use]
    pub(super) fn system() -> Self {
        Self::new(u64::from_le_bytes(system_bytes()))
    }

    /// Dice whose seed follows from the seed of [`Secrets`], which does not follow from it.
    #[must_use]
    pub(super) fn beside(seed: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"waystation dice");
        hash.update(seed.to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        Self::new(digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte)))
    }

    /// The seed that the dice started with.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number from 0 to `count - 1`, each as likely as the others; 0 if `count` is 0.
    pub fn below(&mut self, count: u32) -> u32 {
        if count == 0 { 0 } else { self.rng.random_range(0..count) }
    }

    /// A number from 0 up to, and never, 1.
    pub fn unit(&mut self) -> f32 {
        self.rng.random()
    }

    /// 64 random bits, such as a seed for a generator of the game's own.
    pub fn bits(&mut self) -> u64 {
        self.rng.next_u64()
    }
}

/// A resume token: what its client is told, and what the server keeps.
pub(crate) struct Token {
    /// The SHA-256 hash of the token.
    pub(crate) hash: [u8; 32],
    /// The token.
    pub(crate) secret: [u8; TOKEN_BYTES],
}

/// Session ids and resume tokens.
#[derive(Resource)]
pub(crate) struct Secrets(Box<StdRng>);

impl Secrets {
    /// Secrets that nobody can guess. If the operating system gives no seed, the process ends.
    #[must_use]
    pub(crate) fn system() -> Self {
        Self(Box::new(StdRng::from_seed(system_bytes())))
    }

    /// The same draws for the same seed: for tests only, since whoever knows the seed knows every token.
    #[must_use]
    pub(super) fn seeded(seed: u64) -> Self {
        Self(Box::new(StdRng::seed_from_u64(seed)))
    }

    /// The id of a session: random, never 0.
    pub(crate) fn id(&mut self) -> u64 {
        loop {
            let id = self.0.next_u64();
            if id != 0 {
                return id;
            }
        }
    }

    /// A new resume token.
    pub(crate) fn token(&mut self) -> Token {
        let mut secret = [0; TOKEN_BYTES];
        self.0.fill_bytes(&mut secret);
        Token { hash: Sha256::digest(secret).into(), secret }
    }
}

/// Bytes from the operating system. If it has none, the process ends: a guessable token would be worse.
fn system_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = SysRng.try_fill_bytes(&mut bytes) {
        tracing::error!(%error, "the operating system gives no random bytes; stopping");
        std::process::abort();
    }
    bytes
}

impl fmt::Debug for Secrets {
    /// Without the generator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl fmt::Debug for Token {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_draws_and_another_one_gives_others() {
        let draws = |seed| {
            let mut dice = Dice::new(seed);
            (dice.below(1_000_000), dice.unit().to_bits(), dice.bits())
        };

        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        assert_eq!(Dice::new(1).below(0), 0);
        assert_eq!(Dice::new(9).seed(), 9);
    }

    #[test]
    fn the_dice_do_not_tell_the_seed_of_the_secrets_and_follow_from_it() {
        let (dice, same, other) = (Dice::beside(1), Dice::beside(1), Dice::beside(2));

        assert_eq!(dice.seed(), same.seed());
        assert!(dice.seed() != other.seed() && dice.seed() != 1);
    }

    #[test]
    fn secrets_of_the_operating_system_differ_and_hash_to_what_is_kept() {
        let (mut one, mut other) = (Secrets::system(), Secrets::system());

        let (token, another) = (one.token(), other.token());

        assert_ne!(token.secret, another.secret);
        assert_eq!(token.hash, <[u8; 32]>::from(Sha256::digest(token.secret)));
        assert!(one.id() != other.id());
    }

    #[test]
    fn nothing_that_is_secret_is_shown() {
        let mut secrets = Secrets::seeded(1);
        let token = secrets.token();

        let text = format!("{secrets:?} {token:?}");

        assert_eq!(text, "Secrets { .. } Token { .. }");
    }
}
