//! The queue of packets in flight, in the order in which they arrive.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use super::Direction;

/// The packets in flight. Packets that arrive at the same time keep their order.
#[derive(Debug, Default)]
pub(super) struct Dues {
    heap: BinaryHeap<Reverse<Due>>,
    count: u64,
    /// The bytes of datagrams. Each connection bounds its own bytes.
    datagram_bytes: usize,
}

/// A packet or an event that arrives at a receiver.
#[derive(Debug)]
pub(super) enum Cargo {
    /// A datagram of a flow.
    Datagram { flow: usize, direction: Direction, bytes: Vec<u8> },
    /// A segment of a connection. An empty one is the end of the stream.
    Segment { connection: usize, direction: Direction, bytes: Vec<u8> },
    /// The reset of a connection whose sender gives up.
    Reset { connection: usize },
    /// The reset of one end of a connection, after the other end is gone.
    Gone { connection: usize },
}

#[derive(Debug)]
struct Due {
    at: Duration,
    number: u64,
    cargo: Cargo,
}

impl Dues {
    /// Adds cargo that arrives at `at`. Returns false if it is a datagram for which there is no room.
    pub(super) fn push(&mut self, at: Duration, cargo: Cargo) -> bool {
        let bytes = cargo.datagram_bytes();
        if self.datagram_bytes + bytes > DATAGRAM_BYTES_MAX {
            return false;
        }
        self.datagram_bytes += bytes;
        self.count += 1;
        self.heap.push(Reverse(Due { at, number: self.count, cargo }));
        true
    }

    /// Takes the next cargo that has arrived.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Cargo> {
        if self.next_at()? > now {
            return None;
        }
        let Reverse(due) = self.heap.pop()?;
        self.datagram_bytes -= due.cargo.datagram_bytes();
        Some(due.cargo)
    }

    /// Returns when the next cargo arrives.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse(due)| due.at)
    }
}

impl Cargo {
    fn datagram_bytes(&self) -> usize {
        match self {
            Self::Datagram { bytes, .. } => bytes.len() + DATAGRAM_OVERHEAD,
            Self::Segment { .. } | Self::Reset { .. } | Self::Gone { .. } => 0,
        }
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

/// The most bytes of datagrams in flight: those of one second at 500 Mbit/s.
const DATAGRAM_BYTES_MAX: usize = 64 << 20;
/// The approximate overhead of a datagram in bytes.
const DATAGRAM_OVERHEAD: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(length: usize) -> Cargo {
        Cargo::Datagram { flow: length, direction: Direction::Up, bytes: vec![0; length] }
    }

    #[test]
    fn cargo_arrives_in_order_of_time_and_then_of_number() {
        let mut dues = Dues::default();
        for (at, length) in [(30, 1), (10, 2), (10, 3), (20, 4)] {
            assert!(dues.push(Duration::from_millis(at), datagram(length)));
        }

        let mut lengths = Vec::new();
        while let Some(Cargo::Datagram { flow, .. }) = dues.pop(Duration::from_millis(20)) {
            lengths.push(flow);
        }

        assert_eq!(lengths, [2, 3, 4]);
        assert_eq!(dues.next_at(), Some(Duration::from_millis(30)));
    }

    #[test]
    fn datagrams_in_flight_are_bounded_and_delivered_ones_free_room() {
        let mut dues = Dues::default();
        let mut count = 0;
        while dues.push(Duration::ZERO, datagram(60_000)) {
            count += 1;
        }

        assert!(count > 1_000 && count * 60_000 <= DATAGRAM_BYTES_MAX, "{count}");
        assert!(
            dues.push(Duration::ZERO, Cargo::Reset { connection: 0 }),
            "connections are bounded separately"
        );
        assert!(dues.pop(Duration::ZERO).is_some());
        assert!(dues.push(Duration::ZERO, datagram(60_000)));
    }
}
