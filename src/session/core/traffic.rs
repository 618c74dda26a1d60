//! The frames of a session, in both directions.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Binding, Core, Player};
use crate::ident::{LinkKey, MessageId};
use crate::proxy::LinkSlot;
use crate::session::agenda::{Limits, Marks, Notice};
use crate::session::inbox::Inbound;
use crate::session::link::{FrameSink, Link};
use crate::session::outbox::AckError;
use crate::session::{SessionConfig, TokenHash};
use crate::tick::TickTime;
use crate::wire::{self, ACK_EVERY_FRAMES, Lane};

/// The result of putting a frame into a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// The frame is sent with the next flush, or when the session is resumed.
    Queued,
    /// The frame was unreliable, and was dropped because there was no link or no room.
    Dropped,
    /// The frame was dropped, because the session has ended, or because the frame was reliable and the outbox is
    /// full or awaits a resync.
    Undelivered,
}

impl Core {
    /// Reads the memory that a Beacon or a Ping of the session uses. With many sessions this memory is not in
    /// the processor's caches, and reads for several sessions in a row overlap. The result has no meaning.
    pub(in crate::session) fn prefetch(&self) -> usize {
        let Some(player) = self.player() else { return 0 };
        let link = player.link().map_or(0, Link::prefetch);
        let queues =
            player.inbox.prefetch() ^ player.outbox.frame_count() ^ usize::from(player.outbox.has_unsent());
        let rest = [self.is_ending, player.is_confirmed, player.latency.round_trip().is_some()];
        link ^ queues ^ player.marks.prefetch() ^ rest.into_iter().map(usize::from).sum::<usize>()
    }

    /// Notes that a frame has arrived on the link.
    pub(crate) fn note_received(&mut self, at: Duration) {
        if let Some(link) = self.player_mut().and_then(Player::link_mut) {
            link.note_received(at);
        }
    }

    /// Puts a frame that has arrived into the inbox, for dispatch. Returns false if the frame is dropped.
    pub(in crate::session) fn arrive(&mut self, frame: Inbound, limits: &Limits) -> bool {
        self.player_mut().is_some_and(|player| player.inbox.push(frame, limits.inbox_max_frames))
    }

    /// Counts a link control frame that has arrived. Returns false if it is over its rate.
    pub(in crate::session) fn admits_control(&mut self, now: Duration, limits: &Limits) -> bool {
        self.player_mut().is_some_and(|player| player.inbox.admits_control(now, limits.control))
    }

    /// Takes an acknowledgement: the client has received this many counted frames. Returns the token that
    /// becomes void.
    pub(in crate::session) fn ack(
        &mut self,
        received: u64,
        now: Duration,
    ) -> Result<Option<TokenHash>, AckError> {
        let Some(player) = self.player_mut() else { return Ok(None) };
        player.outbox.ack(received, now)?;
        player.is_confirmed = true;
        Ok(player.tokens.confirm())
    }

    /// Takes the echo of a Beacon, which arrived at `at`. Returns true if the state of the link changes.
    pub(crate) fn echo(&mut self, beacon: u64, at: Duration) -> bool {
        let Some(player) = self.player_mut() else { return false };
        let Some(link) = player.link_mut() else { return false };
        let before = link.state();
        let round_trip = link.echo(beacon, at);
        let is_changed = link.state() != before;
        if let Some(round_trip) = round_trip {
            player.latency.sample(round_trip);
        }
        is_changed
    }

    /// Returns the link on which to answer a Probe that arrived at `at`. Returns `None` if another Probe was
    /// answered shortly before.
    pub(crate) fn may_probe(&mut self, at: Duration) -> Option<LinkKey> {
        self.player_mut()?.link_mut()?.may_probe(at)
    }

    /// Takes and counts the next frame that may be dispatched now. Adds to `dropped` the number of unreliable
    /// frames that are dropped because they are over the rates.
    pub(crate) fn next_frame(
        &mut self,
        now: Duration,
        config: &SessionConfig,
        dropped: &mut u64,
    ) -> Option<Inbound> {
        self.player_mut()?.inbox.pop(now, config, dropped)
    }

    /// Counts a message that the server does not accept. Returns how many of them the session has sent.
    pub(crate) fn stray(&mut self) -> u32 {
        self.player_mut().map_or(0, |player| player.inbox.stray())
    }

    /// Returns the position of the first waiting frame with this id among all frames that have arrived.
    pub(crate) fn find_waiting(&self, id: MessageId) -> Option<u64> {
        self.player()?.inbox.find(id)
    }

    /// Drops the frames that wait for dispatch, uncounted. The client will send them again.
    pub(crate) fn discard(&mut self) {
        if let Some(player) = self.player_mut() {
            player.inbox.discard();
        }
    }

    /// Pauses the link if the inbox is full. Ends the pause when at most half as many frames wait and their bytes are
    /// within the limit. Returns the link, and true if it is now paused. Returns `None` if nothing changes.
    pub(crate) fn regulate(&mut self, now: Duration, config: &SessionConfig) -> Option<(LinkKey, bool)> {
        let player = self.player_mut()?;
        let max = config.inbox_max_frames;
        let (is_full, is_half_full) = (player.inbox.is_full(max), player.inbox.is_full(max / 2));
        player.link_mut()?.regulate(is_full, is_half_full, now)
    }

    /// Queues a frame by its lane: a reliable frame in the outbox, an unreliable frame on the link, if there
    /// is one.
    #[inline(always)]
    pub(crate) fn put(&mut self, frame: Bytes, now: Duration, config: &SessionConfig) -> Put {
        let Some(player) = self.player_mut() else { return Put::Undelivered };
        match wire::lane_of(&frame) {
            Lane::Unreliable => match player.link_mut().map(|link| link.put(frame)) {
                Some(true) => Put::Queued,
                Some(false) | None => Put::Dropped,
            },
            // A frame that does not fit leads to a resync. A session with a link loses the link as SLOW.
            Lane::Reliable => match player.outbox.push(frame, now, config) {
                Ok(()) => Put::Queued,
                Err(_) => Put::Undelivered,
            },
        }
    }

    /// Returns the number of bytes in the outbox, and the steady time of its last progress.
    pub(in crate::session) fn held(&self) -> Option<(usize, Duration)> {
        let outbox = &self.player()?.outbox;
        Some((outbox.bytes(), outbox.since()))
    }

    /// Drops the frames that the client has not acknowledged, to free memory. The next resume is a resync.
    pub(in crate::session) fn overflow(&mut self) {
        if let Some(player) = self.player_mut() {
            player.outbox.overflow();
        }
    }

    /// Queues the Beacon if it is due, encoded at the end of `buffer`. Returns true if the state of the link
    /// changes.
    pub(in crate::session) fn queue_beacon(&mut self, time: &TickTime, buffer: &mut BytesMut) -> bool {
        let Some(player) = self.player_mut() else { return false };
        let (received, latency_ms) = (player.inbox.received(), player.latency.round_trip_ms());
        let beacon_count = &mut player.beacon_count;
        let Binding::Linked(link) = &mut player.binding else { return false };
        let before = link.state();
        if let Some(sent) = link.queue_beacon(time, (received, latency_ms), buffer) {
            *beacon_count = sent;
        }
        link.state() != before
    }

    /// Sends the frames that are queued for the link. Returns how many unreliable frames were dropped for
    /// lack of room.
    #[inline]
    pub(in crate::session) fn flush(&mut self, to: &mut impl FrameSink) -> u64 {
        let Some(Player { binding: Binding::Linked(link), inbox, outbox, .. }) = self.player_mut() else {
            return 0;
        };
        link.flush(inbox.take_ack(ACK_EVERY_FRAMES), outbox, to)
    }

    /// Returns true if some frames of the outbox were not yet sent on the link.
    pub(in crate::session) fn has_unsent(&self) -> bool {
        self.player().is_some_and(|player| player.outbox.has_unsent())
    }

    /// Returns the link, and the slot in which the proxies keep it.
    pub(in crate::session) fn link_slot(&mut self) -> Option<(LinkKey, &mut LinkSlot)> {
        let link = self.player_mut()?.link_mut()?;
        Some((link.key(), link.slot_mut()))
    }

    /// Returns what has changed for the agenda since the last notice.
    pub(in crate::session) fn notice(&mut self, limits: &Limits) -> Notice {
        let (notice, bytes) = match self.player_mut() {
            Some(Player { marks, binding, inbox, outbox, .. }) => {
                (marks.compare((binding, inbox, outbox), limits), outbox.bytes())
            }
            None => (Notice::default(), 0),
        };
        notice.with_bytes(std::mem::replace(&mut self.noted_bytes, bytes), bytes)
    }

    /// Does the same as [`notice`](Self::notice), if the only change is that a frame was queued.
    #[inline]
    pub(in crate::session) fn notice_put(&mut self, limits: &Limits) -> Notice {
        let (notice, bytes) = match self.player_mut() {
            Some(Player { marks, binding: Binding::Linked(_), outbox, .. }) => {
                (marks.compare_put(outbox, limits), outbox.bytes())
            }
            Some(player) => (Notice::default(), player.outbox.bytes()),
            None => (Notice::default(), 0),
        };
        notice.with_bytes(std::mem::replace(&mut self.noted_bytes, bytes), bytes)
    }

    /// Returns the marks of a client's session.
    pub(in crate::session) fn marks(&mut self) -> Option<&mut Marks> {
        Some(&mut self.player_mut()?.marks)
    }
}
