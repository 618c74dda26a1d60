//! Calls that nobody read: counted and reported, in debug builds.
//!
//! Calls must be read in the tick in which they are dispatched: afterwards who sent them may be
//! gone from their zone. A reader behind a run condition, or none at all, loses them without a
//! word; this is the word. Bevy does not say what was read, so a system that ran since dispatch
//! and asks for the messages is taken to have read them.

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

/// Calls by the name of their message.
#[derive(Resource, Debug, Default)]
struct Watched {
    kinds: BTreeMap<&'static str, Kind>,
    /// When the tick's calls were dispatched, as the world counts its systems.
    dispatched: Option<Tick>,
    reported: Duration,
}

#[derive(Debug)]
struct Kind {
    messages: ComponentId,
    /// How many were dispatched in this tick.
    count: fn(&World) -> usize,
    /// How many nobody read since the last report.
    unread_count: usize,
}

/// Watches the calls of a message.
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
        // When the tick is over, and its messages are still there. It changes nothing that others
        // look at.
        .add_systems(
            First,
            (count_unread, report)
                .chain()
                .before(MessageUpdateSystems)
                .before(TickSystems::Begin)
                .ambiguous_with_all(),
        );
}

/// What runs from here on can read the tick's calls.
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
                "calls that no system read in their tick are lost: read MessageReader<Call<..>> in each \
                 tick, without a run condition"
            );
            kind.unread_count = 0;
        }
    }
}

/// Whether a system that asks for these messages has run since dispatch.
fn is_read(world: &World, messages: ComponentId, dispatched: Tick) -> bool {
    let Some(schedules) = world.get_resource::<Schedules>() else { return false };
    let now = world.read_change_tick();
    let ran = |system: &SystemWithAccess| {
        let last_run = system.system().get_last_run();
        last_run == dispatched || last_run.is_newer_than(dispatched, now)
    };
    // Exclusive systems may read anything. Ours, around the game's, do not read its calls.
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

/// How often what was not read is reported: a game that forgets a reader finds out, and its log
/// stays readable.
const REPORT_EVERY: Duration = Duration::from_secs(1);
