//! What was seen of each transport: a row of the table each.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::client::Transport;

/// What became of the links over one transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportTally {
    /// Which one.
    pub transport: Transport,
    /// Links over which a session was registered or resumed.
    pub links: u64,
    /// How many of those were cut, or lost unasked.
    pub cuts: u64,
    /// How many of the cuts were followed by a resume, over whichever transport.
    pub resumed: u64,
    /// How many of those kept the session's id.
    pub same_id: u64,
    /// Round trips timed over it.
    pub echoes_timed: u64,
    /// Median round trip of calls that no cut interrupted.
    pub rtt_p50: Duration,
    /// 99 of 100 of them took no longer.
    pub rtt_p99: Duration,
}

impl TransportTally {
    pub(super) fn new(transport: Transport) -> Self {
        Self {
            transport,
            links: 0,
            cuts: 0,
            resumed: 0,
            same_id: 0,
            echoes_timed: 0,
            rtt_p50: Duration::ZERO,
            rtt_p99: Duration::ZERO,
        }
    }
}

/// Round trips, over all transports and over each.
#[derive(Debug, Default)]
pub(super) struct RoundTrips {
    all: Times,
    each: [Times; Transport::ALL.len()],
}

/// Round trips in microseconds; none before the first, or if there is no room for them.
#[derive(Debug, Default)]
pub(super) struct Times(Option<Histogram<u64>>);

impl RoundTrips {
    pub(super) fn record(&mut self, took: Duration, over: Option<Transport>) {
        self.all.record(took);
        if let Some(index) = Transport::ALL.iter().position(|transport| Some(*transport) == over) {
            self.each[index].record(took);
        }
    }

    pub(super) fn all(&self) -> &Times {
        &self.all
    }

    /// Those over one transport.
    pub(super) fn over(&self, transport: Transport) -> &Times {
        let index = Transport::ALL.iter().position(|at| *at == transport);
        index.map_or(&self.all, |index| &self.each[index])
    }
}

impl Times {
    fn record(&mut self, took: Duration) {
        if self.0.is_none() {
            self.0 = Histogram::new_with_bounds(1, RTT_MAX_MICROS, 3).ok();
        }
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// That part of them took no longer.
    pub(super) fn quantile(&self, part: f64) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |times| Duration::from_micros(times.value_at_quantile(part)))
    }
}

/// A minute: longer than any echo that is waited for.
const RTT_MAX_MICROS: u64 = 60_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_kept_apart_by_transport() {
        let mut trips = RoundTrips::default();
        for _ in 0..99 {
            trips.record(Duration::from_millis(10), Some(Transport::Udp));
        }
        trips.record(Duration::from_millis(500), Some(Transport::WebSocket));
        trips.record(Duration::from_millis(10), None);

        assert_eq!((trips.all().count(), trips.over(Transport::Udp).count()), (101, 99));
        assert_eq!(trips.over(Transport::Quic).count(), 0);
        assert_eq!(trips.over(Transport::Quic).quantile(0.5), Duration::ZERO);
        let about = |times: &Times, ms: u64| times.quantile(0.99).as_millis().abs_diff(ms.into()) <= 1;
        assert!(about(trips.over(Transport::Udp), 10));
        assert!(about(trips.over(Transport::WebSocket), 500));
        assert!(about(trips.all(), 10));
    }
}
