//! What the QUIC adapter counts.

counters! {
    /// A reading of [`QuicStats`]: counts since the start.
    QuicCounts,
    /// Counters of a QUIC adapter, shared with its thread. Clones are the same counters.
    QuicStats:
    /// Datagrams received, good or bad.
    datagram_in_count,
    /// Datagrams sent.
    datagram_out_count,
    /// Datagrams that could not be sent, or errors of the socket on receiving.
    socket_error_count,
    /// Handshakes begun.
    handshake_count,
    /// Handshakes that opened no link: given up, too slow, of another protocol, or refused for
    /// their path or origin.
    handshake_failed_count,
    /// Clients that were asked to come again and so to show that their address is theirs.
    retry_count,
    /// Handshakes turned away, or given up for others, because there were too many.
    turned_away_count,
    /// WebTransport sessions refused for their path or origin.
    session_refused_count,
    /// Links opened over raw QUIC.
    quic_opened_count,
    /// Links opened over WebTransport.
    webtransport_opened_count,
    /// Links ended, of both kinds.
    closed_count,
    /// Links ended because their client did not take what it was sent.
    slow_count,
    /// Clients that broke the rules of the wire.
    breach_count,
    /// Unreliable frames to clients that fitted no datagram of their path, and rode the stream.
    oversize_count,
    /// Unreliable frames to clients that were dropped for want of room.
    unreliable_dropped_count,
    /// Times the thread failed and began anew, with all its links lost.
    restart_count,
}
