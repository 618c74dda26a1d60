//! What follows from a change of a core, and the one place that sees to it.
//!
//! A core's state is complete before anything follows from it. First come the look-ups, the links, the counts
//! and the journal, where nothing of the game's runs. Then come the game's hook and the mirrors,
//! whose observers may do anything to any entity: after each of them the world is looked at again.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::journal::{Journal, Whose};
use super::token::TokenHash;
use super::{EndCause, LossCause, News, OnDisconnect, SessionCounts, SessionTable, mirror};
use crate::ident::LinkKey;
use crate::proxy::Proxies;
use crate::tick::TickTime;
use crate::wire::v1::Reason;

/// What follows from a change of a core, in order.
#[must_use]
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Effects(pub(super) Vec<Effect>);

#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    /// A link drives the session.
    Bind(LinkKey),
    /// A link no longer drives the session.
    Unbind(LinkKey),
    /// A link was lost for this cause. It is closed if it is still there, and the session's hook runs.
    Lose { link: LinkKey, cause: LossCause },
    /// A link is closed behind these frames, since its session has ended.
    Close { link: LinkKey, last: Vec<Bytes>, reason: Reason, detail: String },
    /// A token resumes the session.
    Issue(TokenHash),
    /// A token is void.
    Retire(TokenHash),
    /// The session is found no longer.
    Forget,
    /// Frames that the client had sent are lost, and it knows of it: the session was restored from an older
    /// record.
    Miss(u64),
    /// The game is told.
    Note(News),
}

impl Effects {
    pub(super) fn extend(&mut self, effects: impl IntoIterator<Item = Effect>) {
        self.0.extend(effects);
    }
}

impl<const N: usize> From<[Effect; N]> for Effects {
    fn from(effects: [Effect; N]) -> Self {
        Self(effects.into())
    }
}

/// Sees to what follows from a change of a session's core. The entity may be gone by the end.
pub(super) fn apply(world: &mut World, entity: Entity, whose: &Whose, is_agent: bool, effects: Effects) {
    let hook = record(world, whose, is_agent, effects);
    if let Some(cause) = hook
        && let Some(hook) = world.get::<OnDisconnect>(entity).cloned()
        && let Ok(mut session) = world.get_entity_mut(entity)
    {
        hook.run(&mut session, cause);
    }
    mirror::update(world, entity);
}

/// The part in which nothing of the game's runs. Returns the loss that the session's hook is to hear of.
pub(super) fn record(
    world: &mut World,
    whose: &Whose,
    is_agent: bool,
    Effects(effects): Effects,
) -> Option<LossCause> {
    let time = world.resource::<TickTime>();
    let (tick, clock) = (time.tick(), time.now());
    let mut loss = None;
    for effect in effects {
        let mut table = world.resource_mut::<SessionTable>();
        match effect {
            Effect::Bind(link) => table.link(link, whose.entity),
            Effect::Unbind(link) => table.unlink(link),
            Effect::Issue(hash) => table.add_token(hash, whose.entity),
            Effect::Retire(hash) => table.remove_token(hash),
            Effect::Forget => table.remove(whose.session, is_agent),
            Effect::Lose { link, cause } => {
                let mut proxies = world.resource_mut::<Proxies>();
                match cause {
                    LossCause::Link(_) | LossCause::Restart => {}
                    LossCause::Silent => proxies.close_lost(link, Reason::Timeout, clock),
                    LossCause::Slow => proxies.close_lost(link, Reason::Slow, clock),
                    // Its client has to know: the next resume presents another token for it.
                    LossCause::Replaced => proxies.close(link, Reason::Replaced, "", clock),
                }
                loss = Some(cause);
            }
            Effect::Close { link, last, reason, detail } => {
                let mut proxies = world.resource_mut::<Proxies>();
                for frame in last {
                    // Whatever room the link has: these are an outbox at most, and the last there is.
                    if proxies.has_room(link.proxy) {
                        proxies.send(link, frame);
                    }
                }
                proxies.close(link, reason, &detail, clock);
            }
            Effect::Miss(count) => {
                let mut counts = world.resource_mut::<SessionCounts>();
                counts.missed_count = counts.missed_count.saturating_add(count);
            }
            Effect::Note(news) => {
                if !is_agent {
                    world.resource_mut::<SessionCounts>().count(&news);
                }
                world.resource_mut::<Journal>().note(tick, whose.clone(), news);
            }
        }
    }
    loss
}

impl SessionCounts {
    /// Counts what happened to a client's session.
    fn count(&mut self, news: &News) {
        match news {
            News::Registered {} => self.registered_count += 1,
            News::Disconnected { cause, .. } => {
                self.disconnected_count += 1;
                self.slow_count += u64::from(*cause == LossCause::Slow);
            }
            News::Resumed { resync } => {
                self.resumed_count += 1;
                self.resync_count += u64::from(*resync);
            }
            News::Unregistered {} => self.unregistered_count += 1,
            News::Expired { cause } => {
                self.expired_count += 1;
                self.protocol_count += u64::from(*cause == EndCause::Protocol);
            }
            _ => {}
        }
    }
}
