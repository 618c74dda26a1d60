//! What one connection may make the server hold, by transport.
//!
//! The figures are upper bounds of memory in the process, in bytes, made of the limits that the
//! adapters keep. `docs/design.md` has them as a table, which a test compares with this module, and
//! other tests fill connections of each kind and look at the process. What the kernel holds in the
//! buffers of sockets comes on top.

use super::quic::QuicConfig;
use super::websocket::WebSocketConfig;
use crate::wire::{FRAME_MAX_BEFORE_WELCOME, FRAME_MAX_CLIENT, FRAME_MAX_SERVER, OUTBOX_MAX_BYTES};

/// What one link may make the server hold, in bytes.
///
/// ```
/// use waystation::proxy::held::Held;
/// use waystation::proxy::quic::QuicConfig;
///
/// let config = QuicConfig::default();
/// let held = Held::of_quic(&config);
/// assert!(held.before_hello < held.after_hello);
/// println!("at worst {} MiB for all links", config.max_links * held.after_hello / (1024 * 1024));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Before its Hello was accepted. The server says next to nothing to such a link.
    pub before_hello: usize,
    /// With a session, whose inbox and outbox are included.
    pub after_hello: usize,
}

impl Held {
    /// A link over WebSocket, with or without TLS.
    #[must_use]
    pub fn of_websocket(config: &WebSocketConfig, is_tls: bool) -> Self {
        let tls = if is_tls { TLS_BYTES } else { 0 };
        let before_hello =
            WEBSOCKET_TASK_BYTES + 2 * FRAME_MAX_CLIENT + WEBSOCKET_BATCH_BYTES + GUEST_BYTES + tls;
        // Its buffer grows by a quarter, and state waits beside it while the socket takes nothing.
        let output = config.send_buffer_bytes / 4 * 5 + FRAME_MAX_SERVER;
        Self { before_hello, after_hello: before_hello + output + SESSION_BYTES }
    }

    /// A link over QUIC or WebTransport.
    #[must_use]
    pub fn of_quic(config: &QuicConfig) -> Self {
        let limits = &config.limits;
        let streams = (limits.bidi_streams + limits.uni_streams) as usize;
        // quinn keeps the packets that it has read from as a whole, within this of what they carry.
        let received = limits.connection_window_bytes as usize / 2 * 5 + streams * QUIC_STREAM_BYTES;
        let before_hello = QUIC_STATE_BYTES + received + limits.datagram_bytes + BATCH_BYTES + GUEST_BYTES;
        let sent =
            QUIC_WAITING_BYTES + limits.send_window_bytes as usize + limits.datagram_bytes + FRAME_MAX_SERVER;
        Self { before_hello, after_hello: before_hello + sent + SESSION_BYTES }
    }

    /// A link over UDP.
    #[must_use]
    pub fn of_udp() -> Self {
        let before_hello = UDP_GUARD_BYTES + 2 * UDP_CHANNEL_BYTES + BATCH_BYTES + GUEST_BYTES;
        Self { before_hello, after_hello: before_hello + 2 * UDP_CHANNEL_BYTES + SESSION_BYTES }
    }
}

/// TLS, at each moment of a connection: rustls joins a handshake's messages up to 64 KiB, and later holds
/// 16 KiB that the socket has not taken, 16 KiB of plaintext and a record of 16 KiB that is not complete.
/// The rest are keys, buffers of a message each, and the state of the connection.
pub const TLS_BYTES: usize = 128 * 1024;
/// What the gate keeps of a link without a session: its Hello, as it arrived and decoded.
const GUEST_BYTES: usize = 2 * FRAME_MAX_BEFORE_WELCOME;
/// What a session keeps of the frames of its client and for it: as much in the inbox as in the outbox,
/// and entities, tables and queues around them.
const SESSION_BYTES: usize = 2 * OUTBOX_MAX_BYTES + 16 * 1024;
/// What the tick takes in one batch from a link over UDP or QUIC.
const BATCH_BYTES: usize = OUTBOX_MAX_BYTES;
/// What it takes in one batch from a link over WebSocket.
const WEBSOCKET_BATCH_BYTES: usize = 64 * 1024;
/// A link's task, the reader's buffer, and answers to pings.
const WEBSOCKET_TASK_BYTES: usize = 48 * 1024;
/// A connection's keys, its spaces of packets, and what its handshake keeps.
const QUIC_STATE_BYTES: usize = 48 * 1024;
/// What quinn keeps of each stream above what the stream carries.
const QUIC_STREAM_BYTES: usize = 32 * 1024;
/// What waits for room on the stream of a link.
const QUIC_WAITING_BYTES: usize = 2 * OUTBOX_MAX_BYTES;
/// What the guard keeps of a link.
const UDP_GUARD_BYTES: usize = 100 * 1024;
/// A channel of renet in one direction: twice an outbox of messages, and as much around them if they have a
/// byte each.
const UDP_CHANNEL_BYTES: usize = 2 * (2 * OUTBOX_MAX_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_limit_is_a_larger_bound() {
        let narrow = Held::of_quic(&QuicConfig::default());
        let mut config = QuicConfig::default();
        config.limits.connection_window_bytes *= 2;
        let wide = Held::of_quic(&config);
        let plain = Held::of_websocket(&WebSocketConfig::default(), false);
        let tls = Held::of_websocket(&WebSocketConfig::default(), true);

        assert!(wide.before_hello > narrow.before_hello && wide.after_hello > narrow.after_hello);
        assert_eq!(tls.before_hello - plain.before_hello, TLS_BYTES);
    }
}
