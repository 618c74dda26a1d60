//! Tests how a link opens a session.

use std::time::Duration;

use prost::Message as _;
use waystation::config::ServerConfig;
use waystation::session::{SessionConfig, SessionCounts};
use waystation::wire::v1::credentials::Kind;
use waystation::wire::v1::{
    Bearer, Credentials, Denied, Hello, Join, Joined, Password, Probe, ProbeReply, Reason, Status, Welcome,
};
use waystation::wire::{self, Lane, PROBE_EVERY};

use super::stage::Stage;
use super::transports::Way;

fn probe(topic: &str) -> Probe {
    Probe { topic: topic.to_owned(), ..Probe::default() }
}

fn hello_with(kind: Kind) -> Hello {
    let credentials = Some(Credentials { kind: Some(kind) });
    Hello { protocol: wire::PROTOCOL, credentials, ..Hello::default() }
}

/// Encodes a message and appends an unknown field of type bytes.
fn with_unknown_field(frame: &[u8]) -> Vec<u8> {
    [frame, &[0xFA, 0x7F, 3, 1, 2, 3]].concat()
}

pub(super) fn row_01_a_hello_is_answered_by_welcome(stage: &mut Stage, over: Way) {
    let ada = stage.stranger(over);

    stage[ada].hello();
    let welcome: Welcome = stage.until_saw(ada);

    assert_ne!(welcome.session, 0);
    assert_eq!(welcome.token.len(), wire::TOKEN_BYTES);
    assert_eq!((welcome.resumed, welcome.received, welcome.base, welcome.resync), (false, 0, 0, false));
    assert_eq!((welcome.tick_hz, welcome.timeout_ms, welcome.zone.as_str()), (20, 5_000, ""));
    let bob = stage.player(over);
    assert_ne!(stage[bob].session(), stage[ada].session());
    assert_ne!(stage[bob].token(), stage[ada].token());
}

pub(super) fn row_02_a_link_without_hello_is_closed_after_five_seconds(stage: &mut Stage, over: Way) {
    let ada = stage.first_stranger(over);

    stage.pass(4_000);
    stage.turn();
    assert!(!stage[ada].is_cut_off());
    stage.pass(1_500);
    // Most transports close a silent link after about the same time, so the link may end without a Closed.
    stage.until("the link's end", |stage| stage[ada].is_cut_off());

    assert!(matches!(stage[ada].closed(), None | Some(Reason::Timeout)));
    assert_eq!(stage.game.resource::<SessionCounts>().registered_count, 0);
}

pub(super) fn row_02_a_link_that_only_probes_is_closed_too(stage: &mut Stage, over: Way) {
    let ada = stage.first_stranger(over);
    let begun = stage.game.now();

    // The link sends one Probe at the beginning, and one each 250 ms.
    while stage.game.now() < begun + Duration::from_millis(4_500) {
        stage[ada].say(&probe("status"));
        stage.until_saw::<ProbeReply>(ada);
        stage.pass(250);
    }
    stage.pass(750);

    assert_eq!(stage.until_closed(ada), Reason::Timeout);
}

pub(super) fn pr_01_a_counted_frame_before_welcome_is_a_protocol_error(stage: &mut Stage, over: Way) {
    for offence in [wire::encode(&Join::default()), wire::encode(&wire::v1::Ack { received: 0 })] {
        let eve = stage.stranger(over);

        stage[eve].say_bytes(Lane::Reliable, offence);

        assert_eq!(stage.until_closed(eve), Reason::Protocol);
    }
    assert_eq!(stage.game.resource::<SessionCounts>().registered_count, 0);
}

pub(super) fn pr_01_two_hellos_at_once_are_a_protocol_error(stage: &mut Stage, over: Way) {
    let eve = stage.stranger(over);

    // The second Hello violates the protocol in the same tick and in a later one, before Welcome and after it.
    stage[eve].hello();
    stage[eve].hello();

    assert_eq!(stage.until_closed(eve), Reason::Protocol);
}

pub(super) fn wire_reasons_another_version_is_denied_and_a_better_hello_is_heard(
    stage: &mut Stage,
    over: Way,
) {
    let mut config = ServerConfig::default();
    config.gate.game = "chess/2".to_owned();
    *stage = Stage::with(config);
    let ada = stage.stranger(over);

    for hello in [
        Hello { protocol: wire::PROTOCOL + 1, ..Hello::default() },
        Hello { protocol: wire::PROTOCOL, game: "chess/1".to_owned(), ..Hello::default() },
    ] {
        stage[ada].say(&hello);
        assert_eq!(stage.until_saw::<Denied>(ada).reason(), Reason::Version);
    }
    stage[ada].say(&Hello { protocol: wire::PROTOCOL, game: "chess/2".to_owned(), ..Hello::default() });

    assert!(!stage.until_saw::<Welcome>(ada).resumed);
}

pub(super) fn wire_reasons_accounts_are_denied(stage: &mut Stage, over: Way) {
    let ada = stage.stranger(over);

    for kind in [Kind::Password(Password::default()), Kind::Bearer(Bearer::default())] {
        stage[ada].say(&hello_with(kind));
        assert_eq!(stage.until_saw::<Denied>(ada).reason(), Reason::Unauthenticated);
    }
    stage[ada].hello();

    stage.until_saw::<Welcome>(ada);
}

pub(super) fn wire_reasons_a_full_server_says_when_to_come_again(stage: &mut Stage, over: Way) {
    let session = SessionConfig { max_sessions: 1, ..SessionConfig::default() };
    *stage = Stage::with(ServerConfig { session, ..ServerConfig::default() });
    stage.player(over);
    let bob = stage.stranger(over);

    stage[bob].hello();
    let denied: Denied = stage.until_saw(bob);

    assert_eq!(denied.reason(), Reason::Full);
    assert!(denied.retry_after_ms > 0);
    assert!(!stage[bob].is_cut_off());
}

pub(super) fn oz_08_a_probe_needs_no_session(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let eve = stage.stranger(over);

    for who in [ada, eve] {
        stage[who].say(&probe("status"));
        // The second Probe arrives too soon and is dropped.
        stage[who].say(&probe("status"));
    }
    stage.echo(ada, 1);
    stage[eve].hello();
    stage.until_saw::<Welcome>(eve);

    for who in [ada, eve] {
        let replies: Vec<ProbeReply> = stage[who].take();
        assert_eq!(replies.len(), 1);
        assert_eq!(replies[0].topic, "status");
        let status = Status::decode(replies[0].body.clone()).expect("the body is a Status");
        assert_eq!((status.sessions, status.draining), (1, false));
        assert!(status.capacity > 0 && status.zones.iter().any(|zone| zone == "plaza"));
    }
    stage.pass(PROBE_EVERY.as_millis() as u64);
    stage[ada].say(&probe("weather"));
    let reply: ProbeReply = stage.until_saw(ada);
    assert_eq!((reply.topic.as_str(), reply.body.len()), ("weather", 0));
}

pub(super) fn wire_frame_unknown_fields_are_ignored(stage: &mut Stage, over: Way) {
    let ada = stage.stranger(over);
    let hello = wire::encode(&Hello { protocol: wire::PROTOCOL, ..Hello::default() });
    let join = wire::encode(&Join { request: 6, zone: "plaza".to_owned(), ..Join::default() });

    stage[ada].say_bytes(Lane::Reliable, with_unknown_field(&hello));
    stage.until_saw::<Welcome>(ada);
    stage[ada].say_bytes(Lane::Reliable, with_unknown_field(&join));

    assert_eq!(stage.until_saw::<Joined>(ada).request, 6);
}
