//! Tests that nothing reliable is lost or duplicated, whenever links are cut.

use proptest::prelude::*;

use super::*;

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let plan = (0usize..24, 0usize..24, any::<bool>(), 1usize..12).prop_map(|(up, down, told, room)| Plan {
        up,
        down,
        told,
        room,
    });
    prop::collection::vec(plan, 0..12)
}

fn assert_exactly_once(mut plans: Vec<Plan>, count: u64, a_step: u64) {
    // A session whose first Welcome was never acknowledged is not kept, so the first frames arrive.
    if let Some(first) = plans.first_mut() {
        first.up = first.up.max(2);
        first.down = first.down.max(1);
    }
    let mut scene = Scene::with(&plans);
    let (mut up, mut down) = (0, 0);

    for _ in 0..8_000 {
        for _ in 0..a_step {
            if up < count && scene.client.send(&Numbered { number: up + 1 }).is_ok() {
                up += 1;
            }
            if down < count && !scene.server.sessions.is_empty() {
                down += 1;
                scene.server.send(down);
            }
        }
        scene.step();
        if scene.client.acked_count() == count && scene.client.received_count() == count {
            break;
        }
    }

    let all: Vec<u64> = (1..=count).collect();
    assert_eq!(scene.numbers(), all, "to the client, {:?}", scene.story());
    assert_eq!(scene.server.sessions[0].log, all, "to the server");
    assert_eq!(scene.client.acked_count(), count);
    assert!(!scene.story().contains(&"session lost"));
    assert_eq!(scene.server.sessions.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_schedule_of_cuts_loses_and_duplicates_nothing(
        plans in plans(), count in 0u64..150, a_step in 1u64..40,
    ) {
        assert_exactly_once(plans, count, a_step);
    }
}

#[test]
fn a_cut_between_any_two_frames_loses_and_duplicates_nothing() {
    for told in [false, true] {
        for up in 2..14 {
            for down in 1..14 {
                let plan = Plan { up, down, told, room: 3 };
                assert_exactly_once(vec![plan], 12, 2);
            }
        }
    }
}

#[test]
fn cuts_by_the_client_lose_and_duplicate_nothing() {
    use crate::client::Cut;

    let mut scene = Scene::connected();
    let hold = Duration::from_millis(300);
    for number in 1..=200 {
        scene.client.send(&Numbered { number }).unwrap();
        scene.server.send(number);
        if number % 7 == 0 {
            scene.client.cut(match number % 3 {
                0 => Cut::Silent { hold: Duration::ZERO },
                1 => Cut::Silent { hold },
                _ => Cut::Close { hold },
            });
        }
        scene.step();
    }
    scene.run(3.0);

    let all: Vec<u64> = (1..=200).collect();
    assert_eq!(scene.numbers(), all);
    assert_eq!(scene.server.sessions[0].log, all);
    assert!(scene.client.resume_count() > 10);
    assert_eq!(scene.server.sessions[0].unacked(), 0);
}
