//! The counters of the WebSocket adapter.

counters! {
    /// A reading of [`WebSocketStats`]: the counts since the start.
    WebSocketCounts,
    /// The counters of a WebSocket adapter, shared with its thread. Clones share their counts.
    WebSocketStats:
    /// Links opened.
    opened_count,
    /// Links ended.
    closed_count,
    /// Links ended because their clients did not read what was sent.
    slow_count,
    /// Violations of the protocol or of RFC 6455 by clients.
    violation_count,
    /// Unreliable frames to clients that were dropped for lack of room.
    unreliable_dropped_count,
    /// Pings that were not answered because a newer ping replaced them.
    ping_skipped_count,
    /// Restarts of the thread after a failure. Each restart loses all links.
    restart_count,
}
