//! The effects of a change of a core, and the code that carries them out.
//!
//! The change of a core is complete before its effects are carried out. First the look-ups, the links, the counts
//! and the journal are updated; no code of the game runs meanwhile. Then the game's hook runs, and the mirrors are
//! written. Observers of mirrors may change any entity, so each step looks up again what it uses.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::journal::{Journal, Subject};
use super::token::TokenHash;
use super::{EndCause, LossCause, News, OnDisconnect, SessionCounts, SessionTable, mirror};
use crate::ident::LinkKey;
use crate::proxy::Proxies;
use crate::tick::TickTime;
use crate::wire::v1::Reason;

/// The effects of a change of a core, in order.
#[must_use]
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Effects(pub(super) Vec<Effect>);

#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    /// A link drives the session.
    Bind(LinkKey),
    /// A link no longer drives the session.
    Unbind(LinkKey),
    /// The session has lost a link for this cause. The link is closed if it is still open, and the session's
    /// hook runs.
    Lose { link: LinkKey, cause: LossCause },
    /// The session has ended. Its link is closed after these frames were sent.
    Close { link: LinkKey, last: Vec<Bytes>, reason: Reason, detail: String },
    /// A token resumes the session.
    Issue(TokenHash),
    /// A token no longer resumes the session.
    Retire(TokenHash),
    /// The look-ups no longer find the session.
    Forget,
    /// This many counted frames of the client are lost, because the session was restored from an older
    /// record. It is 0 if the client's count is not plausible.
    Miss(u64),
    /// An entry is added to the journal.
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

/// Carries out the effects of a change of a session's core. The entity may be gone afterwards.
pub(super) fn apply(world: &mut World, entity: Entity, subject: &Subject, is_agent: bool, effects: Effects) {
    let hook = record(world, subject, is_agent, effects);
    if let Some(cause) = hook
        && let Some(hook) = world.get::<OnDisconnect>(entity).cloned()
        && let Ok(mut session) = world.get_entity_mut(entity)
    {
        hook.run(&mut session, cause);
    }
    mirror::update(world, entity);
}

/// Carries out the effects that run no code of the game. Returns the cause for which the session's hook must
/// run, if the session has lost a link.
pub(super) fn record(
    world: &mut World,
    subject: &Subject,
    is_agent: bool,
    Effects(effects): Effects,
) -> Option<LossCause> {
    let time = world.resource::<TickTime>();
    let (tick, clock) = (time.tick(), time.now());
    let mut loss = None;
    for effect in effects {
        let mut table = world.resource_mut::<SessionTable>();
        match effect {
            Effect::Bind(link) => table.link(link, subject.entity),
            Effect::Unbind(link) => table.unlink(link),
            Effect::Issue(hash) => table.add_token(hash, subject.entity),
            Effect::Retire(hash) => table.remove_token(hash),
            Effect::Forget => table.remove(subject.session, is_agent),
            Effect::Lose { link, cause } => {
                let mut proxies = world.resource_mut::<Proxies>();
                match cause {
                    LossCause::Link(_) | LossCause::Restart => {}
                    LossCause::Silent => proxies.close_lost(link, Reason::Timeout, clock),
                    LossCause::Slow => proxies.close_lost(link, Reason::Slow, clock),
                    // The old link gets a Closed frame, so that a client which still reads it stops using it.
                    LossCause::Replaced => proxies.close(link, Reason::Replaced, "", clock),
                }
                loss = Some(cause);
            }
            Effect::Close { link, last, reason, detail } => {
                let mut proxies = world.resource_mut::<Proxies>();
                for frame in last {
                    // The room of the link is not checked: these are its last frames, at most one outbox and the
                    // unreliable frames of one tick.
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
                world.resource_mut::<Journal>().note(tick, subject.clone(), news);
            }
        }
    }
    loss
}

impl SessionCounts {
    /// Counts a change of a client's session.
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
