//! Faults of links in the harness, at random from a seed or at a chosen frame.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::ident::LinkKey;
use crate::wire::Lane;

/// The faults of a link. The same seed gives the same faults on the same links.
///
/// Frames of the unreliable lane are dropped, duplicated and reordered. Frames of the reliable lane keep their order,
/// as on any transport: they are delayed, or the link is cut before one of them. A cut is silent, as if a cable were
/// pulled: neither end gets an event.
///
/// ```
/// use std::time::Duration;
/// use waystation::testing::{Faults, Harness, Via};
/// use waystation::wire::v1::Part;
///
/// let mut game = Harness::new();
/// let mut ada = game.member(Via::Alpha, "hall");
/// ada.set_faults(Faults::new(7).drop(30).duplicate(10).reorder(10).delay(Duration::from_millis(120)));
/// game.run_with(&mut [&mut ada], 3_000);
/// assert!(!ada.is_cut_off());
///
/// ada.set_faults(Faults::new(7).cut_after(0).down_only());
/// // Neither the answer nor any later frame arrives.
/// ada.send(&Part::default());
/// game.run_with(&mut [&mut ada], 12_000);
/// assert_eq!(game.resource::<waystation::session::SessionTable>().session_count(), 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    seed: u64,
    drop_percent: u8,
    duplicate_percent: u8,
    reorder_percent: u8,
    delay: Duration,
    cut_permille: u16,
    cut_after: Option<u64>,
    ways: Ways,
}

/// The faulty directions of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Ways {
    #[default]
    Both,
    Up,
    Down,
}

impl Faults {
    /// No faults.
    pub const NONE: Self = Self {
        seed: 0,
        drop_percent: 0,
        duplicate_percent: 0,
        reorder_percent: 0,
        delay: Duration::ZERO,
        cut_permille: 0,
        cut_after: None,
        ways: Ways::Both,
    };

    /// Returns a seed without faults. The methods below add faults, which apply to both directions by default.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, ..Self::NONE }
    }

    /// Drops this percentage of the unreliable frames.
    #[must_use]
    pub const fn drop(self, percent: u8) -> Self {
        Self { drop_percent: percent, ..self }
    }

    /// Duplicates this percentage of the unreliable frames.
    #[must_use]
    pub const fn duplicate(self, percent: u8) -> Self {
        Self { duplicate_percent: percent, ..self }
    }

    /// Holds back this percentage of the unreliable frames for up to 200 ms, so that others overtake them.
    #[must_use]
    pub const fn reorder(self, percent: u8) -> Self {
        Self { reorder_percent: percent, ..self }
    }

    /// Delays each reliable frame by a random time up to `max`. Later reliable frames wait for it.
    #[must_use]
    pub const fn delay(self, max: Duration) -> Self {
        Self { delay: max, ..self }
    }

    /// Cuts the link before a reliable frame with a probability of `permille` in a thousand.
    #[must_use]
    pub const fn cut(self, permille: u16) -> Self {
        Self { cut_permille: permille, ..self }
    }

    /// Cuts the link after this many more reliable frames in a direction.
    #[must_use]
    pub const fn cut_after(self, frames: u64) -> Self {
        Self { cut_after: Some(frames), ..self }
    }

    /// Applies the faults only to frames from the client.
    #[must_use]
    pub const fn up_only(self) -> Self {
        Self { ways: Ways::Up, ..self }
    }

    /// Applies the faults only to frames from the server.
    #[must_use]
    pub const fn down_only(self) -> Self {
        Self { ways: Ways::Down, ..self }
    }

    /// Returns the faults of the direction to the server, and those of the direction to the client.
    pub(super) fn split(self) -> (Self, Self) {
        match self.ways {
            Ways::Both => (self, self),
            Ways::Up => (self, Self::NONE),
            Ways::Down => (Self::NONE, self),
        }
    }
}

/// One direction of a link.
#[derive(Debug)]
pub(super) struct Lossy {
    faults: Faults,
    rng: StdRng,
    /// A value that differs for each link and direction, so that their random numbers differ.
    salt: u64,
    /// The frames that wait, by the time at which they are due and by their number.
    waiting: BTreeMap<(Duration, u64), (Lane, Bytes)>,
    count: u64,
    /// When the last reliable frame is due.
    reliable_due: Duration,
    /// The number of reliable frames since the faults were set.
    passed: u64,
}

impl Lossy {
    pub(super) fn new(link: LinkKey, is_down: bool) -> Self {
        let salt = u64::from(link.proxy.0) << 48 ^ link.link.0 << 1 ^ u64::from(is_down);
        Self {
            faults: Faults::NONE,
            rng: StdRng::seed_from_u64(salt),
            salt,
            waiting: BTreeMap::new(),
            count: 0,
            reliable_due: Duration::ZERO,
            passed: 0,
        }
    }

    /// Sets the faults of frames that are sent from now on.
    pub(super) fn set(&mut self, faults: Faults) {
        self.faults = faults;
        self.rng = StdRng::seed_from_u64(faults.seed ^ self.salt.rotate_left(32));
        self.passed = 0;
    }

    /// Adds a frame. Returns false if the link is cut before it.
    pub(super) fn put(&mut self, lane: Lane, frame: Bytes, now: Duration) -> bool {
        match lane {
            Lane::Reliable => {
                if self.faults.cut_after.is_some_and(|frames| self.passed >= frames)
                    || self.rng.random_range(0..1_000) < self.faults.cut_permille
                {
                    return false;
                }
                self.passed += 1;
                let due = now + self.some_of(self.faults.delay);
                self.reliable_due = self.reliable_due.max(due);
                self.wait(self.reliable_due, lane, frame);
            }
            Lane::Unreliable if self.chance(self.faults.drop_percent) => {}
            Lane::Unreliable => {
                for _ in 0..1 + u8::from(self.chance(self.faults.duplicate_percent)) {
                    let is_held = self.chance(self.faults.reorder_percent);
                    let due = now + if is_held { self.some_of(REORDER_MAX) } else { Duration::ZERO };
                    self.wait(due, lane, frame.clone());
                }
            }
        }
        true
    }

    /// Takes the next frame that is due.
    pub(super) fn take(&mut self, now: Duration) -> Option<(Lane, Bytes)> {
        let next = self.waiting.first_entry()?;
        (next.key().0 <= now).then(|| next.remove())
    }

    /// Drops the frames that are not due yet.
    pub(super) fn clear(&mut self, now: Duration) {
        self.waiting.retain(|(due, _), _| *due <= now);
    }

    fn wait(&mut self, due: Duration, lane: Lane, frame: Bytes) {
        self.count += 1;
        self.waiting.insert((due, self.count), (lane, frame));
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn some_of(&mut self, max: Duration) -> Duration {
        let max_us = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.random_range(0..=max_us))
    }
}

/// The longest time for which an unreliable frame is held back: a few ticks, so that others overtake it.
const REORDER_MAX: Duration = Duration::from_millis(200);
