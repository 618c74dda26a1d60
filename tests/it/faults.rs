//! Links with faults from a seed, over both proxies: the reliable lane keeps its guarantees, and the unreliable
//! lane loses, repeats and reorders frames.

use std::time::Duration;

use proptest::prelude::*;
use waystation::arena::v1::Input;
use waystation::session::{LossCause, SessionState};
use waystation::testing::News;
use waystation::testing::{Faults, Via};
use waystation::wire::WireMessage as _;
use waystation::wire::v1::{Closed, Joined, Reason, Welcome};

use crate::support::{Heard, echoes, game, said, say, shout};

#[test]
fn unreliable_frames_are_dropped_repeated_and_reordered_and_reliable_ones_are_not() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.set_faults(Faults::new(3).drop(30).duplicate(20).reorder(30));

    for number in 1..=100 {
        ada.send(&Input { tick: number, ..Input::default() });
        say(&mut ada, number..=number);
        game.run_with(&mut [&mut ada], 50);
    }
    game.run_with(&mut [&mut ada], 1_000);

    let inputs: Vec<u64> = game.resource::<Heard>().inputs.iter().map(|(_, tick)| *tick).collect();
    let mut once = inputs.clone();
    once.sort_unstable();
    once.dedup();
    assert!((50..90).contains(&once.len()), "{} of 100 inputs arrived", once.len());
    assert!(inputs.len() > once.len() + 5, "{} inputs arrived more than once", inputs.len() - once.len());
    assert!(
        inputs.windows(2).filter(|pair| pair[0] > pair[1]).count() > 5,
        "too few inputs arrived out of order: {inputs:?}"
    );
    assert_eq!(said(&game, &ada), (1..=100).collect::<Vec<_>>());
    assert_eq!(echoes(&mut ada), (1..=100).collect::<Vec<_>>());
}

#[test]
fn reliable_frames_are_delayed_in_order_and_faults_end_when_they_are_switched_off() {
    let mut game = game();
    let mut ada = game.member(Via::Beta, "hall");
    ada.set_faults(Faults::new(5).delay(Duration::from_millis(400)).up_only());
    say(&mut ada, 1..=20);

    game.run_with(&mut [&mut ada], 100);
    let early = said(&game, &ada).len();
    game.run_with(&mut [&mut ada], 400);

    assert!(early < 20, "no call was delayed");
    assert_eq!(said(&game, &ada), (1..=20).collect::<Vec<_>>());
    ada.set_faults(Faults::NONE);
    // Frames that were sent before keep the delay that they were given.
    game.run_ms(400);
    say(&mut ada, 21..=21);
    game.tick();
    assert_eq!(said(&game, &ada).len(), 21);
}

#[test]
fn a_link_is_cut_after_the_frame_that_a_test_chooses() {
    let mut game = game();
    game.set_faults(Faults::new(1).cut_after(1).down_only());
    let mut ada = game.stranger(Via::Alpha);
    ada.hello();
    game.exchange(&mut [&mut ada]);
    game.join(&mut ada, "hall");

    ada.saw([Welcome::ID]);
    assert!(ada.is_cut_off());
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    game.run_ms(5_200);
    game.set_faults(Faults::NONE);
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    ada.saw([Welcome::ID, Joined::ID]);
    ada.expect_no::<Closed>();
    let hall = waystation::ident::ZoneId(1);
    game.assert_news(
        &ada,
        [
            News::Registered,
            News::Joined(hall),
            News::Disconnected(LossCause::Silent),
            News::MemberDisconnected(hall),
            News::Resumed { resync: false },
            News::MemberResumed(hall),
        ],
    );
}

#[test]
fn a_link_that_is_cut_on_the_way_up_is_closed_as_silent() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.set_faults(Faults::new(1).cut_after(0).up_only());

    say(&mut ada, 1..=1);
    game.run_ms(5_200);

    assert_eq!(said(&game, &ada), [0; 0]);
    assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);
    assert_eq!(said(&game, &ada), [1]);
    assert_ne!(ada.closed(), Some(Reason::Timeout));
}

#[test]
fn delayed_frames_to_the_player_are_lost_with_a_cut() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.set_faults(Faults::new(7).delay(Duration::from_secs(3)).down_only());
    say(&mut ada, 1..=1);
    game.exchange(&mut [&mut ada]);
    assert_eq!(echoes(&mut ada), [0_u64; 0], "the echo is still delayed");

    ada.set_faults(Faults::new(7).cut_after(0).down_only());
    say(&mut ada, 2..=2);
    game.run_with(&mut [&mut ada], 4_000);

    assert_eq!(echoes(&mut ada), [0_u64; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// For a minute, links drop, duplicate, delay and reorder frames and are cut at random. Each call still runs
    /// once and in order, and each answer and broadcast arrives once and in order.
    #[test]
    fn cc_09_faulty_links_lose_and_repeat_no_reliable_frame(seed in any::<u64>()) {
        let mut game = game();
        let faults = Faults::new(seed).drop(20).duplicate(20).reorder(20);
        game.set_faults(faults.delay(Duration::from_millis(150)).cut(20));
        let mut players = [Via::Alpha, Via::Beta].map(|via| {
            let mut player = game.stranger(via);
            player.set_faults(faults);
            player.hello();
            game.run_with(&mut [&mut player], 500);
            game.join(&mut player, "hall");
            player
        });
        let mut heard = [Vec::new(), Vec::new()];
        for round in 1..=60 {
            for (player, heard) in players.iter_mut().zip(&mut heard) {
                if player.is_cut_off() {
                    player.connect(&game, if round % 2 == 0 { Via::Alpha } else { Via::Beta });
                    player.resume();
                }
                say(player, round..=round);
                heard.extend(echoes(player));
            }
            shout(&mut game, 1_000 + round);
            let [ada, bob] = &mut players;
            game.run_with(&mut [ada, bob], 1_000);
        }
        game.set_faults(Faults::NONE);
        for player in &mut players {
            player.connect(&game, Via::Alpha);
            player.resume();
            game.run_with(&mut [player], 1_200);
        }

        for (player, mut heard) in players.iter_mut().zip(heard) {
            heard.extend(echoes(player));
            let of = |range: std::ops::RangeInclusive<u64>| -> Vec<u64> {
                heard.iter().copied().filter(|number| range.contains(number)).collect()
            };
            prop_assert_eq!(said(&game, player), (1..=60).collect::<Vec<_>>());
            prop_assert_eq!(of(1..=60), (1..=60).collect::<Vec<_>>());
            prop_assert_eq!(of(1_001..=1_060), (1_001..=1_060).collect::<Vec<_>>());
        }
    }
}
