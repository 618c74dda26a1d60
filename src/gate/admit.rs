//! Answers Hellos and applies link control in order of arrival, then takes lost links from their sessions.

use std::time::Duration;
use std::vec;

use bevy_ecs::prelude::*;

use super::guests::{Checking, Decided, PendingHello, Stage, limited};
use super::hello::{Denial, OpenRequest, Request, ResumeRequest};
use super::policy::Decision;
use super::route::{Control, Controls};
use super::ticket::{BAD_TICKET, Proofs, Tickets};
use super::{Authenticators, Drain, GateConfig, Guests, Question, new_sessions, stop};
use crate::ident::{LinkKey, ProxyId};
use crate::identity::Principal;
use crate::proxy::{DETAIL_MAX_CHARS, LinkInfo, Proxies};
use crate::session::{
    self, BoundLink, Overdue, Rebind, SessionConfig, SessionCore, SessionCounts, SessionTable,
};
use crate::tick::{Load, LoadCounts, QuestionId, TickInput, TickTime, Verdict};
use crate::wire::v1::{Denied, Reason};
use crate::wire::{self, retry};
use crate::zone;

/// Closes silent guests, cuts surplus guests, and takes lost links from their sessions. The Hellos of the tick are
/// answered before that, so a session that loses its link and is resumed in the same tick never becomes
/// Disconnected.
pub(super) fn apply_losses(world: &mut World) {
    close_silent_guests(world);
    cut_surplus(world);
    for (session, link, cause) in std::mem::take(&mut world.resource_mut::<Overdue>().lost) {
        let bound = world.get::<SessionCore>(session).and_then(|core| core.link());
        if bound == Some(link) {
            zone::disconnect(world, session, cause);
        }
    }
}

/// Applies link control and answers Hellos in order of arrival, because an Ack voids the resume token that
/// a later Hello may present. Verdicts come first, because they are about earlier Hellos.
pub(super) fn apply_inputs(world: &mut World) {
    conclude_checks(world);
    let mut controls = std::mem::take(&mut world.resource_mut::<Controls>().0);
    let mut hellos = take_hellos(world);
    if !hellos.is_empty() {
        hellos.sort_by_key(|(_, _, hello)| hello.when);
        controls.sort_by_key(Control::when);
    }
    let mut controls = controls.into_iter();
    for (link, info, PendingHello { when, request }) in hellos {
        let before = controls.as_slice().partition_point(|control| control.when() <= when);
        take_controls(world, &mut controls, before);
        answer(world, link, &info, request);
    }
    let rest = controls.len();
    take_controls(world, &mut controls, rest);
}

/// Applies the next `count` frames of link control.
fn take_controls(world: &mut World, controls: &mut vec::IntoIter<Control>, mut count: usize) {
    while count > 0 {
        let chunk = count.min(session::PREFETCH_COUNT);
        count -= chunk;
        let next = &controls.as_slice()[..chunk];
        session::prefetch_controls(world, next.iter().map(|control| (control.link, &control.frame)));
        for Control { link, frame, .. } in controls.take(chunk) {
            // A Hello may have bound the session to another link in the meantime.
            match world.resource::<SessionTable>().bound_to(link) {
                Some(session) => session::control(world, session, frame),
                None => world.resource_mut::<SessionCounts>().stale_frame_count += 1,
            }
        }
    }
}

/// Answers the Hellos whose verdict has arrived.
fn conclude_checks(world: &mut World) {
    for Decided { link, proofs, verdict, .. } in world.resource_mut::<Guests>().take_decided() {
        let Some(info) = world.resource_mut::<Guests>().get_mut(link).map(|guest| guest.info.clone()) else {
            continue;
        };
        let concluded = match verdict {
            Verdict::Accept(principal) => {
                let is_other = proofs.user.as_deref().is_some_and(|name| name != principal.name());
                if is_other { Err(BAD_TICKET) } else { register(world, link, &info, principal, &proofs) }
            }
            Verdict::Deny(detail) => {
                let detail: String = detail.chars().take(DETAIL_MAX_CHARS).collect();
                Err(Denial { detail: detail.into(), ..Denial::new(Reason::Unauthenticated, "") })
            }
            Verdict::RetryAfter(after) => {
                Err(Denial::later(Reason::Throttled, "the login is not available now", after))
            }
        };
        finish(world, link, concluded.map(|()| Outcome::Bound));
    }
}

/// Outcome of a Hello that was not denied.
enum Outcome {
    /// The link is bound to a session.
    Bound,
    /// The Hello waits for the verdict of an authenticator.
    AwaitsVerdict,
}

/// Answers a Hello.
fn answer(world: &mut World, link: LinkKey, info: &LinkInfo, request: Result<Request, Denial>) {
    let answered = match request {
        Ok(Request::Resume(request)) => resume(world, link, info, &request).map(|()| Outcome::Bound),
        Ok(Request::Open(request)) => open(world, link, info, request),
        Err(denial) => Err(denial),
    };
    finish(world, link, answered);
}

fn finish(world: &mut World, link: LinkKey, answered: Result<Outcome, Denial>) {
    match answered {
        Ok(Outcome::Bound) => _ = world.resource_mut::<Guests>().leave(link),
        Ok(Outcome::AwaitsVerdict) => {}
        Err(denial) => deny(world, link, denial),
    }
}

/// Takes the Hellos that may be answered now.
fn take_hellos(world: &mut World) -> Vec<(LinkKey, LinkInfo, PendingHello)> {
    let now = world.resource::<TickTime>().now();
    world.resource_scope(|world, mut guests: Mut<Guests>| {
        let table = world.resource::<SessionTable>();
        let hellos = guests.iter_mut().filter_map(|(link, guest)| {
            let hello = guest.take_hello(now, table)?;
            Some((link, guest.info.clone(), hello))
        });
        hellos.collect()
    })
}

/// Opens a session, or asks an authenticator. The proof is checked first, so that a client without one
/// learns nothing about the state of the server.
fn open(world: &mut World, link: LinkKey, info: &LinkInfo, request: OpenRequest) -> Result<Outcome, Denial> {
    let has_proof = world.resource::<Proxies>().vouches_for_links(link.proxy);
    let unix = world.resource::<TickInput>().unix;
    let proofs = world.resource::<Tickets>().check(&request, has_proof, unix)?;
    let policy = world.resource::<GateConfig>().policy;
    match policy.decide(world.resource::<Authenticators>(), &request.credentials, &proofs)? {
        Decision::Open(principal) => {
            register(world, link, info, principal, &proofs)?;
            Ok(Outcome::Bound)
        }
        Decision::Ask(authenticator) => {
            let question = Question {
                id: QuestionId::default(),
                credentials: request.credentials,
                user: proofs.user.clone(),
                address: info.address,
            };
            let network = limited(info, world.resource::<GateConfig>());
            let now = world.resource::<TickTime>().now();
            let question =
                world.resource_mut::<Authenticators>().ask(authenticator, link, network, now, question)?;
            if let Some(guest) = world.resource_mut::<Guests>().get_mut(link) {
                guest.stage = Stage::Checking(Checking { question, proofs });
            }
            Ok(Outcome::AwaitsVerdict)
        }
    }
}

/// Opens a session for a client with a good proof, if there is room. The ticket is used up last: a client
/// that is denied for lack of room can show the same ticket again.
fn register(
    world: &mut World,
    link: LinkKey,
    info: &LinkInfo,
    principal: Principal,
    proofs: &Proofs,
) -> Result<(), Denial> {
    if world.resource::<Drain>().is_draining() {
        return Err(Denial::later(Reason::Draining, "the server is stopping", retry::NO_ROOM));
    }
    if world.resource::<Load>().refuses_new_sessions() {
        world.resource_mut::<LoadCounts>().refused_count += 1;
        return Err(Denial::later(Reason::Throttled, "the server is overloaded", retry::OVERLOADED));
    }
    let max = world.resource::<SessionConfig>().max_sessions;
    if world.resource::<SessionTable>().player_count() >= max {
        return Err(Denial::later(Reason::Full, "the server is full", retry::NO_ROOM));
    }
    let network = new_sessions::check(world, link.proxy, info)?;
    let unix = world.resource::<TickInput>().unix;
    world.resource_mut::<Tickets>().use_up(proofs, unix)?;
    let link = bound_link(world, link, info);
    session::open(world, link, principal, network);
    Ok(())
}

/// Returns what a game sees of a link.
fn bound_link(world: &World, link: LinkKey, info: &LinkInfo) -> BoundLink {
    let transport = info.transport.unwrap_or_else(|| world.resource::<Proxies>().name(link.proxy));
    BoundLink::new(link, transport, info.address)
}

fn resume(world: &mut World, link: LinkKey, info: &LinkInfo, request: &ResumeRequest) -> Result<(), Denial> {
    let session = world.resource::<SessionTable>().by_token(request.token).ok_or(Denial::TOKEN)?;
    let core = world.get::<SessionCore>(session).filter(|core| !core.is_ending()).ok_or(Denial::TOKEN)?;
    if !request.may_resume(core.principal()) {
        return Err(Denial::TOKEN);
    }
    let ResumeRequest { token: presented, point, trimmed, sent, .. } = *request;
    let link = bound_link(world, link, info);
    let zone = zone::zone_name(world, session);
    let rebind = Rebind { link, presented, point, trimmed, sent, zone };
    let resync = session::resume(world, session, &rebind).ok_or(Denial::TOKEN)?;
    zone::resumed(world, session, resync);
    if resync {
        // The resync has cleared the outbox, and with it an earlier Notice.
        stop::notify(world, &[session]);
    }
    Ok(())
}

/// Sends Denied. The link stays open for another Hello. After a bad token, the answer to the next bad token is
/// delayed.
fn deny(world: &mut World, link: LinkKey, denial: Denial) {
    let now = world.resource::<TickTime>().now();
    let hello_timeout = world.resource::<GateConfig>().hello_timeout;
    world.resource_mut::<SessionCounts>().denied_count += 1;
    let mut guests = world.resource_mut::<Guests>();
    let Some(guest) = guests.get_mut(link) else {
        return;
    };
    guest.denied_count += 1;
    // The link stays open until its client may try again, but at most `HELD_MAX` longer than the timeout,
    // because it takes a place.
    let retry_after = Duration::from_millis(denial.retry_after_ms.into()).min(HELD_MAX);
    guest.deadline = now.saturating_add(retry_after).saturating_add(hello_timeout);
    if denial.reason == Reason::Token {
        guest.bad_token_count += 1;
        guest.resume_from = now + TOKEN_DELAY * guest.bad_token_count;
    }
    let is_last = guest.denied_count >= DENIALS_MAX;
    if is_last {
        guests.leave(link);
    }
    let denied = wire::encode(&Denied {
        reason: denial.reason.into(),
        detail: denial.detail.into_owned(),
        retry_after_ms: denial.retry_after_ms,
    });
    let mut proxies = world.resource_mut::<Proxies>();
    proxies.send(link, denied);
    if is_last {
        proxies.close(link, Reason::Timeout, "", now);
    }
}

/// Closes links whose time for a Hello has passed.
fn close_silent_guests(world: &mut World) {
    let now = world.resource::<TickTime>().now();
    for link in world.resource::<Guests>().overdue(now) {
        world.resource_mut::<Guests>().leave(link);
        world.resource_mut::<Proxies>().close(link, Reason::Timeout, "", now);
    }
}

/// Cuts guests if there are more than `max_guests`, or if a proxy has too few places left for links that
/// may resume a session.
fn cut_surplus(world: &mut World) {
    let now = world.resource::<TickTime>().now();
    let max = world.resource::<GateConfig>().max_guests;
    let proxies = world.resource::<Proxies>();
    let surpluses: Vec<(ProxyId, usize)> = proxies.surpluses().collect();
    for (proxy, count) in surpluses {
        let links = world.resource::<Guests>().surplus(Some(proxy), count, now);
        cut_guests(world, links);
    }
    let guests = world.resource::<Guests>();
    let links = guests.surplus(None, guests.guest_count().saturating_sub(max), now);
    cut_guests(world, links);
}

fn cut_guests(world: &mut World, links: Vec<LinkKey>) {
    world.resource_mut::<SessionCounts>().cut_guest_count += links.len() as u64;
    for link in links {
        tracing::debug!(%link, "link cut: too many links without a session");
        world.resource_mut::<Guests>().leave(link);
        world.resource_mut::<Proxies>().cut(link);
    }
}

/// Longest part of `retry_after_ms` for which a denied link is kept open.
const HELD_MAX: Duration = Duration::from_secs(10);
/// Number of denials after which a link is closed: enough to mistype a password.
const DENIALS_MAX: u32 = 8;
/// The answer to a bad token is delayed by this much for each bad token before it on the link.
const TOKEN_DELAY: Duration = Duration::from_millis(500);
