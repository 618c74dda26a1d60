//! The loop that ticks on time.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bevy_app::{App, AppExit, PluginsState};
use bevy_ecs::prelude::*;

use super::{TickCost, TickRate, TickStats};

/// Asks a running server to stop, from any thread or a signal handler.
///
/// ```
/// use bevy_app::App;
/// use waystation::server::ServerPlugins;
/// use waystation::tick::{self, StopHandle};
///
/// let stop = StopHandle::default();
/// let handle = stop.clone();
/// std::thread::spawn(move || handle.stop());
/// let mut app = App::new();
/// app.add_plugins(ServerPlugins::default());
/// assert!(tick::run(&mut app, &stop).is_success());
/// ```
#[derive(Resource, Debug, Clone, Default)]
pub struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    /// Asks; the server closes its sessions first. Whether it was the first to ask.
    pub fn stop(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Whether somebody has asked.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// True from the tick on in which the server was asked to stop. Whoever has something to finish
/// does so, and then writes [`AppExit`].
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StopRequested(pub bool);

/// Why the server has to stop with an error, if it has to. Whoever finds out says so here, and asks
/// to stop by [`StopRequested`].
#[derive(Resource, Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure(pub Option<String>);

/// What is done when a system has panicked, before the server ends: in the order in which it was
/// added. It finds the world as the panic left it, and may panic itself.
#[derive(Resource, Default)]
pub(crate) struct LastWords(pub(crate) Vec<fn(&mut World)>);

/// Runs the app, one update a tick, until an [`AppExit`]. If there is a [`Failure`] by then, the
/// exit is an error.
///
/// A panic in a system ends the server: what the system had half done, nobody can tell, and a world
/// in which something may be wrong must not be played on. The panic is logged, the clients are told
/// SHUTDOWN if that is still possible, and the exit is an error, so that a supervisor starts the
/// process anew; clients come back by themselves. A system that can fail and go on returns a
/// `Result` or catches its panics itself. Whoever calls `app.update()` by themselves gets the panic.
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
    app.insert_resource(stop.clone());
    let mut deadline = Instant::now();
    loop {
        let begun = Instant::now();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| app.update())) {
            return give_up(app, panic_text(panic.as_ref()));
        }
        let ended = Instant::now();
        let skipped = next_deadline(&mut deadline, ended, period);
        if let Some(mut stats) = app.world_mut().get_resource_mut::<TickStats>() {
            stats.record(ended - begun, period);
            stats.record_skipped(skipped);
        }
        app.world_mut().insert_resource(TickCost(ended - begun));
        if let Some(exit) = app.should_exit() {
            let has_failed = app.world().get_resource::<Failure>().is_some_and(|failure| failure.0.is_some());
            return if has_failed && exit.is_success() { AppExit::error() } else { exit };
        }
        thread::sleep(deadline.saturating_duration_since(Instant::now()));
    }
}

/// A system has panicked: says so to whom it may concern.
fn give_up(app: &mut App, panic: &str) -> AppExit {
    tracing::error!(
        panic,
        "a system panicked, and the server ends: fix it, and let a supervisor start it anew"
    );
    let words = app.world_mut().remove_resource::<LastWords>().unwrap_or_default();
    for word in words.0 {
        if catch_unwind(AssertUnwindSafe(|| word(app.world_mut()))).is_err() {
            tracing::error!("the clients could not be told: they will find out by themselves");
        }
    }
    AppExit::error()
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
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
