//! The limits of one QUIC connection, and the transport configuration that applies them.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{AckFrequencyConfig, IdleTimeout, TransportConfig, VarInt};

use super::steady::SteadyConfig;
use crate::settings::{ConfigError, at_least, failures, first, within};
use crate::wire::LINK_TIMEOUT;

crate::settings! {
    /// The limits of one QUIC connection.
    ///
    /// ```
    /// use waystation::wire::quic::QuicLimits;
    ///
    /// let transport = QuicLimits { datagram_bytes: 16 * 1024, ..QuicLimits::default() }.transport();
    /// # let _ = transport;
    /// ```
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct QuicLimits {
        /// Maximum number of bidirectional streams that the peer may have open. Minimum: 2. Default: 2, since a
        /// WebTransport session takes one stream for its request and one for its reliable lane. Each stream occupies up
        /// to 32 KiB beside its data.
        pub bidi_streams: u32 = 2,
        /// Maximum number of unidirectional streams that the peer may have open. Minimum: 3. Default: 4, since HTTP/3
        /// uses three, and a browser may open a fourth. Each stream occupies up to 32 KiB beside its data.
        pub uni_streams: u32 = 4,
        /// Bytes that the peer may send on a stream before they are read. Minimum: 4 KiB. Default: 64 KiB, four of a
        /// client's longest frames.
        pub stream_window_bytes: u32 = 64 * 1024,
        /// Bytes that the peer may send on all streams together before they are read. Minimum: `stream_window_bytes`.
        /// Default: 256 KiB. A link that the server does not read occupies up to 2.5 times this, 640 KiB by default.
        pub connection_window_bytes: u32 = 256 * 1024,
        /// Bytes that the connection holds to send: those in flight and those that wait. Minimum: 4 KiB. Default:
        /// 128 KiB, twice the largest congestion window. In addition, up to 512 KiB wait in the link.
        pub send_window_bytes: u32 = 128 * 1024,
        /// Bytes of received datagrams that wait to be read. Default: 64 KiB, some seconds of a game's state. This is
        /// also the size of the send buffer for datagrams, so a connection occupies up to twice this.
        pub datagram_bytes: usize = 64 * 1024,
        /// Time after which a connection ends if nothing is received. Range: 2 s to 1 h. Default: 6 s, longer than the
        /// link timeout of 5 s, which the session itself applies.
        pub idle_timeout: Duration = LINK_TIMEOUT + Duration::from_secs(1),
        /// Longest time without a packet to the peer. Range: 100 ms to half of `idle_timeout`. Default: 1 s, so that a
        /// link survives an outage of 3 s even if the last keep-alive before it was lost.
        pub keep_alive: Duration = Duration::from_secs(1),
    }
}

impl QuicLimits {
    /// Checks that links work with these values.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError`] for the first field whose value is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        first(self.check_all())
    }

    /// Returns an error for each field whose value is out of range.
    #[must_use]
    pub fn check_all(&self) -> Vec<ConfigError> {
        let window = "the streams of a handshake and one packet must fit; use the default if in doubt";
        failures([
            at_least(
                "QuicLimits::bidi_streams",
                &self.bidi_streams,
                &2,
                "a WebTransport session needs two streams; 2 is the default",
            ),
            at_least(
                "QuicLimits::uni_streams",
                &self.uni_streams,
                &3,
                "HTTP/3 needs three unidirectional streams; 4 is the default",
            ),
            at_least("QuicLimits::stream_window_bytes", &self.stream_window_bytes, &WINDOW_MIN_BYTES, window),
            at_least("QuicLimits::send_window_bytes", &self.send_window_bytes, &WINDOW_MIN_BYTES, window),
            at_least(
                "QuicLimits::connection_window_bytes",
                &self.connection_window_bytes,
                &self.stream_window_bytes,
                "it must not be smaller than `stream_window_bytes`; 256 KiB is the default",
            ),
            within(
                "QuicLimits::idle_timeout",
                &self.idle_timeout,
                IDLE_TIMEOUT_MIN..=IDLE_TIMEOUT_MAX,
                "it should be longer than the link timeout of the session, which is 5 s; 6 s is the default",
            ),
            within(
                "QuicLimits::keep_alive",
                &self.keep_alive,
                KEEP_ALIVE_MIN..=self.idle_timeout / 2,
                "one keep-alive may be lost before the idle timeout; 1 s is the default",
            ),
        ])
    }

    /// Returns the limits as a configuration of quinn.
    #[must_use]
    pub fn transport(&self) -> TransportConfig {
        let mut transport = TransportConfig::default();
        // QUIC cannot express a timeout of more than 2^62 ms: there is no timeout then.
        let idle = IdleTimeout::try_from(self.idle_timeout).ok();
        let mut acks = AckFrequencyConfig::default();
        acks.max_ack_delay(Some(ACK_DELAY)).ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD));
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(self.bidi_streams))
            .max_concurrent_uni_streams(VarInt::from_u32(self.uni_streams))
            .stream_receive_window(VarInt::from_u32(self.stream_window_bytes))
            .receive_window(VarInt::from_u32(self.connection_window_bytes))
            .send_window(u64::from(self.send_window_bytes))
            .datagram_receive_buffer_size(Some(self.datagram_bytes))
            .datagram_send_buffer_size(self.datagram_bytes)
            .max_idle_timeout(idle)
            .keep_alive_interval(Some(self.keep_alive))
            .ack_frequency_config(Some(acks))
            .initial_rtt(INITIAL_RTT)
            .congestion_controller_factory(Arc::new(SteadyConfig))
            // Datagrams are sent one by one: segmentation offload would need `unsafe`.
            .enable_segmentation_offload(false);
        transport
    }
}

/// The smallest window in bytes: the streams of a handshake and one packet fit.
const WINDOW_MIN_BYTES: u32 = 4 * 1024;
/// The shortest idle timeout: two default keep-alives.
const IDLE_TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// The longest idle timeout. The memory of a vanished client is freed after this time.
const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);
/// The shortest time between two keep-alives.
const KEEP_ALIVE_MIN: Duration = Duration::from_millis(100);
/// The assumed round-trip time before one was measured. An unanswered first packet is sent again after three
/// times this, and then after twice as long each time. RFC 9002 (6.2.2) recommends 333 ms. With that, the first
/// packet is sent again after a second, and at a loss of one in five many handshakes take too long.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// For how long a peer may delay an acknowledgement, if it supports the ACK frequency extension: a tick, so that
/// the acknowledgement shares a packet with frames. quinn clamps this between its minimum and the round trip.
const ACK_DELAY: Duration = Duration::from_millis(50);
/// The number of unacknowledged packets after which a peer acknowledges at once.
const ACK_THRESHOLD: u32 = 8;
