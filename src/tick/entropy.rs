//! Where chance comes from: the operating system, or a seed.

use bevy_ecs::prelude::*;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng as _, SeedableRng as _, TryRng as _};

/// Random bytes for ids and tokens.
#[derive(Resource, Debug, Default)]
pub struct Entropy(Source);

#[derive(Debug, Default)]
enum Source {
    #[default]
    System,
    Seeded(Box<StdRng>),
}

impl Entropy {
    /// The operating system's generator; what a server uses.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// The same bytes for the same seed: for tests and simulation only, since whoever knows the
    /// seed knows every token.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Box::new(StdRng::seed_from_u64(seed))))
    }

    /// Random bytes. If the operating system has none, the process ends: a guessable token would
    /// be worse.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        match &mut self.0 {
            Source::Seeded(rng) => rng.fill_bytes(&mut bytes),
            Source::System => {
                if let Err(error) = SysRng.try_fill_bytes(&mut bytes) {
                    tracing::error!(%error, "the operating system gives no random bytes; stopping");
                    std::process::abort();
                }
            }
        }
        bytes
    }

    /// A random number, never 0.
    pub fn id(&mut self) -> u64 {
        loop {
            let id = u64::from_le_bytes(self.bytes());
            if id != 0 {
                return id;
            }
        }
    }
}
