//! Checks the invariants of sessions and zones after each tick. `docs/sessions.md` lists them by number.
//!
//! The audit reads the world and the news that the game gets. It changes nothing. It is part of every debug
//! build, and of every test that runs an app.

use std::collections::BTreeMap;

use bevy_app::{App, Last, Plugin};
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;

use crate::gate::Guests;
use crate::ident::{Epoch, LinkKey, SessionId, ZoneId};
use crate::proxy::Proxies;
use crate::rpc::NonMemberCalls;
use crate::session::{
    Active, Agenda, BoundLink, Closing, Connected, Disconnected, EndCause, Entry, ExpiresAt, Journal, News,
    Session, SessionConfig, SessionCore, SessionTable,
};
use crate::tick::{TickSystems, TickTime};
use crate::zone::{InZone, JoinPending, Members, Zone};

/// Descriptions of the invariants that did not hold in this tick. Each is also logged as an error.
#[derive(Resource, Debug, Default)]
pub struct Violations(pub Vec<String>);

/// Adds the checks of the invariants after each tick.
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

/// Returns true if the game has left no change that the server undoes in the next tick, such as a despawned
/// session or a removed component.
fn nothing_to_repair(table: Res<SessionTable>, agenda: Res<Agenda>) -> bool {
    !table.has_despawned() && !agenda.has_inconsistent()
}

/// State of a session according to its news.
#[derive(Debug, Default)]
struct History {
    zone: Option<ZoneId>,
    is_unlinked: bool,
    has_ended: bool,
    /// True if the session was resumed in this tick.
    was_resumed: bool,
}

#[derive(Resource, Debug, Default)]
struct Histories(BTreeMap<SessionId, History>);

/// Link and epoch of each session at the last audit.
#[derive(Resource, Debug, Default)]
struct Binds(BTreeMap<Entity, (Option<LinkKey>, Epoch)>);

/// Checks invariants 8, 9, 10, 17 and 18.
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
            fail("9: news before Registered or after Closed");
            continue;
        };
        if history.has_ended && !matches!(news, News::Closed { .. }) {
            fail("9: news after the end");
        }
        history.was_resumed |= matches!(news, News::Resumed { .. });
        match news {
            News::Registered {} => {}
            News::Expired { cause: EndCause::Timeout } if history.was_resumed => {
                fail("17: expired in the tick of a resume");
            }
            News::Disconnected { .. } if std::mem::replace(&mut history.is_unlinked, true) => {
                fail("18: disconnected twice")
            }
            News::Resumed { .. } if !std::mem::replace(&mut history.is_unlinked, false) => {
                fail("18: resumed without a disconnect")
            }
            News::Joined { zone_id, .. } if history.zone.replace(*zone_id).is_some() => {
                fail("8: joined twice")
            }
            News::Parted { zone_id, .. } if history.zone.take() != Some(*zone_id) => {
                fail("8: parted from a zone that it was not in")
            }
            News::Unregistered {} | News::Expired { .. } => {
                history.has_ended = true;
                if history.zone.is_some() {
                    fail("10: ended while in a zone");
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

/// A session as `check_states` reads it.
type Checked<'a> = (
    Entity,
    &'a SessionCore,
    (Has<Disconnected>, Has<Connected>, Has<Active>),
    Option<&'a ExpiresAt>,
    Option<&'a Session>,
    Option<&'a InZone>,
    Option<&'a BoundLink>,
);

/// Checks invariants 1 to 4, 7, 14 and 16.
fn check_states(
    sessions: Query<Checked, (Without<Closing>, Allow<Disabled>)>,
    table: Res<SessionTable>,
    time: Res<TickTime>,
    mut violations: ResMut<Violations>,
) {
    let mut linked_count = 0;
    for (entity, core, (disconnected, connected, active), expires, session, zone, bound) in &sessions {
        let mut check = |holds: bool, what: &str| {
            if !holds {
                violations.0.push(format!("{what}: {entity}"));
            }
        };
        let link = core.link();
        let linked = core.is_agent() || link.is_some();
        let markers = u8::from(disconnected) + u8::from(connected) + u8::from(active);
        check(markers == 1, "1: not exactly one state");
        check(
            active == (linked && zone.is_some()),
            "2: Active without a link or a zone, or not Active with both",
        );
        check(disconnected != linked, "3: Disconnected with a link, or not Disconnected without one");
        check(
            disconnected == expires.is_some(),
            "3: ExpiresAt without Disconnected, or Disconnected without ExpiresAt",
        );
        check(
            bound.map(BoundLink::key) == link,
            "3: BoundLink without a link or with another one, or a link without BoundLink",
        );
        check(
            connected == (linked && zone.is_none()),
            "4: Connected in a zone or without a link, or not Connected with a link and in no zone",
        );
        check(expires.is_none_or(|at| at.steady() > time.steady()), "16: past its deadline");
        let is_true =
            session.is_some_and(|session| (session.id(), session.epoch()) == (core.id(), core.epoch()));
        check(is_true, "14: Session has another id or epoch than the core");
        if let Some(link) = link {
            linked_count += 1;
            check(table.bound_to(link) == Some(entity), "7: the link drives another session");
        }
    }
    if linked_count != table.link_count() {
        violations.0.push(format!(
            "7: {linked_count} sessions with a link, but {} links in the table",
            table.link_count()
        ));
    }
}

/// Checks invariant 13.
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
        check(outbox.acked() <= outbox.sent(), "13: more frames acknowledged than sent");
        check(
            outbox.sent() - outbox.acked() == held,
            "13: the outbox does not hold exactly the unacknowledged frames",
        );
        check(outbox.frame_count() <= config.outbox_max_frames, "13: too many frames");
        check(outbox.bytes() <= config.outbox_max_bytes, "13: too many bytes");
    }
    if all_bytes != agenda.outbox_bytes() {
        violations.0.push(format!(
            "13: {all_bytes} bytes in all outboxes, but the total is {}",
            agenda.outbox_bytes()
        ));
    }
}

/// Checks that each bind starts a new epoch: invariant 14.
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

/// A session in a zone as `check_zones` reads it.
type Inside<'a> = (Entity, &'a InZone, Option<&'a SessionCore>, Has<Disconnected>);

/// Checks invariants 5 and 6.
fn check_zones(
    zones: Query<(&Zone, Option<&Members>), Allow<Disabled>>,
    inside: Query<Inside, Allow<Disabled>>,
    mut violations: ResMut<Violations>,
) {
    let mut agent_count = 0;
    for (session, zone, core, is_disconnected) in &inside {
        agent_count += usize::from(core.is_some_and(|core| core.is_agent()));
        let there = zones.get(zone.zone()).ok();
        if is_disconnected && there.is_some_and(|(zone, _)| zone.is_hard()) {
            violations.0.push(format!("5: Disconnected and in a hard zone: {session}"));
        }
        let mirrored = there.and_then(|(_, members)| members);
        if !mirrored.is_some_and(|members| members.contains(session)) {
            violations.0.push(format!("6: {session} is in a zone but not among its members"));
        }
        let membership = core.and_then(|core| core.membership()).map(|membership| membership.zone);
        if membership != Some(zone.zone()) {
            violations.0.push(format!("6: {session} is not in the zone that its core names: members differ"));
        }
    }
    let member_count: usize = zones.iter().filter_map(|(_, members)| members).map(Members::count).sum();
    if member_count != inside.iter().count() {
        violations.0.push("6: a zone has members that are not in it".to_owned());
    }
    let listed: usize = zones.iter().filter_map(|(_, members)| members).map(Members::agent_count).sum();
    if agent_count != listed {
        violations.0.push("6: the agents among the members of zones are not those in them".to_owned());
    }
}

/// A session, or an entity whose session has ended.
type Remains<'a> = (Entity, &'a SessionCore, Has<JoinPending>);

/// Checks invariants 15 and 20: what the server keeps for sessions belongs to live ones.
fn check_ends(
    sessions: Query<Remains, Allow<Disabled>>,
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
            check(
                table.by_token(token) == Some(entity),
                "15: a token of the session resumes another session or no session",
            );
        }
        check(tokens <= 2, "15: more than two tokens");
        check(
            is_found == core.state().is_some(),
            "20: the table finds a session that has ended, or does not find a live one",
        );
        check(!has_ask || core.is_linked(), "20: a session without a link still has an ask");
        // The entity of an ended session stays until the game has read of the end, in the next tick.
        let is_over = core.closed_since().is_some_and(|since| since.0 + 1 < time.tick().0);
        check(!is_over, "20: the entity of an ended session was not despawned");
        session_count += usize::from(core.state().is_some());
        token_count += tokens;
    }
    let mut check = |holds: bool, what: &str| {
        if !holds {
            violations.0.push(what.to_owned());
        }
    };
    check(
        table.session_count() == session_count,
        "20: the table and the world have different numbers of sessions",
    );
    check(
        table.token_count() == token_count,
        "15: the table and the sessions have different numbers of tokens",
    );
    check(
        table.network_count() <= session_count,
        "20: the table counts networks of sessions that have ended",
    );
    let all_gone = table.link_count() == 0
        && table.token_count() == 0
        && table.network_count() == 0
        && agenda.outbox_bytes() == 0;
    check(
        session_count > 0 || all_gone,
        "20: links, tokens, counts of networks or outbox bytes are left after the last session",
    );
}

/// Checks invariant 20: an open link either drives a session or belongs to a guest.
fn check_links(
    proxies: Res<Proxies>,
    guests: Res<Guests>,
    table: Res<SessionTable>,
    mut violations: ResMut<Violations>,
) {
    for link in proxies.kept_links() {
        if guests.contains(link) == table.bound_to(link).is_some() {
            violations.0.push(format!("20: {link} belongs to a guest and a session, or to neither"));
        }
    }
}

/// Checks invariant 19.
fn check_calls(calls: Res<NonMemberCalls>, mut violations: ResMut<Violations>) {
    violations
        .0
        .extend(calls.0.iter().map(|call| format!("19: the game gets a call of a non-member: {call}")));
}

fn report(violations: Res<Violations>) {
    for violation in &violations.0 {
        tracing::error!(target: "waystation::audit", "broken invariant {violation}: this is a bug in the server");
    }
}
