//! The tallies and the round trips of each transport.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::client::Transport;

/// Counts of the links over one transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportTally {
    /// The transport.
    pub transport: Transport,
    /// The number of links over which a session was registered or resumed.
    pub links: u64,
    /// The number of those links that were lost, by a cut of the bot or otherwise.
    pub cuts: u64,
    /// The number of those losses that a resume followed, over any transport.
    pub resumed: u64,
    /// The number of those resumes that kept the session id.
    pub same_id: u64,
    /// The number of round trips that were measured over this transport.
    pub echoes_timed: u64,
    /// The median of those round trips. Calls whose link was lost are left out.
    pub rtt_p50: Duration,
    /// The 99th percentile of those round trips.
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

/// Round trips: over all transports together, and over each transport.
#[derive(Debug, Default)]
pub(super) struct RoundTrips {
    all: Times,
    each: [Times; Transport::ALL.len()],
}

/// A histogram of round trips in microseconds. `None` before the first one, or if it cannot be created.
#[derive(Debug, Default)]
pub(super) struct Times(Option<Histogram<u64>>);

impl RoundTrips {
    /// Records a round trip, if it was measured.
    pub(super) fn record(&mut self, took: Option<Duration>, over: Option<Transport>) {
        let Some(took) = took else { return };
        self.all.record(took);
        if let Some(index) = Transport::ALL.iter().position(|transport| Some(*transport) == over) {
            self.each[index].record(took);
        }
    }

    pub(super) fn all(&self) -> &Times {
        &self.all
    }

    /// Returns the round trips over one transport.
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

    /// Returns a quantile. `part` is from 0 to 1.
    pub(super) fn quantile(&self, part: f64) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |times| Duration::from_micros(times.value_at_quantile(part)))
    }
}

/// The longest round trip of the histogram, in microseconds: a minute, which is longer than bots wait for echoes.
const RTT_MAX_MICROS: u64 = 60_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_kept_apart_by_transport() {
        let mut trips = RoundTrips::default();
        for _ in 0..99 {
            trips.record(Some(Duration::from_millis(10)), Some(Transport::Udp));
        }
        trips.record(Some(Duration::from_millis(500)), Some(Transport::WebSocket));
        trips.record(Some(Duration::from_millis(10)), None);

        assert_eq!((trips.all().count(), trips.over(Transport::Udp).count()), (101, 99));
        assert_eq!(trips.over(Transport::Quic).count(), 0);
        assert_eq!(trips.over(Transport::Quic).quantile(0.5), Duration::ZERO);
        let about = |times: &Times, ms: u64| times.quantile(0.99).as_millis().abs_diff(ms.into()) <= 1;
        assert!(about(trips.over(Transport::Udp), 10));
        assert!(about(trips.over(Transport::WebSocket), 500));
        assert!(about(trips.all(), 10));
    }
}
