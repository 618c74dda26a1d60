//! All inputs of a tick, as one value.
//!
//! A tick is a function of the world that the last tick left and of its [`TickInput`]. The input is
//! gathered once, in [`begin`](super::begin); after that no system of the tick looks at a clock, a queue, an
//! atomic or a cell that another thread writes.
//!
//! Data flow: clocks, the runner and the [sources](InputSources) of other modules → `gather` →
//! [`TickInput`] → `begin` and `Receive` → the systems of the tick. A [`Recorder`] keeps what
//! was gathered; a [`Replay`] puts recorded inputs in its place.

use std::time::Duration;

use bevy_ecs::prelude::*;

use super::event::ProxyEvent;
use super::random::Drawn;
use super::replay::{Recorder, Replay};
use super::runner::{StopHandle, StopRequested};
use super::{Answer, TickCost, TickTime, UnixClock};
use crate::ident::ProxyId;

/// Everything that a tick goes by, apart from the world that the last tick left.
///
/// The gate takes the events out; all else stays readable until the next tick begins.
#[derive(Resource, Debug, Clone, Default)]
pub struct TickInput {
    /// The monotonic clock.
    pub now: Duration,
    /// Unix time, by [`UnixClock::now`].
    pub unix: Duration,
    /// How long the last tick took.
    pub cost: Duration,
    /// The server was asked to stop.
    pub stop: bool,
    /// What the proxies' adapters have said of themselves, by proxy id.
    pub proxies: Vec<ProxyInput>,
    /// What happened to links: by proxy id, then in the order of each adapter.
    pub events: Vec<(ProxyId, ProxyEvent)>,
    /// How many questions each authenticator has taken since it was attached, in the order in which they were.
    pub authenticators: Vec<Taken>,
    /// What authenticators have answered: by authenticator, then in the order of each.
    pub verdicts: Vec<Answer>,
    /// The session ids and the hashes of tokens that the tick drew. They are known when the tick is over;
    /// only a recorded input has them.
    pub drawn: Vec<Drawn>,
}

/// What an adapter has said of itself by the beginning of a tick.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyInput {
    /// The name that its proxy was attached under.
    pub name: &'static str,
    /// How much of its commands it has taken since it was attached.
    pub taken: Taken,
    /// How many links it can have at a time, once it has said so.
    pub places: Option<usize>,
    /// It opens links only for clients that have proved that they may enter.
    pub vouches: bool,
    /// It cannot go on, for this reason.
    pub failure: Option<String>,
}

/// What was taken from a port since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Items.
    pub count: u64,
    /// Bytes that they carried.
    pub bytes: u64,
}

impl Taken {
    /// How much this is more than `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            count: self.count.saturating_sub(earlier.count),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}

/// What adds the inputs of modules above this one, in the order in which they were added. A source may look
/// at what other threads write, and no system may.
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
