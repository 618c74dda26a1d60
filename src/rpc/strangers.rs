//! Calls of sessions that are in no zone: the game must get none. Looked for in debug builds.
//!
//! Memberships do not change between dispatch and the game, so whoever calls is a member still when all calls of
//! the tick are dispatched.

use bevy_ecs::prelude::*;

/// Calls of this tick that the game gets and should not, in words. The audit of the server reports them.
#[derive(Resource, Debug, Default)]
pub(crate) struct Strangers(pub(crate) Vec<String>);

#[cfg(debug_assertions)]
mod debug {
    use bevy_app::{App, First, PreUpdate};
    use bevy_ecs::prelude::*;

    use super::Strangers;
    use crate::rpc::Call;
    use crate::session::SessionCore;
    use crate::tick::{TickSystems, TickTime};
    use crate::wire::WireMessage;
    use crate::zone::Zone;

    /// Looks at the calls of a message.
    pub(in crate::rpc) fn watch<M: WireMessage>(app: &mut App) {
        app.init_resource::<Strangers>()
            .add_systems(First, forget.before(TickSystems::Begin).ambiguous_with_all())
            .add_systems(PreUpdate, find::<M>.after(TickSystems::Dispatch).before(TickSystems::Pace));
    }

    fn forget(mut strangers: ResMut<Strangers>) {
        strangers.0.clear();
    }

    /// An exclusive system, so that it does not count as a reader of the calls.
    fn find<M: WireMessage>(world: &mut World) {
        let tick = world.resource::<TickTime>().tick();
        let Some(calls) = world.get_resource::<Messages<Call<M>>>() else { return };
        let of_this_tick = calls.iter_current_update_messages().filter(|call| call.tick == tick);
        let found: Vec<String> = of_this_tick
            .filter(|call| !is_member(world, call))
            .map(|call| format!("{} of {}", M::NAME, call.session))
            .collect();
        world.resource_mut::<Strangers>().0.extend(found);
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
