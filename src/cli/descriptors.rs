//! Open files: how many the process may have, and how many connections fit.
//!
//! Each TCP connection is an open file, and the soft limit of most systems is 1,024. A process that has
//! used it up takes no connection and answers nobody, so the limit is raised to what the system allows,
//! and where that is not enough, the server takes fewer connections.

/// How many connections of each kind there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Connections over HTTP that have no session.
    pub(crate) http: usize,
    /// Links over WebSocket.
    pub(crate) websocket: usize,
}

/// Raises the soft limit of open files to the hard limit. Returns the limit that holds then, or `None`
/// if there is none or it is not known.
#[cfg(unix)]
pub(crate) fn raise() -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, limit = current, "the limit of open files cannot be raised");
    }
    usize::try_from(getrlimit(Resource::Nofile).current?).ok()
}

/// There is no limit that is known.
#[cfg(not(unix))]
pub(crate) fn raise() -> Option<usize> {
    None
}

/// Raises the limit, says in the log what it is, and returns how many of the wanted connections fit.
pub(crate) fn make_room(wanted: Room) -> Room {
    let Some(limit) = raise() else { return wanted };
    let room = fit(limit, wanted);
    if room == wanted {
        tracing::info!(limit, "the process may have this many open files");
    } else {
        tracing::warn!(
            limit,
            wanted = wanted.http + wanted.websocket + RESERVE,
            http_connections = room.http,
            websocket_links = room.websocket,
            "the process may have too few open files for all connections, so the server takes fewer: raise the \
             hard limit (ulimit -n, LimitNOFILE of systemd, --ulimit nofile of a container)"
        );
    }
    room
}

/// What fits a limit: a quarter of it for connections without a session, which give way to new ones,
/// and what is left for links.
fn fit(limit: usize, wanted: Room) -> Room {
    let free = limit.saturating_sub(RESERVE);
    if wanted.http + wanted.websocket <= free {
        return wanted;
    }
    let least = if wanted.websocket == 0 { free } else { free / HTTP_SHARE };
    let http = wanted.http.min(least.max(free.saturating_sub(wanted.websocket))).max(1);
    Room { http, websocket: wanted.websocket.min(free.saturating_sub(http)).max(wanted.websocket.min(1)) }
}

/// Open files that connections leave to others: three standard streams, the listeners, what the network
/// threads wait on, the files of certificates while they are read, a connection that is taken before
/// another one has given way; and a game's own.
const RESERVE: usize = 64;
/// The part of a limit that is too low which connections without a session get: one in so many.
const HTTP_SHARE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Room = Room { http: 1_024, websocket: 1_024 };

    #[test]
    fn what_fits_is_left_as_it_is() {
        assert_eq!(fit(2_112, WANTED), WANTED);
        assert_eq!(fit(usize::MAX, WANTED), WANTED);
    }

    #[test]
    fn what_does_not_fit_is_shared_and_a_reserve_is_kept() {
        for limit in [65, 80, 200, 1_024, 1_500, 2_000, 2_111] {
            let room = fit(limit, WANTED);

            assert!(room.http + room.websocket <= (limit - RESERVE).max(2), "{limit}: {room:?}");
            assert!(room.http >= 1 && room.websocket >= 1, "{limit}: {room:?}");
        }
        assert_eq!(fit(1_024, WANTED), Room { http: 240, websocket: 720 });
        assert_eq!(fit(2_000, WANTED), Room { http: 912, websocket: 1_024 });
        assert_eq!(fit(1_024, Room { websocket: 0, ..WANTED }), Room { http: 960, websocket: 0 });
        assert_eq!(fit(10, WANTED), Room { http: 1, websocket: 1 }, "it starts, and the log says why");
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
