//! What a relay has done, for tests and for people.

use std::fmt;

use super::Direction;
use super::network::Outage;

/// What a relay has done since its start. Its `Display` is a table of some ten lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayCounts {
    /// What went from clients to servers.
    pub up: WayCounts,
    /// What went from servers to clients.
    pub down: WayCounts,
    /// UDP flows: client sockets that were heard of.
    pub flow_count: u64,
    /// TCP connections that were accepted.
    pub connection_count: u64,
    /// New outer ports that flows were given, and TCP connections that ended for the same reason.
    pub rebind_count: u64,
    /// TCP connections that were reset at both ends.
    pub reset_count: u64,
    /// Blackouts that met traffic.
    pub blackout_count: u64,
    /// Outages of one direction that met traffic.
    pub one_way_count: u64,
    /// Flows and connections that were refused, because the system or the relay had no room for them.
    pub refused_count: u64,
}

/// What became of the packets of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WayCounts {
    /// Datagrams that arrived at the relay.
    pub datagram_count: u64,
    /// Datagrams handed to their receiver's socket, second copies included.
    pub delivered_count: u64,
    /// Datagrams lost by chance.
    pub lost_count: u64,
    /// Datagrams lost to an outage.
    pub cut_count: u64,
    /// Datagrams dropped because they would have waited too long for the rate, or because the relay
    /// held too much.
    pub dropped_count: u64,
    /// Datagrams held back so that others overtook them.
    pub reordered_count: u64,
    /// Datagrams that were sent twice.
    pub doubled_count: u64,
    /// TCP segments that arrived at the relay: up to 1,400 bytes each.
    pub segment_count: u64,
    /// Times that a TCP segment was lost by chance or to an outage, and came later for it.
    pub retransmitted_count: u64,
    /// Bytes handed to their receiver, over UDP and TCP.
    pub byte_count: u64,
}

/// The counts while they are made, and what was counted last of outages.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) counts: RelayCounts,
    /// The number after that of the last period whose blackout was counted.
    blackouts_until: u64,
    one_ways_until: u64,
}

impl Tally {
    pub(super) fn way_mut(&mut self, direction: Direction) -> &mut WayCounts {
        match direction {
            Direction::Up => &mut self.counts.up,
            Direction::Down => &mut self.counts.down,
        }
    }

    /// Counts an outage the first time that a packet meets it.
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

/// A row of the table: its name, and the count of each direction.
type Row = (&'static str, fn(&WayCounts) -> u64);

impl fmt::Display for RelayCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<28}{:>12}{:>12}", "relayed", "up", "down")?;
        let rows: [Row; 10] = [
            ("datagrams", |way| way.datagram_count),
            ("datagrams delivered", |way| way.delivered_count),
            ("lost by chance", |way| way.lost_count),
            ("lost to outages", |way| way.cut_count),
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
