//! Tests the example's own bot over real sockets: it is cut, and its calls are checked.

use std::time::Duration;

use waystation::bot::BotOptions;

#[allow(dead_code, reason = "the example's `main` is not used")]
#[path = "../../examples/own_bot.rs"]
mod example;

#[test]
fn the_bot_of_a_game_is_cut_and_each_of_its_calls_is_answered_once() {
    let options = BotOptions {
        clients: 4,
        duration: Duration::from_secs(5),
        cut_every: Some(Duration::from_secs(1)),
        ..BotOptions::default()
    };

    let report = example::play(&options).expect("a run");

    assert!(report.passed(), "{report}");
    assert!(report.takeover.cuts + report.close.cuts > 0, "{report}");
    assert!(report.call_count() > 0 && report.either.sent == report.either.received, "{report}");
}
