//! Tests the behaviour of zones and calls that games rely on.

use std::time::Duration;

use bevy_app::{First, Last, PostUpdate, PreUpdate, Update};
use bevy_ecs::prelude::*;
use waystation::arena::v1::{Echo, Input, Say};
use waystation::config::ServerConfig;
use waystation::ident::ZoneId;
use waystation::rpc::{Call, Sender};
use waystation::session::{Latency, LinkState, Session, SessionCounts, SessionState};
use waystation::testing::News::{self, MemberResumed};
use waystation::testing::{Harness, Omitted, Via};
use waystation::tick::TickRate;
use waystation::wire::v1::{Beacon, Part, Ping, Reason, Refused};
use waystation::wire::{self, Lane};
use waystation::zone::{
    Members, MembershipCommands as _, Zone, ZoneClock, ZoneJoined, ZoneParted, ZoneTicked,
};

use crate::support::{Heard, command, echoes, game, game_with, said, say, shout, zone};

const HALL: ZoneId = ZoneId(1);

#[test]
fn ow_01_a_session_with_a_link_begins_connected() {
    let mut game = game();

    let ada = game.player(Via::Alpha);

    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
}

#[test]
fn ow_02_and_ow_03_join_makes_active_and_part_connected() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));

    ada.send(&Part { request: 2, ..Part::default() });
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
}

#[test]
fn ow_04_a_part_from_no_zone_is_refused_and_changes_nothing() {
    let mut game = game();
    let mut ada = game.player(Via::Beta);

    ada.send(&Part { request: 4, ..Part::default() });
    game.exchange(&mut [&mut ada]);

    let refused = &ada.take::<Refused>()[0];
    assert_eq!((refused.request, refused.reason()), (4, Reason::NotInZone));
    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
    assert_eq!(game.news_of(ada.session()), [News::Registered]);
}

#[test]
fn ow_05_and_ow_18_a_call_of_a_non_member_is_ignored_and_not_a_protocol_error() {
    let mut game = game();
    let mut ada = game.player(Via::Alpha);
    let mut bob = game.member(Via::Beta, "hall");

    say(&mut ada, 1..=20);
    game.exchange(&mut [&mut ada, &mut bob]);

    assert!(said(&game, &ada).is_empty());
    assert!(echoes(&mut ada).is_empty());
    assert_eq!(game.resource::<SessionCounts>().nonmember_call_count, 20);
    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
}

#[test]
fn ow_07_and_ow_08_and_cc_06_every_loss_opens_a_window_of_full_length() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");

    // The link is lost at 0 s, resumed at 1 s and lost at 4.9 s. The session lives at 9.8 s, and has ended at 10 s.
    ada.close();
    game.run_ms(1_000);
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.run_with(&mut [&mut ada], 3_900);
    ada.close();
    game.run_ms(4_900);
    assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));
    game.run_ms(200);

    assert_eq!(game.state(ada.session()), None);
}

#[test]
fn ow_09_and_ow_10_a_soft_zone_receives_an_expiry_once() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let zone = game.zone("hall").expect("the hall");
    ada.close();
    game.run_ms(1_000);
    assert_eq!(game.app.world().get::<Members>(zone).map(Members::count), Some(1));

    game.run_ms(6_000);

    assert_eq!(game.app.world().get::<Members>(zone).map_or(0, Members::count), 0);
    let parts = game.news_of(ada.session()).iter().filter(|news| matches!(news, News::Parted(..))).count();
    assert_eq!(parts, 1);
}

#[test]
fn ow_11_and_ow_12_a_resume_is_reported_once_and_the_new_link_drives_the_session() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.close();
    game.run_ms(300);
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    say(&mut ada, 1..=1);
    game.exchange(&mut [&mut ada]);

    let resumed = game.news_of(ada.session()).iter().filter(|news| **news == MemberResumed(HALL)).count();
    assert_eq!(resumed, 1);
    assert_eq!(said(&game, &ada), [1]);
    let mut sessions = game.app.world_mut().query::<&Session>();
    assert_eq!(sessions.iter(game.app.world()).count(), 1);
}

#[test]
fn ow_13_each_resume_rotates_the_token_and_sends_it_to_the_client() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut tokens = vec![ada.token()];

    for via in [Via::Beta, Via::Alpha, Via::Beta] {
        ada.close();
        game.run_ms(100);
        ada.connect(&game, via);
        ada.resume();
        game.exchange(&mut [&mut ada]);
        tokens.push(ada.token());
    }

    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 4);
}

/// The members that the game's systems saw when they read a join or a part.
#[derive(Resource, Default)]
struct SeenMembers(Vec<(bool, bool)>);

#[test]
fn ow_16_a_join_is_read_with_its_session_in_members_and_a_part_without() {
    let mut game = game();
    let look = |mut joins: MessageReader<ZoneJoined>,
                mut parts: MessageReader<ZoneParted>,
                zones: Query<&Members>,
                mut seen: ResMut<SeenMembers>| {
        let is_member =
            |zone: Entity, who: Entity| zones.get(zone).is_ok_and(|members| members.contains(who));
        for join in joins.read() {
            seen.0.push((true, is_member(join.zone, join.entity)));
        }
        for part in parts.read() {
            seen.0.push((false, is_member(part.zone, part.entity)));
        }
    };
    game.app.init_resource::<SeenMembers>().add_systems(Update, look);

    let mut ada = game.member(Via::Alpha, "hall");
    ada.send(&Part::default());
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.resource::<SeenMembers>().0, [(true, true), (false, false)]);
}

#[test]
fn ow_17_a_reply_a_send_and_a_broadcast_reach_exactly_their_targets() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "hall");
    let mut eve = game.member(Via::Alpha, "attic");
    let bobs = game.entity(bob.session()).expect("alive");
    let send = move |mut calls: MessageReader<Call<Say>>, mut sender: Sender| {
        for _ in calls.read() {
            sender.send(bobs, &Echo { number: 70, taken: 0 });
        }
    };
    game.app.add_systems(Update, send);

    say(&mut ada, 1..=1);
    shout(&mut game, 80);
    game.exchange(&mut [&mut ada, &mut bob, &mut eve]);

    let sorted = |mut numbers: Vec<u64>| {
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(sorted(echoes(&mut ada)), [1, 80]);
    assert_eq!(sorted(echoes(&mut bob)), [70, 80]);
    assert_eq!(echoes(&mut eve), Vec::<u64>::new());
}

#[test]
fn a_broadcast_reaches_those_who_are_members_when_it_is_called() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.player(Via::Beta);

    // Both take effect in the tick of the broadcast, after it.
    ada.send(&Part::default());
    bob.send(&waystation::wire::v1::Join { request: 1, zone: "hall".to_owned(), ..Default::default() });
    shout(&mut game, 3);
    game.exchange(&mut [&mut ada, &mut bob]);

    assert_eq!(echoes(&mut ada), [3]);
    assert_eq!(echoes(&mut bob), Vec::<u64>::new());
}

#[test]
fn ow_19_a_beacon_each_second_yields_the_latency_and_an_unknown_echo_changes_nothing() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.take::<Beacon>();

    // The player echoes each Beacon at once: no time passes between.
    game.run_with(&mut [&mut ada], 3_000);
    assert_eq!(ada.take::<Beacon>().len(), 3);
    let latency = game.component::<Latency>(ada.session()).copied().expect("measured");
    assert!(latency.round_trip().is_some_and(|time| time < Duration::from_millis(50)), "{latency:?}");
    ada.say(&Ping { id: 4_711, received: 0 });
    ada.omits = Omitted::Mute;
    game.tick();

    assert_eq!(game.component::<Latency>(ada.session()).copied(), Some(latency));
}

#[test]
fn ow_19_the_latency_is_the_time_that_an_echo_took() {
    let mut game = game();
    let mut ada = game.member(Via::Beta, "hall");
    ada.omits = Omitted::Mute;
    ada.take::<Beacon>();
    while ada.take::<Beacon>().is_empty() {
        game.tick();
        ada.pump();
    }

    let mut id = 0;
    game.run_ms(2_000);
    ada.pump();
    for beacon in ada.take::<Beacon>() {
        id = beacon.id;
    }
    game.pass(Duration::from_millis(20));
    ada.say(&Ping { id, received: ada.received() });
    game.tick();

    let round_trip =
        game.component::<Latency>(ada.session()).and_then(Latency::round_trip).expect("measured");
    assert!(
        round_trip >= Duration::from_millis(20) && round_trip <= Duration::from_millis(1_020),
        "{round_trip:?}"
    );
}

#[test]
fn oz_01_three_unanswered_beacons_are_a_temporary_failure_that_an_answer_ends() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    game.run_with(&mut [&mut ada], 1_500);
    let state = |game: &waystation::testing::Harness, of| game.component::<LinkState>(of).copied();
    assert_eq!(state(&game, ada.session()), Some(LinkState::Ok));

    ada.omits = Omitted::Mute;
    for _ in 0..4 {
        // Frames arrive, but no echoes.
        game.run_with(&mut [&mut ada], 1_000);
        ada.say_bytes(Lane::Unreliable, wire::encode(&Input::default()));
    }
    assert_eq!(state(&game, ada.session()), Some(LinkState::TempFail));
    ada.omits = Omitted::Never;
    game.run_with(&mut [&mut ada], 1_500);

    assert_eq!(state(&game, ada.session()), Some(LinkState::Ok));
    ada.close();
    game.tick();
    assert_eq!(state(&game, ada.session()), Some(LinkState::Disconnect));
}

#[test]
fn oz_01_a_link_is_in_doubt_from_the_third_unanswered_beacon_on_and_not_before() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    game.run_with(&mut [&mut ada], 1_500);
    ada.take::<Beacon>();
    ada.omits = Omitted::Mute;

    // The third Beacon is unanswered when the fourth is sent.
    let mut beacons = 0;
    while beacons < 4 {
        assert_eq!(game.component::<LinkState>(ada.session()), Some(&LinkState::Ok), "{beacons} Beacons");
        ada.say_bytes(Lane::Unreliable, wire::encode(&Input::default()));
        game.run_with(&mut [&mut ada], 50);
        beacons += ada.take::<Beacon>().len();
    }
    game.tick();

    assert_eq!(game.component::<LinkState>(ada.session()), Some(&LinkState::TempFail));
}

#[test]
fn oz_05_what_is_sent_while_there_is_no_link_arrives_in_order() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.close();
    for number in 1..=5 {
        shout(&mut game, number);
        game.run_ms(200);
    }

    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert_eq!(echoes(&mut ada), [1, 2, 3, 4, 5]);
}

#[derive(Component, Debug, PartialEq)]
struct Gold(u32);

#[test]
fn ow_23_a_games_data_survives_a_resume() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let entity = game.entity(ada.session()).expect("alive");
    game.app.world_mut().entity_mut(entity).insert(Gold(7));

    ada.close();
    game.run_ms(1_000);
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.component::<Gold>(ada.session()), Some(&Gold(7)));
    assert_eq!(game.entity(ada.session()), Some(entity));
}

#[test]
fn ow_24_two_zones_with_the_same_calls_do_not_mix() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "attic");
    let hear = |mut calls: MessageReader<Call<Say>>, mut zones: Local<Vec<Entity>>, mut sender: Sender| {
        for call in calls.read() {
            zones.push(call.zone);
            sender.broadcast(call.zone, &Echo { number: 1_000 + call.message.number, taken: 0 });
        }
    };
    game.app.add_systems(Update, hear);

    say(&mut ada, 1..=1);
    say(&mut bob, 2..=2);
    game.exchange(&mut [&mut ada, &mut bob]);

    let mut heard = [echoes(&mut ada), echoes(&mut bob)];
    heard.iter_mut().for_each(|numbers| numbers.sort_unstable());
    assert_eq!(heard, [vec![1, 1_001], vec![2, 1_002]]);
}

/// The ticks of zones, by the server's tick: name, frame, and time since the zone's last tick.
#[derive(Resource, Default)]
struct SeenTicks(Vec<(Entity, u64, u64, Duration)>);

#[test]
fn ow_25_each_zone_ticks_at_its_own_rate_with_the_true_time_between() {
    let config = ServerConfig { rate: TickRate::new(40).expect("in range"), ..ServerConfig::default() };
    let mut game = game_with(config);
    let slow = game.open_zone(Zone::new("slow").hz(10));
    let odd = game.open_zone(Zone::new("odd").hz(15));
    let fast = game.open_zone(Zone::new("fast").hz(1_000));
    let look =
        |mut ticks: MessageReader<ZoneTicked>, clocks: Query<&ZoneClock>, mut seen: ResMut<SeenTicks>| {
            for tick in ticks.read() {
                let frame = clocks.get(tick.zone).map_or(0, ZoneClock::frame);
                seen.0.push((tick.zone, tick.frame, frame, tick.dt));
            }
        };
    game.app.init_resource::<SeenTicks>().add_systems(Update, look);

    game.run_ms(3_000);

    let of = |zone: Entity| -> Vec<(u64, u64, Duration)> {
        let seen = &game.resource::<SeenTicks>().0;
        seen.iter().filter(|(of, ..)| *of == zone).map(|(_, tick, frame, dt)| (*tick, *frame, *dt)).collect()
    };
    assert_eq!([of(slow).len(), of(odd).len(), of(fast).len()], [30, 40, 120]);
    for (zone, dt_ms) in [(slow, 100), (odd, 75), (fast, 25)] {
        for (index, (tick, frame, dt)) in of(zone).into_iter().enumerate() {
            assert_eq!((tick, frame, dt), (index as u64 + 1, index as u64 + 1, Duration::from_millis(dt_ms)));
        }
    }
}

#[test]
fn unreliable_calls_reach_the_game_too() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");

    ada.send(&Input { tick: 5, ..Input::default() });
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.resource::<Heard>().inputs, [(ada.session(), 5)]);
}

#[test]
fn our_systems_in_the_phases_of_a_tick_are_not_ambiguous() {
    use bevy_ecs::schedule::{LogLevel, ScheduleBuildSettings};

    let mut game = waystation::testing::Harness::new();
    let settings =
        || ScheduleBuildSettings { ambiguity_detection: LogLevel::Error, ..ScheduleBuildSettings::default() };
    let detect = |schedule: &mut Schedule| {
        schedule.set_build_settings(settings());
    };
    game.app.edit_schedule(First, detect).edit_schedule(PreUpdate, detect);
    game.app.edit_schedule(PostUpdate, detect).edit_schedule(Last, detect);

    game.tick();
}

#[test]
fn a_zone_whose_capacity_is_changed_by_inserting_it_anew_stays_the_same_zone() {
    let mut game = game();
    let hall = game.zone("hall").expect("a zone");
    let id = |game: &Harness| game.app.world().get::<Zone>(hall).map(Zone::id);
    let before = id(&game);

    game.app.world_mut().entity_mut(hall).insert(Zone::new("hall").capacity(5));

    assert_eq!(id(&game), before);
}

#[test]
fn a_zone_of_the_same_name_may_take_the_place_of_one_that_closes() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let old = zone(&game, "hall");

    // Close the zone and open the next one in a single system, as a game does.
    command(&mut game, |commands| {
        commands.close_zone(old);
        commands.spawn(Zone::new("hall"));
    });
    game.exchange(&mut [&mut ada]);
    game.join(&mut ada, "hall");

    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
}
