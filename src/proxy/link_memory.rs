//! Computes upper bounds of the memory that one link can occupy, by transport.
//!
//! The bounds are in bytes of process memory and follow from the limits that the adapters enforce. The kernel's
//! socket buffers are not included. `docs/design.md` has the bounds as a table, and a test compares the table with
//! this module. Other tests fill links of each transport and measure the process.

use super::quic::QuicConfig;
use super::websocket::WebSocketConfig;
use crate::wire::{FRAME_MAX_BEFORE_WELCOME, FRAME_MAX_CLIENT, FRAME_MAX_SERVER, OUTBOX_MAX_BYTES};

/// Upper bounds of the memory that one link can occupy, in bytes.
///
/// ```
/// use waystation::proxy::link_memory::LinkMemory;
/// use waystation::proxy::quic::QuicConfig;
///
/// let config = QuicConfig::default();
/// let memory = LinkMemory::of_quic(&config);
/// assert!(memory.before_hello < memory.after_hello);
/// println!("at most {} MiB for all links", config.max_links * memory.after_hello / (1024 * 1024));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkMemory {
    /// Bytes for a link before its Hello is accepted. The server sends almost nothing on the link until then.
    pub before_hello: usize,
    /// Bytes for a link with a session, including the session's inbox and outbox.
    pub after_hello: usize,
}

impl LinkMemory {
    /// Returns the bounds for a link over WebSocket, with or without TLS.
    #[must_use]
    pub fn of_websocket(config: &WebSocketConfig, is_tls: bool) -> Self {
        let tls = if is_tls { TLS_BYTES } else { 0 };
        let before_hello =
            WEBSOCKET_TASK_BYTES + 2 * FRAME_MAX_CLIENT + WEBSOCKET_BATCH_BYTES + GUEST_BYTES + tls;
        // The send buffer grows by a quarter. Unreliable frames wait beside it while the socket accepts nothing.
        let output = config.send_buffer_bytes / 4 * 5 + FRAME_MAX_SERVER;
        Self { before_hello, after_hello: before_hello + output + SESSION_BYTES }
    }

    /// Returns the bounds for a link over QUIC or WebTransport.
    #[must_use]
    pub fn of_quic(config: &QuicConfig) -> Self {
        let limits = &config.limits;
        let streams = (limits.bidi_streams + limits.uni_streams) as usize;
        // quinn keeps whole packets. They take up to 2.5 times the bytes of stream data in them.
        let received = limits.connection_window_bytes as usize / 2 * 5 + streams * QUIC_STREAM_BYTES;
        let before_hello = QUIC_STATE_BYTES + received + limits.datagram_bytes + BATCH_BYTES + GUEST_BYTES;
        let sent =
            QUIC_WAITING_BYTES + limits.send_window_bytes as usize + limits.datagram_bytes + FRAME_MAX_SERVER;
        Self { before_hello, after_hello: before_hello + sent + SESSION_BYTES }
    }

    /// Returns the bounds for a link over UDP.
    #[must_use]
    pub fn of_udp() -> Self {
        let before_hello = UDP_GUARD_BYTES + 2 * UDP_CHANNEL_BYTES + BATCH_BYTES + GUEST_BYTES;
        Self { before_hello, after_hello: before_hello + 2 * UDP_CHANNEL_BYTES + SESSION_BYTES }
    }
}

/// Bytes that TLS uses per connection at most. During the handshake, rustls joins messages of up to 64 KiB.
/// Afterwards it holds 16 KiB that the socket has not accepted, 16 KiB of plaintext, and an incomplete record of 16
/// KiB. The rest is for keys, message buffers and the state of the connection.
pub const TLS_BYTES: usize = 128 * 1024;
/// Bytes that the gate keeps for a guest: its Hello, encoded and decoded.
const GUEST_BYTES: usize = 2 * FRAME_MAX_BEFORE_WELCOME;
/// Bytes that a session keeps: an inbox and an outbox of the same size, and the entities, tables and queues around
/// them.
const SESSION_BYTES: usize = 2 * OUTBOX_MAX_BYTES + 16 * 1024;
/// Bytes that the tick takes in one batch from a link over UDP or QUIC.
const BATCH_BYTES: usize = OUTBOX_MAX_BYTES;
/// Bytes that the tick takes in one batch from a link over WebSocket.
const WEBSOCKET_BATCH_BYTES: usize = 64 * 1024;
/// Bytes for the task of a link, the buffer of its reader, and answers to pings.
const WEBSOCKET_TASK_BYTES: usize = 48 * 1024;
/// Bytes for the keys, the packet spaces and the handshake of a connection.
const QUIC_STATE_BYTES: usize = 48 * 1024;
/// Bytes that quinn uses per stream besides the data of the stream.
const QUIC_STREAM_BYTES: usize = 32 * 1024;
/// Bytes that wait for room on the stream of a link.
const QUIC_WAITING_BYTES: usize = 2 * OUTBOX_MAX_BYTES;
/// Bytes that the guard of the UDP adapter keeps per link.
const UDP_GUARD_BYTES: usize = 100 * 1024;
/// Bytes for one renet channel in one direction: twice an outbox of messages, and as much overhead again if each
/// message has one byte.
const UDP_CHANNEL_BYTES: usize = 2 * (2 * OUTBOX_MAX_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_limit_gives_a_larger_bound() {
        let narrow = LinkMemory::of_quic(&QuicConfig::default());
        let mut config = QuicConfig::default();
        config.limits.connection_window_bytes *= 2;
        let wide = LinkMemory::of_quic(&config);
        let plain = LinkMemory::of_websocket(&WebSocketConfig::default(), false);
        let tls = LinkMemory::of_websocket(&WebSocketConfig::default(), true);

        assert!(wide.before_hello > narrow.before_hello && wide.after_hello > narrow.after_hello);
        assert_eq!(tls.before_hello - plain.before_hello, TLS_BYTES);
    }
}
