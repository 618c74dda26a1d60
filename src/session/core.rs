//! The session core: the state of one client's or agent's session.
//!
//! A [`Core`] is a value that uses neither bevy's world nor I/O. Its methods take the time and an input,
//! update the state, and return the [`Effects`] that the rest of the server carries out. A core does not
//! depend on zones: the zone that its session is in is an input, the [`Membership`].
//!
//! Data flow: a Hello opens or resumes a core; frames arrive in the inbox and are counted when dispatch takes
//! them; frames to send wait in the outbox, or on the link, for the next flush; the loss of a link, a
//! deadline or an end changes the state of the core.

#[cfg(test)]
mod tests;
mod traffic;

use std::sync::Arc;
use std::time::Duration;

use bevy_ecs::entity::Entity;

use super::agenda::{Limits, Marks};
use super::effects::{Effect, Effects};
use super::inbox::Inbox;
use super::journal::Subject;
use super::link::{Latency, Link, LinkState};
use super::outbox::{Outbox, ResumePoint};
use super::token::{Issued, TokenHash, Tokens};
use super::{BoundLink, EndCause, LossCause, News, SessionConfig, SessionState};
use crate::ident::{Epoch, LinkKey, SessionId, Tick, ZoneId};
use crate::identity::Principal;
use crate::proxy::LinkEnd;
use crate::tick::TickRate;
use crate::wire;
use crate::wire::v1::Welcome;

pub(super) use traffic::Put;

/// A session as a value. The order of its fields, and of the fields of the values in it, is chosen for speed:
/// the fields that each recipient of a broadcast touches are first and adjacent, so that less memory is read.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Core {
    /// Bytes of the outbox that are included in the agenda's total.
    noted_bytes: usize,
    life: Life,
    /// True while a change of the membership waits for the next tick. Nothing is dispatched until that change
    /// is made.
    is_held: bool,
    /// True if the session ends when this tick settles. It cannot be resumed.
    is_ending: bool,
    id: SessionId,
    /// Number of times that the session was bound to a link. It is 1 for an agent.
    epoch: Epoch,
    membership: Option<Membership>,
    principal: Principal,
}

/// The zone that a session is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) zone: Entity,
    pub(crate) zone_id: ZoneId,
    pub(crate) name: Arc<str>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "agents are few")]
enum Life {
    /// A session of an agent. It never has a link.
    Agent,
    /// A session of a client.
    Player(Player),
    /// The session has ended.
    Closed { since: Tick, is_agent: bool },
}

/// The part of a core that only sessions of clients have.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Player {
    /// The deadlines that the agenda has noted for the session, and the lists of the agenda that it is in.
    pub(super) marks: Marks,
    pub(super) outbox: Outbox,
    pub(super) binding: Binding,
    pub(super) inbox: Inbox,
    pub(super) latency: Latency,
    /// Number of Beacons sent, over all links.
    pub(super) beacon_count: u64,
    pub(super) tokens: Tokens,
    /// True if the client has shown that it has received a Welcome of this session.
    pub(super) is_confirmed: bool,
}

/// The link of a client's session, or the time at which it expires without one.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "most sessions have a link")]
pub(super) enum Binding {
    /// The session has this link.
    Linked(Link),
    /// The session has no link, and expires at this reading of the steady clock.
    Disconnected { expires_at: Duration },
}

/// The contents of a Welcome that come from the server, and the readings of both clocks when it is queued.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WelcomeTerms {
    pub(crate) rate: TickRate,
    pub(crate) tick: Tick,
    /// The steady clock.
    pub(crate) now: Duration,
    /// The sampled clock, which schedules Beacons.
    pub(crate) clock: Duration,
    /// The time for which the session lives without a link.
    pub(crate) timeout: Duration,
}

/// A resume of a session: the new link, and the contents of the Hello.
#[derive(Debug)]
pub(crate) struct Rebind {
    pub(crate) link: BoundLink,
    /// The token that was presented.
    pub(crate) presented: TokenHash,
    /// The count that the client reports, and its request for a resync.
    pub(crate) point: ResumePoint,
    /// The number of counted frames that the client has removed from its own outbox.
    pub(crate) trimmed: u64,
    /// The number of counted frames that the client has sent on earlier links. It is 0 if the client does not say.
    pub(crate) sent: u64,
    /// The name of the zone that the session is in.
    pub(crate) zone: Option<Arc<str>>,
}

/// A link that its session must lose, and the cause.
pub(crate) type Overdue = (LinkKey, LossCause);

impl Core {
    /// Opens a client's session on a link.
    pub(crate) fn open(
        id: SessionId,
        principal: Principal,
        link: BoundLink,
        token: &Issued,
        terms: &WelcomeTerms,
    ) -> (Self, Effects) {
        let player = Player {
            tokens: Tokens::new(token.hash),
            is_confirmed: false,
            binding: Binding::Linked(Link::new(link, id, 0, terms)),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            latency: Latency::UNKNOWN,
            beacon_count: 0,
            marks: Marks::default(),
        };
        let mut core = Self::with(id, principal, Life::Player(player));
        core.welcome(token, terms, None);
        let effects =
            [Effect::Bind(link.key()), Effect::Issue(token.hash), Effect::Note(News::Registered {})];
        (core, effects.into())
    }

    /// Creates a client's session from the contents of a record.
    pub(super) fn restored(id: SessionId, principal: Principal, epoch: Epoch, player: Player) -> Self {
        Self { epoch, ..Self::with(id, principal, Life::Player(player)) }
    }

    /// Opens an agent's session.
    pub(crate) fn agent(id: SessionId, principal: Principal) -> (Self, Effects) {
        (Self::with(id, principal, Life::Agent), [Effect::Note(News::Registered {})].into())
    }

    fn with(id: SessionId, principal: Principal, life: Life) -> Self {
        Self {
            id,
            principal,
            epoch: Epoch(1),
            membership: None,
            life,
            is_held: false,
            is_ending: false,
            noted_bytes: 0,
        }
    }

    /// Takes the session out of a core whose entity is being despawned, and leaves an ended session behind.
    /// Returns `None` if the session has already ended.
    pub(super) fn take(&mut self, tick: Tick) -> Option<Self> {
        let closed = Life::Closed { since: tick, is_agent: self.is_agent() };
        let life = std::mem::replace(&mut self.life, closed);
        if matches!(life, Life::Closed { .. }) {
            self.life = life;
            return None;
        }
        let gone = Self::with(self.id, self.principal.clone(), life);
        let (membership, noted_bytes) = (self.membership.take(), std::mem::take(&mut self.noted_bytes));
        Some(Self { epoch: self.epoch, membership, noted_bytes, ..gone })
    }

    /// Returns the part of a journal entry that names the session.
    pub(crate) fn subject(&self, entity: Entity) -> Subject {
        Subject { session: self.id, entity, principal: self.principal.clone() }
    }

    /// Notes that a change of the membership waits for the next tick, or that it no longer waits.
    pub(crate) fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// Returns true if a change of the membership waits, so that nothing is dispatched.
    pub(crate) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Marks the session to end when this tick settles. No further frame is dispatched, and no link can
    /// resume the session.
    pub(crate) fn mark_ending(&mut self) {
        self.is_ending = true;
        self.discard();
    }

    /// Returns true if the session ends when this tick settles.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending
    }

    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(crate) fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns true if the session is or was an agent's.
    pub(crate) fn is_agent(&self) -> bool {
        matches!(self.life, Life::Agent | Life::Closed { is_agent: true, .. })
    }

    /// Returns the tick in which the session ended. Returns `None` if it has not ended.
    pub(crate) fn closed_since(&self) -> Option<Tick> {
        match self.life {
            Life::Closed { since, .. } => Some(since),
            Life::Agent | Life::Player(_) => None,
        }
    }

    /// Returns the state. Returns `None` if the session has ended.
    pub(crate) fn state(&self) -> Option<SessionState> {
        let is_linked = match &self.life {
            Life::Closed { .. } => return None,
            Life::Agent => true,
            Life::Player(player) => player.link().is_some(),
        };
        Some(match (is_linked, &self.membership) {
            (false, _) => SessionState::Disconnected,
            (true, None) => SessionState::Connected,
            (true, Some(_)) => SessionState::Active,
        })
    }

    /// Returns true if the session has a link, or is an agent's.
    pub(crate) fn is_linked(&self) -> bool {
        self.state().is_some_and(SessionState::is_linked)
    }

    /// Returns the link that drives the session.
    pub(crate) fn link(&self) -> Option<LinkKey> {
        Some(self.player()?.link()?.key())
    }

    pub(crate) fn link_state(&self) -> LinkState {
        match &self.life {
            Life::Closed { .. } => LinkState::PermFail,
            Life::Agent => LinkState::Ok,
            Life::Player(player) => player.link().map_or(LinkState::Disconnect, Link::state),
        }
    }

    pub(crate) fn latency(&self) -> Option<Latency> {
        self.player().map(|player| player.latency)
    }

    /// Returns the outbox. Returns `None` for an agent and for a session that has ended.
    pub(crate) fn outbox(&self) -> Option<&Outbox> {
        self.player().map(|player| &player.outbox)
    }

    /// Returns the inbox. Returns `None` for an agent and for a session that has ended.
    #[cfg(feature = "testing")]
    pub(crate) fn inbox(&self) -> Option<&Inbox> {
        self.player().map(|player| &player.inbox)
    }

    /// Returns the steady time at which a frame was last received on the link.
    #[cfg(feature = "testing")]
    pub(crate) fn last_received(&self) -> Option<Duration> {
        Some(self.player()?.link()?.last_received())
    }

    /// Returns the tokens that resume the session.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = TokenHash> + use<> {
        self.player().map(|player| player.tokens.hashes()).into_iter().flatten()
    }

    /// Returns the steady time at which the session expires. Returns `None` if it has a link.
    pub(crate) fn expires_at(&self) -> Option<Duration> {
        match self.player()?.binding {
            Binding::Disconnected { expires_at } => Some(expires_at),
            Binding::Linked(_) => None,
        }
    }

    /// Sets the zone that the session is in, or clears it. Returns the former membership.
    pub(crate) fn set_membership(&mut self, membership: Option<Membership>) -> Option<Membership> {
        std::mem::replace(&mut self.membership, membership)
    }

    /// Updates the name of the zone that the session is in.
    pub(crate) fn rename_zone(&mut self, name: &Arc<str>) {
        if let Some(membership) = &mut self.membership {
            membership.name = Arc::clone(name);
        }
    }

    /// Binds the session to a new link, and takes an earlier link from it if it has one. Returns the effects, and
    /// true if the client must resync. Returns `None` if the session has ended or is an agent's.
    pub(crate) fn resume(
        &mut self,
        rebind: &Rebind,
        token: &Issued,
        terms: &WelcomeTerms,
        config: &SessionConfig,
    ) -> Option<(bool, Effects)> {
        let id = self.id;
        let player = self.player_mut()?;
        let mut effects = Effects::default();
        player.unlink(LossCause::Replaced, terms.now, &mut effects);
        // A client that presents a token has received a Welcome.
        player.is_confirmed = true;
        effects.extend(player.tokens.rotate(rebind.presented, token.hash).map(Effect::Retire));
        // The client sends again the frames of older links that were not dispatched.
        let lost_count = player.inbox.rebase(rebind.trimmed, rebind.sent, terms.now, config);
        effects.extend(lost_count.map(Effect::Miss));
        let point = ResumePoint { resync: rebind.point.resync || lost_count.is_some(), ..rebind.point };
        let resync = player.outbox.resume(point, terms.now);
        player.binding = Binding::Linked(Link::new(rebind.link, id, player.beacon_count, terms));
        effects.extend([Effect::Bind(rebind.link.key()), Effect::Issue(token.hash)]);
        effects.extend([Effect::Note(News::Resumed { resync })]);
        self.epoch.0 += 1;
        self.welcome(token, terms, Some((rebind.zone.as_deref().unwrap_or_default(), resync)));
        Some((resync, effects))
    }

    /// Takes the link from the session, which can then be resumed for as long as `timeout`. Frames that wait
    /// for dispatch stay, and are dispatched in this tick. Returns `None` if the session has no link.
    pub(crate) fn lose(&mut self, cause: LossCause, timeout: Duration, now: Duration) -> Option<Effects> {
        let player = self.player_mut()?;
        player.link()?;
        let mut effects = Effects::default();
        player.unlink(cause, now, &mut effects);
        // A client that closes its link before it has acknowledged a Welcome has given up the session. If the
        // link ends in any other way, the client may still have received the Welcome.
        let is_given_up = !player.is_confirmed && cause == LossCause::Link(LinkEnd::ByPeer);
        let timeout = if is_given_up { Duration::ZERO } else { timeout };
        player.binding = Binding::Disconnected { expires_at: now.saturating_add(timeout) };
        Some(effects)
    }

    /// Moves the expiry of a session that lost its link at `now`, because its timeout has changed from `before` to
    /// `after`. Does nothing unless the session expires at `now` plus `before`.
    pub(crate) fn change_window(&mut self, before: Duration, after: Duration, now: Duration) {
        if let Some(Player { binding: Binding::Disconnected { expires_at }, .. }) = self.player_mut()
            && *expires_at == now.saturating_add(before)
        {
            *expires_at = now.saturating_add(after);
        }
    }

    /// Ends the session, which must be in no zone. The client gets `detail` in its Closed. Returns `None` if the
    /// session has already ended.
    pub(crate) fn end(&mut self, cause: EndCause, detail: &str, tick: Tick) -> Option<Effects> {
        let is_agent = self.is_agent();
        debug_assert!(self.membership.is_none(), "a session leaves its zone before it ends");
        let unacked_count = self.player().map_or(0, |player| player.outbox.frame_count() as u64);
        let ended = match std::mem::replace(&mut self.life, Life::Closed { since: tick, is_agent }) {
            closed @ Life::Closed { .. } => {
                self.life = closed;
                return None;
            }
            Life::Agent => None,
            Life::Player(player) => Some(player),
        };
        let mut effects = Effects::default();
        if let Some(mut player) = ended {
            effects.extend(player.tokens.hashes().map(Effect::Retire));
            if let Binding::Linked(mut link) = player.binding {
                let mut last = Vec::new();
                link.flush(None, &mut player.outbox, &mut last);
                let (link, reason, detail) = (link.key(), cause.reason(), detail.to_owned());
                effects.extend([Effect::Unbind(link), Effect::Close { link, last, reason, detail }]);
            }
        }
        effects.extend([
            Effect::Forget,
            Effect::Note(match cause {
                EndCause::Bye => News::Unregistered {},
                _ => News::Expired { cause },
            }),
            Effect::Note(News::Closed { cause, unacked_count }),
        ]);
        Some(effects)
    }

    /// Returns the link and the cause if the session must lose the link, because it was silent for too long or the
    /// client is too slow.
    pub(crate) fn overdue(&self, now: Duration, limits: &Limits) -> Option<Overdue> {
        let player = self.player()?;
        let link = player.link()?;
        let is_slow = player.outbox.slow_at(limits.unacked_max).is_some_and(|due| due <= now);
        let is_silent = link.silent_at(limits.link_timeout).is_some_and(|due| due <= now);
        match (is_slow, is_silent) {
            (true, _) => Some((link.key(), LossCause::Slow)),
            (false, true) => Some((link.key(), LossCause::Silent)),
            (false, false) => None,
        }
    }

    pub(super) fn player(&self) -> Option<&Player> {
        match &self.life {
            Life::Player(player) => Some(player),
            Life::Agent | Life::Closed { .. } => None,
        }
    }

    pub(super) fn player_mut(&mut self) -> Option<&mut Player> {
        match &mut self.life {
            Life::Player(player) => Some(player),
            Life::Agent | Life::Closed { .. } => None,
        }
    }

    /// Queues the Welcome, which is the first frame on the new link.
    fn welcome(&mut self, token: &Issued, terms: &WelcomeTerms, resumed: Option<(&str, bool)>) {
        let id = self.id.0;
        let Some(player) = self.player_mut() else { return };
        let (zone, resync) = resumed.unwrap_or_default();
        let frame = wire::encode(&Welcome {
            session: id,
            token: token.secret.to_vec().into(),
            resumed: resumed.is_some(),
            received: player.inbox.received(),
            base: player.outbox.acked(),
            resync,
            tick_hz: terms.rate.hz(),
            tick: terms.tick.0,
            timeout_ms: u32::try_from(terms.timeout.as_millis()).unwrap_or(u32::MAX),
            zone: zone.to_owned(),
        });
        if let Some(link) = player.link_mut() {
            link.welcome(frame);
        }
    }
}

impl Player {
    pub(super) fn link(&self) -> Option<&Link> {
        match &self.binding {
            Binding::Linked(link) => Some(link),
            Binding::Disconnected { .. } => None,
        }
    }

    fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.binding {
            Binding::Linked(link) => Some(link),
            Binding::Disconnected { .. } => None,
        }
    }

    /// Adds the effects of the loss of the link, if there is one. The caller replaces `binding`.
    fn unlink(&mut self, cause: LossCause, now: Duration, effects: &mut Effects) {
        let Some(link) = self.link() else { return };
        let silent_ms =
            u64::try_from(now.saturating_sub(link.last_received()).as_millis()).unwrap_or(u64::MAX);
        let link = link.key();
        effects.extend([
            Effect::Unbind(link),
            Effect::Lose { link, cause },
            Effect::Note(News::Disconnected { cause, silent_ms }),
        ]);
    }
}
