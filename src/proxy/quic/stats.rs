//! The counters of the QUIC adapter.

counters! {
    /// A reading of [`QuicStats`]: the counts since the start.
    QuicCounts,
    /// The counters of a QUIC adapter, shared with its thread. Clones share their counts.
    QuicStats:
    /// Datagrams received, valid or not.
    datagram_in_count,
    /// Datagrams sent.
    datagram_out_count,
    /// Errors of the socket on sending and receiving.
    socket_error_count,
    /// Handshakes begun.
    handshake_count,
    /// Handshakes that did not become a link: ended by either side, too slow, of another protocol, or refused for
    /// their path or origin.
    handshake_failed_count,
    /// Retries sent, after which a client has to prove its address.
    retry_count,
    /// Handshakes refused, ignored, or ended for newer ones, because there were too many connections, handshakes or
    /// waiting events.
    turned_away_count,
    /// WebTransport sessions refused because of their path or origin.
    session_refused_count,
    /// Links opened over raw QUIC.
    quic_opened_count,
    /// Links opened over WebTransport.
    webtransport_opened_count,
    /// Links ended, of both kinds.
    closed_count,
    /// Links ended because their clients did not read what was sent.
    slow_count,
    /// Violations of the protocol by clients.
    violation_count,
    /// Unreliable frames to clients that were too long for a datagram and were sent on the stream.
    oversize_count,
    /// Unreliable frames to clients that were dropped for lack of room.
    unreliable_dropped_count,
    /// Restarts of the thread after a failure. Each restart loses all links.
    restart_count,
}
