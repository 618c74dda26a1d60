//! The counters of the UDP adapter.

counters! {
    /// A reading of [`RenetStats`]: the counts since the start.
    RenetCounts,
    /// The counters of a UDP adapter, shared with its thread. Clones share their counts.
    RenetStats:
    /// Datagrams received, valid or not.
    datagram_in_count,
    /// Datagrams sent.
    datagram_out_count,
    /// Datagrams and payloads that were dropped before netcode or renet handled them. The links of their senders
    /// stay open.
    guard_dropped_count,
    /// Connection requests whose connect token had expired.
    expired_token_count,
    /// Links closed because their clients violated the rules of renet.
    guard_closed_count,
    /// Unreliable frames to clients that were dropped for lack of room.
    unreliable_dropped_count,
    /// Errors of the socket on sending and receiving.
    socket_error_count,
    /// Links opened.
    opened_count,
    /// Links ended.
    closed_count,
    /// Restarts of the thread after a failure. Each restart loses all links.
    restart_count,
}
