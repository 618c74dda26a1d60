//! Gathers all inputs of a tick into one value.
//!
//! A tick is a function of the world that the last tick left and of its [`TickInput`]. The input is
//! gathered once, in [`begin`](super::begin). After that, no system of the tick reads a clock, a queue, an
//! atomic or a cell that another thread writes.
//!
//! Data flow: clocks, the runner and the [sources](InputSources) of other modules → `gather` →
//! [`TickInput`] → `begin` and `Receive` → the systems of the tick. A [`Recorder`] keeps what was gathered.
//! A [`Replay`] supplies recorded inputs instead.

use std::time::Duration;

use bevy_ecs::prelude::*;

use super::event::ProxyEvent;
use super::random::Drawn;
use super::replay::{Recorder, Replay};
use super::runner::{StopHandle, StopRequested};
use super::{Answer, TickCost, TickTime, UnixClock};
use crate::ident::ProxyId;
use crate::settings::GameTable;

/// All inputs of a tick, apart from the world that the last tick left.
///
/// The gate takes the events out. The other fields stay readable until the next tick begins.
#[derive(Resource, Debug, Clone, Default)]
pub struct TickInput {
    /// Reading of the monotonic clock when the tick began.
    pub now: Duration,
    /// Unix time when the tick began, from [`UnixClock::now`].
    pub unix: Duration,
    /// Duration of the last tick.
    pub cost: Duration,
    /// True if the server was asked to stop.
    pub stop: bool,
    /// State of the adapters, by proxy id.
    pub proxies: Vec<ProxyInput>,
    /// Events of links: by proxy id, then in the order of each adapter.
    pub events: Vec<(ProxyId, ProxyEvent)>,
    /// Questions that each authenticator has taken since it was attached, in the order of attachment.
    pub authenticators: Vec<Taken>,
    /// Answers of authenticators: by authenticator, then in the order of each.
    pub verdicts: Vec<Answer>,
    /// Table `[game]` of the configuration, if it was reloaded since the last tick.
    pub game: Option<GameTable>,
    /// Session ids and hashes of resume tokens that the tick drew. Empty while the tick runs; only the
    /// inputs of a recording contain them.
    pub drawn: Vec<Drawn>,
}

/// State of an adapter when a tick begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyInput {
    /// Name that its proxy was attached under.
    pub name: &'static str,
    /// Commands that the adapter has taken since it was attached.
    pub taken: Taken,
    /// Maximum number of links that the adapter can have at a time. `None` until the adapter has reported
    /// it.
    pub places: Option<usize>,
    /// True if the adapter opens links only for clients that have shown a proof.
    pub vouches: bool,
    /// Reason why the adapter cannot go on, if it has failed.
    pub failure: Option<String>,
}

/// Items that were taken from a port since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Number of items.
    pub count: u64,
    /// Number of bytes that the items carried.
    pub bytes: u64,
}

impl Taken {
    /// Returns the difference between `self` and an `earlier` value.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            count: self.count.saturating_sub(earlier.count),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}

/// Functions that add the inputs of other modules, in the order of registration. A source may read what
/// other threads write; a system may not.
#[derive(Resource, Default)]
pub(crate) struct InputSources(pub(crate) Vec<fn(&mut World, &mut TickInput)>);

/// Gathers the inputs of the tick that begins, or takes them from a recording.
pub(super) fn gather(world: &mut World) -> TickInput {
    if world.contains_resource::<Replay>() {
        return Replay::next(world);
    }
    let is_asked = world.get_resource::<StopHandle>().is_some_and(StopHandle::is_requested);
    let mut input = TickInput {
        now: world.resource::<TickTime>().clock().now(),
        unix: world.resource::<UnixClock>().now(),
        cost: world.resource::<TickCost>().0,
        stop: is_asked || world.resource::<StopRequested>().0,
        ..TickInput::default()
    };
    world.resource_scope(|world, sources: Mut<InputSources>| {
        for source in &sources.0 {
            source(world, &mut input);
        }
    });
    Recorder::note(world, &input);
    input
}
