//! Which zones tick.

use std::time::Duration;

use bevy_ecs::prelude::*;

use super::Zone;
use crate::tick::{Load, Shed, TickRate, TickTime};

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
    /// The time since it ticked last, at most 250 ms for each server tick between. Twice as long as
    /// usual while the server is [busy](crate::tick::LoadLevel::Busy).
    pub dt: Duration,
}

/// How often a zone has ticked, and when last.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZoneClock {
    frame: u64,
    last: Option<Duration>,
}

impl ZoneClock {
    /// How many times the zone has ticked.
    #[must_use]
    pub fn frame(&self) -> u64 {
        self.frame
    }
}

/// Lets each zone tick whose turn it is. Zones of one pace are spread over the server's ticks, and
/// so are those that the load leaves out.
pub(super) fn pace_zones(
    mut zones: Query<(Entity, &Zone, &mut ZoneClock)>,
    time: Res<TickTime>,
    rate: Res<TickRate>,
    (load, mut shed): (Res<Load>, ResMut<Shed>),
    mut ticks: MessageWriter<ZoneTicked>,
) {
    for (entity, zone, mut clock) in &mut zones {
        let every = zone.every(*rate);
        let turn = time.tick().0 + zone.id.0;
        if !turn.is_multiple_of(u64::from(every)) {
            continue;
        }
        if !turn.is_multiple_of(u64::from(every * load.zone_divisor())) {
            shed.zone_tick_count += 1;
            continue;
        }
        clock.frame += 1;
        let last = clock.last.replace(time.steady());
        let dt = last.map_or(rate.period() * every, |last| time.steady().saturating_sub(last));
        ticks.write(ZoneTicked { zone: entity, frame: clock.frame, dt });
    }
}
