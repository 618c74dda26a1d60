//! The invariants of sessions and zones, checked after each tick.
//!
//! The audit looks at the world and reads what the game is told; it changes nothing. It is part
//! of every debug build, and of every test that runs an app.

use std::collections::BTreeMap;

use bevy_app::{App, Last, Plugin};
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;

use crate::gate::Lobby;
use crate::ident::{Epoch, LinkKey, SessionId, ZoneId};
use crate::proxy::Proxies;
use crate::rpc::Strangers;
use crate::session::{
    Active, Agenda, Closing, Connected, Disconnected, EndCause, Entry, ExpiresAt, Journal, News, Session,
    SessionConfig, SessionCore, SessionTable,
};
use crate::tick::{TickSystems, TickTime};
use crate::zone::{InZone, JoinPending, Members, Zone};

/// Invariants that did not hold, in this tick. Each was also logged as an error.
#[derive(Resource, Debug, Default)]
pub struct Violations(pub Vec<String>);

/// Checks the invariants after each tick.
#[derive(Debug, Clone, Copy, Default)]
pub struct AuditPlugin;

impl Plugin for AuditPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Violations>().init_resource::<Histories>().init_resource::<Binds>().add_systems(
            Last,
            (
                check_histories,
                (check_states, check_outboxes, check_binds, check_zones, check_ends, check_links)
                    .chain()
                    .run_if(nothing_to_repair),
                check_calls,
                report,
            )
                .chain()
                .in_set(TickSystems::Measure),
        );
    }
}

/// Returns true if the game has done nothing since the timers that is made good in the next tick.
fn nothing_to_repair(table: Res<SessionTable>, agenda: Res<Agenda>) -> bool {
    !table.has_despawned() && !agenda.has_astray()
}

/// What is known of a session from its news.
#[derive(Debug, Default)]
struct History {
    zone: Option<ZoneId>,
    is_unlinked: bool,
    has_ended: bool,
    /// It was resumed in this tick.
    was_resumed: bool,
}

#[derive(Resource, Debug, Default)]
struct Histories(BTreeMap<SessionId, History>);

/// The link and the epoch of each session, as of the last audit.
#[derive(Resource, Debug, Default)]
struct Binds(BTreeMap<Entity, (Option<LinkKey>, Epoch)>);

/// Invariants 8, 9, 10, 17 and 18.
fn check_histories(
    journal: Res<Journal>,
    mut histories: ResMut<Histories>,
    mut violations: ResMut<Violations>,
) {
    violations.0.clear();
    histories.0.values_mut().for_each(|history| history.was_resumed = false);
    for Entry { session, news, sequence, .. } in journal.published() {
        let mut fail = |what: &str| violations.0.push(format!("{what}: {news:?} of {session} ({sequence})"));
        if *news == (News::Registered {}) {
            if histories.0.insert(*session, History::default()).is_some() {
                fail("9: registered twice");
            }
            continue;
        }
        let Some(history) = histories.0.get_mut(session) else {
            fail("9: before Registered or after Closed");
            continue;
        };
        if history.has_ended && !matches!(news, News::Closed { .. }) {
            fail("9: after the end");
        }
        history.was_resumed |= matches!(news, News::Resumed { .. });
        match news {
            News::Registered {} => {}
            News::Expired { cause: EndCause::Timeout } if history.was_resumed => {
                fail("17: expired in the tick of its resume");
            }
            News::Disconnected { .. } if std::mem::replace(&mut history.is_unlinked, true) => {
                fail("18: lost twice")
            }
            News::Resumed { .. } if !std::mem::replace(&mut history.is_unlinked, false) => {
                fail("18: resumed twice")
            }
            News::Joined { zone_id, .. } if history.zone.replace(*zone_id).is_some() => {
                fail("8: joined twice")
            }
            News::Parted { zone_id, .. } if history.zone.take() != Some(*zone_id) => {
                fail("8: parted from where it was not")
            }
            News::Unregistered {} | News::Expired { .. } => {
                history.has_ended = true;
                if history.zone.is_some() {
                    fail("10: ended before it parted");
                }
            }
            News::Closed { .. } => {
                if !history.has_ended {
                    fail("9: closed without an end");
                }
                histories.0.remove(session);
            }
            _ => {}
        }
    }
}

/// A session, as the checks look at it.
type Checked<'a> = (
    Entity,
    &'a SessionCore,
    (Has<Disconnected>, Has<Connected>, Has<Active>),
    Option<&'a ExpiresAt>,
    Option<&'a Session>,
    Option<&'a InZone>,
);

/// Invariants 1 to 4, 7, 13 and 16.
fn check_states(
    sessions: Query<Checked, (Without<Closing>, Allow<Disabled>)>,
    table: Res<SessionTable>,
    time: Res<TickTime>,
    mut violations: ResMut<Violations>,
) {
    let mut linked_count = 0;
    for (entity, core, (disconnected, connected, active), expires, session, zone) in &sessions {
        let mut check = |holds: bool, what: &str| {
            if !holds {
                violations.0.push(format!("{what}: {entity}"));
            }
        };
        let link = core.link();
        let linked = core.is_agent() || link.is_some();
        let markers = u8::from(disconnected) + u8::from(connected) + u8::from(active);
        check(markers == 1, "1: not exactly one state");
        check(active == (linked && zone.is_some()), "2: Active is not linked and in a zone");
        check(disconnected != linked, "3: Disconnected with a link, or linked without");
        check(disconnected == expires.is_some(), "3: ExpiresAt on what is not Disconnected");
        check(connected == (linked && zone.is_none()), "4: Connected and in a zone, or without a link");
        check(expires.is_none_or(|at| at.steady() > time.steady()), "16: past its deadline");
        let is_true =
            session.is_some_and(|session| (session.id(), session.epoch()) == (core.id(), core.epoch()));
        check(is_true, "14: another id or epoch than its core has");
        if let Some(link) = link {
            linked_count += 1;
            check(table.bound_to(link) == Some(entity), "7: its link drives another session");
        }
    }
    if linked_count != table.link_count() {
        violations.0.push(format!("7: {linked_count} linked sessions, {} links", table.link_count()));
    }
}

/// Invariant 13.
fn check_outboxes(
    sessions: Query<(Entity, &SessionCore), Allow<Disabled>>,
    agenda: Res<Agenda>,
    config: Res<SessionConfig>,
    mut violations: ResMut<Violations>,
) {
    let mut all_bytes = 0;
    for (entity, core) in &sessions {
        let Some(outbox) = core.outbox() else { continue };
        let mut check = |holds: bool, what: &str| {
            if !holds {
                violations.0.push(format!("{what}: {entity}"));
            }
        };
        let held = outbox.frame_count() as u64;
        all_bytes += outbox.bytes();
        check(outbox.acked() <= outbox.sent(), "13: acked more than sent");
        check(outbox.sent() - outbox.acked() == held, "13: the outbox is not what is unacknowledged");
        check(outbox.frame_count() <= config.outbox_max_frames, "13: too many frames");
        check(outbox.bytes() <= config.outbox_max_bytes, "13: too many bytes");
    }
    if all_bytes != agenda.outbox_bytes() {
        violations.0.push(format!("13: {all_bytes} bytes in outboxes, {} noted", agenda.outbox_bytes()));
    }
}

/// Invariant 14.
fn check_binds(
    sessions: Query<(Entity, &SessionCore), Allow<Disabled>>,
    mut binds: ResMut<Binds>,
    mut violations: ResMut<Violations>,
) {
    let mut seen = BTreeMap::new();
    for (entity, core) in &sessions {
        let (link, epoch) = (core.link(), core.epoch());
        if let Some((last_link, last_epoch)) = binds.0.get(&entity) {
            let is_new_link = link.is_some() && link != *last_link;
            if epoch < *last_epoch || (is_new_link && epoch == *last_epoch) {
                violations.0.push(format!("14: bound without a new epoch: {entity}"));
            }
        }
        seen.insert(entity, (link, epoch));
    }
    binds.0 = seen;
}

/// What is in a zone, as the checks look at it.
type Inside<'a> = (Entity, &'a InZone, Option<&'a SessionCore>, Has<Disconnected>);

/// Invariants 5 and 6.
fn check_zones(
    zones: Query<(&Zone, Option<&Members>), Allow<Disabled>>,
    inside: Query<Inside, Allow<Disabled>>,
    mut violations: ResMut<Violations>,
) {
    for (session, zone, core, is_disconnected) in &inside {
        let there = zones.get(zone.zone()).ok();
        if is_disconnected && there.is_some_and(|(zone, _)| zone.is_hard()) {
            violations.0.push(format!("5: Disconnected and in a hard zone: {session}"));
        }
        let mirrored = there.and_then(|(_, members)| members);
        if !mirrored.is_some_and(|members| members.contains(session)) {
            violations.0.push(format!("6: {session} is in a zone whose member it is not"));
        }
        let membership = core.and_then(|core| core.membership()).map(|membership| membership.zone);
        if membership != Some(zone.zone()) {
            violations.0.push(format!("6: {session} is in another zone than its core: members differ"));
        }
    }
    let member_count: usize = zones.iter().filter_map(|(_, members)| members).map(Members::count).sum();
    if member_count != inside.iter().count() {
        violations.0.push("6: members that are in no zone".to_owned());
    }
}

/// A session, or what is left of one.
type Left<'a> = (Entity, &'a SessionCore, Has<JoinPending>);

/// Invariants 15 and 20: what is kept for sessions belongs to one that lives.
fn check_ends(
    sessions: Query<Left, Allow<Disabled>>,
    table: Res<SessionTable>,
    agenda: Res<Agenda>,
    time: Res<TickTime>,
    mut violations: ResMut<Violations>,
) {
    let (mut session_count, mut token_count) = (0, 0);
    for (entity, core, has_ask) in &sessions {
        let mut check = |holds: bool, what: &str| {
            if !holds {
                violations.0.push(format!("{what}: {entity}"));
            }
        };
        let (mut tokens, is_found) = (0, table.find(core.id()) == Ok(entity));
        for token in core.tokens() {
            tokens += 1;
            check(table.by_token(token) == Some(entity), "15: a token that resumes another session, or none");
        }
        check(tokens <= 2, "15: more than two tokens");
        check(is_found == core.state().is_some(), "20: found though it has ended, or lives and is not found");
        check(!has_ask || core.is_linked(), "20: an ask of a session that has no link or has ended");
        // The game reads of its end in the next tick, and then it goes.
        let is_over = core.closed_since().is_some_and(|since| since.0 + 1 < time.tick().0);
        check(!is_over, "20: an entity of a session that has ended before");
        session_count += usize::from(core.state().is_some());
        token_count += tokens;
    }
    let mut check = |holds: bool, what: &str| {
        if !holds {
            violations.0.push(what.to_owned());
        }
    };
    check(table.session_count() == session_count, "20: a session is found that is gone");
    check(table.token_count() == token_count, "15: a token of no session, or of two");
    check(table.network_count() <= session_count, "20: a network of sessions that are gone");
    let all_gone = table.link_count() == 0
        && table.token_count() == 0
        && table.network_count() == 0
        && agenda.outbox_bytes() == 0;
    check(session_count > 0 || all_gone, "20: something is left of sessions that are gone");
}

/// Invariant 20: a link drives a session, or has none yet, or is about to go.
fn check_links(
    proxies: Res<Proxies>,
    lobby: Res<Lobby>,
    table: Res<SessionTable>,
    mut violations: ResMut<Violations>,
) {
    for link in proxies.kept_links() {
        if lobby.has(link) == table.bound_to(link).is_some() {
            violations.0.push(format!("20: {link} is neither a guest's nor a session's, or both"));
        }
    }
}

/// Invariant 19.
fn check_calls(calls: Res<Strangers>, mut violations: ResMut<Violations>) {
    violations
        .0
        .extend(calls.0.iter().map(|call| format!("19: the game gets a call of a non-member: {call}")));
}

fn report(violations: Res<Violations>) {
    for violation in &violations.0 {
        tracing::error!(target: "waystation::audit", "broken invariant {violation}: this is a bug of the server");
    }
}
