//! The arena, the default game, as its players see it.

use std::collections::BTreeMap;

use waystation::arena::v1::{Echo, Input, Pellets, Say, Score, Scores, Snapshot, You};
use waystation::arena::{ArenaPlugin, Avatar, Point, ZONE};
use waystation::identity::Principal;
use waystation::session::SessionState;
use waystation::testing::{Harness, Player, Via};
use waystation::wire::v1::Part;

const AGENTS: usize = 20;

fn arena() -> Harness {
    let mut game = Harness::new();
    game.app.add_plugins(ArenaPlugin::default());
    game.run_ms(500);
    game
}

fn avatar(game: &Harness, player: &Player) -> Avatar {
    game.component::<Avatar>(player.session()).expect("an avatar").clone()
}

/// Returns the flags of an avatar in the newest snapshot that a player received, or `None` if the avatar is not in it.
fn flags(player: &mut Player, id: u32) -> Option<u32> {
    let snapshots = player.take::<Snapshot>();
    let newest = snapshots.iter().map(|chunk| chunk.tick).max()?;
    snapshots
        .iter()
        .filter(|chunk| chunk.tick == newest)
        .flat_map(|chunk| chunk.id.iter().zip(&chunk.flags))
        .find(|(found, _)| **found == id)
        .map(|(_, flags)| *flags)
}

#[test]
fn a_new_member_receives_its_avatar_id_all_scores_and_all_pellets() {
    let mut game = arena();

    let mut ada = game.member(Via::Alpha, ZONE);

    let you = ada.take::<You>();
    let own = avatar(&game, &ada).id;
    assert_eq!(you, [You { id: own, width: 100, height: 100 }]);
    let scores: Vec<Score> = ada.take::<Scores>().remove(0).scores;
    assert_eq!(scores.len(), AGENTS + 1);
    assert!(
        scores.iter().any(|score| score.id == own && score.session == ada.session().0 && score.name == "ada")
    );
    assert!(scores.iter().any(|score| score.name == "agent 20"));
    assert_eq!(ada.take::<Pellets>().remove(0).id.len(), 50);
}

#[test]
fn each_tick_shows_every_avatar_once_in_frames_of_at_most_a_thousand_bytes() {
    let mut game = arena();
    let mut players: Vec<Player> = (0..100).map(|_| game.stranger(Via::Alpha)).collect();
    players.iter_mut().for_each(|player| player.hello());
    game.exchange(&mut players.iter_mut().collect::<Vec<_>>());
    for player in &mut players {
        player.join(ZONE, "");
    }
    game.exchange(&mut players.iter_mut().collect::<Vec<_>>());
    let mut last = players.pop().expect("players");
    last.take::<Snapshot>();

    game.run_with(&mut [&mut last], 1_000);

    let mut by_tick: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for chunk in last.take::<Snapshot>() {
        assert_eq!(chunk.chunks, 2);
        by_tick.entry(chunk.tick).or_default().extend(&chunk.id);
    }
    assert_eq!(by_tick.len(), 20);
    for mut ids in by_tick.into_values() {
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), AGENTS + 100);
    }
    let longest = last.seen().iter().filter(|frame| frame[..2] == [0x81, 0x01]).map(|frame| frame.len());
    assert!(longest.max().expect("snapshots") <= 1_000);
}

#[test]
fn an_input_moves_the_avatar_until_the_next_valid_input() {
    let mut game = arena();
    let mut ada = game.member(Via::Alpha, ZONE);
    let start = avatar(&game, &ada).place;
    let toward = if start.x < 50.0 { 1.0 } else { -1.0 };

    ada.say(&Input { tick: 1, x: toward, y: 0.0 });
    game.tick();
    ada.say(&Input { tick: 2, x: f32::NAN, y: 7.0 });
    game.run_ms(950);

    let there = avatar(&game, &ada).place;
    assert!((there.x - start.x - toward * 10.0).abs() < 0.01, "{start:?} {there:?}");
    assert_eq!(there.y.to_bits(), start.y.to_bits());
    ada.say(&Input { tick: 3, x: 0.0, y: 0.0 });
    game.run_ms(500);
    assert_eq!(avatar(&game, &ada).place, there);
}

#[test]
fn a_snapshot_carries_the_number_of_the_input_that_each_avatar_follows() {
    let mut game = arena();
    let mut ada = game.member(Via::Alpha, ZONE);
    let id = avatar(&game, &ada).id;
    game.exchange(&mut [&mut ada]);
    assert_eq!(flags(&mut ada, id), Some(0));

    ada.say(&Input { tick: 70, x: 1.0, y: 0.0 });
    ada.say(&Input { tick: 69, x: 0.0, y: 1.0 });
    game.exchange(&mut [&mut ada]);

    assert_eq!(flags(&mut ada, id), Some((70 % 32) << 2));
}

#[test]
fn an_avatar_without_a_link_is_marked_and_stands_still_until_its_player_resumes() {
    let mut game = arena();
    let mut ada = game.member(Via::Alpha, ZONE);
    let mut bob = game.member(Via::Beta, ZONE);
    ada.say(&Input { tick: 1, x: 0.1, y: 0.1 });
    game.exchange(&mut [&mut ada, &mut bob]);
    let id = avatar(&game, &ada).id;

    ada.close();
    game.exchange(&mut [&mut bob]);
    let left = avatar(&game, &ada);
    game.run_with(&mut [&mut bob], 1_000);

    assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));
    assert_eq!(left.wish, Point::default());
    assert_eq!(avatar(&game, &ada).place, left.place);
    assert_eq!(flags(&mut bob, id), Some(0b110));

    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada, &mut bob]);
    assert_eq!(avatar(&game, &ada).id, id);
    assert_eq!(flags(&mut bob, id), Some(0b100));
    assert_eq!(ada.take::<You>().len(), 1, "no resync, so You is not sent again");
}

#[test]
fn a_reloaded_page_receives_everything_again_and_restarts_its_input_count() {
    let mut game = arena();
    let mut ada = game.member(Via::Alpha, ZONE);
    ada.say(&Input { tick: 1_000, x: 0.0, y: 0.0 });
    game.exchange(&mut [&mut ada]);

    ada.reload();
    ada.connect(&game, Via::Alpha);
    ada.resume_with(ada.token(), true);
    game.exchange(&mut [&mut ada]);
    ada.say(&Input { tick: 1, x: 1.0, y: 0.0 });
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.take::<You>().len(), 1);
    assert!(ada.take::<Scores>().iter().any(|message| message.scores.len() == AGENTS + 1));
    assert!(ada.take::<Pellets>().iter().any(|message| message.id.len() == 50));
    assert_eq!(avatar(&game, &ada).wish, Point { x: 1.0, y: 0.0 });
}

#[test]
fn an_echo_counts_what_was_taken_from_the_session_in_all_its_memberships() {
    let mut game = arena();
    let mut ada = game.member(Via::Alpha, ZONE);
    ada.send(&Say { number: 1 });
    ada.send(&Say { number: 2 });
    game.exchange(&mut [&mut ada]);

    ada.close();
    game.run_ms(200);
    ada.send(&Say { number: 3 });
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);
    ada.send(&Part::default());
    game.exchange(&mut [&mut ada]);
    game.join(&mut ada, ZONE);
    ada.send(&Say { number: 4 });
    game.exchange(&mut [&mut ada]);

    let echo = |number| Echo { number, taken: number };
    assert_eq!(ada.take::<Echo>(), [echo(1), echo(2), echo(3), echo(4)]);
}

#[test]
fn changed_scores_are_broadcast_at_most_every_second_tick_and_add_up() {
    let mut game = arena();
    let mut ada = game.member(Via::Alpha, ZONE);
    let mut told: BTreeMap<u32, u32> = BTreeMap::new();
    let mut pellets: BTreeMap<u32, (i32, i32)> = BTreeMap::new();
    let mut messages = 0;

    for _ in 0..10 {
        for message in ada.take::<Scores>() {
            messages += 1;
            told.extend(message.scores.iter().map(|score| (score.id, score.score)));
        }
        for message in ada.take::<Pellets>() {
            let places = message.x.iter().copied().zip(message.y.iter().copied());
            pellets.extend(message.id.iter().copied().zip(places));
        }
        game.run_with(&mut [&mut ada], 2_000);
    }

    assert!((20..=200).contains(&messages), "{messages} messages in 18 s");
    let total: u32 = told.values().sum();
    assert!(total > 50, "agents eat too few pellets: {total} points");
    assert_eq!(told.len(), AGENTS + 1);
    assert_eq!(pellets.len(), 50);
}

#[test]
fn a_session_that_leaves_is_removed_from_snapshots_and_scores() {
    let mut game = arena();
    let mut ada = game.member(Via::Alpha, ZONE);
    let mut bob = game.member(Via::Beta, ZONE);
    let id = avatar(&game, &ada).id;

    ada.send(&Part::default());
    game.run_with(&mut [&mut ada, &mut bob], 300);

    assert!(game.component::<Avatar>(ada.session()).is_none());
    let gone = bob.take::<Scores>().into_iter().flat_map(|message| message.scores);
    assert_eq!(gone.filter(|score| score.gone).map(|score| score.id).collect::<Vec<_>>(), [id]);
    assert_eq!(flags(&mut bob, id), None);
}

#[test]
fn agents_move_no_faster_than_players() {
    let mut game = arena();
    let before = places(&mut game);

    game.tick();

    let after = places(&mut game);
    assert_eq!(after.len(), AGENTS);
    for (name, place) in &after {
        let from = before[name];
        let step = (place.x - from.x).hypot(place.y - from.y);
        assert!(step <= 0.5 + 1e-3, "{name} moved {step} units in a twentieth of a second");
    }
    assert!(after != before, "no agent moved");
}

fn places(game: &mut Harness) -> BTreeMap<String, Point> {
    let world = game.app.world_mut();
    let mut avatars = world.query::<(&Principal, &Avatar)>();
    avatars.iter(world).map(|(principal, avatar)| (principal.name().to_owned(), avatar.place)).collect()
}
