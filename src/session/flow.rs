//! The life of a session: registered, bound anew, disconnected, closed.
//!
//! Each function does all that belongs to one step and leaves the session whole. None of them
//! knows zones: whoever calls them tells the state to go to and sees to the membership.

use std::time::Duration;

use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::prelude::*;
use bevy_ecs::world::DeferredWorld;

use super::lifecycle::{LossCause, announce, announce_of};
use super::state::{retire, transition};
use super::traffic::flush_one;
use super::{
    Agent, Closing, EndCause, ExpiresAt, Inbox, Latency, LinkState, OnDisconnect, Outbox, Principal,
    ResumePoint, ResumeTimeout, Session, SessionClosed, SessionConfig, SessionCounts, SessionDisconnected,
    SessionExpired, SessionRegistered, SessionResumed, SessionState, SessionTable, SessionUnregistered,
    TokenHash, Tokens, Uplink,
};
use crate::ident::{Epoch, LinkKey, SessionId};
use crate::proxy::{LinkEnd, Network, Proxies};
use crate::tick::{Secrets, TickRate, TickTime};
use crate::wire::v1::{Reason, Welcome};
use crate::wire::{self, TOKEN_BYTES};

/// A link takes a session over, or takes it up again.
#[derive(Debug)]
pub(crate) struct Rebind<'a> {
    pub(crate) link: LinkKey,
    /// The token that was presented.
    pub(crate) presented: TokenHash,
    /// What the client says it received.
    pub(crate) point: ResumePoint,
    /// How far the client's own outbox is trimmed.
    pub(crate) trimmed: u64,
    /// The zone that the session is in.
    pub(crate) zone: Option<&'a str>,
}

/// Opens a session on a link. It counts to the network until it ends.
pub(crate) fn register(
    world: &mut World,
    link: LinkKey,
    principal: Principal,
    network: Option<Network>,
) -> Entity {
    let now = world.resource::<TickTime>().steady();
    let timeout = world.resource::<SessionConfig>().timeout;
    let mut secrets = world.resource_mut::<Secrets>();
    let id = SessionId(secrets.id());
    let (tokens, token) = Tokens::issue(&mut secrets);
    let mut uplink = Uplink::default();
    uplink.rebind(Some(link), now, id);
    let hashes = tokens.hashes();
    let components = (Session { id, epoch: Epoch(1) }, principal, tokens, ResumeTimeout(timeout), uplink);
    let state = (Inbox::default(), Outbox::default(), Latency::default(), LinkState::Connect);
    let hook = world.resource::<SessionConfig>().on_disconnect.clone();
    let whose = components.1.clone();
    let entity = world.spawn((components, state)).id();
    if let Some(hook) = hook
        && let Ok(mut entity) = world.get_entity_mut(entity)
    {
        entity.insert(hook);
    }
    let mut table = world.resource_mut::<SessionTable>();
    table.add(id, entity, false);
    table.count_to(id, network);
    table.link(link, entity);
    table.add_tokens(hashes, entity);
    world.resource_mut::<SessionCounts>().registered_count += 1;
    announce_of(world, (id, entity, whose), SessionRegistered::new);
    transition(world, entity, SessionState::Connected);
    welcome(world, entity, &token, None);
    entity
}

/// Binds a session to another link, whether it still has one or not. Whether it must resync.
pub(crate) fn bind(world: &mut World, entity: Entity, rebind: &Rebind) -> bool {
    let now = world.resource::<TickTime>().steady();
    lose_link(world, entity, LossCause::Replaced);
    if world.get_entity(entity).is_err() {
        // The hook of the loss has despawned it, which it must not: settle buries what is left.
        return false;
    }
    let token = rotate_tokens(world, entity, rebind.presented);
    world.resource_mut::<SessionTable>().link(rebind.link, entity);
    let config = world.resource::<SessionConfig>().clone();
    #[cfg(feature = "planted")]
    let planted = super::planted::Sabotage::of(world, entity);
    let mut session = world.entity_mut(entity);
    let mut id = SessionId(0);
    if let Some(mut session) = session.get_mut::<Session>() {
        session.epoch.0 += 1;
        id = session.id;
    }
    // What older links delivered and dispatch has not counted is sent again by its client.
    let gap = session.get_mut::<Inbox>().is_some_and(|mut inbox| inbox.rebase(rebind.trimmed, now, &config));
    let point = ResumePoint { resync: rebind.point.resync || gap, ..rebind.point };
    let resync = session.get_mut::<Outbox>().is_none_or(|mut outbox| outbox.resume(point, now));
    if let Some(mut uplink) = session.get_mut::<Uplink>() {
        uplink.rebind(Some(rebind.link), now, id);
        // Whoever presents a token has read a Welcome.
        uplink.confirm();
    }
    session.insert(LinkState::Connect);
    let to = if rebind.zone.is_some() { SessionState::Active } else { SessionState::Connected };
    transition(world, entity, to);
    let mut counts = world.resource_mut::<SessionCounts>();
    counts.resumed_count += 1;
    counts.resync_count += u64::from(resync);
    welcome(world, entity, &token, Some((rebind.zone.unwrap_or_default(), resync)));
    #[cfg(feature = "planted")]
    planted.apply(world, entity);
    announce(world, entity, |of| SessionResumed::new(of, resync));
    resync
}

/// Takes the link from a session that has one; it waits to be resumed. Frames that wait for
/// dispatch stay, to be dispatched in this tick.
pub(crate) fn disconnect(world: &mut World, entity: Entity, cause: LossCause) {
    if !lose_link(world, entity, cause) {
        return;
    }
    let now = world.resource::<TickTime>().steady();
    let Ok(mut session) = world.get_entity_mut(entity) else { return };
    let mut timeout = session.get::<ResumeTimeout>().map(|timeout| timeout.0).unwrap_or_default();
    if let Some(mut uplink) = session.get_mut::<Uplink>() {
        // A client that ends its link before it has acknowledged its Welcome has given the session up. One that
        // is not heard may have the Welcome all the same.
        if !uplink.confirmed && cause == LossCause::Link(LinkEnd::ByPeer) {
            timeout = Duration::ZERO;
        }
        uplink.rebind(None, now, SessionId(0));
    }
    transition(world, entity, SessionState::Disconnected);
    if let Ok(mut session) = world.get_entity_mut(entity) {
        session.insert((ExpiresAt(now.saturating_add(timeout)), LinkState::Disconnect));
    }
}

/// Notes that the client of a session has shown that it got a Welcome, and so can resume the session.
///
/// Where that is heard in the tick in which the link was lost, the session is kept from here on: what
/// arrived before a loss counts as if the link were still there.
pub(crate) fn confirm(world: &mut World, entity: Entity) {
    let now = world.resource::<TickTime>().steady();
    let Ok(mut session) = world.get_entity_mut(entity) else { return };
    let is_news = session.get_mut::<Uplink>().is_some_and(|mut uplink| uplink.confirm());
    let timeout = session.get::<ResumeTimeout>().map(|timeout| timeout.0);
    if is_news
        && let Some(timeout) = timeout
        && let Some(mut expires) = session.get_mut::<ExpiresAt>()
    {
        expires.0 = now.saturating_add(timeout);
    }
}

/// Ends a session. It must be in no zone any more. The detail is for its client.
pub(crate) fn close(world: &mut World, entity: Entity, cause: EndCause, detail: &str) {
    let tick = world.resource::<TickTime>().tick();
    flush_one(world, entity);
    let Some(ended) = world.get_entity(entity).ok().and_then(Despawned::of) else { return };
    bury(world, ended, cause, detail);
    // From here on it is nobody's; what an observer does to it is the game's affair.
    retire(world, entity, tick);
    if let Ok(mut session) = world.get_entity_mut(entity) {
        session.remove::<(Tokens, Inbox, Outbox, Uplink)>();
    }
    if let Ok(mut session) = world.get_entity_mut(entity) {
        session.insert(LinkState::PermFail);
    }
}

/// What is left of a session whose entity the game despawned.
#[derive(Debug)]
pub(crate) struct Despawned {
    pub(crate) session: SessionId,
    pub(crate) entity: Entity,
    pub(crate) principal: Principal,
    is_agent: bool,
    tokens: Vec<TokenHash>,
    link: Option<LinkKey>,
    unacked_count: u64,
}

impl Despawned {
    /// What would be left of a session now; `None` if it has ended.
    fn of(entity: EntityRef) -> Option<Self> {
        if entity.contains::<Closing>() {
            return None;
        }
        Some(Self {
            session: entity.get::<Session>()?.id,
            entity: entity.id(),
            principal: entity.get::<Principal>()?.clone(),
            is_agent: entity.contains::<Agent>(),
            tokens: entity.get::<Tokens>().into_iter().flat_map(Tokens::hashes).collect(),
            link: entity.get::<Uplink>().and_then(Uplink::link),
            unacked_count: entity.get::<Outbox>().map_or(0, |outbox| outbox.frame_count() as u64),
        })
    }
}

/// The game despawned a session, or took its [`Session`] away.
pub(super) fn despawned(mut world: DeferredWorld, context: HookContext) {
    if let Some(despawned) = Despawned::of(world.entity(context.entity))
        && let Some(mut table) = world.get_resource_mut::<SessionTable>()
    {
        table.despawned.push(despawned);
    }
}

/// Takes a session out of all books, closes its link and announces its end.
pub(crate) fn bury(world: &mut World, ended: Despawned, cause: EndCause, detail: &str) {
    let now = world.resource::<TickTime>().now();
    let mut table = world.resource_mut::<SessionTable>();
    table.remove(ended.session, ended.is_agent);
    table.remove_tokens(ended.tokens.into_iter());
    if let Some(link) = ended.link {
        table.unlink(link);
        world.resource_mut::<Proxies>().close(link, cause.reason(), detail, now);
    }
    if !ended.is_agent {
        let mut counts = world.resource_mut::<SessionCounts>();
        match cause {
            EndCause::Bye => counts.unregistered_count += 1,
            _ => counts.expired_count += 1,
        }
        counts.protocol_count += u64::from(cause == EndCause::Protocol);
    }
    let whose = (ended.session, ended.entity, ended.principal);
    if cause == EndCause::Bye {
        announce_of(world, whose.clone(), SessionUnregistered::new);
    } else {
        announce_of(world, whose.clone(), |of| SessionExpired::new(of, cause));
    }
    announce_of(world, whose, |of| SessionClosed::new(of, cause, ended.unacked_count));
}

/// The link of a session is gone, or goes for this cause: its hook runs, the books forget the link,
/// the game is told. Whether there was one.
fn lose_link(world: &mut World, entity: Entity, cause: LossCause) -> bool {
    let time = world.resource::<TickTime>();
    let (now, steady) = (time.now(), time.steady());
    let Some(uplink) = world.get::<Uplink>(entity) else { return false };
    let Some(link) = uplink.link else { return false };
    let silent_ms = u64::try_from(steady.saturating_sub(uplink.heard).as_millis()).unwrap_or(u64::MAX);
    if let Some(hook) = world.get::<OnDisconnect>(entity).cloned()
        && let Ok(mut session) = world.get_entity_mut(entity)
    {
        (hook.0)(&mut session, cause);
    }
    world.resource_mut::<SessionTable>().unlink(link);
    let mut proxies = world.resource_mut::<Proxies>();
    match cause {
        LossCause::Link(_) => {}
        LossCause::Silent => proxies.close_lost(link, Reason::Timeout, now),
        LossCause::Slow => proxies.close_lost(link, Reason::Slow, now),
        // Its client has to know: the next resume presents another token for it.
        LossCause::Replaced => proxies.close(link, Reason::Replaced, "", now),
    }
    let mut counts = world.resource_mut::<SessionCounts>();
    counts.disconnected_count += 1;
    counts.slow_count += u64::from(cause == LossCause::Slow);
    announce(world, entity, |of| SessionDisconnected::new(of, cause, silent_ms));
    true
}

/// Issues a new token; the presented one stays valid until the client has shown that it got it.
fn rotate_tokens(world: &mut World, entity: Entity, presented: TokenHash) -> [u8; TOKEN_BYTES] {
    world.resource_scope(|world, mut secrets: Mut<Secrets>| {
        let Some(mut tokens) = world.get_mut::<Tokens>(entity) else {
            return [0; TOKEN_BYTES];
        };
        let old: Vec<TokenHash> = tokens.hashes().collect();
        let token = tokens.rotate(presented, &mut secrets);
        let new: Vec<TokenHash> = tokens.hashes().collect();
        let mut table = world.resource_mut::<SessionTable>();
        table.remove_tokens(old.into_iter());
        table.add_tokens(new.into_iter(), entity);
        token
    })
}

/// Queues the Welcome: the first frame that the session's new link sees.
fn welcome(world: &mut World, entity: Entity, token: &[u8; TOKEN_BYTES], resumed: Option<(&str, bool)>) {
    let tick_hz = world.resource::<TickRate>().hz();
    let tick = world.resource::<TickTime>().tick().0;
    let Ok(mut session) = world.get_entity_mut(entity) else { return };
    let id = session.get::<Session>().map_or(0, |session| session.id.0);
    let timeout = session.get::<ResumeTimeout>().map(|timeout| timeout.0).unwrap_or_default();
    let (zone, resync) = resumed.unwrap_or_default();
    let frame = wire::encode(&Welcome {
        session: id,
        token: token.to_vec().into(),
        resumed: resumed.is_some(),
        received: session.get::<Inbox>().map_or(0, Inbox::received),
        base: session.get::<Outbox>().map_or(0, Outbox::acked),
        resync,
        tick_hz,
        tick,
        timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        zone: zone.to_owned(),
    });
    if let Some(mut uplink) = session.get_mut::<Uplink>() {
        uplink.control.push(frame);
    }
}
