//! The report of a run of bots, and whether the run has passed.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::check::LaneTally;
use super::plan::CutKind;
use super::rows::{RoundTrips, TransportTally};
use crate::client::Transport;

/// Counts of the lost links of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CutTally {
    /// The number of lost links.
    pub cuts: u64,
    /// The number of lost links that a resume followed.
    pub resumed: u64,
    /// The number of resumes that kept the session id.
    pub same_id: u64,
}

/// The report of a run. Its [`Display`](fmt::Display) prints tables and the failures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BotReport {
    /// The number of bots.
    pub clients: u64,
    /// The number of bots that have joined the zone at least once.
    pub joined: u64,
    /// When the last bot joined for the first time, since the start of the run.
    pub last_joined_at: Duration,
    /// The longest time between the loss of a link and the resume of its session.
    pub longest_absence: Duration,
    /// Cuts of the kind [`CutKind::Takeover`](super::CutKind::Takeover).
    pub takeover: CutTally,
    /// Cuts of the kind [`CutKind::Close`](super::CutKind::Close).
    pub close: CutTally,
    /// Cuts of the kind [`CutKind::Silent`](super::CutKind::Silent).
    pub silent: CutTally,
    /// Links that were lost without a cut by the bot.
    pub unasked: CutTally,
    /// The number of resumes with resync.
    pub resync_count: u64,
    /// The number of sessions that were lost.
    pub sessions_lost: u64,
    /// The number of counted frames that were unacknowledged when their sessions were lost.
    pub unacked_count: u64,
    /// The number of bots whose client has stopped before the end of the run.
    pub stopped: u64,
    /// The number of bots that still waited for acknowledgements, answers or a link at the end of the run.
    pub unsettled: u64,
    /// The numbered calls, from client to server: those whose answers hold a count, and those that are known to be lost
    /// in this direction.
    pub up: LaneTally,
    /// The answers that hold a count, from server to client.
    pub down: LaneTally,
    /// The round trips of numbered calls whose answers only repeat the number. The direction of a fault is not known.
    pub either: LaneTally,
    /// The number of round trips that were measured.
    pub echoes_timed: u64,
    /// The median of the measured round trips. Calls whose link was lost are left out.
    pub rtt_p50: Duration,
    /// The 99th percentile of the measured round trips. Calls whose link was lost are left out.
    pub rtt_p99: Duration,
    /// True if the run is long enough for each kind of cut.
    pub every_kind_due: bool,
    /// The tallies of the transports that the bots use.
    pub transports: Vec<TransportTally>,
    /// True if each new link of a session must use another transport than the link before.
    pub mixed: bool,
    /// The number of new links with another transport than the link before.
    pub moved_count: u64,
    /// The number of new links with the same transport as the link before, or with an unknown one.
    pub stayed_count: u64,
    /// The reason and the detail with which the first bot was stopped.
    pub turned_away: Option<String>,
    /// The causes for which bots have never joined, each with the number of these bots.
    pub never_joined: BTreeMap<String, u64>,
    /// Why the first call that can never be sent was not sent, for example because it is too long.
    pub unsendable: Option<String>,
}

impl CutTally {
    fn is_clean(&self) -> bool {
        self.cuts == self.resumed && self.resumed == self.same_id
    }
}

impl BotReport {
    /// Returns true if the run has passed.
    ///
    /// In a run that passes, all bots have joined, each lost link was followed by a resume of the same session, each
    /// kind of cut has occurred if the run was long enough, each transport was used, and no numbered call and no answer
    /// was lost, doubled or out of order. See [`call_count`](Self::call_count) for whether calls were checked at all.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures().is_empty()
    }

    /// Returns the number of calls that were checked. It is 0 if the bots have made no numbered call.
    #[must_use]
    pub fn call_count(&self) -> u64 {
        self.up.sent.saturating_add(self.either.sent)
    }

    /// Records that a session has a new link over `over`. `before` is the transport of the link before.
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

    /// Records the loss of a link. `kind` is `None` if the bot did not cut it.
    pub(super) fn cut(&mut self, kind: Option<CutKind>, over: Option<Transport>) {
        self.cut_mut(kind).cuts += 1;
        if let Some(row) = self.row_mut(over) {
            row.cuts += 1;
        }
    }

    /// Records the resume after the loss of a link. `kind` is `None` if the bot did not cut the link.
    pub(super) fn resumed(&mut self, kind: Option<CutKind>, over: Option<Transport>, is_same: bool) {
        let tally = self.cut_mut(kind);
        tally.resumed += 1;
        tally.same_id += u64::from(is_same);
        if let Some(row) = self.row_mut(over) {
            row.resumed += 1;
            row.same_id += u64::from(is_same);
        }
    }

    /// Writes the round trips into the report.
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

    /// Returns the rows of the table of messages. The arena's answers hold a count, so its table has the first two.
    fn lanes(&self) -> impl Iterator<Item = (&'static str, LaneTally)> {
        let none = LaneTally::default();
        let has_either = self.either != none;
        let has_ways = !has_either || self.up != none || self.down != none;
        let ways = [("client to server", self.up), ("server to client", self.down)];
        let either = [("there and back", self.either)];
        ways.into_iter().filter(move |_| has_ways).chain(either.into_iter().filter(move |_| has_either))
    }

    fn kinds(&self) -> [(&'static str, CutTally); 3] {
        [("takeover", self.takeover), ("close", self.close), ("silent", self.silent)]
    }

    /// Returns the failures of the run, in words.
    fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut fail = |failed: bool, what: String| {
            if failed {
                failures.push(what);
            }
        };
        self.absences().for_each(|absence| fail(true, absence));
        for (name, tally) in self.kinds() {
            fail(!tally.is_clean(), format!("not every {name} cut was followed by a resume of the session"));
            fail(self.every_kind_due && tally.cuts == 0, format!("there was no {name} cut"));
        }
        fail(!self.unasked.is_clean(), "a session was not resumed after an unplanned link loss".to_owned());
        fail(
            self.sessions_lost > 0,
            format!(
                "{} sessions were lost, with {} messages unacknowledged",
                self.sessions_lost, self.unacked_count
            ),
        );
        let why = self.turned_away.as_deref().unwrap_or("no reason was given");
        fail(self.stopped > 0, format!("{} bots were stopped; the first reason: {why}", self.stopped));
        fail(self.unsettled > 0, format!("{} bots did not get all answers in time", self.unsettled));
        for (name, lane) in [("client to server", self.up), ("server to client", self.down)] {
            fail(!lane.is_clean(), format!("reliable messages {name} were lost, doubled or out of order"));
        }
        fail(
            !self.either.is_clean(),
            "calls or their answers were lost, doubled or out of order, in a direction that is not known"
                .to_owned(),
        );
        let lost = self.up.lost + self.down.lost + self.either.lost;
        fail(
            lost > 0 && self.resync_count > 0,
            format!(
                "there were {} resyncs: the server kept more messages for a client without a link than its outbox \
                 holds, so the messages were lost. Send fewer reliable messages, or raise session.outbox_max_frames \
                 and session.outbox_max_bytes",
                self.resync_count
            ),
        );
        let unsendable = self.unsendable.as_deref().unwrap_or_default();
        fail(self.unsendable.is_some(), format!("a call can never be sent: {unsendable}"));
        for row in &self.transports {
            let due = self.clients >= self.transports.len() as u64;
            fail(due && row.links == 0, format!("no link over {}", row.transport));
        }
        fail(
            self.mixed && self.stayed_count > 0,
            format!("{} new links did not change the transport", self.stayed_count),
        );
        failures
    }

    /// Returns why bots have never joined, in words: the most frequent causes first.
    fn absences(&self) -> impl Iterator<Item = String> {
        let mut causes: Vec<(&str, u64)> =
            self.never_joined.iter().map(|(why, count)| (why.as_str(), *count)).collect();
        causes.sort_by_key(|(_, count)| Reverse(*count));
        causes.truncate(CAUSES_MAX);
        let named: u64 = causes.iter().map(|(_, count)| count).sum();
        let others = self.clients.saturating_sub(self.joined).saturating_sub(named);
        causes.push(("other causes", others));
        causes.into_iter().filter(|(_, count)| *count > 0).map(|(why, count)| {
            let bots = if count == 1 { "bot" } else { "bots" };
            format!("never joined: {count} {bots}: {why}")
        })
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
            "new links over another transport than the last {}, over the same {}",
            self.moved_count, self.stayed_count
        )?;
        writeln!(
            f,
            "echo RTT p50 {:.1} ms, p99 {:.1} ms ({} measured, without calls that a cut interrupted)",
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
        for (name, tally) in self.kinds().into_iter().chain([("unplanned", self.unasked)]) {
            writeln!(f, "{name:<18}{:>8}{:>10}{:>10}", tally.cuts, tally.resumed, tally.same_id)?;
        }
        writeln!(f, "longest absence {:.1} s", self.longest_absence.as_secs_f64())?;
        writeln!(
            f,
            "resyncs {}, sessions lost {} (unacknowledged {}), bots stopped {}, bots without all answers {}",
            self.resync_count, self.sessions_lost, self.unacked_count, self.stopped, self.unsettled
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "{:<18}{:>10}{:>10}{:>8}{:>9}{:>14}",
            "reliable", "sent", "received", "lost", "doubled", "out of order"
        )?;
        for (name, lane) in self.lanes() {
            writeln!(
                f,
                "{name:<18}{:>10}{:>10}{:>8}{:>9}{:>14}",
                lane.sent, lane.received, lane.lost, lane.doubled, lane.disordered
            )?;
        }
        self.fmt_transports(f)?;
        let failures = self.failures();
        if self.call_count() == 0 {
            writeln!(f, "no call was checked: the bots have made no numbered call")?;
        }
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

/// Maximum number of causes, in the text of a report, for which bots have never joined.
const CAUSES_MAX: usize = 8;

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
    fn the_table_of_a_good_run_ends_with_passed() {
        let table = good().to_string();

        assert!(good().passed());
        assert!(table.ends_with("passed"), "{table}");
        assert!(table.lines().all(|line| line.len() <= 110));
    }

    #[test]
    fn the_table_of_the_arena_has_these_rows() {
        let report = BotReport { clients: 4, rtt_p99: Duration::from_micros(12_340), ..good() };

        let expected = "\
clients 4, joined 3, the last after 0.0 s

cuts                  cuts   resumed   same id
takeover                 2         2         2
close                    2         2         2
silent                   2         2         2
unplanned                0         0         0
longest absence 0.0 s
resyncs 0, sessions lost 0 (unacknowledged 0), bots stopped 0, bots without all answers 0

reliable                sent  received    lost  doubled  out of order
client to server           9         9       0        0             0
server to client           0         0       0        0             0

over                 links    cuts   resumed   same id    p50 ms    p99 ms
udp                      4       3         0         0       0.0       0.0
ws                       4       3         0         0       0.0       0.0
new links over another transport than the last 0, over the same 0
echo RTT p50 0.0 ms, p99 12.3 ms (0 measured, without calls that a cut interrupted)
FAILED
- never joined: 1 bot: other causes";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn each_fault_fails_the_run() {
        let spoils: [fn(&mut BotReport); 16] = [
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
            |report| report.either.lost = 1,
            |report| report.unsendable = Some("it is too long".to_owned()),
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
