//! Tests over every transport, with the same code, what `docs/protocol.md` and the state table of `docs/sessions.md`
//! promise a client.
//!
//! Each case is a separate test for each transport. `cargo test conformance::udp::` runs all cases over UDP.
//! `cargo test conformance::udp::row_07` runs the cases of row 07 over UDP.
//!
//! The name of a case begins with the row of the state table that it tests, or with the section of the protocol
//! (`wire_frame`, `wire_counting`, `wire_core`, `wire_reasons`, `wire_limits`). Other modules, for example `rows`
//! and `zones`, use the harness to test what a client cannot see.

mod bounds;
mod crooked;
mod delivery;
mod ends;
mod handshake;
mod mixed;
mod offences;
mod resume;
mod stage;
mod tickets;
mod transports;
mod zones;

use stage::Stage;
use transports::Way;

/// Defines a test for each case and each transport, from the names of the functions.
macro_rules! cases {
    ($($module:ident::$name:ident),* $(,)?) => {
        /// The names of all cases.
        const CASES: &[&str] = &[$(stringify!($name)),*];

        cases!(@over loopback, Loopback, $($module::$name)*);
        cases!(@over udp, Udp, $($module::$name)*);
        cases!(@over quic, Quic, $($module::$name)*);
        cases!(@over webtransport, WebTransport, $($module::$name)*);
        cases!(@over websocket, WebSocket, $($module::$name)*);
    };
    (@over $transport:ident, $way:ident, $($module:ident::$name:ident)*) => {
        mod $transport {
            $(
                #[test]
                fn $name() {
                    super::show(super::$module::$name, super::Way::$way);
                }
            )*
        }
    };
}

// The cases that must pass over every transport.
cases! {
    handshake::row_01_a_hello_is_answered_by_welcome,
    handshake::row_02_a_link_without_hello_is_closed_after_five_seconds,
    handshake::row_02_a_link_that_only_probes_is_closed_too,
    handshake::pr_01_a_counted_frame_before_welcome_is_a_protocol_error,
    handshake::pr_01_two_hellos_at_once_are_a_protocol_error,
    handshake::wire_reasons_another_version_is_denied_and_a_better_hello_is_heard,
    handshake::wire_reasons_accounts_are_denied,
    handshake::wire_reasons_a_full_server_says_when_to_come_again,
    handshake::oz_08_a_probe_needs_no_session,
    handshake::wire_frame_unknown_fields_are_ignored,
    zones::row_03_and_row_05_join_and_part_are_answered_with_their_request,
    zones::row_04_a_join_that_cannot_be_is_refused,
    zones::row_04_a_part_of_no_zone_is_refused,
    zones::row_06_a_join_of_another_zone_moves,
    zones::row_06a_a_join_of_its_own_zone_is_answered_again,
    zones::row_06b_an_ask_that_nobody_answers_is_cancelled,
    zones::row_06b_an_ask_is_answered_by_the_game,
    zones::row_18_a_zone_that_closes_parts_its_members,
    zones::ow_17_a_broadcast_reaches_the_members_of_its_zone_alone,
    delivery::cc_11_answers_come_in_the_order_of_the_calls,
    delivery::cc_08_and_cc_09_and_cc_10_a_cut_loses_nothing_and_doubles_nothing,
    delivery::cc_09_what_was_sent_while_away_comes_in_order,
    delivery::wire_counting_what_was_counted_is_acknowledged_every_64_frames,
    delivery::wire_counting_and_ow_19_beacons_come_each_second_and_acknowledge,
    delivery::ow_19_an_unknown_beacon_changes_nothing,
    delivery::wire_counting_a_lower_ack_is_ignored,
    delivery::wire_counting_acks_ride_the_unreliable_lane_too,
    delivery::ow_18_a_call_of_a_non_member_does_nothing_and_is_counted,
    delivery::wire_frame_unreliable_calls_arrive,
    delivery::wire_frame_a_call_of_16_kib_and_an_answer_of_64_kib_fit,
    delivery::wire_limits_a_nan_is_dropped_and_the_session_goes_on,
    resume::row_07_and_row_10_a_resume_keeps_session_and_zone,
    resume::row_07_silence_is_a_loss_and_may_be_resumed,
    resume::row_08_a_hard_zone_is_left_when_the_link_is_lost,
    resume::row_09_and_row_10_a_session_in_no_zone_is_resumed_too,
    resume::row_11_and_oz_02_a_takeover_closes_the_old_link,
    resume::row_12_what_an_old_link_still_says_is_ignored,
    resume::row_13_and_ow_14_a_bad_token_is_denied_and_a_hello_is_heard_on_the_same_link,
    resume::ow_13_the_first_ack_retires_the_token_that_was_presented,
    resume::ow_13_the_older_token_is_good_until_then,
    resume::row_14_a_session_that_nobody_resumes_expires,
    resume::ow_08_the_time_to_resume_is_full_each_time,
    resume::wire_counting_a_page_that_kept_its_token_adopts_the_counts,
    resume::wire_counting_counts_that_cannot_be_end_in_a_resync,
    resume::row_01_a_session_whose_welcome_was_not_acknowledged_is_not_kept,
    bounds::wire_counting_an_outbox_that_overflows_ends_in_a_resync,
    bounds::wire_reasons_an_outbox_that_overflows_on_a_link_is_slow,
    bounds::wire_reasons_a_client_that_acknowledges_nothing_is_slow_and_may_resume,
    bounds::pr_15_what_is_over_the_rate_waits_and_is_not_lost,
    bounds::wire_limits_a_replay_is_not_measured,
    ends::row_15_bye_ends_a_session,
    ends::wire_reasons_a_close_code_is_the_number_of_the_reason,
    ends::row_16_a_kick_ends_a_session,
    ends::row_17_a_drain_lets_play_on_and_ends_with_shutdown,
    offences::row_16a_a_frame_that_does_not_parse,
    offences::row_16a_link_control_that_does_not_parse,
    offences::row_16a_a_second_hello,
    offences::row_16a_an_ack_above_what_was_sent,
    offences::row_16a_a_frame_without_an_id,
    offences::row_16a_a_frame_above_16_kib,
    offences::row_16a_what_no_frame_shows,
    offences::row_16a_the_tenth_stray_message,
    offences::wire_limits_a_hello_above_4_kib,
    tickets::wire_core_a_new_session_needs_a_ticket_that_is_fresh_and_genuine,
    tickets::wire_core_a_resume_needs_its_token_alone_and_a_probe_nothing,
    tickets::wire_core_a_ticket_that_found_no_room_is_not_used_up,
}

/// Runs a case over one transport.
fn show(case: fn(&mut Stage, Way), over: Way) {
    case(&mut Stage::new(), over);
}

#[test]
fn every_case_names_a_row_or_a_section() {
    let sections = ["wire_frame", "wire_counting", "wire_core", "wire_reasons", "wire_limits"];
    let known: Vec<&str> = crate::tidy::DONE.iter().copied().chain(sections).collect();

    for name in CASES {
        let is_named = known.iter().any(|row| crate::tidy::is_named_after(name, row));
        assert!(is_named, "{name} names no row of the state table and no section of the protocol");
    }
}

/// The rows that a client can observe.
const VISIBLE: &[&str] = &[
    "row_01", "row_02", "row_03", "row_04", "row_05", "row_06", "row_06a", "row_06b", "row_07", "row_08",
    "row_09", "row_10", "row_11", "row_12", "row_13", "row_14", "row_15", "row_16", "row_16a", "row_17",
    "row_18", "ow_08", "ow_13", "ow_14", "ow_17", "ow_18", "ow_19", "cc_08", "cc_09", "cc_10", "cc_11",
    "oz_02", "oz_08", "pr_01", "pr_15",
];

#[test]
fn every_row_that_a_client_can_see_has_a_case() {
    let is_shown = |row: &&&str| !CASES.iter().any(|name| crate::tidy::is_named_after(name, row));

    let missing: Vec<&&str> = VISIBLE.iter().filter(is_shown).collect();

    assert!(missing.is_empty(), "no case is named after these rows: {missing:?}");
}
