//! Finds calls that reach the game although their session is not a member of the zone, in debug builds.
//!
//! Memberships do not change between dispatch and the game. So after dispatch, the session of each call must still be
//! a member.

use bevy_ecs::prelude::*;

/// Descriptions of the calls of this tick whose sessions are not members. The audit of the server reports them.
#[derive(Resource, Debug, Default)]
pub(crate) struct NonMemberCalls(pub(crate) Vec<String>);

#[cfg(debug_assertions)]
mod debug {
    use bevy_app::{App, First, PreUpdate};
    use bevy_ecs::prelude::*;

    use super::NonMemberCalls;
    use crate::rpc::Call;
    use crate::session::SessionCore;
    use crate::tick::{TickSystems, TickTime};
    use crate::wire::WireMessage;
    use crate::zone::Zone;

    /// Checks the calls of one message type in each tick.
    pub(in crate::rpc) fn watch<M: WireMessage>(app: &mut App) {
        app.init_resource::<NonMemberCalls>()
            .add_systems(First, clear.before(TickSystems::Begin).ambiguous_with_all())
            .add_systems(PreUpdate, check::<M>.after(TickSystems::Dispatch).before(TickSystems::Pace));
    }

    fn clear(mut non_members: ResMut<NonMemberCalls>) {
        non_members.0.clear();
    }

    /// Checks the calls. It is an exclusive system, so that it does not count as a reader of the calls.
    fn check<M: WireMessage>(world: &mut World) {
        let tick = world.resource::<TickTime>().tick();
        let Some(calls) = world.get_resource::<Messages<Call<M>>>() else { return };
        let of_this_tick = calls.iter_current_update_messages().filter(|call| call.tick == tick);
        let found: Vec<String> = of_this_tick
            .filter(|call| !is_member(world, call))
            .map(|call| format!("{} of {}", M::NAME, call.session))
            .collect();
        world.resource_mut::<NonMemberCalls>().0.extend(found);
    }

    fn is_member<M: WireMessage>(world: &World, call: &Call<M>) -> bool {
        world.get::<SessionCore>(call.entity).is_some_and(|core| {
            let zone = core.membership().map(|membership| membership.zone);
            let is_there = world.get::<Zone>(call.zone).is_some() && core.state().is_some();
            is_there && (core.id(), zone) == (call.session, Some(call.zone))
        })
    }
}

#[cfg(debug_assertions)]
pub(super) use debug::watch;
