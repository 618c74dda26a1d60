//! The client library against the server, over two proxies.

use std::time::Duration;

use proptest::prelude::*;
use waystation::arena::v1::{Echo, Say};
use waystation::client::{Client, ClientConfig, ClientEvent, Cut};
use waystation::ident::SessionId;
use waystation::session::{SessionConfig, SessionState, SessionTable};
use waystation::testing::{Harness, HarnessDial};
use waystation::wire::v1::{Joined, Reason};

use crate::support::{Heard, game, game_bounded, shout};

/// A client, with a record of its events.
struct Ada {
    client: Client<HarnessDial>,
    events: Vec<ClientEvent>,
    echoes: Vec<u64>,
}

impl Ada {
    fn new(game: &Harness) -> Self {
        let config = ClientConfig { seed: Some(1), ..ClientConfig::default() };
        Self { client: Client::new(game.dial(), config), events: Vec::new(), echoes: Vec::new() }
    }

    /// Returns a client that is in `hall`.
    fn joined(game: &mut Harness) -> Self {
        let mut ada = Self::new(game);
        run(game, &mut ada, 300);
        ada.client.join("hall", Vec::new()).expect("the client has a session");
        run(game, &mut ada, 300);
        ada
    }

    fn session(&self) -> SessionId {
        self.client.session_id().expect("a session")
    }

    fn update(&mut self, dt: Duration) {
        self.client.update(dt);
        while let Some(event) = self.client.poll() {
            match event {
                ClientEvent::Message(frame) => {
                    if let Ok(echo) = frame.decode::<Echo>() {
                        self.echoes.push(echo.number);
                    } else {
                        self.events.push(ClientEvent::Message(frame));
                    }
                }
                event => self.events.push(event),
            }
        }
    }

    fn resumes(&self) -> Vec<bool> {
        let resync = |event: &ClientEvent| match event {
            ClientEvent::Resumed { resync, .. } => Some(*resync),
            _ => None,
        };
        self.events.iter().filter_map(resync).collect()
    }
}

fn run(game: &mut Harness, ada: &mut Ada, ms: u64) {
    for _ in 0..ms.div_ceil(50) {
        game.tick();
        ada.update(game.period());
    }
}

fn said(game: &Harness) -> Vec<u64> {
    game.resource::<Heard>().said.iter().map(|(_, number)| *number).collect()
}

#[test]
fn a_client_connects_joins_and_is_echoed() {
    let mut game = game();
    let mut ada = Ada::joined(&mut game);

    ada.client.send(&Say { number: 1 }).expect("room");
    run(&mut game, &mut ada, 300);

    assert!(matches!(ada.events[0], ClientEvent::Connected { .. }), "{:?}", ada.events);
    let ClientEvent::Message(frame) = &ada.events[1] else { panic!("{:?}", ada.events) };
    assert_eq!(frame.decode::<Joined>().expect("Joined").zone, "hall");
    assert_eq!(ada.echoes, [1]);
}

#[test]
fn a_client_resumes_the_same_session_after_each_kind_of_cut() {
    for (cut, wait_ms) in [
        (Cut::Silent { hold: Duration::ZERO }, 500),
        (Cut::Close { hold: Duration::from_secs(2) }, 3_000),
        (Cut::Silent { hold: Duration::from_millis(7_000) }, 9_000),
    ] {
        let mut game = game();
        let mut ada = Ada::joined(&mut game);
        let session = ada.session();

        ada.client.send(&Say { number: 1 }).expect("room");
        ada.client.cut(cut);
        ada.client.send(&Say { number: 2 }).expect("the call is kept in the outbox");
        shout(&mut game, 77);
        run(&mut game, &mut ada, wait_ms);

        assert_eq!(ada.session(), session, "{cut:?}");
        assert_eq!(ada.resumes(), [false], "{cut:?}");
        assert_eq!(game.state(session), Some(SessionState::Active));
        assert_eq!(said(&game), [1, 2], "{cut:?}");
        ada.echoes.sort_unstable();
        assert_eq!(ada.echoes, [1, 2, 77], "{cut:?}");
    }
}

#[test]
fn a_client_that_resumes_too_late_reports_the_lost_calls_and_gets_a_new_session() {
    let mut game = game();
    let mut ada = Ada::joined(&mut game);
    let old = ada.session();
    // Long enough for a Beacon to acknowledge the Join.
    run(&mut game, &mut ada, 1_200);

    ada.client.cut(Cut::Close { hold: Duration::from_secs(8) });
    ada.client.send(&Say { number: 1 }).expect("room");
    run(&mut game, &mut ada, 10_000);

    let lost = ada.events.iter().find_map(|event| match event {
        ClientEvent::SessionLost { unacked_count, reason, .. } => Some((*unacked_count, *reason)),
        _ => None,
    });
    assert_eq!(lost, Some((1, Some(Reason::Token))));
    assert_ne!(ada.session(), old);
    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
    assert!(said(&game).is_empty());
}

#[test]
fn cc_13_an_idle_client_stays_connected_and_bye_ends_its_session() {
    let mut game = game();
    let mut ada = Ada::joined(&mut game);
    run(&mut game, &mut ada, 60_000);
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));

    ada.client.bye();
    run(&mut game, &mut ada, 500);

    assert_eq!(game.resource::<SessionTable>().session_count(), 0);
    assert!(
        matches!(ada.events.last(), Some(ClientEvent::Closed { reason: Some(Reason::Bye), .. })),
        "{:?}",
        ada.events
    );
}

#[test]
fn a_client_resumes_with_a_resync_after_an_overflow_while_it_has_no_link() {
    let session = SessionConfig { outbox_max_frames: 8, ..SessionConfig::default() };
    let mut game = game_bounded(session);
    let mut ada = Ada::joined(&mut game);

    ada.client.cut(Cut::Close { hold: Duration::from_secs(2) });
    run(&mut game, &mut ada, 200);
    for number in 0..20 {
        shout(&mut game, number);
    }
    run(&mut game, &mut ada, 3_000);
    shout(&mut game, 90);
    run(&mut game, &mut ada, 300);

    assert_eq!(ada.resumes(), [true]);
    assert_eq!(ada.echoes, [90]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Cuts of any kind, at any time and in any sequence, lose and duplicate nothing. All cuts together are shorter
    /// than the session timeout, because one absence may span several cuts.
    #[test]
    fn cuts_of_any_kind_at_any_time_lose_and_duplicate_nothing(
        cuts in prop::collection::vec((any::<bool>(), 0_u64..300, 0_u64..500), 1..8)
    ) {
        let mut game = game();
        let mut ada = Ada::joined(&mut game);
        let session = ada.session();
        let mut number = 0;
        for (close, hold_ms, run_ms) in cuts {
            for _ in 0..3 {
                number += 1;
                ada.client.send(&Say { number }).expect("room");
                shout(&mut game, 1_000 + number);
            }
            let hold = Duration::from_millis(hold_ms);
            ada.client.cut(if close { Cut::Close { hold } } else { Cut::Silent { hold } });
            run(&mut game, &mut ada, run_ms);
        }
        run(&mut game, &mut ada, 8_000);

        prop_assert_eq!(ada.session(), session);
        prop_assert_eq!(said(&game), (1..=number).collect::<Vec<_>>());
        let replies: Vec<u64> = ada.echoes.iter().copied().filter(|echo| *echo < 1_000).collect();
        let shouts: Vec<u64> = ada.echoes.iter().copied().filter(|echo| *echo > 1_000).collect();
        prop_assert_eq!(replies, (1..=number).collect::<Vec<_>>());
        prop_assert_eq!(shouts, (1_001..=1_000 + number).collect::<Vec<_>>());
    }
}
