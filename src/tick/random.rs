//! Draws random numbers: secrets, which must not be guessed, and the random numbers of the game, which are public.
//!
//! [`SecretRng`] draws session ids and resume tokens. Its generator is seeded by the operating system when
//! the server starts. This seed determines all tokens, so it is never logged and never recorded. [`GameRng`]
//! is for games. Its seed is logged, so that a run can be repeated.
//!
//! No tick asks the operating system for random bytes.

use std::collections::VecDeque;
use std::fmt;

use bevy_ecs::prelude::*;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng as _, RngExt as _, SeedableRng as _, TryRng as _};
use sha2::{Digest as _, Sha256};

use crate::wire::TOKEN_BYTES;

/// The random number generator of a game.
///
/// With the same build of the server, the same seed gives the same draws. The seed is drawn when the server
/// starts, and logged as `game_seed`. To repeat a run, insert `GameRng::new(seed)` after the plugins of the server.
/// Do not use it for secrets, because the seed in the log determines all draws.
///
/// ```
/// use waystation::tick::GameRng;
///
/// let mut rng = GameRng::new(7);
/// let pips = rng.below(6) + 1;
/// assert!((1..=6).contains(&pips));
/// assert!((0.0..1.0).contains(&rng.unit()));
/// assert_eq!(GameRng::new(7).below(6) + 1, pips);
/// ```
#[derive(Resource, Debug)]
pub struct GameRng {
    seed: u64,
    rng: StdRng,
}

impl GameRng {
    /// Returns a generator with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, rng: StdRng::seed_from_u64(seed) }
    }

    /// Returns a generator with a seed from the operating system. Aborts the process if the system gives none.
    #[must_use]
    pub(super) fn system() -> Self {
        Self::new(u64::from_le_bytes(system_bytes()))
    }

    /// Returns a generator whose seed is a hash of the seed of [`SecretRng`].
    #[must_use]
    pub(super) fn beside(seed: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"waystation dice");
        hash.update(seed.to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        Self::new(digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte)))
    }

    /// Returns the seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns a uniformly distributed number from 0 to `count - 1`. Returns 0 if `count` is 0.
    pub fn below(&mut self, count: u32) -> u32 {
        if count == 0 { 0 } else { self.rng.random_range(0..count) }
    }

    /// Returns a uniformly distributed number from 0 (inclusive) to 1 (exclusive).
    pub fn unit(&mut self) -> f32 {
        self.rng.random()
    }

    /// Returns 64 random bits, for example as the seed of another generator.
    pub fn bits(&mut self) -> u64 {
        self.rng.next_u64()
    }
}

/// A resume token and its hash. The client gets the token, and the server keeps the hash.
pub(crate) struct Token {
    /// The SHA-256 hash of the token.
    pub(crate) hash: [u8; 32],
    /// The token. In a replay it is all zeros, because the recording does not contain it.
    pub(crate) secret: [u8; TOKEN_BYTES],
}

/// A session id, or the hash of a resume token, that a tick has drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Drawn(Draw);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Draw {
    Id(u64),
    /// The hash of a token.
    Token([u8; 32]),
}

/// The generator of session ids and resume tokens.
///
/// The draws of a tick are part of its inputs: see [`TickInput`](super::TickInput). A recording contains
/// ids and the hashes of tokens, so it cannot be used to resume a session.
#[derive(Resource)]
pub(crate) struct SecretRng {
    source: Source,
    /// Draws since the last call of `take_drawn`. `None` if nothing is recorded.
    drawn: Option<Vec<Drawn>>,
}

enum Source {
    Seeded(Box<StdRng>),
    Recorded {
        draws: VecDeque<Drawn>,
        /// Number of draws that the recording does not contain.
        missing_count: u64,
    },
}

impl SecretRng {
    /// Returns secrets with a seed from the operating system. Aborts the process if the system gives none.
    #[must_use]
    pub(crate) fn system() -> Self {
        Self::from_rng(StdRng::from_seed(system_bytes()))
    }

    /// Returns secrets with a given seed, for tests only, because the seed determines all tokens.
    #[must_use]
    pub(super) fn seeded(seed: u64) -> Self {
        Self::from_rng(StdRng::seed_from_u64(seed))
    }

    fn from_rng(rng: StdRng) -> Self {
        Self { source: Source::Seeded(Box::new(rng)), drawn: None }
    }

    /// Draws a session id, which is random and never 0.
    pub(crate) fn id(&mut self) -> u64 {
        let id = match &mut self.source {
            Source::Seeded(rng) => loop {
                let id = rng.next_u64();
                if id != 0 {
                    break id;
                }
            },
            Source::Recorded { draws, missing_count } => match draws.pop_front() {
                Some(Drawn(Draw::Id(id))) => id,
                other => {
                    note_missing(missing_count, other);
                    *missing_count
                }
            },
        };
        self.note(Draw::Id(id));
        id
    }

    /// Draws a resume token.
    pub(crate) fn token(&mut self) -> Token {
        let token = match &mut self.source {
            Source::Seeded(rng) => {
                let mut secret = [0; TOKEN_BYTES];
                rng.fill_bytes(&mut secret);
                Token { hash: Sha256::digest(secret).into(), secret }
            }
            Source::Recorded { draws, missing_count } => {
                let hash = match draws.pop_front() {
                    Some(Drawn(Draw::Token(hash))) => hash,
                    other => {
                        note_missing(missing_count, other);
                        Sha256::digest(missing_count.to_le_bytes()).into()
                    }
                };
                Token { hash, secret: [0; TOKEN_BYTES] }
            }
        };
        self.note(Draw::Token(token.hash));
        token
    }

    /// Starts to keep draws. Only the hash of a token is kept.
    pub(super) fn record(&mut self) {
        self.drawn = Some(Vec::new());
    }

    /// Stops keeping draws.
    pub(super) fn stop_recording(&mut self) {
        self.drawn = None;
    }

    /// Returns the draws since the last call.
    pub(super) fn take_drawn(&mut self) -> Vec<Drawn> {
        self.drawn.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Returns secrets that repeat recorded draws.
    pub(super) fn recorded(drawn: Vec<Drawn>) -> Self {
        Self { source: Source::Recorded { draws: drawn.into(), missing_count: 0 }, drawn: None }
    }

    /// Adds the draws of the next tick of a replay.
    pub(super) fn replay(&mut self, drawn: &[Drawn]) {
        if let Source::Recorded { draws, .. } = &mut self.source {
            if !draws.is_empty() {
                tracing::error!(
                    count = draws.len(),
                    "the replay differs from its recording: it has drawn fewer secrets"
                );
                draws.clear();
            }
            draws.extend(drawn);
        }
    }

    fn note(&mut self, draw: Draw) {
        if let Some(drawn) = &mut self.drawn {
            drawn.push(Drawn(draw));
        }
    }
}

/// Logs that a replay draws a secret that its recording does not contain.
fn note_missing(missing_count: &mut u64, found: Option<Drawn>) {
    *missing_count += 1;
    tracing::error!(
        ?found,
        "the replay differs from its recording: it draws a secret that the recording does not contain"
    );
}

/// Returns bytes from the operating system. Aborts the process if it gives none: a guessable token would be
/// worse.
fn system_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = SysRng.try_fill_bytes(&mut bytes) {
        tracing::error!(%error, "the operating system gives no random bytes: the server aborts, because its tokens could be guessed");
        std::process::abort();
    }
    bytes
}

impl fmt::Debug for SecretRng {
    /// Omits the generator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretRng").finish_non_exhaustive()
    }
}

impl fmt::Debug for Token {
    /// Omits the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

impl fmt::Debug for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_draws_and_another_one_gives_others() {
        let draws = |seed| {
            let mut rng = GameRng::new(seed);
            (rng.below(1_000_000), rng.unit().to_bits(), rng.bits())
        };

        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        assert_eq!(GameRng::new(1).below(0), 0);
        assert_eq!(GameRng::new(9).seed(), 9);
    }

    #[test]
    fn the_seed_of_the_secrets_determines_the_dice_and_is_not_their_seed() {
        let (rng, same, other) = (GameRng::beside(1), GameRng::beside(1), GameRng::beside(2));

        assert_eq!(rng.seed(), same.seed());
        assert!(rng.seed() != other.seed() && rng.seed() != 1);
    }

    #[test]
    fn secrets_of_the_operating_system_differ_and_tokens_match_their_hashes() {
        let (mut one, mut other) = (SecretRng::system(), SecretRng::system());

        let (token, another) = (one.token(), other.token());

        assert_ne!(token.secret, another.secret);
        assert_eq!(token.hash, <[u8; 32]>::from(Sha256::digest(token.secret)));
        assert!(one.id() != other.id());
    }

    #[test]
    fn recorded_draws_are_repeated_without_the_tokens() {
        let mut live = SecretRng::seeded(3);
        live.record();
        let (id, token) = (live.id(), live.token());
        let drawn = live.take_drawn();

        let mut again = SecretRng::recorded(drawn.clone());
        let (same_id, same_token) = (again.id(), again.token());

        assert_eq!((same_id, same_token.hash), (id, token.hash));
        assert_eq!(same_token.secret, [0; TOKEN_BYTES]);
        assert!(live.take_drawn().is_empty());
        let text = format!("{drawn:?}");
        assert!(!text.contains(&format!("{:?}", token.secret)), "{text}");
        assert_ne!(again.id(), again.id(), "a replay that differs from its recording goes on");
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let mut secrets = SecretRng::seeded(1);
        let token = secrets.token();

        let text = format!("{secrets:?} {token:?}");

        assert_eq!(text, "SecretRng { .. } Token { .. }");
    }
}
