//! Errors that systems, run conditions, observers and commands of a game return: the server goes on and names them.

use std::time::Duration;

use bevy_app::{AppExit, Update};
use bevy_ecs::error::{BevyError, Severity};
use bevy_ecs::prelude::*;
use waystation::ident::MessageId;
use waystation::rpc::Call;
use waystation::session::SessionRegistered;
use waystation::telemetry::Summary;
use waystation::testing::{Harness, Via};
use waystation::tick::{self, ReturnedErrors, StopHandle, TickTime};
use waystation::wire::v1::Bye;
use waystation::wire::{WireMessage, prost};

use crate::support::{echoes, entity, game, logged, say};

/// What a login of the game's brings a player, some time after the session has opened.
#[derive(Component)]
struct Account;

/// The players whose logins are answered in the next tick.
#[derive(Resource, Default)]
struct Answers(Vec<Entity>);

fn take_answers(mut answers: ResMut<Answers>, mut commands: Commands) {
    for player in answers.0.drain(..) {
        commands.entity(player).insert(Account);
    }
}

fn pay_out() -> Result {
    Err("the bank is closed")?
}

#[derive(Resource)]
struct Bank;

fn count_money(_: Res<Bank>) {}

fn is_open(_: Res<Bank>) -> bool {
    true
}

fn open_doors() {}

fn greet(_: On<Add<Account>>) -> Result {
    Err("no words")?
}

/// Returns the places of errors, without the paths of modules, with their numbers of errors.
fn places(game: &Harness) -> Vec<(String, u64)> {
    let place = |(place, count): (&str, u64)| {
        let (kind, name) = place.split_at(place.find("errors::").unwrap_or(0));
        let kind = kind.split(' ').next().unwrap_or_default();
        (format!("{kind} {name}"), count)
    };
    game.resource::<ReturnedErrors>().places().map(place).collect()
}

#[test]
fn a_login_that_is_answered_after_its_player_has_left_is_a_warning_and_the_server_goes_on() {
    // Given a game with two players, one of whom leaves before the answer to her login.
    let mut game = game();
    game.allow_errors();
    game.app.init_resource::<Answers>().add_systems(Update, take_answers);
    let mut ada = game.player(Via::Alpha);
    let mut bob = game.member(Via::Beta, "hall");
    let gone = entity(&game, &ada);
    ada.send(&Bye {});
    game.exchange(&mut [&mut ada, &mut bob]);
    assert!(game.entity(ada.session()).is_none());

    // When the answer comes.
    game.app.world_mut().resource_mut::<Answers>().0.push(gone);
    let log = logged(|| game.exchange(&mut [&mut bob]));

    // Then the log names the command with its component, the entity and a cure, and the game of the other player
    // goes on.
    assert_eq!(game.resource::<ReturnedErrors>().count(), 1);
    let warning = log.lines().find(|line| line.contains("WARN")).expect("a warning");
    for part in ["command ", "Account", &gone.to_string(), "count=1", "try_insert"] {
        assert!(warning.contains(part), "{part} is missing in: {warning}");
    }
    say(&mut bob, 1..=1);
    game.exchange(&mut [&mut bob]);
    assert_eq!(echoes(&mut bob), [1]);
}

#[test]
fn a_system_that_returns_errors_is_counted_in_each_tick_and_warned_of_every_ten_seconds() {
    let mut game = game();
    game.allow_errors();
    game.app.add_systems(Update, pay_out);
    let mut ada = game.member(Via::Alpha, "hall");
    let before = game.resource::<ReturnedErrors>().count();

    let log = logged(|| game.run_with(&mut [&mut ada], 25_000));

    assert_eq!(game.resource::<ReturnedErrors>().count() - before, 500);
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("pay_out")).collect();
    assert_eq!(warnings.len(), 2, "{log}");
    assert!(warnings[1].contains("count=200") && warnings[1].contains("the bank is closed"), "{log}");
    assert!(Summary::of(game.app.world()).to_string().contains(&format!(" errors={}", before + 500)));
}

#[test]
fn systems_conditions_and_observers_are_named_with_what_they_lack() {
    let mut game = game();
    game.allow_errors();
    game.app.add_systems(Update, (count_money, open_doors.run_if(is_open), pay_out)).add_observer(greet);

    let log = logged(|| {
        game.tick();
        game.app.world_mut().spawn(Account);
        game.tick();
    });

    let expected = [
        ("observer errors::greet".to_owned(), 1),
        ("run condition errors::is_open".to_owned(), 2),
        ("system errors::count_money".to_owned(), 2),
        ("system errors::pay_out".to_owned(), 2),
    ]
    .map(|(place, count)| (place.replace("run condition", "run"), count));
    assert_eq!(places(&game), expected);
    let missing = log.lines().find(|line| line.contains("count_money")).expect("a warning");
    assert!(missing.contains("Res<Bank>") && missing.contains("insert the resource"), "{missing}");
}

#[test]
#[should_panic(expected = "pay_out: the bank is closed")]
fn a_test_fails_if_a_system_returns_an_error_that_it_does_not_allow() {
    let mut game = game();
    game.app.add_systems(Update, pay_out);

    game.tick();
}

/// A call that the game forgets to register.
#[derive(Clone, PartialEq, prost::Message)]
struct Forgotten {}
impl WireMessage for Forgotten {
    const ID: MessageId = MessageId::new(0x0177);
    const NAME: &'static str = "test.Forgotten";
}

#[test]
#[should_panic(expected = "register `Call<M>` by `add_call`")]
fn a_test_fails_if_a_system_reads_a_call_that_is_not_registered() {
    let mut game = game();
    game.app.add_systems(Update, |mut calls: MessageReader<Call<Forgotten>>| calls.clear());

    game.tick();
}

#[test]
fn an_error_that_is_less_severe_than_a_warning_is_not_counted() {
    let mut game = game();
    game.app
        .add_systems(Update, || -> Result { Err(BevyError::new(Severity::Info, "the bank opens at nine")) });

    let log = logged(|| game.tick());

    assert_eq!(game.resource::<ReturnedErrors>().count(), 0);
    assert!(log.contains("INFO") && log.contains("the bank opens at nine"), "{log}");
}

#[test]
fn a_server_whose_systems_return_errors_runs_until_it_is_stopped() {
    let mut game = game();
    let gone = game.app.world_mut().spawn_empty().id();
    game.app.world_mut().despawn(gone);
    let until = game.resource::<TickTime>().tick().0 + 3;
    let stop = StopHandle::default();
    let handle = stop.clone();
    game.app.add_systems(Update, pay_out).add_systems(
        Update,
        move |mut commands: Commands, time: Res<TickTime>| {
            commands.entity(gone).insert(Account);
            if time.tick().0 == until {
                handle.stop();
            }
        },
    );

    let exit = tick::run(&mut game.app, &stop);

    assert_eq!(exit, AppExit::Success);
    assert!(game.resource::<TickTime>().tick().0 >= until);
    assert!(game.resource::<ReturnedErrors>().count() >= 6);
}

#[test]
fn the_errors_of_a_tick_that_panics_are_logged_before_the_panic() {
    let mut game = game();
    game.app.add_systems(Update, (pay_out, || panic!("a bug of the game's")).chain());

    let log = logged(|| assert!(tick::run(&mut game.app, &StopHandle::default()).is_error()));

    let (error, panic) = (log.find("the bank is closed"), log.find("a bug of the game's"));
    assert!(error.is_some() && error < panic, "{log}");
}

#[test]
fn a_handler_that_the_game_has_chosen_stays() {
    let mut game = Harness::new();
    game.app.insert_resource(bevy_ecs::error::FallbackErrorHandler(bevy_ecs::error::ignore));
    game.app.add_systems(Update, |mut news: MessageReader<SessionRegistered>| -> Result {
        news.clear();
        Err("ignored")?
    });

    game.tick_after(Duration::from_millis(50));

    assert_eq!(game.resource::<ReturnedErrors>().count(), 0);
}
