//! The times after which a denied or refused client may try again, as the server sends them.

use std::time::Duration;

/// The wait if the server or a transport has no place, or if the server drains. The server cannot predict when
/// there will be room.
pub(crate) const NO_ROOM: Duration = Duration::from_secs(2);

/// The wait if a zone is full. Members leave in seconds, not in ticks.
pub(crate) const ZONE_FULL: Duration = Duration::from_secs(1);

/// The wait if the server is overloaded. A level of load lasts two seconds or longer, and each try adds load.
pub(crate) const OVERLOADED: Duration = Duration::from_secs(5);

/// The wait if a limit by network, or the limit of used tickets, is reached. Places become free one by one: a
/// session ends when its player leaves or its timeout of 5 s has passed, and a used ticket when it expires.
pub(crate) const IN_USE: Duration = Duration::from_secs(5);

/// The wait if an authenticator has given no verdict, or has too many questions. Most open questions have a
/// verdict after two seconds.
pub(crate) const NO_VERDICT: Duration = Duration::from_secs(2);

/// The wait if a link is closed because the server stops. A restart takes about this long.
pub(crate) const RESTART: Duration = Duration::from_secs(1);

/// The wait if there were too many HTTP requests, or if there is no place for a request. The rate refills within
/// a second, which is also the shortest time that `Retry-After` can express.
pub(crate) const HTTP: Duration = Duration::from_secs(1);

/// The shortest wait for a rate to refill. A shorter one would make clients spin.
pub(crate) const RATE_MIN: Duration = Duration::from_millis(100);

/// The longest wait for a rate to refill. Clients that would have to wait longer try again after this time and
/// get another wait.
pub(crate) const RATE_MAX: Duration = Duration::from_secs(10);

/// Returns a wait in milliseconds for a message. It is rounded up, since a client that tries too early is denied
/// again.
pub(crate) const fn in_ms(wait: Duration) -> u32 {
    let ms = wait.as_nanos().div_ceil(NANOS_PER_MS);
    if ms > u32::MAX as u128 { u32::MAX } else { ms as u32 }
}

const NANOS_PER_MS: u128 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up_to_milliseconds() {
        let waits = [Duration::ZERO, Duration::from_nanos(1), NO_ROOM, NO_ROOM + Duration::from_nanos(1)];

        assert_eq!(waits.map(in_ms), [0, 1, 2_000, 2_001]);
        assert_eq!(in_ms(Duration::MAX), u32::MAX);
    }
}
