//! Links that end between any two frames.

use std::time::Duration;

use proptest::prelude::*;
use waystation::arena::v1::Say;
use waystation::testing::Via;

use crate::support::{echoes, game, said, shout};

/// An action between two frames.
#[derive(Debug, Clone, Copy)]
enum Step {
    Say,
    Shout,
    Tick,
    /// The player receives this many frames.
    Take(u8),
    /// The link is cut, or closed if `close` is true. After `ticks` ticks, the player resumes over another link.
    Cut {
        close: bool,
        ticks: u8,
        beta: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Say),
        2 => Just(Step::Shout),
        3 => Just(Step::Tick),
        3 => (0_u8..6).prop_map(Step::Take),
        2 => (any::<bool>(), 0_u8..4, any::<bool>())
            .prop_map(|(close, ticks, beta)| Step::Cut { close, ticks, beta }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A link may end between any two frames of either side, also during the handshake. Each call still runs once
    /// and in order, and each answer and broadcast arrives once and in order.
    #[test]
    fn cc_08_a_cut_between_any_two_frames_loses_and_repeats_nothing(steps in prop::collection::vec(step(), 1..120)) {
        let mut game = game();
        let mut ada = game.member(Via::Alpha, "hall");
        let (mut said_count, mut shouted) = (0, 1_000);
        let mut heard = Vec::new();
        for step in steps {
            match step {
                Step::Say => {
                    said_count += 1;
                    // Without a link, the call stays in the outbox.
                    ada.send(&Say { number: said_count });
                }
                Step::Shout => {
                    shouted += 1;
                    shout(&mut game, shouted);
                }
                Step::Tick => game.tick(),
                Step::Take(count) => for _ in 0..count {
                    ada.pump_one();
                },
                Step::Cut { close, ticks, beta } => {
                    if close { ada.close(); } else { ada.cut(); }
                    for _ in 0..ticks {
                        game.tick();
                    }
                    // Two links must not open at the same time.
                    game.pass(Duration::from_micros(1));
                    ada.connect(&game, if beta { Via::Beta } else { Via::Alpha });
                    ada.resume();
                }
            }
            heard.extend(echoes(&mut ada));
        }
        // Long enough for a beacon, which acknowledges.
        game.run_with(&mut [&mut ada], 1_200);
        heard.extend(echoes(&mut ada));

        prop_assert_eq!(said(&game, &ada), (1..=said_count).collect::<Vec<_>>());
        let replies: Vec<u64> = heard.iter().copied().filter(|number| *number < 1_000).collect();
        let broadcasts: Vec<u64> = heard.iter().copied().filter(|number| *number > 1_000).collect();
        prop_assert_eq!(replies, (1..=said_count).collect::<Vec<_>>());
        prop_assert_eq!(broadcasts, (1_001..=shouted).collect::<Vec<_>>());
        prop_assert_eq!(ada.unacked_count(), 0);
    }
}
