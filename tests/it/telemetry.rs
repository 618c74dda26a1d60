//! Tests the status and the summary that a server reports to its operator.

use std::sync::{Arc, Mutex};

use waystation::arena::{ArenaPlugin, ZONE};
use waystation::telemetry::{Status, Summary, TelemetryPlugin};
use waystation::testing::{Harness, Via};

type Reports = Arc<Mutex<Vec<Status>>>;

fn game() -> (Harness, Reports) {
    let reports = Reports::default();
    let sink = Arc::clone(&reports);
    let mut game = Harness::new();
    game.app.add_plugins((
        ArenaPlugin::default(),
        TelemetryPlugin::new(move |status: &Status| sink.lock().expect("a sink").push(*status)),
    ));
    (game, reports)
}

#[test]
fn a_status_each_second_counts_sessions_by_state_and_agents_apart() {
    let (mut game, reports) = game();
    let mut connected = game.player(Via::Alpha);
    let mut active = game.member(Via::Beta, ZONE);
    let mut lost = game.member(Via::Alpha, ZONE);
    lost.close();

    game.run_with(&mut [&mut connected, &mut active], 2_000);

    let reports = reports.lock().expect("a sink");
    let last = reports.last().expect("a status");
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert_eq!((last.connected_count, last.active_count, last.disconnected_count), (1, 1, 1));
    assert_eq!((last.agent_count, last.zone_count), (20, 2));
    assert!(last.in_count >= 2, "{last}");
    assert!(last.to_string().ends_with(" links=alpha:1,beta:1"), "{last}");
    assert!((20..60).contains(&last.out_count), "a snapshot a tick: {last}");
}

#[test]
fn one_status_follows_a_stall() {
    let (mut game, reports) = game();

    game.tick_after(std::time::Duration::from_secs(60));
    game.run_ms(400);
    assert_eq!(reports.lock().expect("a sink").len(), 1);

    game.run_ms(700);
    assert_eq!(reports.lock().expect("a sink").len(), 2);
}

#[test]
fn lines_are_names_with_values_in_a_fixed_order() {
    let status = Status::default().to_string();
    let summary = Summary::default().to_string();

    assert_eq!(
        status,
        "tick_p50_ms=0.00 tick_p99_ms=0.00 connected=0 active=0 disconnected=0 agents=0 zones=0 in=0 out=0 \
         load=normal skipped_zone_ticks=0 links=none"
    );
    for name in [
        "ticks=",
        "tick_p50_ms=",
        "tick_p99_ms=",
        "tick_max_ms=",
        "overruns=",
        "skipped=",
        "registered=",
        "resumed=",
        "expired=",
        "skipped_zone_ticks=",
        "turned_away=",
    ] {
        assert!(summary.contains(name), "{name} is missing in: {summary}");
    }
}

#[test]
fn the_summary_counts_registered_resumed_and_expired_sessions() {
    let (mut game, _) = game();
    let mut ada = game.member(Via::Alpha, ZONE);
    ada.close();
    game.run_ms(500);
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);
    ada.close();
    game.run_ms(5_100);

    let sessions = Summary::of(game.app.world()).sessions;

    assert_eq!((sessions.registered_count, sessions.resumed_count, sessions.expired_count), (1, 1, 1));
}
