//! Raises the limit of open files, and calculates how many connections fit into it.
//!
//! Each TCP connection is an open file, and the soft limit of most systems is 1,024. A process that has reached the
//! limit accepts no connection. So the soft limit is raised to the hard limit. If the hard limit is too low, the
//! server accepts fewer connections.

/// The most connections of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionCaps {
    /// HTTP connections that are not links.
    pub(super) http: usize,
    /// Links over WebSocket.
    pub(super) websocket: usize,
}

/// Raises the soft limit of open files to the hard limit. Returns the new soft limit, or `None` if there is no limit
/// or it is unknown.
#[cfg(unix)]
pub(super) fn raise() -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, limit = current, "cannot raise the limit of open files");
    }
    usize::try_from(getrlimit(Resource::Nofile).current?).ok()
}

/// Returns `None`: the limit is unknown on this system.
#[cfg(not(unix))]
pub(super) fn raise() -> Option<usize> {
    None
}

/// Raises the limit, logs it, and returns how many of the wanted connections fit.
pub(super) fn make_room(wanted: ConnectionCaps) -> ConnectionCaps {
    let Some(limit) = raise() else { return wanted };
    let room = fit(limit, wanted);
    if room == wanted {
        tracing::info!(limit, "limit of open files");
    } else {
        tracing::warn!(
            limit,
            wanted = wanted.http + wanted.websocket + RESERVE,
            http_connections = room.http,
            websocket_links = room.websocket,
            "the limit of open files is too low for all connections, so the server accepts fewer: raise the \
             hard limit (ulimit -n, LimitNOFILE of systemd, --ulimit nofile of a container)"
        );
    }
    room
}

/// Returns how many connections fit into a limit. If the limit is too low, HTTP connections that are not links get a
/// quarter of it, and links get the rest. The server closes old HTTP connections for new ones, so they need fewer
/// places.
fn fit(limit: usize, wanted: ConnectionCaps) -> ConnectionCaps {
    let free = limit.saturating_sub(RESERVE);
    if wanted.http + wanted.websocket <= free {
        return wanted;
    }
    let least = if wanted.websocket == 0 { free } else { free / HTTP_SHARE };
    let http = wanted.http.min(least.max(free.saturating_sub(wanted.websocket))).max(1);
    ConnectionCaps {
        http,
        websocket: wanted.websocket.min(free.saturating_sub(http)).max(wanted.websocket.min(1)),
    }
}

/// The open files that are kept free for other uses: the three standard streams, the listeners, the event queues of
/// the network threads, certificate files while they are read, new connections before old ones are closed, and the
/// game's own files.
const RESERVE: usize = 64;
/// If the limit is too low, HTTP connections that are not links get the limit divided by this number.
const HTTP_SHARE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: ConnectionCaps = ConnectionCaps { http: 1_024, websocket: 1_024 };

    #[test]
    fn wanted_connections_that_fit_are_returned_unchanged() {
        assert_eq!(fit(2_112, WANTED), WANTED);
        assert_eq!(fit(usize::MAX, WANTED), WANTED);
    }

    #[test]
    fn a_limit_that_is_too_low_is_shared_and_a_reserve_is_kept() {
        for limit in [65, 80, 200, 1_024, 1_500, 2_000, 2_111] {
            let room = fit(limit, WANTED);

            assert!(room.http + room.websocket <= (limit - RESERVE).max(2), "{limit}: {room:?}");
            assert!(room.http >= 1 && room.websocket >= 1, "{limit}: {room:?}");
        }
        assert_eq!(fit(1_024, WANTED), ConnectionCaps { http: 240, websocket: 720 });
        assert_eq!(fit(2_000, WANTED), ConnectionCaps { http: 912, websocket: 1_024 });
        assert_eq!(
            fit(1_024, ConnectionCaps { websocket: 0, ..WANTED }),
            ConnectionCaps { http: 960, websocket: 0 }
        );
        assert_eq!(fit(10, WANTED), ConnectionCaps { http: 1, websocket: 1 }, "the server still starts");
    }

    #[test]
    #[cfg(unix)]
    fn the_soft_limit_is_the_hard_limit_afterwards() {
        use rustix::process::{Resource, getrlimit};

        let limit = raise();

        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.current, after.maximum);
        assert_eq!(limit, after.current.and_then(|limit| usize::try_from(limit).ok()));
    }
}
