//! Session records: the state of a session that survives a restart or moves to another process.
//!
//! A record is made from a client's session. A session that is restored from it has no link and is in no
//! zone. The client resumes it with the resume token that it has. If the record is older than what the client
//! has received or sent, the counts of the two sides differ, and the resume is a resync.

use std::time::Duration;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::agenda::Marks;
use super::check::TIMEOUT_MAX;
use super::core::{Binding, Core, Player};
use super::effects::{Effect, Effects};
use super::inbox::Inbox;
use super::link::Latency;
use super::outbox::{COUNT_MAX, Outbox};
use super::token::Tokens;
use super::{LossCause, News, SessionConfig, SessionCore, SessionTable, TokenHash, UnknownSession, life};
use crate::ident::{Epoch, MessageId, SessionId};
use crate::identity::Principal;
use crate::identity::User;
use crate::tick::TickTime;
use crate::wire::{self, FRAME_MAX_SERVER};

pub use v1::SessionRecord;

/// The messages of `proto/waystation/record/v1`.
#[allow(missing_docs, reason = "generated: the .proto file holds the documentation")]
mod v1 {
    include!(concat!(env!("OUT_DIR"), "/waystation.record.v1.rs"));
}

/// The reasons why a session cannot be restored from a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The session id is 0.
    #[error("the record has no session id: the record is damaged or has another format")]
    Id,
    /// The hash of a token is not 32 bytes long. The field is its length in bytes.
    #[error("a token hash in the record has {0} bytes instead of 32: the record is damaged")]
    Token(usize),
    /// The two tokens are the same.
    #[error("the two tokens of the record are the same: the record is damaged")]
    Tokens,
    /// A count is higher than any session can reach, or the epoch has its highest value.
    #[error("a count in the record is out of range: the record is damaged")]
    Count,
    /// A frame of the outbox is not a counted frame, or is longer than 64 KiB. The field is its length in
    /// bytes.
    #[error("the record has a frame of {0} bytes that is too long or not counted: the record is damaged")]
    Frame(usize),
    /// A live session of this server has the same id or the same token.
    #[error("a live session of this server has the id {0} or the same token: end that session first")]
    Exists(SessionId),
}

impl SessionRecord {
    /// Creates a record of a client's session, with its state after the last tick.
    ///
    /// ```
    /// use waystation::session::SessionRecord;
    /// use waystation::testing::{Harness, Via};
    ///
    /// let mut before = Harness::new();
    /// let mut ada = before.player(Via::Alpha);
    /// let session = before.entity(ada.session()).expect("it is live");
    /// let record = SessionRecord::of(before.app.world(), session).expect("a client's session");
    ///
    /// let mut after = Harness::new();
    /// record.restore(after.app.world_mut()).expect("a good record");
    /// ada.connect(&after, Via::Beta);
    /// ada.resume();
    /// after.exchange(&mut [&mut ada]);
    /// assert!(ada.is_welcome());
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`UnknownSession`] if the entity is not a session, if the session is an agent, or if it has
    /// ended. If the entity is not a session, the id in the error is 0.
    pub fn of(world: &World, session: Entity) -> Result<Self, UnknownSession> {
        let now = world.resource::<TickTime>().steady();
        let core = world.get::<SessionCore>(session).ok_or(UnknownSession(SessionId(0)))?;
        core.to_record(life::resume_timeout(world, session).0, now).ok_or(UnknownSession(core.id()))
    }

    /// Restores the session and returns its entity. The session has no link, is in no zone, and expires when
    /// the remaining time in the record has passed. The game gets
    /// [`SessionRegistered`](super::SessionRegistered), and
    /// [`SessionDisconnected`](super::SessionDisconnected) with the cause [`Restart`](LossCause::Restart).
    /// The session does not count toward the limits of any network. If the outbox in the record exceeds the
    /// limits of this server, the outbox is dropped and the next resume is a resync. Times in the record are
    /// limited to the maximum of [`SessionConfig::timeout`].
    ///
    /// # Errors
    ///
    /// Returns a [`RecordError`] if the record is damaged, or if a live session has the same id or token.
    pub fn restore(&self, world: &mut World) -> Result<Entity, RecordError> {
        let id = SessionId(self.session);
        let table = world.resource::<SessionTable>();
        let mut tokens = [&self.newest_token, &self.presented_token].into_iter();
        let is_taken =
            tokens.any(|token| TokenHash::read(token).and_then(|token| table.by_token(token)).is_some());
        if is_taken || table.find(id).is_ok() {
            return Err(RecordError::Exists(id));
        }
        let now = world.resource::<TickTime>().steady();
        let restored =
            world.resource_scope(|_, config: Mut<SessionConfig>| Core::from_record(self, now, &config));
        let (core, effects) = restored?;
        Ok(life::restore(world, core, Duration::from_millis(self.timeout_ms).min(TIMEOUT_MAX), effects))
    }
}

impl Core {
    /// Creates a record of a client's session. Returns `None` if the session is an agent's or has ended.
    pub(super) fn to_record(&self, timeout: Duration, now: Duration) -> Option<SessionRecord> {
        let player = self.player()?;
        let left = match player.binding {
            Binding::Linked(_) => timeout,
            Binding::Disconnected { expires_at } => expires_at.saturating_sub(now),
        };
        let (newest, presented) = player.tokens.both();
        let user = self.principal().user();
        Some(SessionRecord {
            session: self.id().0,
            principal: self.principal().name().to_owned(),
            is_authenticated: user.is_some(),
            realm: user.map(|user| user.realm.clone()).unwrap_or_default(),
            slot: user.map(|user| user.slot.clone()).unwrap_or_default(),
            epoch: self.epoch().0,
            newest_token: newest.bytes().to_vec().into(),
            presented_token: presented.map(|token| token.bytes().to_vec().into()).unwrap_or_default(),
            is_confirmed: player.is_confirmed,
            received: player.inbox.received(),
            acked: player.outbox.acked(),
            outbox: player.outbox.frames().cloned().collect(),
            awaits_resync: player.outbox.awaits_resync(),
            zone: self.membership().map(|membership| membership.name.to_string()).unwrap_or_default(),
            timeout_ms: milliseconds(timeout),
            left_ms: milliseconds(left),
            beacons: player.beacon_count,
        })
    }

    /// Creates a core from a record.
    pub(super) fn from_record(
        record: &SessionRecord,
        now: Duration,
        config: &SessionConfig,
    ) -> Result<(Self, Effects), RecordError> {
        if record.session == 0 {
            return Err(RecordError::Id);
        }
        let is_in_range =
            [record.received, record.acked, record.beacons].into_iter().all(|count| count <= COUNT_MAX);
        if !is_in_range || record.epoch == u32::MAX {
            return Err(RecordError::Count);
        }
        let is_counted = |frame: &Bytes| wire::id_of(frame).is_some_and(MessageId::is_counted);
        if let Some(frame) =
            record.outbox.iter().find(|frame| !is_counted(frame) || frame.len() > FRAME_MAX_SERVER)
        {
            return Err(RecordError::Frame(frame.len()));
        }
        let name = record.principal.clone();
        let principal = if record.is_authenticated {
            Principal::of(User { name, realm: record.realm.clone(), slot: record.slot.clone() })
        } else {
            Principal::anonymous(&name)
        };
        let presented = match &record.presented_token[..] {
            [] => None,
            token => Some(read_token(token)?),
        };
        let newest = read_token(&record.newest_token)?;
        if presented == Some(newest) {
            return Err(RecordError::Tokens);
        }
        let tokens = Tokens::of(newest, presented);
        let mut effects = Effects::default();
        effects.extend(tokens.hashes().map(Effect::Issue));
        let (cause, silent_ms) = (LossCause::Restart, 0);
        effects.extend([
            Effect::Note(News::Registered {}),
            Effect::Note(News::Disconnected { cause, silent_ms }),
        ]);
        let player = Player {
            tokens,
            is_confirmed: record.is_confirmed,
            binding: Binding::Disconnected {
                expires_at: now.saturating_add(Duration::from_millis(record.left_ms).min(TIMEOUT_MAX)),
            },
            inbox: Inbox::since(record.received),
            outbox: Outbox::restored(record.acked, &record.outbox, record.awaits_resync, now, config),
            latency: Latency::UNKNOWN,
            beacon_count: record.beacons,
            marks: Marks::default(),
        };
        Ok((Self::restored(SessionId(record.session), principal, Epoch(record.epoch), player), effects))
    }
}

fn read_token(hash: &[u8]) -> Result<TokenHash, RecordError> {
    TokenHash::read(hash).ok_or(RecordError::Token(hash.len()))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
