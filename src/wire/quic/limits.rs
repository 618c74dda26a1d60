//! What one connection may take, as the transport is told.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{AckFrequencyConfig, IdleTimeout, TransportConfig, VarInt};

use super::steady::SteadyConfig;
use crate::wire::{ConfigError, LINK_TIMEOUT, at_least, within};

/// What one connection may take of memory and time.
///
/// ```
/// use waystation::wire::quic::QuicLimits;
///
/// let transport = QuicLimits { datagram_bytes: 16 * 1024, ..QuicLimits::default() }.transport();
/// # let _ = transport;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuicLimits {
    /// Bidirectional streams that the peer may have open. Default 2, the least that works: a
    /// WebTransport session is one, and its lanes are another.
    pub bidi_streams: u32,
    /// Unidirectional streams that the peer may have open. Default 4: HTTP/3 has three, and a
    /// browser may try a fourth. Safe from 3 up.
    pub uni_streams: u32,
    /// Bytes that the peer may send on a stream before they are read. Default 64 KiB, four of a
    /// client's longest frames. It is what a link holds that is not read on.
    pub stream_window_bytes: u32,
    /// The same of all streams together. Default 256 KiB.
    pub connection_window_bytes: u32,
    /// Bytes that are on their way to the peer or wait to be, of what the connection took. Default
    /// 128 KiB, twice what the congestion window lets be on its way. Before that, 512 KiB wait with
    /// the link.
    pub send_window_bytes: u32,
    /// Bytes of datagrams that wait to be read. Default 64 KiB, some seconds of a game's state. As
    /// much is kept for those that leave; a link hands over no more than a packet's worth at a time,
    /// so that state does not grow old there.
    pub datagram_bytes: usize,
    /// A connection on which nothing is heard for this long is over. Default 6 s: no shorter than
    /// the link timeout of 5 s, which is a session's own to keep.
    pub idle_timeout: Duration,
    /// Something is sent at least this often. Default 1 s, so that a link lives on after an outage
    /// of 3 s before which one of these packets was lost.
    pub keep_alive: Duration,
}

impl Default for QuicLimits {
    fn default() -> Self {
        Self {
            bidi_streams: 2,
            uni_streams: 4,
            stream_window_bytes: 64 * 1024,
            connection_window_bytes: 256 * 1024,
            send_window_bytes: 128 * 1024,
            datagram_bytes: 64 * 1024,
            idle_timeout: LINK_TIMEOUT + Duration::from_secs(1),
            keep_alive: Duration::from_secs(1),
        }
    }
}

impl QuicLimits {
    /// Checks that a link works with these values.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first field with whose value no link works.
    pub fn check(&self) -> Result<(), ConfigError> {
        let cure = "a WebTransport session is one stream, and its lanes are another; 2 is the default";
        at_least("QuicLimits::bidi_streams", &self.bidi_streams, &2, cure)?;
        let cure = "HTTP/3 has three such streams; 4 is the default";
        at_least("QuicLimits::uni_streams", &self.uni_streams, &3, cure)?;
        let cure = "the streams of a handshake must fit, and a packet; leave the default if in doubt";
        at_least("QuicLimits::stream_window_bytes", &self.stream_window_bytes, &WINDOW_MIN_BYTES, cure)?;
        at_least("QuicLimits::send_window_bytes", &self.send_window_bytes, &WINDOW_MIN_BYTES, cure)?;
        at_least(
            "QuicLimits::connection_window_bytes",
            &self.connection_window_bytes,
            &self.stream_window_bytes,
            "the window of one stream must fit into that of all; 256 KiB is the default",
        )?;
        within(
            "QuicLimits::idle_timeout",
            &self.idle_timeout,
            IDLE_TIMEOUT_MIN..=IDLE_TIMEOUT_MAX,
            "a link must live for as long as its session waits for it, which is 5 s; 6 s is the default",
        )?;
        within(
            "QuicLimits::keep_alive",
            &self.keep_alive,
            KEEP_ALIVE_MIN..=self.idle_timeout / 2,
            "one of these packets may be lost before the idle timeout; 1 s is the default",
        )
    }

    /// As quinn takes them.
    #[must_use]
    pub fn transport(&self) -> TransportConfig {
        let mut transport = TransportConfig::default();
        // A timeout of centuries is none.
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
            // Datagrams leave one by one: without `unsafe` there is no other way.
            .enable_segmentation_offload(false);
        transport
    }
}

/// The smallest window: a handshake's streams fit it, and a packet.
const WINDOW_MIN_BYTES: u32 = 4 * 1024;
/// The shortest idle timeout: two keep-alives.
const IDLE_TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// The longest idle timeout. A client that is gone keeps its memory for so long.
const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);
/// The shortest pause between two keep-alives.
const KEEP_ALIVE_MIN: Duration = Duration::from_millis(100);
/// What a round trip is taken for until one was measured. A first packet that is not answered is sent
/// again after three times this, then after twice as long each time. RFC 9002 (6.2.2) recommends 333 ms, with which the first is sent again after a second, and at a
/// loss of one in five many handshakes are not done in time.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// How long a peer that can be told is to wait with an acknowledgement: a tick, so that it rides on
/// what is sent anyhow. quinn keeps this between its own minimum and the round trip.
const ACK_DELAY: Duration = Duration::from_millis(50);
/// Unless so many packets wait for it.
const ACK_THRESHOLD: u32 = 8;
