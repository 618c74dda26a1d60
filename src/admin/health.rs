//! Answers `GET /livez` and `GET /healthz`, for supervisors and load balancers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bevy_app::{App, Last};
use bevy_ecs::prelude::*;

use crate::gate::Drain;
use crate::tick::{Clock, TickRate, TickSystems, TickTime};

/// The health of a server. The tick updates it, and the HTTP thread reads it. Clones share their state.
///
/// The age of a tick is measured by the server's clock: while that clock stands still, no tick becomes late.
#[derive(Resource, Debug, Clone)]
pub struct Health {
    pulse: Arc<Pulse>,
    clock: Clock,
    late_after: Duration,
}

#[derive(Debug, Default)]
struct Pulse {
    tick: AtomicU64,
    /// Time of the last tick by the server's clock, in nanoseconds.
    at_nanos: AtomicU64,
    has_ticked: AtomicBool,
    is_draining: AtomicBool,
}

impl Health {
    /// Creates the health of a server that ticks at this rate. The caller has to call [`beat`](Self::beat) after
    /// each tick.
    #[must_use]
    pub fn new(clock: Clock, rate: TickRate) -> Self {
        let late_after = LATE_AFTER.max(rate.period() * LATE_AFTER_TICKS);
        let health = Self { pulse: Arc::default(), clock, late_after };
        // A server is not late when it has just started.
        health.touch();
        health
    }

    /// Creates the health of an app, and adds a system that calls [`beat`](Self::beat) at the end of each tick.
    pub fn watch(app: &mut App) -> Self {
        let world = app.world();
        let clock = world.get_resource::<TickTime>().map(|time| time.clock().clone()).unwrap_or_default();
        let health = Self::new(clock, world.get_resource::<TickRate>().copied().unwrap_or_default());
        app.insert_resource(health.clone()).add_systems(Last, beat.in_set(TickSystems::Measure));
        health
    }

    /// Notes that a tick has ended.
    pub fn beat(&self, tick: u64, is_draining: bool) {
        self.touch();
        self.pulse.tick.store(tick, Ordering::Relaxed);
        self.pulse.is_draining.store(is_draining, Ordering::Relaxed);
        self.pulse.has_ticked.store(true, Ordering::Relaxed);
    }

    fn touch(&self) {
        let now = u64::try_from(self.clock.now().as_nanos()).unwrap_or(u64::MAX);
        self.pulse.at_nanos.store(now, Ordering::Relaxed);
    }

    /// Returns true if the last tick ended within 1 s, or within five ticks if that is longer.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.age() <= self.late_after
    }

    /// Returns true if new sessions can open: the tick is alive, at least one tick has ended, and the server does
    /// not drain.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status() == Status::Ok
    }

    /// Returns true while the server drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.pulse.is_draining.load(Ordering::Relaxed)
    }

    fn status(&self) -> Status {
        if !self.is_alive() {
            Status::Stalled
        } else if !self.pulse.has_ticked.load(Ordering::Relaxed) {
            Status::Starting
        } else if self.is_draining() {
            Status::Draining
        } else {
            Status::Ok
        }
    }

    /// Returns the server's clock.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn age(&self) -> Duration {
        let at = Duration::from_nanos(self.pulse.at_nanos.load(Ordering::Relaxed));
        self.clock.now().saturating_sub(at)
    }

    /// Answers a readiness check of a load balancer: 200 while new sessions can open, otherwise 503.
    pub(super) fn answer_ready(&self) -> Response {
        self.answer(self.status() == Status::Ok)
    }

    /// Answers a liveness check of a supervisor: 200 while the tick is alive, otherwise 503. A server that starts
    /// or drains is alive, so the supervisor does not kill it.
    pub(super) fn answer_live(&self) -> Response {
        self.answer(self.is_alive())
    }

    fn answer(&self, is_good: bool) -> Response {
        let code = if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = format!(
            "{{\"status\":\"{}\",\"tick\":{},\"tick_age_ms\":{},\"draining\":{}}}\n",
            self.status().word(),
            self.pulse.tick.load(Ordering::Relaxed),
            self.age().as_millis(),
            self.is_draining(),
        );
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        (code, headers, body).into_response()
    }
}

/// The status of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    /// No tick has ended yet.
    Starting,
    Ok,
    /// The server drains.
    Draining,
    /// The last tick is late.
    Stalled,
}

impl Status {
    /// Returns the status as it appears in answers.
    fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ok => "ok",
            Self::Draining => "draining",
            Self::Stalled => "stalled",
        }
    }
}

fn beat(health: Res<Health>, time: Res<TickTime>, drain: Option<Res<Drain>>) {
    health.beat(time.tick().0, drain.is_some_and(|drain| drain.is_draining()));
}

/// Age from which on a tick is late. A player perceives a tick of this age as a freeze.
const LATE_AFTER: Duration = Duration::from_secs(1);
/// Number of ticks after which a tick is late, at slow tick rates.
const LATE_AFTER_TICKS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_late_after_a_second_or_five_ticks() {
        let clock = Clock::manual();
        let fast = Health::new(clock.clone(), TickRate::default());
        let slow = Health::new(clock.clone(), TickRate::new(4).expect("the slowest"));

        clock.advance(Duration::from_millis(1_100));

        assert!(!fast.is_alive() && slow.is_alive());
        fast.beat(7, false);
        assert!(fast.is_alive());
        clock.advance(Duration::from_millis(200));
        assert!(!slow.is_alive());
    }

    #[test]
    fn a_server_is_ready_from_its_first_tick_until_it_drains() {
        let health = Health::new(Clock::manual(), TickRate::default());

        assert!(health.is_alive() && !health.is_ready(), "the server starts");
        health.beat(1, false);
        assert!(health.is_alive() && health.is_ready());
        health.beat(2, true);
        assert!(health.is_alive() && !health.is_ready(), "the server drains");
    }
}
