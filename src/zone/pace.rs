//! The pace of zones: decides which zones tick in a server tick.

use std::time::Duration;

use bevy_ecs::prelude::*;

use super::Zone;
use crate::tick::{Load, LoadCounts, TickRate, TickTime};

/// Reports that a zone ticks in the current server tick. The systems of the zone read it.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::zone::ZoneTicked;
///
/// fn move_avatars(mut ticks: MessageReader<ZoneTicked>) {
///     for tick in ticks.read() {
///         let seconds = tick.dt.as_secs_f32();
///         // Advance the contents of `tick.zone` by this time.
///         # let _ = (seconds, tick.zone);
///     }
/// }
/// ```
#[derive(Message, Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZoneTicked {
    /// The zone's entity.
    pub zone: Entity,
    /// Number of ticks of the zone so far, including this one.
    pub frame: u64,
    /// Time since the last tick of the zone. Each server tick adds at most 250 ms to it. It is about twice
    /// as long as usual while the server is [busy](crate::tick::LoadLevel::Busy).
    pub dt: Duration,
}

/// The number of ticks of a zone, and the time of its last tick.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZoneClock {
    frame: u64,
    last: Option<Duration>,
}

impl ZoneClock {
    /// Returns the number of ticks of the zone so far.
    #[must_use]
    pub fn frame(&self) -> u64 {
        self.frame
    }
}

/// Writes [`ZoneTicked`] for each zone that ticks now. The ticks of zones with the same rate are spread over the
/// server's ticks. The zone ticks that are left out under load are spread in the same way.
pub(super) fn pace_zones(
    mut zones: Query<(Entity, &Zone, &mut ZoneClock)>,
    time: Res<TickTime>,
    rate: Res<TickRate>,
    (load, mut shed): (Res<Load>, ResMut<LoadCounts>),
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
