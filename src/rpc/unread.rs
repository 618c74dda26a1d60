//! Counts and reports calls that no system reads, in debug builds.
//!
//! Calls must be read in the tick in which they are dispatched, because their session may leave the zone
//! afterwards. If no system reads a call, or its reader has a run condition that is false, the call is lost
//! without an error. This module logs a warning. Bevy does not record which messages were read. So a
//! message counts as read if a system that accesses messages of its type has run since dispatch.

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_app::{App, First, PostUpdate, PreUpdate};
use bevy_ecs::change_detection::Tick;
use bevy_ecs::component::ComponentId;
use bevy_ecs::message::MessageUpdateSystems;
use bevy_ecs::prelude::*;
use bevy_ecs::schedule::{ScheduleLabel as _, Schedules, SystemWithAccess};
use bevy_ecs::system::SystemAccess;

use super::Call;
use crate::session::SessionCounts;
use crate::tick::{TickSystems, TickTime};
use crate::wire::WireMessage;

/// The calls that are watched, by the name of their message.
#[derive(Resource, Debug, Default)]
struct Watched {
    kinds: BTreeMap<&'static str, Kind>,
    /// The change tick of the world when the calls of this tick were dispatched.
    dispatched: Option<Tick>,
    reported: Duration,
}

#[derive(Debug)]
struct Kind {
    messages: ComponentId,
    /// Returns the number of calls that were dispatched in this tick.
    count: fn(&World) -> usize,
    /// Number of unread calls since the last report.
    unread_count: usize,
}

/// Watches the calls of one message type.
pub(super) fn watch<M: WireMessage>(app: &mut App) {
    let world = app.world_mut();
    let messages = world.init_resource::<Messages<Call<M>>>();
    let count = |world: &World| {
        world
            .get_resource::<Messages<Call<M>>>()
            .map_or(0, |calls| calls.iter_current_update_messages().len())
    };
    let kind = Kind { messages, count, unread_count: 0 };
    world.get_resource_or_init::<Watched>().kinds.insert(M::NAME, kind);
}

pub(super) fn add(app: &mut App) {
    app.init_resource::<Watched>()
        .add_systems(PreUpdate, note_dispatch.after(TickSystems::Dispatch).before(TickSystems::Pace))
        // These systems run at the beginning of the next tick, while the messages of the last tick still exist.
        // They change nothing that other systems read.
        .add_systems(
            First,
            (count_unread, report)
                .chain()
                .before(MessageUpdateSystems)
                .before(TickSystems::Begin)
                .ambiguous_with_all(),
        );
}

/// Records the change tick after dispatch. Systems that run later can read the calls of this tick.
fn note_dispatch(world: &mut World) {
    let now = world.change_tick();
    world.resource_mut::<Watched>().dispatched = Some(now);
}

fn count_unread(world: &mut World) {
    world.resource_scope(|world, mut watched: Mut<Watched>| {
        let Some(dispatched) = watched.dispatched else { return };
        for kind in watched.kinds.values_mut() {
            let count = (kind.count)(world);
            if count > 0 && !is_read(world, kind.messages, dispatched) {
                kind.unread_count += count;
                world.resource_mut::<SessionCounts>().unread_call_count += count as u64;
            }
        }
    });
}

fn report(mut watched: ResMut<Watched>, time: Res<TickTime>) {
    if time.now() < watched.reported + REPORT_EVERY {
        return;
    }
    watched.reported = time.now();
    for (message, kind) in &mut watched.kinds {
        if kind.unread_count > 0 {
            tracing::warn!(
                message,
                count = kind.unread_count,
                "calls are lost because no system read them in their tick: read MessageReader<Call<..>> in \
                 each tick, without a run condition"
            );
            kind.unread_count = 0;
        }
    }
}

/// Returns true if a system that accesses these messages has run since dispatch.
fn is_read(world: &World, messages: ComponentId, dispatched: Tick) -> bool {
    let Some(schedules) = world.get_resource::<Schedules>() else { return false };
    let now = world.read_change_tick();
    let ran = |system: &SystemWithAccess| {
        let last_run = system.system().get_last_run();
        last_run == dispatched || last_run.is_newer_than(dispatched, now)
    };
    // Exclusive systems may read any messages. The exclusive systems of the server run in these two schedules, and
    // do not read calls of the game.
    let ours = [PreUpdate.intern(), PostUpdate.intern()];
    schedules.iter().any(|(_, schedule)| {
        let has_ours = ours.contains(&schedule.label());
        schedule.systems_with_access().is_ok_and(|mut systems| {
            systems.any(|(_, system)| {
                let reads = match system.access() {
                    SystemAccess::None => false,
                    SystemAccess::Shared(access) => access.filtered_accesses().iter().any(|access| {
                        let named = access.access().reads().as_finite_set();
                        named.is_some_and(|named| named.contains(messages))
                    }),
                    SystemAccess::Exclusive => !has_ours,
                };
                reads && ran(system)
            })
        })
    })
}

/// Interval of the reports: frequent enough to find a missing reader, and rare enough for the log.
const REPORT_EVERY: Duration = Duration::from_secs(1);
