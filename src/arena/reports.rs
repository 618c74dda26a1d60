//! Sends the state of the arena to new members, and snapshots and changes to all members.

use std::mem;

use bevy_ecs::prelude::*;

use super::plane::SIZE;
use super::{Arena, Avatar, Point, v1};
use crate::identity::Principal;
use crate::rpc::Sender;
use crate::session::{Agent, Disconnected, Session};
use crate::tick::Load;
use crate::zone::{MemberResumed, ZoneJoined, ZoneTicked};

/// Sends the whole state to sessions that have joined, or were resumed with resync. A resync may also reset
/// the tick numbers of the inputs of a client.
pub(super) fn brief(
    mut joined: MessageReader<ZoneJoined>,
    mut resumed: MessageReader<MemberResumed>,
    mut avatars: Query<(&mut Avatar, &Session, &Principal)>,
    arena: Res<Arena>,
    mut sender: Sender,
) {
    let resumed = resumed.read().filter(|news| news.resync).map(|news| news.entity);
    let newcomers: Vec<Entity> = joined.read().map(|news| news.entity).chain(resumed).collect();
    if newcomers.is_empty() {
        return;
    }
    let scores = avatars.iter().map(|(avatar, id, name)| score(avatar, id, name)).collect();
    let scores = v1::Scores { scores };
    let pellets = pellets_message(&arena.pellets, 0..arena.pellets.len());
    for newcomer in newcomers {
        if let Ok((mut avatar, ..)) = avatars.get_mut(newcomer) {
            avatar.newest = None;
            let (id, width, height) = (avatar.id, SIZE as u32, SIZE as u32);
            sender.send(newcomer, &v1::You { id, width, height });
            sender.send(newcomer, &scores);
            sender.send(newcomer, &pellets);
        }
    }
}

/// Broadcasts the places of all avatars at each tick of the zone, and less often under load.
pub(super) fn send_snapshot(
    mut ticks: MessageReader<ZoneTicked>,
    avatars: Query<(&Avatar, Has<Agent>, Has<Disconnected>)>,
    (arena, load): (Res<Arena>, Res<Load>),
    mut sender: Sender,
) {
    for tick in ticks.read().filter(|tick| tick.zone == arena.zone) {
        if !tick.frame.is_multiple_of(load.snapshot_divisor()) {
            continue;
        }
        let all: Vec<Seen> = avatars.iter().map(seen).collect();
        for chunk in chunks(tick.frame, &all) {
            sender.broadcast(arena.zone, &chunk);
        }
    }
}

/// Broadcasts changed scores and pellets, at every second tick of the zone.
pub(super) fn send_changes(
    mut ticks: MessageReader<ZoneTicked>,
    mut avatars: Query<(&mut Avatar, &Session, &Principal)>,
    mut arena: ResMut<Arena>,
    mut sender: Sender,
) {
    let is_due = |tick: &ZoneTicked| tick.zone == arena.zone && tick.frame.is_multiple_of(REPORT_EVERY);
    if !ticks.read().any(is_due) {
        return;
    }
    let gone = mem::take(&mut arena.gone);
    let gone = gone.into_iter().map(|id| v1::Score { id, gone: true, ..v1::Score::default() });
    let mut scores: Vec<v1::Score> = gone.collect();
    for (mut avatar, session, principal) in &mut avatars {
        if avatar.reported != Some(avatar.score) {
            avatar.reported = Some(avatar.score);
            scores.push(score(&avatar, session, principal));
        }
    }
    if !scores.is_empty() {
        sender.broadcast(arena.zone, &v1::Scores { scores });
    }
    let eaten = mem::take(&mut arena.eaten);
    if !eaten.is_empty() {
        sender.broadcast(arena.zone, &pellets_message(&arena.pellets, eaten));
    }
}

fn score(avatar: &Avatar, session: &Session, principal: &Principal) -> v1::Score {
    let name = principal.name();
    v1::Score {
        id: avatar.id,
        session: session.id().0,
        name: name[..name.floor_char_boundary(NAME_MAX_BYTES)].to_owned(),
        score: avatar.score,
        gone: false,
    }
}

fn pellets_message(pellets: &[Point], numbers: impl IntoIterator<Item = usize>) -> v1::Pellets {
    let mut message = v1::Pellets::default();
    for number in numbers {
        let (x, y) = pellets[number].hundredths();
        message.id.push(u32::try_from(number).unwrap_or(u32::MAX));
        message.x.push(x);
        message.y.push(y);
    }
    message
}

/// An avatar in a snapshot: its id, its place in hundredths, and its flags.
type Seen = (u32, (i32, i32), u32);

fn seen((avatar, is_agent, is_linkdead): (&Avatar, bool, bool)) -> Seen {
    #[allow(clippy::cast_possible_truncation, reason = "masked to 5 bits")]
    let input = (avatar.newest.unwrap_or_default() & INPUT_MASK) as u32;
    let flags = u32::from(is_agent) | u32::from(is_linkdead) << 1 | input << INPUT_SHIFT;
    (avatar.id, avatar.place.hundredths(), flags)
}

/// Splits the places of all avatars into snapshots that fit a datagram each.
fn chunks(tick: u64, all: &[Seen]) -> impl Iterator<Item = v1::Snapshot> {
    let pieces = all.chunks(AVATARS_PER_CHUNK);
    let count = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
    pieces.zip(0..).map(move |(piece, index)| v1::Snapshot {
        tick,
        chunk: index,
        chunks: count,
        id: piece.iter().map(|(id, ..)| *id).collect(),
        x: piece.iter().map(|(_, (x, _), _)| *x).collect(),
        y: piece.iter().map(|(_, (_, y), _)| *y).collect(),
        flags: piece.iter().map(|(.., flags)| *flags).collect(),
    })
}

/// Scores and pellets are broadcast once in this many ticks of the zone.
const REPORT_EVERY: u64 = 2;
/// Longest name that scores contain, in bytes, so that all scores fit one frame. A longer name is cut.
const NAME_MAX_BYTES: usize = 16;
/// Number of avatars in a chunk. At up to 12 bytes each, a chunk has at most 1,000 bytes.
const AVATARS_PER_CHUNK: usize = 80;
/// The flags contain the lowest five bits of the tick of an avatar's newest input. The flags then still
/// take one byte. At 20 inputs per second, a client can distinguish the inputs of 1.6 s.
const INPUT_MASK: u64 = 0b1_1111;
/// Number of the lower bits of the flags, which mark agents and avatars without a link.
const INPUT_SHIFT: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::CAPACITY_MAX;
    use crate::wire::{self, FRAME_MAX_SERVER};

    #[test]
    fn the_largest_chunk_has_at_most_1000_bytes_and_each_avatar_is_in_one() {
        let largest = (u32::MAX, (10_000, 10_000), 0b111_1111);

        let chunks: Vec<_> = chunks(u64::MAX, &[largest; 2 * AVATARS_PER_CHUNK + 1]).collect();

        assert_eq!(chunks.iter().map(|chunk| chunk.id.len()).sum::<usize>(), 161);
        for (index, chunk) in (0..).zip(&chunks) {
            assert_eq!((chunk.chunk, chunk.chunks), (index, 3));
            assert!(wire::encode(chunk).len() <= 1_000);
        }
    }

    #[test]
    fn all_scores_fit_a_frame_after_all_members_were_replaced_twice() {
        let (id, score) = (u32::MAX, u32::MAX);
        let (session, name) = (u64::MAX, "n".repeat(NAME_MAX_BYTES));
        let new = v1::Score { id, session, name, score, gone: false };
        let gone = v1::Score { id, gone: true, ..v1::Score::default() };

        let mut scores = vec![gone; 2 * CAPACITY_MAX];
        scores.extend(vec![new; CAPACITY_MAX]);

        assert!(wire::encode(&v1::Scores { scores }).len() <= FRAME_MAX_SERVER);
    }
}
