//! What the WebSocket adapter counts.

counters! {
    /// A reading of [`WebSocketStats`]: counts since the start.
    WebSocketCounts,
    /// Counters of a WebSocket adapter, shared with its thread. Clones are the same counters.
    WebSocketStats:
    /// Links opened.
    opened_count,
    /// Links ended.
    closed_count,
    /// Links ended because their client did not take what it was sent.
    slow_count,
    /// Clients that broke the rules of the wire or of WebSocket.
    breach_count,
    /// Unreliable frames to clients that were dropped for want of room.
    unreliable_dropped_count,
    /// Pings that were not answered because a newer one was.
    ping_skipped_count,
    /// Times the thread failed and began anew, with all its links lost.
    restart_count,
}
