//! Which zones tick.

use std::time::Duration;

use bevy_ecs::prelude::*;

use super::Zone;
use crate::tick::{TickRate, TickTime};

/// A zone ticks now: its systems run in this tick.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::zone::ZoneTicked;
///
/// fn move_avatars(mut ticks: MessageReader<ZoneTicked>) {
///     for tick in ticks.read() {
///         let seconds = tick.dt.as_secs_f32();
///         // Move what is in `tick.zone` on by that time.
///         # let _ = (seconds, tick.zone);
///     }
/// }
/// ```
#[derive(Message, Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZoneTicked {
    /// The zone's entity.
    pub zone: Entity,
    /// How many times it has ticked, this one included.
    pub frame: u64,
    /// The time since it ticked last, at most 250 ms for each server tick between.
    pub dt: Duration,
}

/// When a zone ticked last, on the steady clock.
#[derive(Component, Debug, Default)]
pub(super) struct LastTicked(Duration);

/// Lets each zone tick whose turn it is. Zones of one pace are spread over the server's ticks.
pub(super) fn pace_zones(
    mut zones: Query<(Entity, &mut Zone, Option<&mut LastTicked>)>,
    time: Res<TickTime>,
    rate: Res<TickRate>,
    mut ticks: MessageWriter<ZoneTicked>,
    mut commands: Commands,
) {
    for (entity, mut zone, last) in &mut zones {
        if (time.tick().0 + zone.id.0) % u64::from(zone.every) != 0 {
            continue;
        }
        zone.frame += 1;
        let dt = match last {
            Some(mut last) => time
                .steady()
                .saturating_sub(std::mem::replace(&mut last.0, time.steady())),
            None => {
                commands.entity(entity).insert(LastTicked(time.steady()));
                rate.period() * zone.every
            }
        };
        ticks.write(ZoneTicked {
            zone: entity,
            frame: zone.frame,
            dt,
        });
    }
}
