//! When a client that is turned away may come again: times that the server tells, each with its reason.

use std::time::Duration;

/// The server or one of its transports has no place, or the server stops: nobody can know when there is room.
pub(crate) const NO_ROOM: Duration = Duration::from_secs(2);

/// A zone is full: members leave by seconds, not by ticks.
pub(crate) const ZONE_FULL: Duration = Duration::from_secs(1);

/// The server has too much to do: no level of load is left sooner than in two seconds, and a client that asks is
/// work too.
pub(crate) const OVERLOADED: Duration = Duration::from_secs(5);

/// What there may be is in use, and is freed piece by piece: a session of a network ends when its player leaves
/// or its timeout of 5 s is over, and a used ticket is forgotten when it expires.
pub(crate) const IN_USE: Duration = Duration::from_secs(5);

/// An authenticator has given no verdict, or has too many questions: most that are open have one after two seconds.
pub(crate) const NO_VERDICT: Duration = Duration::from_secs(2);

/// A link is closed because the server stops: a restart takes about as long.
pub(crate) const RESTART: Duration = Duration::from_secs(1);

/// A question over HTTP came too often or found no place: a rate refills within a second, and it is the shortest
/// time that `Retry-After` can tell.
pub(crate) const HTTP: Duration = Duration::from_secs(1);

/// The shortest wait for a rate to refill that a client is told, so that it does not spin.
pub(crate) const RATE_MIN: Duration = Duration::from_millis(100);

/// The longest wait for a rate to refill that a client is told. Those who would wait longer come together and are
/// told again.
pub(crate) const RATE_MAX: Duration = Duration::from_secs(10);

/// Returns a wait as messages carry it: in milliseconds, rounded up, since a client that comes a moment too early
/// is turned away again.
pub(crate) const fn in_ms(wait: Duration) -> u32 {
    let ms = wait.as_nanos().div_ceil(NANOS_PER_MS);
    if ms > u32::MAX as u128 { u32::MAX } else { ms as u32 }
}

const NANOS_PER_MS: u128 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_milliseconds_and_never_too_short() {
        let waits = [Duration::ZERO, Duration::from_nanos(1), NO_ROOM, NO_ROOM + Duration::from_nanos(1)];

        assert_eq!(waits.map(in_ms), [0, 1, 2_000, 2_001]);
        assert_eq!(in_ms(Duration::MAX), u32::MAX);
    }
}
