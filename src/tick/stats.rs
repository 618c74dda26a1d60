//! Measures how long ticks take.

use std::time::Duration;

use bevy_ecs::prelude::*;
use hdrhistogram::Histogram;

/// Durations of ticks, since the start and since the last report.
#[derive(Resource, Debug)]
pub struct TickStats {
    all: Histogram<u64>,
    recent: Histogram<u64>,
    overrun_count: u64,
    skipped_count: u64,
}

/// A summary of [`TickStats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TickSummary {
    /// Number of ticks that were measured.
    pub count: u64,
    /// Median duration of a tick.
    pub p50: Duration,
    /// 99th percentile of the durations.
    pub p99: Duration,
    /// Longest duration of a tick.
    pub max: Duration,
    /// Number of ticks since the start that took longer than their period.
    pub overrun_count: u64,
    /// Number of ticks since the start that were skipped to catch up.
    pub skipped_count: u64,
}

impl TickStats {
    /// Records the duration of a tick.
    pub fn record(&mut self, took: Duration, period: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.all.saturating_record(micros);
        self.recent.saturating_record(micros);
        self.overrun_count += u64::from(took > period);
    }

    /// Records ticks that were skipped.
    pub fn record_skipped(&mut self, count: u64) {
        self.skipped_count += count;
    }

    /// Returns a summary of all ticks since the start.
    #[must_use]
    pub fn summary(&self) -> TickSummary {
        self.summarize(&self.all)
    }

    /// Returns a summary of the ticks since the last call of this method.
    pub fn take_recent(&mut self) -> TickSummary {
        let summary = self.summarize(&self.recent);
        self.recent.reset();
        summary
    }

    fn summarize(&self, histogram: &Histogram<u64>) -> TickSummary {
        TickSummary {
            count: histogram.len(),
            p50: Duration::from_micros(histogram.value_at_quantile(0.50)),
            p99: Duration::from_micros(histogram.value_at_quantile(0.99)),
            max: Duration::from_micros(histogram.max()),
            overrun_count: self.overrun_count,
            skipped_count: self.skipped_count,
        }
    }
}

impl Default for TickStats {
    fn default() -> Self {
        let new = || {
            Histogram::new_with_bounds(1, LONGEST_MICROS, DIGITS)
                .expect("the bounds are in the allowed range")
        };
        Self { all: new(), recent: new(), overrun_count: 0, skipped_count: 0 }
    }
}

/// Longest duration that is distinguished, in microseconds: one minute.
const LONGEST_MICROS: u64 = 60_000_000;
/// Significant digits of a duration: three, so durations are exact to 0.1 %. The histograms take 150 KiB.
const DIGITS: u8 = 3;
