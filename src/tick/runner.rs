//! Runs the loop that ticks on time.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bevy_app::{App, AppExit, PluginsState};
use bevy_ecs::prelude::*;

use super::{TickCost, TickRate, TickStats, errors};

/// A handle that asks a running server to stop, from any thread or a signal handler.
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
    /// Asks the server to stop. The server ends its sessions first. Returns true if this is the first
    /// request.
    pub fn stop(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Returns true if the server was asked to stop.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// True if the server was asked to stop, in this tick or an earlier one. Systems that have something to
/// finish do it, and then write [`AppExit`].
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StopRequested(pub bool);

/// The reason why the server must exit with an error, if there is one. The system that detects it sets this
/// resource and [`StopRequested`].
#[derive(Resource, Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure(pub Option<String>);

/// Functions that run after a system has panicked and before the server ends, in the order of registration.
/// They get the world as the panic left it, and may panic too.
#[derive(Resource, Default)]
pub(crate) struct PanicHooks(pub(crate) Vec<fn(&mut World)>);

/// Runs the app, one update per tick, until a system writes [`AppExit`]. If a [`Failure`] is set by then,
/// the exit is an error.
///
/// A panic in a system ends the server, because the panic may leave the world in an inconsistent state. The
/// panic is logged. The clients get Closed(SHUTDOWN) if that is still possible. The exit is an error, so
/// that a supervisor restarts the process, and the clients come back. Code that calls `app.update()` itself
/// gets the panic.
///
/// An error that a system, a run condition, an observer or a command returns does not end the server. It is logged
/// and counted: see [`ReturnedErrors`](super::ReturnedErrors).
///
/// Deadlines are absolute: a sleep or a tick that is too long delays only the next tick, and delays do not
/// accumulate. If the server falls behind by more than one tick, it skips the ticks that it missed and does
/// not catch up in a burst. [`TickStats`] counts both. The duration of each tick is stored in [`TickCost`]
/// for the next tick.
#[allow(
    clippy::disallowed_methods,
    reason = "the runner waits for the clock of the machine; no system reads it"
)]
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

/// Logs the panic of a system, behind the errors of its tick, and runs the [`PanicHooks`].
fn give_up(app: &mut App, panic: &str) -> AppExit {
    errors::report_now(app.world_mut());
    tracing::error!(
        panic,
        "a system panicked, so the server exits: fix the system; a supervisor can restart the server"
    );
    let words = app.world_mut().remove_resource::<PanicHooks>().unwrap_or_default();
    for word in words.0 {
        if catch_unwind(AssertUnwindSafe(|| word(app.world_mut()))).is_err() {
            tracing::error!(
                "could not close the links after the panic: the clients will detect the loss by their timeouts"
            );
        }
    }
    AppExit::error()
}

/// Returns the message of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

/// Moves the deadline to the next tick that can still be met. Returns the number of ticks that are skipped.
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
    #[allow(clippy::disallowed_methods, reason = "only a starting point; nothing is measured")]
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
    fn a_tick_gets_the_duration_of_the_last_one() {
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
