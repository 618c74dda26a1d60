//! The moths. They are agents: sessions without a connection, which send and receive the same messages as players.

use waystation::prelude::*;

use crate::messages::{Cheered, Steer};
use crate::{Dot, Tuning, ZONE, around, distance};

/// Spawns the moths. Each one joins the zone, as a player does.
pub fn spawn(tuning: Res<Tuning>, mut commands: Commands) {
    for number in 1..=tuning.moths {
        let mut moth = commands.spawn_agent(&format!("moth {number}"));
        moth.entry::<Agent>().and_modify(|mut agent| agent.join(ZONE, ""));
    }
}

/// Moths flee from a cheer. Otherwise they flutter around the nearest light.
pub fn flutter(
    mut ticks: MessageReader<ZoneTicked>,
    mut cheers: MessageReader<Delivered<Cheered>>,
    mut moths: Query<(&mut Agent, &Dot)>,
    lights: Query<&Dot, Without<Agent>>,
    (tuning, mut rng): (Res<Tuning>, ResMut<GameRng>),
) {
    for Delivered { entity, message, .. } in cheers.read() {
        let Ok((mut agent, &Dot { place: (x, y), .. })) = moths.get_mut(*entity) else { continue };
        let (dx, dy) = (x - message.x, y - message.y);
        let far = tuning.radius / dx.hypot(dy).max(1.0);
        agent.call(Steer { x: x + dx * far, y: y + dy * far });
    }
    for _ in ticks.read() {
        for (mut agent, moth) in &mut moths {
            if rng.below(WHIM_EVERY) == 0 {
                let nearest = lights
                    .iter()
                    .map(|light| light.place)
                    .min_by(|a, b| distance(*a, moth.place).total_cmp(&distance(*b, moth.place)));
                let (x, y) = around(nearest.unwrap_or_default(), tuning.radius / 4.0, &mut rng);
                agent.call(Steer { x, y });
            }
        }
    }
}

/// A moth changes its direction in one of this many ticks.
const WHIM_EVERY: u32 = 15;
