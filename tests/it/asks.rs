//! Asks: Joins that wait for the game to accept or refuse them.

use bevy_app::Update;
use bevy_ecs::prelude::*;
use bytes::Bytes;
use waystation::session::{Agent, SessionCounts, SessionState, SpawnAgent as _};
use waystation::testing::{Harness, Player, Via};
use waystation::wire::v1::{Bye, Join, Joined, Part, Reason, Refused};
use waystation::zone::{JoinPending, JoinRequested, MembershipCommands as _, MembershipError, Zone};

use crate::support::{Told, ask, assert_frames_fit, command, entity, game_with_club, refusals, zone};

/// Returns the ask that the game received last.
fn request(game: &Harness) -> JoinRequested {
    game.resource::<Told>().requested.last().expect("the game received an ask").clone()
}

#[test]
fn row_06b_an_ask_waits_until_the_game_accepts_it() {
    let mut game = game_with_club();
    let mut ada = game.player(Via::Alpha);

    ask(&mut game, &mut ada);
    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
    assert_eq!(request(&game).payload, "please");
    let request = request(&game);
    command(&mut game, |commands| commands.accept_join_with(&request, "table 3".into()));
    game.exchange(&mut [&mut ada]);

    let joined = &ada.take::<Joined>()[0];
    assert_eq!((joined.request, joined.zone.as_str(), &joined.payload[..]), (5, "club", &b"table 3"[..]));
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    assert!(game.resource::<Told>().cancelled.is_empty());
}

#[test]
fn row_06b_the_game_may_refuse_with_a_detail_and_a_late_answer_is_counted() {
    let mut game = game_with_club();
    let mut ada = game.member(Via::Alpha, "hall");
    ask(&mut game, &mut ada);

    let request = request(&game);
    command(&mut game, |commands| commands.refuse_join(&request, "members only"));
    game.exchange(&mut [&mut ada]);
    command(&mut game, |commands| commands.accept_join(&request));
    game.exchange(&mut [&mut ada]);

    let refused = &ada.take::<Refused>()[0];
    assert_eq!(
        (refused.request, refused.reason(), refused.detail.as_str()),
        (5, Reason::Refused, "members only")
    );
    assert_eq!(ada.zone(), Some("hall"));
    assert_eq!(game.resource::<SessionCounts>().late_answer_count, 1);
}

#[test]
fn row_06b_an_ask_that_is_cancelled_is_answered() {
    let ends: [fn(&mut Harness, &mut Player); 4] = [
        |_, ada| ada.send(&Part::default()),
        |_, ada| ada.send(&Join { request: 6, zone: "club".to_owned(), ..Join::default() }),
        |game, ada| game.run_with(&mut [ada], 5_000),
        |game, ada| {
            ada.close();
            game.tick();
            ada.connect(game, Via::Beta);
            ada.resume();
        },
    ];
    for end in ends {
        let mut game = game_with_club();
        let mut ada = game.player(Via::Alpha);
        ask(&mut game, &mut ada);

        end(&mut game, &mut ada);
        game.exchange(&mut [&mut ada]);

        assert_eq!(refusals(&mut ada)[0], (5, Reason::Cancelled));
        assert_eq!(game.resource::<Told>().cancelled, [Reason::Cancelled]);
    }
}

#[test]
fn row_06b_a_zone_that_closes_answers_its_asks() {
    let mut game = game_with_club();
    let mut ada = game.player(Via::Alpha);
    ask(&mut game, &mut ada);
    let club = zone(&game, "club");

    command(&mut game, |commands| commands.close_zone(club));
    game.exchange(&mut [&mut ada]);

    assert_eq!(refusals(&mut ada), [(5, Reason::NoSuchZone)]);
    assert_eq!(game.resource::<Told>().cancelled, [Reason::NoSuchZone]);
}

#[test]
fn row_06b_a_takeover_keeps_an_ask_unless_it_is_a_resync() {
    for resync in [false, true] {
        let mut game = game_with_club();
        let mut ada = game.player(Via::Alpha);
        ask(&mut game, &mut ada);

        ada.cut();
        ada.connect(&game, Via::Beta);
        ada.resume_with(ada.token(), resync);
        game.exchange(&mut [&mut ada]);
        let request = request(&game);
        command(&mut game, |commands| commands.accept_join(&request));
        game.exchange(&mut [&mut ada]);

        assert!(ada.take::<Refused>().is_empty());
        assert_eq!(ada.take::<Joined>().len(), usize::from(!resync));
        assert_eq!(game.resource::<Told>().cancelled.len(), usize::from(resync));
    }
}

#[test]
fn row_06b_capacity_is_checked_when_the_game_accepts() {
    let mut game = game_with_club();
    game.open_zone(Zone::new("booth").asks().capacity(1));
    let mut players = [game.player(Via::Alpha), game.player(Via::Beta)];
    for player in &mut players {
        player.send(&Join { request: 8, zone: "booth".to_owned(), ..Join::default() });
    }
    let [ada, bob] = &mut players;
    game.exchange(&mut [ada, bob]);

    for request in game.resource::<Told>().requested.clone() {
        command(&mut game, |commands| commands.accept_join(&request));
    }
    game.exchange(&mut [ada, bob]);

    assert_eq!(ada.zone(), Some("booth"));
    assert_eq!(refusals(bob), [(8, Reason::Full)]);
    assert_eq!(game.resource::<Told>().refused, [MembershipError::Full]);
}

#[test]
fn row_06b_an_ask_of_a_session_that_ends_is_cancelled() {
    let mut game = game_with_club();
    let mut ada = game.player(Via::Alpha);
    ask(&mut game, &mut ada);
    assert!(game.component::<JoinPending>(ada.session()).is_some());

    ada.send(&Bye {});
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.resource::<Told>().cancelled, [Reason::Cancelled]);
}

#[test]
fn payloads_of_joins_and_parts_reach_the_game() {
    use bevy_ecs::prelude::*;
    use waystation::zone::{ZoneJoined, ZoneParted};

    #[derive(Resource, Default)]
    struct Given(Vec<bytes::Bytes>);
    let mut game = game_with_club();
    let read = |mut joins: MessageReader<ZoneJoined>,
                mut parts: MessageReader<ZoneParted>,
                mut given: ResMut<Given>| {
        given.0.extend(joins.read().map(|join| join.payload.clone()));
        given.0.extend(parts.read().map(|part| part.payload.clone()));
    };
    game.app.init_resource::<Given>().add_systems(bevy_app::Update, read);
    let mut ada = game.player(Via::Alpha);

    ada.join("hall", "red team");
    game.exchange(&mut [&mut ada]);
    ask(&mut game, &mut ada);
    let request = request(&game);
    command(&mut game, |commands| commands.accept_join(&request));
    game.exchange(&mut [&mut ada]);
    ada.send(&Part { request: 2, payload: "good night".into() });
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.resource::<Given>().0, ["red team", "please", "", "good night"]);
}

#[test]
fn the_payload_of_an_agents_join_reaches_the_game() {
    let mut game = game_with_club();
    let agent = game.app.world_mut().commands().spawn_agent("guard").id();
    game.tick();

    game.app.world_mut().get_mut::<Agent>(agent).expect("an agent").join("club", "a torch");
    game.exchange(&mut []);

    let asked = request(&game);
    assert_eq!((asked.entity, &asked.payload[..]), (agent, &b"a torch"[..]));
}

#[test]
fn row_06b_an_answer_to_an_earlier_ask_does_not_admit_to_another_zone() {
    let mut game = game_with_club();
    game.open_zone(Zone::new("vault").asks());
    let mut ada = game.player(Via::Alpha);
    ask(&mut game, &mut ada);
    let earlier = request(&game);

    ada.send(&Join { request: 6, zone: "vault".to_owned(), ..Join::default() });
    game.exchange(&mut [&mut ada]);
    command(&mut game, |commands| commands.accept_join(&earlier));
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.zone(), None);
    assert!(
        game.component::<JoinPending>(ada.session())
            .is_some_and(|ask| Some(ask.zone()) == game.zone("vault"))
    );
    assert_eq!(game.resource::<SessionCounts>().late_answer_count, 1);
}

#[test]
fn accepting_an_ask_for_one_zone_does_not_admit_to_another() {
    let mut game = game_with_club();
    let vault = game.open_zone(Zone::new("vault").asks());
    // Accepts every Join to the club and refuses every Join to the vault.
    let doorman = move |mut requests: MessageReader<JoinRequested>, mut commands: Commands| {
        for request in requests.read() {
            if request.zone == vault {
                commands.refuse_join(request, "no");
            } else {
                commands.accept_join(request);
            }
        }
    };
    game.app.add_systems(Update, doorman);
    let mut eve = game.player(Via::Alpha);

    eve.send(&Join { request: 1, zone: "club".to_owned(), ..Join::default() });
    game.tick();
    // The game accepts the Join to the club in the tick in which this Join arrives.
    eve.send(&Join { request: 2, zone: "vault".to_owned(), ..Join::default() });
    game.exchange(&mut [&mut eve]);

    assert_ne!(eve.zone(), Some("vault"));
}

#[test]
fn the_ask_of_a_session_that_the_game_despawned_is_cancelled() {
    let mut game = game_with_club();
    let mut ada = game.player(Via::Alpha);
    ask(&mut game, &mut ada);
    let ada_entity = entity(&game, &ada);

    command(&mut game, |commands| commands.entity(ada_entity).despawn());
    game.run_ms(150);

    assert_eq!(game.resource::<Told>().cancelled, [Reason::Cancelled]);
}

#[test]
fn an_answer_to_a_join_fits_in_a_frame() {
    let mut game = game_with_club();
    let mut ada = game.player(Via::Alpha);
    ask(&mut game, &mut ada);
    let request = request(&game);

    command(&mut game, |commands| commands.accept_join_with(&request, Bytes::from(vec![7; 100_000])));
    game.exchange(&mut [&mut ada]);

    assert_frames_fit(&ada);
}

#[test]
fn a_refusal_with_a_long_detail_fits_in_a_frame() {
    let mut game = game_with_club();
    let mut ada = game.player(Via::Alpha);
    ask(&mut game, &mut ada);
    let request = request(&game);

    command(&mut game, |commands| commands.refuse_join(&request, &"no ".repeat(40_000)));
    game.exchange(&mut [&mut ada]);

    assert_frames_fit(&ada);
}
