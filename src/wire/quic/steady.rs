//! The congestion controller of QUIC connections: a [`Window`] as a controller of quinn.
//!
//! While quinn's window is full, quinn sends nothing, not even acknowledgements. Two ends that wait for each
//! other's acknowledgements would wait for ever. So this controller reports to quinn a window that is never
//! full. The real window bounds what [`Lanes`](super::Lanes) hands to the connection: datagrams, and new bytes
//! of the stream. Retransmissions of quinn are bounded by the bytes that were handed over and not acknowledged.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quinn_proto::congestion::{Controller, ControllerFactory};
use quinn_proto::{Connection, RttEstimator};

use crate::wire::millis;
use crate::wire::window::{TRICKLE_EVERY, WINDOW_MAX, Window};

/// Makes a controller for each path of a connection.
#[derive(Debug)]
pub(super) struct SteadyConfig;

/// The controller of one path.
#[derive(Debug, Clone)]
struct Steady {
    window: Window,
    epoch: Instant,
    /// The bytes in flight, as far as quinn reports them.
    in_flight: u64,
    /// When a packet was last acknowledged.
    acked_at: Duration,
    round_trip: Duration,
    shared: Arc<Shared>,
}

/// The state that [`room`] and [`note_full`] write. Copies of a controller share it.
#[derive(Debug, Default)]
struct Shared {
    /// True if the window keeps the link from sending more.
    is_full: AtomicBool,
    /// When a packet last left in spite of a full window, in milliseconds.
    trickled_ms: AtomicU64,
}

/// Returns how many more bytes may be handed to a connection. While nothing is acknowledged, this is one packet
/// every [`TRICKLE_EVERY`].
pub(super) fn room(connection: &Connection, now: Instant) -> usize {
    let Some(steady) = steady(connection) else { return usize::MAX };
    let room = steady.window.bytes().saturating_sub(steady.in_flight);
    let now = steady.since(now);
    let is_silent = now.saturating_sub(steady.acked_at) >= TRICKLE_EVERY + 2 * steady.round_trip;
    let trickled_at = Duration::from_millis(steady.shared.trickled_ms.load(Ordering::Relaxed));
    if is_silent && now.saturating_sub(trickled_at) >= TRICKLE_EVERY {
        steady.shared.trickled_ms.store(millis(now), Ordering::Relaxed);
        return usize::try_from(room.max(PACKET_BYTES)).unwrap_or(usize::MAX);
    }
    usize::try_from(room).unwrap_or(usize::MAX)
}

/// Records whether the window has kept the link from sending more.
pub(super) fn note_full(connection: &Connection, is_full: bool) {
    if let Some(steady) = steady(connection) {
        steady.shared.is_full.store(is_full, Ordering::Relaxed);
    }
}

/// Returns a copy of the connection's controller, or `None` if the connection uses another controller.
fn steady(connection: &Connection) -> Option<Box<Steady>> {
    connection.congestion_state().clone_box().into_any().downcast().ok()
}

impl ControllerFactory for SteadyConfig {
    fn build(self: Arc<Self>, now: Instant, _mtu: u16) -> Box<dyn Controller> {
        Box::new(Steady {
            window: Window::new(),
            epoch: now,
            in_flight: 0,
            acked_at: Duration::ZERO,
            round_trip: Duration::ZERO,
            shared: Arc::default(),
        })
    }
}

impl Steady {
    fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }
}

impl Controller for Steady {
    fn on_sent(&mut self, _now: Instant, bytes: u64, _number: u64) {
        // quinn also reports packets with acknowledgements only, which do not count as in flight.
        if bytes > ACK_BYTES_MAX {
            self.in_flight += bytes;
        }
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, rtt: &RttEstimator) {
        (self.acked_at, self.round_trip) = (self.since(now), rtt.get());
        self.in_flight = self.in_flight.saturating_sub(bytes);
        let is_full = self.shared.is_full.load(Ordering::Relaxed);
        self.window.acked(self.acked_at, self.since(sent), bytes, is_full, self.round_trip);
    }

    fn on_end_acks(&mut self, _now: Instant, in_flight: u64, _app_limited: bool, _largest: Option<u64>) {
        self.in_flight = in_flight;
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        let (now, sent) = (self.since(now), self.since(sent));
        self.in_flight = self.in_flight.saturating_sub(lost_bytes);
        if lost_bytes == 0 {
            self.window.marked(now, sent);
        } else {
            self.window.lost(now, sent, lost_bytes, is_persistent);
        }
    }

    fn on_mtu_update(&mut self, _mtu: u16) {}

    fn window(&self) -> u64 {
        QUINN_WINDOW
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        QUINN_WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The window in bytes that quinn uses. It is larger than the lanes ever fill.
const QUINN_WINDOW: u64 = 4 * WINDOW_MAX;
/// A packet up to this length in bytes may hold acknowledgements only.
const ACK_BYTES_MAX: u64 = 64;
/// The length of a packet in bytes.
const PACKET_BYTES: u64 = crate::wire::window::PACKET_BYTES;
