//! Tests how a session ends and what its client receives.

use std::time::Duration;

use waystation::gate::DrainCommand as _;
use waystation::wire::v1::{Bye, Denied, Join, Notice, Parted, Reason, Refused, Welcome};
use waystation::zone::MembershipCommands as _;

use super::stage::{Stage, Who};
use super::transports::Way;
use crate::support;

/// Asserts that the session has ended: its token is denied.
fn assert_is_over(stage: &mut Stage, who: Who, over: Way) {
    let token = stage[who].token();
    let eve = stage.stranger(over);
    stage[eve].resume_with(token, true);
    assert_eq!(stage.until_saw::<Denied>(eve).reason(), Reason::Token);
}

pub(super) fn row_15_bye_ends_a_session(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");

    stage[ada].say(&Bye {});

    assert_eq!(stage.until_closed(ada), Reason::Bye);
    assert_is_over(stage, ada, over);
}

pub(super) fn row_16_a_kick_ends_a_session(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let entity = support::entity(&stage.game, &stage[ada]);

    stage.command(|commands| commands.kick(entity, "enough"));

    assert_eq!(stage.until_closed(ada), Reason::Kicked);
    assert_eq!(stage[ada].expect::<Parted>().reason(), Reason::Kicked);
    assert_eq!(stage[ada].expect::<waystation::wire::v1::Closed>().detail, "enough");
    assert_is_over(stage, ada, over);
}

pub(super) fn wire_reasons_a_close_code_is_the_number_of_the_reason(stage: &mut Stage, over: Way) {
    // The link over WebSocket is a crooked one, because its failure contains the close code.
    let ada = if over == Way::WebSocket {
        stage.crooked_member(over, "plaza")
    } else {
        stage.member(over, "plaza")
    };

    stage[ada].say(&Bye {});
    stage.until_closed(ada);

    let failure = stage[ada].failure();
    match over {
        Way::Loopback | Way::Udp => assert_eq!(failure, None, "these transports have no close codes"),
        Way::Quic | Way::WebTransport => assert!(failure.is_some_and(|why| why.contains("BYE"))),
        Way::WebSocket => assert_eq!(failure.as_deref(), Some("closed with 4001")),
    }
}

pub(super) fn row_17_a_drain_lets_play_on_and_ends_with_shutdown(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let bob = stage.player(over);
    stage.echo(ada, 1);
    stage.confirm(bob);
    let stranger = stage.stranger(over);

    stage.command(|commands| commands.drain(Duration::from_secs(3)));
    let notice: Notice = stage.until_saw(ada);
    stage[bob].send(&Join { request: 4, zone: "plaza".to_owned(), ..Join::default() });
    let refused: Refused = stage.until_saw(bob);
    stage[stranger].hello();
    let denied: Denied = stage.until_saw(stranger);
    stage.lose_link(bob);
    stage.connect(bob, over);
    stage[bob].resume();
    let resumed: Welcome = stage.until_saw(bob);

    assert!((1..=3_000).contains(&notice.shutdown_in_ms), "{}", notice.shutdown_in_ms);
    assert_eq!((refused.request, refused.reason()), (4, Reason::Draining));
    assert_eq!(denied.reason(), Reason::Draining);
    assert!(denied.retry_after_ms > 0);
    assert!(resumed.resumed);
    stage.echo(ada, 2);
    stage.pass(3_250);
    for who in [ada, bob] {
        assert_eq!(stage.until_closed(who), Reason::Shutdown);
        assert!(stage[who].expect::<waystation::wire::v1::Closed>().retry_after_ms > 0);
    }
}
