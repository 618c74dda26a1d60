//! The table of all runs.

use std::fmt::Write as _;

use crate::play::{Plan, Played};

/// Returns the table, followed by the failures.
pub(crate) fn table(played: &[(&Plan, Played)]) -> String {
    let mut text = head();
    for (plan, outcome) in played {
        let _ = write!(text, "\n{}", row(plan, outcome));
    }
    let failed = played.iter().filter(|(_, outcome)| !outcome.failures().is_empty()).count();
    for (plan, outcome) in played {
        for failure in outcome.failures() {
            let _ = write!(text, "\n{} {}: {failure}", plan.name, plan.transport);
        }
    }
    let _ = write!(text, "\n{} runs, {failed} failed", played.len());
    text
}

/// Returns the names of the columns.
fn head() -> String {
    format!(
        "{:<10}{:>5}{:>8}{:>6}{:>9}{:>8}{:>9}{:>7}{:>9}{:>9}{:>9}{:>10}  verdict",
        "network",
        "over",
        "joined",
        "cuts",
        "sessions",
        "echoes",
        "messages",
        "",
        "p50 ms",
        "p99 ms",
        "packets",
        "left"
    ) + &format!(
        "\n{:<10}{:>5}{:>8}{:>6}{:>9}{:>8}{:>9}{:>7}{:>9}{:>9}{:>9}{:>10}",
        "", "", "", "", "lost", "", "lost", "twice", "", "", "lost %", ""
    )
}

/// Returns the row of a run.
pub(crate) fn row(plan: &Plan, outcome: &Played) -> String {
    let name = format!("{:<10}{:>5}", plan.name, plan.transport);
    let Played::Ended { report, relayed, left, .. } = outcome else { return format!("{name}  not begun") };
    let verdict = if outcome.failures().is_empty() { "held" } else { "FAILED" };
    let (up, down) = (report.up, report.down);
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1_000.0;
    format!(
        "{name}{:>8}{:>6}{:>9}{:>8}{:>9}{:>7}{:>9.1}{:>9.1}{:>9.1}{:>10}  {verdict}",
        format!("{}/{}", report.joined, report.clients),
        report.unasked.cuts,
        report.sessions_lost,
        report.echoes_timed,
        up.lost + down.lost,
        up.doubled + up.disordered + down.doubled + down.disordered,
        ms(report.rtt_p50),
        ms(report.rtt_p99),
        lost_percent(relayed),
        if left.is_some() { "something" } else { "nothing" },
    )
}

/// Returns the percentage of packets that were lost, cut, dropped or sent again.
fn lost_percent(relayed: &waystation::testing::RelayCounts) -> f64 {
    let ways = [relayed.up, relayed.down];
    let lost = |way: &waystation::testing::WayCounts| {
        way.lost_count + way.cut_count + way.dropped_count + way.retransmitted_count
    };
    let all: u64 = ways.iter().map(|way| way.datagram_count + way.segment_count).sum();
    #[allow(clippy::cast_precision_loss, reason = "a percentage")]
    let percent = ways.iter().map(lost).sum::<u64>() as f64 * 100.0 / all.max(1) as f64;
    percent
}
