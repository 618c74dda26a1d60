//! The counts of a relay.

use std::fmt;

use super::Direction;
use super::network::Outage;

/// The counts of a relay since its start. Its [`Display`](fmt::Display) is a table of about ten lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayCounts {
    /// The counts of the direction from clients to servers.
    pub up: WayCounts,
    /// The counts of the direction from servers to clients.
    pub down: WayCounts,
    /// The number of UDP flows, one for each client socket.
    pub flow_count: u64,
    /// The number of accepted TCP connections.
    pub connection_count: u64,
    /// The number of rebindings: new outer ports of flows, and TCP connections that ended because of one.
    pub rebind_count: u64,
    /// The number of TCP connections that were reset at both ends.
    pub reset_count: u64,
    /// The number of blackouts in which a packet was sent.
    pub blackout_count: u64,
    /// The number of one-way outages in which a packet was sent.
    pub one_way_count: u64,
    /// The number of flows and connections that were refused, because the system or the relay had no room.
    pub refused_count: u64,
}

/// The counts of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WayCounts {
    /// The number of datagrams that arrived at the relay.
    pub datagram_count: u64,
    /// The number of datagrams that were sent to their receivers, second copies included.
    pub delivered_count: u64,
    /// The number of datagrams that were lost at random.
    pub lost_count: u64,
    /// The number of datagrams that were lost in an outage.
    pub cut_count: u64,
    /// The number of datagrams that were dropped, because they would have waited too long for the rate, or because the
    /// relay held too many bytes.
    pub dropped_count: u64,
    /// The number of datagrams that were held back so that others overtake them.
    pub reordered_count: u64,
    /// The number of datagrams that were duplicated.
    pub doubled_count: u64,
    /// The number of TCP segments that arrived at the relay. A segment has up to 1,400 bytes.
    pub segment_count: u64,
    /// The number of times that a TCP segment was lost and sent again.
    pub retransmitted_count: u64,
    /// The number of bytes that were sent to their receivers, over UDP and TCP.
    pub byte_count: u64,
}

/// The counts, and which outages they include.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) counts: RelayCounts,
    /// The first period whose blackout was not counted.
    blackouts_until: u64,
    /// The first period whose one-way outage was not counted.
    one_ways_until: u64,
}

impl Tally {
    pub(super) fn way_mut(&mut self, direction: Direction) -> &mut WayCounts {
        match direction {
            Direction::Up => &mut self.counts.up,
            Direction::Down => &mut self.counts.down,
        }
    }

    /// Counts an outage, unless it was counted before.
    pub(super) fn met(&mut self, outage: Outage) {
        let (period, until, count) = match outage {
            Outage::Blackout(period) => (period, &mut self.blackouts_until, &mut self.counts.blackout_count),
            Outage::OneWay(period) => (period, &mut self.one_ways_until, &mut self.counts.one_way_count),
        };
        if period >= *until {
            *until = period + 1;
            *count += 1;
        }
    }
}

/// A row of the table: its name, and a function that returns the count of a direction.
type Row = (&'static str, fn(&WayCounts) -> u64);

impl fmt::Display for RelayCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<28}{:>12}{:>12}", "relayed", "up", "down")?;
        let rows: [Row; 10] = [
            ("datagrams", |way| way.datagram_count),
            ("datagrams delivered", |way| way.delivered_count),
            ("lost at random", |way| way.lost_count),
            ("lost in outages", |way| way.cut_count),
            ("dropped for rate or room", |way| way.dropped_count),
            ("reordered", |way| way.reordered_count),
            ("doubled", |way| way.doubled_count),
            ("TCP segments", |way| way.segment_count),
            ("TCP segments sent again", |way| way.retransmitted_count),
            ("bytes delivered", |way| way.byte_count),
        ];
        for (name, count) in rows {
            writeln!(f, "{name:<28}{:>12}{:>12}", count(&self.up), count(&self.down))?;
        }
        write!(
            f,
            "flows {}, connections {}, rebindings {}, resets {}, blackouts {}, one-way outages {}, refused {}",
            self.flow_count,
            self.connection_count,
            self.rebind_count,
            self.reset_count,
            self.blackout_count,
            self.one_way_count,
            self.refused_count
        )
    }
}
