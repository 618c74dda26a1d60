//! Tests protocol violations of a client: its session ends with PROTOCOL, and other sessions go on.

use bytes::Bytes;
use waystation::arena::v1::Say;
use waystation::wire::v1::{Ack, Denied, Hello, Joined, Parted, Reason};
use waystation::wire::{self, FRAME_MAX_BEFORE_WELCOME, FRAME_MAX_CLIENT, Lane, STRAY_MESSAGES_MAX};

use super::stage::{Stage, Who};
use super::transports::Way;
use crate::support::padded;

/// Asserts that a session ended with PROTOCOL and cannot be resumed, and that the bystander's session goes on.
pub(super) fn assert_over(stage: &mut Stage, eve: Who, bystander: Who, over: Way) {
    assert_eq!(stage.until_closed(eve), Reason::Protocol);
    assert_eq!(stage[eve].expect::<Parted>().reason(), Reason::Protocol);
    stage.connect(eve, over);
    stage[eve].resume();
    assert_eq!(stage.until_saw::<Denied>(eve).reason(), Reason::Token);
    stage.echo(bystander, 1);
}

fn assert_breach(stage: &mut Stage, over: Way, offence: impl Into<Bytes>) {
    let eve = stage.member(over, "plaza");
    let bob = stage.member(over, "plaza");

    stage[eve].say_bytes(Lane::Reliable, offence);

    assert_over(stage, eve, bob, over);
}

pub(super) fn row_16a_a_frame_that_does_not_parse(stage: &mut Stage, over: Way) {
    assert_breach(stage, over, vec![0x00, 0x40, 0xFF]);
}

pub(super) fn row_16a_link_control_that_does_not_parse(stage: &mut Stage, over: Way) {
    assert_breach(stage, over, vec![0x00, 0x06, 0xFF]);
}

pub(super) fn row_16a_a_second_hello(stage: &mut Stage, over: Way) {
    assert_breach(stage, over, wire::encode(&Hello { protocol: wire::PROTOCOL, ..Hello::default() }));
}

pub(super) fn row_16a_an_ack_above_what_was_sent(stage: &mut Stage, over: Way) {
    assert_breach(stage, over, wire::encode(&Ack { received: 1_000 }));
}

pub(super) fn row_16a_a_frame_without_an_id(stage: &mut Stage, over: Way) {
    assert_breach(stage, over, vec![1]);
}

pub(super) fn row_16a_a_frame_above_16_kib(stage: &mut Stage, over: Way) {
    // The frame is valid except for its length.
    assert_breach(stage, over, padded(&Say { number: 1 }, FRAME_MAX_CLIENT + 1));
}

pub(super) fn row_16a_what_no_frame_shows(stage: &mut Stage, over: Way) {
    for offence in over.offences() {
        *stage = Stage::new();
        let eve = stage.crooked_member(over, "plaza");
        let bob = stage.member(over, "plaza");

        let lane = if over == Way::Loopback { Lane::Unreliable } else { Lane::Reliable };
        stage[eve].say_bytes(lane, offence.word());

        assert_over(stage, eve, bob, over);
    }
}

pub(super) fn row_16a_the_tenth_stray_message(stage: &mut Stage, over: Way) {
    let eve = stage.member(over, "plaza");
    let bob = stage.member(over, "plaza");

    for _ in 1..STRAY_MESSAGES_MAX {
        stage[eve].say_bytes(Lane::Reliable, vec![0x7F, 0x00]);
    }
    // The session goes on: the messages so far were only counted.
    stage[eve].say_bytes(Lane::Reliable, wire::encode(&Say { number: 1 }));
    stage.until_saw::<waystation::arena::v1::Echo>(eve);
    assert_eq!(stage[eve].closed(), None);
    // A message that only a server sends.
    stage[eve].say_bytes(Lane::Reliable, wire::encode(&Joined::default()));

    assert_over(stage, eve, bob, over);
}

pub(super) fn wire_limits_a_hello_above_4_kib(stage: &mut Stage, over: Way) {
    let eve = stage.stranger(over);
    let bob = stage.member(over, "plaza");
    let client = "x".repeat(FRAME_MAX_BEFORE_WELCOME);

    stage[eve].say(&Hello { protocol: wire::PROTOCOL, client, ..Hello::default() });

    assert_eq!(stage.until_closed(eve), Reason::Protocol);
    stage.echo(bob, 1);
}
