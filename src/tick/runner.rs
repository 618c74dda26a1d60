//! The loop that ticks on time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bevy_app::{App, AppExit, PluginsState};
use bevy_ecs::prelude::*;

use super::{TickCost, TickRate, TickStats};

/// Asks a running server to stop, from any thread or a signal handler.
#[derive(Debug, Clone, Default)]
pub struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    /// Asks; the server closes its sessions first. Whether it was the first to ask.
    pub fn stop(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    fn is_requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// True from the tick on in which the server was asked to stop. Whoever has something to finish
/// does so, and then writes [`AppExit`].
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StopRequested(pub bool);

/// Runs the app, one update a tick, until an [`AppExit`].
///
/// Deadlines are absolute: an overlong sleep or tick delays the next one only, and does not add
/// up. A server that falls behind by more than a tick leaves out what it missed, so that it
/// never ticks in a burst; both are counted in [`TickStats`]. What a tick took is told to the next
/// one, as its [`TickCost`].
#[allow(clippy::disallowed_methods, reason = "the runner waits for the machine's clock; no system sees it")]
pub fn run(app: &mut App, stop: &StopHandle) -> AppExit {
    while app.plugins_state() == PluginsState::Adding {
        thread::yield_now();
    }
    app.finish();
    app.cleanup();
    let period = app.world().get_resource::<TickRate>().copied().unwrap_or_default().period();
    let mut deadline = Instant::now();
    loop {
        if stop.is_requested() {
            app.world_mut().insert_resource(StopRequested(true));
        }
        let begun = Instant::now();
        app.update();
        let ended = Instant::now();
        let skipped = next_deadline(&mut deadline, ended, period);
        if let Some(mut stats) = app.world_mut().get_resource_mut::<TickStats>() {
            stats.record(ended - begun, period);
            stats.record_skipped(skipped);
        }
        app.world_mut().insert_resource(TickCost(ended - begun));
        if let Some(exit) = app.should_exit() {
            return exit;
        }
        thread::sleep(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Moves the deadline to the next tick that can still be met; the number of those that cannot.
fn next_deadline(deadline: &mut Instant, now: Instant, period: Duration) -> u64 {
    *deadline += period;
    let late = now.saturating_duration_since(*deadline);
    let missed = u64::try_from(late.as_nanos() / period.as_nanos().max(1)).unwrap_or(u64::MAX);
    let missed = u32::try_from(missed).unwrap_or(u32::MAX);
    *deadline += period * missed;
    u64::from(missed)
}

#[cfg(test)]
mod tests {
    use bevy_app::Update;

    use super::*;
    use crate::tick::{Load, TickPlugin, TickTime};

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an instant to start from; nothing is measured")]
    fn deadlines_do_not_drift_and_missed_ones_are_left_out() {
        let period = Duration::from_millis(50);
        let start = Instant::now();
        let mut deadline = start;

        assert_eq!(next_deadline(&mut deadline, start + Duration::from_millis(7), period), 0);
        assert_eq!(deadline, start + period);
        assert_eq!(next_deadline(&mut deadline, start + Duration::from_millis(120), period), 0);
        assert_eq!(deadline, start + 2 * period);
        assert_eq!(next_deadline(&mut deadline, start + Duration::from_millis(270), period), 2);
        assert_eq!(deadline, start + 5 * period);
    }

    #[test]
    fn a_tick_is_told_what_the_last_one_took() {
        const BURN: Duration = Duration::from_millis(3);
        let mut app = App::new();
        app.add_plugins(TickPlugin { rate: TickRate::new(240).expect("a rate"), ..TickPlugin::default() });
        app.add_systems(Update, |time: Res<TickTime>, mut exits: MessageWriter<AppExit>| {
            while time.clock().now() < time.now() + BURN {
                std::hint::spin_loop();
            }
            if time.tick().0 == 2 {
                exits.write(AppExit::Success);
            }
        });

        run(&mut app, &StopHandle::default());

        assert!(app.world().resource::<TickCost>().0 >= BURN);
        assert!(app.world().resource::<Load>().mean() > Duration::ZERO);
    }
}
