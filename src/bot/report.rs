//! What a run of bots has seen, and whether it is good.

use std::fmt;
use std::time::Duration;

use super::check::LaneTally;
use super::plan::CutKind;
use super::rows::{RoundTrips, TransportTally};
use crate::client::Transport;

/// What became of the cuts of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CutTally {
    /// Links cut.
    pub cuts: u64,
    /// How many of them were followed by a resume.
    pub resumed: u64,
    /// How many of those kept the session's id.
    pub same_id: u64,
}

/// The outcome of a run. [`Display`](fmt::Display) is its table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BotReport {
    /// Bots in the run.
    pub clients: u64,
    /// How many joined the zone at least once.
    pub joined: u64,
    /// When the last of those joined for the first time, since the run began.
    pub last_joined_at: Duration,
    /// The longest time between the loss of a link and the resume of its session.
    pub longest_absence: Duration,
    /// Cuts with an immediate return.
    pub takeover: CutTally,
    /// Cuts that the transport told the server.
    pub close: CutTally,
    /// Cuts that the server had to notice.
    pub silent: CutTally,
    /// Links lost that nobody cut.
    pub unasked: CutTally,
    /// Resumes for which the server had voided what was under way.
    pub resync_count: u64,
    /// Sessions that were lost and registered anew.
    pub sessions_lost: u64,
    /// Reliable messages that those left unacknowledged.
    pub unacked_count: u64,
    /// Bots that the server turned away for good.
    pub stopped: u64,
    /// Bots that still waited for acks, echoes or a link when the time was up.
    pub unsettled: u64,
    /// Reliable calls, client to server.
    pub up: LaneTally,
    /// Their echoes, server to client.
    pub down: LaneTally,
    /// Round trips timed.
    pub echoes_timed: u64,
    /// Median round trip of calls that no cut interrupted.
    pub rtt_p50: Duration,
    /// 99 of 100 of them took no longer.
    pub rtt_p99: Duration,
    /// Each kind of cut should have happened.
    pub every_kind_due: bool,
    /// A row for each transport that was to be used.
    pub transports: Vec<TransportTally>,
    /// Each reconnect was to go over another transport than the last.
    pub mixed: bool,
    /// Reconnects whose link said that it has another transport than the last.
    pub moved_count: u64,
    /// Reconnects whose link said that it has the same one, or nothing.
    pub stayed_count: u64,
    /// Why the first bot that was turned away was.
    pub turned_away: Option<String>,
}

impl CutTally {
    fn is_clean(&self) -> bool {
        self.cuts == self.resumed && self.resumed == self.same_id
    }
}

impl BotReport {
    /// Whether all went as it must: everybody joined, every cut was followed by a resume of the
    /// same session, each kind happened if there was time, and no reliable message was lost,
    /// doubled or out of order in either direction.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures().is_empty()
    }

    /// A session has a link over a transport, and had one before over another.
    pub(super) fn bound(&mut self, before: Option<Transport>, over: Option<Transport>) {
        if let Some(row) = self.row_mut(over) {
            row.links += 1;
        }
        if before.is_some() {
            let moved = over.is_some() && over != before;
            self.moved_count += u64::from(moved);
            self.stayed_count += u64::from(!moved);
        }
    }

    /// A link over a transport is gone; how, if somebody asked for it.
    pub(super) fn cut(&mut self, kind: Option<CutKind>, over: Option<Transport>) {
        self.cut_mut(kind).cuts += 1;
        if let Some(row) = self.row_mut(over) {
            row.cuts += 1;
        }
    }

    /// What was cut so has resumed.
    pub(super) fn resumed(&mut self, kind: Option<CutKind>, over: Option<Transport>, is_same: bool) {
        let tally = self.cut_mut(kind);
        tally.resumed += 1;
        tally.same_id += u64::from(is_same);
        if let Some(row) = self.row_mut(over) {
            row.resumed += 1;
            row.same_id += u64::from(is_same);
        }
    }

    /// All round trips are in.
    pub(super) fn timed(&mut self, trips: &RoundTrips) {
        let all = trips.all();
        (self.echoes_timed, self.rtt_p50, self.rtt_p99) =
            (all.count(), all.quantile(0.5), all.quantile(0.99));
        for row in &mut self.transports {
            let times = trips.over(row.transport);
            (row.echoes_timed, row.rtt_p50, row.rtt_p99) =
                (times.count(), times.quantile(0.5), times.quantile(0.99));
        }
    }

    fn cut_mut(&mut self, kind: Option<CutKind>) -> &mut CutTally {
        match kind {
            Some(CutKind::Takeover) => &mut self.takeover,
            Some(CutKind::Close) => &mut self.close,
            Some(CutKind::Silent) => &mut self.silent,
            None => &mut self.unasked,
        }
    }

    fn row_mut(&mut self, transport: Option<Transport>) -> Option<&mut TransportTally> {
        self.transports.iter_mut().find(|row| Some(row.transport) == transport)
    }

    fn kinds(&self) -> [(&'static str, CutTally); 3] {
        [("takeover", self.takeover), ("close", self.close), ("silent", self.silent)]
    }

    /// What did not go as it must, in words.
    fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut fail = |failed: bool, what: String| {
            if failed {
                failures.push(what);
            }
        };
        fail(
            self.joined < self.clients,
            format!("{} bots never joined", self.clients - self.joined.min(self.clients)),
        );
        for (name, tally) in self.kinds() {
            fail(!tally.is_clean(), format!("not every {name} cut resumed the same session"));
            fail(self.every_kind_due && tally.cuts == 0, format!("there was time, but no {name} cut"));
        }
        fail(!self.unasked.is_clean(), "a link that nobody cut did not resume".to_owned());
        fail(
            self.sessions_lost > 0,
            format!(
                "{} sessions were lost, with {} messages unacknowledged",
                self.sessions_lost, self.unacked_count
            ),
        );
        let why = self.turned_away.as_deref().unwrap_or("no reason was given");
        fail(self.stopped > 0, format!("{} bots were turned away, the first of them: {why}", self.stopped));
        fail(self.unsettled > 0, format!("{} bots were not done in time", self.unsettled));
        for (name, lane) in [("client to server", self.up), ("server to client", self.down)] {
            fail(!lane.is_clean(), format!("reliable messages {name} were lost, doubled or out of order"));
        }
        fail(self.up.sent == 0, "nothing reliable was sent".to_owned());
        for row in &self.transports {
            let due = self.clients >= self.transports.len() as u64;
            fail(due && row.links == 0, format!("no link over {}", row.transport));
        }
        fail(
            self.mixed && self.stayed_count > 0,
            format!("{} reconnects did not change the transport", self.stayed_count),
        );
        failures
    }
}

impl BotReport {
    fn fmt_transports(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        writeln!(
            f,
            "{:<18}{:>8}{:>8}{:>10}{:>10}{:>10}{:>10}",
            "over", "links", "cuts", "resumed", "same id", "p50 ms", "p99 ms"
        )?;
        for row in &self.transports {
            writeln!(
                f,
                "{:<18}{:>8}{:>8}{:>10}{:>10}{:>10.1}{:>10.1}",
                row.transport,
                row.links,
                row.cuts,
                row.resumed,
                row.same_id,
                milliseconds(row.rtt_p50),
                milliseconds(row.rtt_p99)
            )?;
        }
        writeln!(
            f,
            "reconnects over another transport than the last {}, over the same {}",
            self.moved_count, self.stayed_count
        )?;
        writeln!(
            f,
            "echo RTT p50 {:.1} ms, p99 {:.1} ms ({} timed; those that a cut interrupted are left out)",
            milliseconds(self.rtt_p50),
            milliseconds(self.rtt_p99),
            self.echoes_timed
        )
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

impl fmt::Display for BotReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "clients {}, joined {}, the last after {:.1} s",
            self.clients,
            self.joined,
            self.last_joined_at.as_secs_f64()
        )?;
        writeln!(f)?;
        writeln!(f, "{:<18}{:>8}{:>10}{:>10}", "cuts", "cuts", "resumed", "same id")?;
        for (name, tally) in self.kinds().into_iter().chain([("not asked for", self.unasked)]) {
            writeln!(f, "{name:<18}{:>8}{:>10}{:>10}", tally.cuts, tally.resumed, tally.same_id)?;
        }
        writeln!(f, "longest absence {:.1} s", self.longest_absence.as_secs_f64())?;
        writeln!(
            f,
            "resyncs {}, sessions lost {} (unacknowledged {}), turned away {}, not done in time {}",
            self.resync_count, self.sessions_lost, self.unacked_count, self.stopped, self.unsettled
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "{:<18}{:>10}{:>10}{:>8}{:>9}{:>14}",
            "reliable", "sent", "received", "lost", "doubled", "out of order"
        )?;
        for (name, lane) in [("client to server", self.up), ("server to client", self.down)] {
            writeln!(
                f,
                "{name:<18}{:>10}{:>10}{:>8}{:>9}{:>14}",
                lane.sent, lane.received, lane.lost, lane.doubled, lane.disordered
            )?;
        }
        self.fmt_transports(f)?;
        let failures = self.failures();
        if failures.is_empty() {
            return write!(f, "passed");
        }
        write!(f, "FAILED")?;
        for failure in failures {
            write!(f, "\n- {failure}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> BotReport {
        let tally = CutTally { cuts: 2, resumed: 2, same_id: 2 };
        BotReport {
            clients: 3,
            joined: 3,
            takeover: tally,
            close: tally,
            silent: tally,
            up: LaneTally { sent: 9, received: 9, ..LaneTally::default() },
            every_kind_due: true,
            transports: [Transport::Udp, Transport::WebSocket]
                .map(|transport| TransportTally { links: 4, cuts: 3, ..TransportTally::new(transport) })
                .to_vec(),
            mixed: true,
            ..BotReport::default()
        }
    }

    #[test]
    fn a_good_run_passes_and_its_table_says_so() {
        let table = good().to_string();

        assert!(good().passed());
        assert!(table.ends_with("passed"), "{table}");
        assert!(table.lines().all(|line| line.len() <= 110));
    }

    #[test]
    fn every_single_fault_fails_the_run() {
        let spoils: [fn(&mut BotReport); 15] = [
            |report| report.joined = 2,
            |report| report.takeover.resumed = 1,
            |report| report.close.same_id = 1,
            |report| report.silent = CutTally::default(),
            |report| report.unasked.cuts = 1,
            |report| report.sessions_lost = 1,
            |report| report.stopped = 1,
            |report| report.unsettled = 1,
            |report| report.up.lost = 1,
            |report| report.up.doubled = 1,
            |report| report.up.disordered = 1,
            |report| report.down.lost = 1,
            |report| report.up.sent = 0,
            |report| report.transports[1].links = 0,
            |report| report.stayed_count = 1,
        ];

        for (index, spoil) in spoils.into_iter().enumerate() {
            let mut report = good();
            spoil(&mut report);
            assert!(!report.passed(), "{index}");
            assert!(report.to_string().contains("FAILED\n- "), "{index}");
        }
    }
}
