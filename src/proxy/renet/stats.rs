//! What the UDP adapter counts.

counters! {
    /// A reading of [`RenetStats`]: counts since the start.
    RenetCounts,
    /// Counters of a UDP adapter, shared with its thread. Clones are the same counters.
    RenetStats:
    /// Datagrams received, good or bad.
    datagram_in_count,
    /// Datagrams sent.
    datagram_out_count,
    /// Datagrams and payloads that the guard dropped; their senders' links live on.
    guard_dropped_count,
    /// Connection requests whose connect token had expired.
    expired_token_count,
    /// Links closed because their client broke renet's rules.
    guard_closed_count,
    /// Unreliable frames to clients that were dropped for want of room.
    unreliable_dropped_count,
    /// Datagrams that could not be sent, or errors of the socket on receiving.
    socket_error_count,
    /// Links opened.
    opened_count,
    /// Links ended.
    closed_count,
    /// Times the thread failed and began anew, with all its links lost.
    restart_count,
}
