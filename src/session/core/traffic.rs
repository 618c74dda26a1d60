//! The frames of a session: those that its client sends, and those that it is sent.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Binding, Core, Player};
use crate::ident::{LinkKey, MessageId};
use crate::proxy::LinkSlot;
use crate::session::agenda::{Limits, Marks, Notice};
use crate::session::inbox::Inbound;
use crate::session::link::{Link, Outlet};
use crate::session::outbox::AckError;
use crate::session::{SessionConfig, TokenHash};
use crate::tick::TickTime;
use crate::wire::{self, ACK_EVERY_FRAMES, Lane};

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It leaves with the next flush, or when the session is resumed.
    Queued,
    /// It was unreliable, and there was no link or no room.
    Dropped,
    /// It was reliable, and the session has ended or awaits a resync.
    Undelivered,
}

impl Core {
    /// Reads what each Beacon and Ping of the session will touch. Among many sessions that is not in the
    /// processor's caches, and reads of several sessions in a row are waited for together.
    pub(in crate::session) fn warm(&self) -> usize {
        let Some(player) = self.player() else { return 0 };
        let link = player.link().map_or(0, Link::warm);
        let queues =
            player.inbox.warm() ^ player.outbox.frame_count() ^ usize::from(player.outbox.has_unsent());
        let rest = [self.is_doomed, player.is_confirmed, player.latency.round_trip().is_some()];
        link ^ queues ^ player.marks.warm() ^ rest.into_iter().map(usize::from).sum::<usize>()
    }

    /// Something has arrived on the link.
    pub(crate) fn hear(&mut self, at: Duration) {
        if let Some(link) = self.player_mut().and_then(Player::link_mut) {
            link.hear(at);
        }
    }

    /// A frame has arrived that takes effect in dispatch. Returns false if it is dropped.
    pub(in crate::session) fn arrive(&mut self, frame: Inbound, limits: &Limits) -> bool {
        self.player_mut().is_some_and(|player| player.inbox.push(frame, limits.inbox_max_frames))
    }

    /// A frame of link control has arrived. Returns false if it is over its rate.
    pub(in crate::session) fn admits_control(&mut self, now: Duration, limits: &Limits) -> bool {
        self.player_mut().is_some_and(|player| player.inbox.admits_control(now, limits.control))
    }

    /// The client has received this many counted frames. Returns the token that this retires.
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

    /// The client has echoed a Beacon, which arrived at this time. Returns true if the state of the link changes.
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

    /// A Probe has arrived. Returns the link to answer on, unless the last one was just now.
    pub(crate) fn may_probe(&mut self, at: Duration) -> Option<LinkKey> {
        self.player_mut()?.link_mut()?.may_probe(at)
    }

    /// Takes and counts the next frame that may be dispatched now. `dropped` grows by the unreliable
    /// ones that are over the rates.
    pub(crate) fn next_frame(
        &mut self,
        now: Duration,
        config: &SessionConfig,
        dropped: &mut u64,
    ) -> Option<Inbound> {
        self.player_mut()?.inbox.pop(now, config, dropped)
    }

    /// Another message that the server does not take. Returns how many there were.
    pub(crate) fn stray(&mut self) -> u32 {
        self.player_mut().map_or(0, |player| player.inbox.stray())
    }

    /// Returns the place among all frames of the first one of this message that waits for dispatch.
    pub(crate) fn find_waiting(&self, id: MessageId) -> Option<u64> {
        self.player()?.inbox.find(id)
    }

    /// Drops what waits for dispatch, uncounted: the client will send it again.
    pub(crate) fn discard(&mut self) {
        if let Some(player) = self.player_mut() {
            player.inbox.discard();
        }
    }

    /// Stops reading the link when too much waits for dispatch, and reads on when half of it is gone.
    /// Returns the link to pause (true) or to read on (false), if that changes.
    pub(crate) fn regulate(&mut self, now: Duration, config: &SessionConfig) -> Option<(LinkKey, bool)> {
        let player = self.player_mut()?;
        let max = config.inbox_max_frames;
        let (is_full, is_half_full) = (player.inbox.is_full(max), player.inbox.is_full(max / 2));
        player.link_mut()?.regulate(is_full, is_half_full, now)
    }

    /// Puts a frame where its id belongs: a reliable one into the outbox, an unreliable one onto the
    /// link if there is one.
    #[inline(always)]
    pub(crate) fn put(&mut self, frame: Bytes, now: Duration, config: &SessionConfig) -> Put {
        let Some(player) = self.player_mut() else { return Put::Undelivered };
        match wire::lane_of(&frame) {
            Lane::Unreliable => match player.link_mut().map(|link| link.put(frame)) {
                Some(true) => Put::Queued,
                Some(false) | None => Put::Dropped,
            },
            // What does not fit ends in a resync: a session with a link loses it for that.
            Lane::Reliable => match player.outbox.push(frame, now, config) {
                Ok(()) => Put::Queued,
                Err(_) => Put::Undelivered,
            },
        }
    }

    /// Returns the bytes that the outbox holds, and when something was last acknowledged or began to wait.
    pub(in crate::session) fn held(&self) -> Option<(usize, Duration)> {
        let outbox = &self.player()?.outbox;
        Some((outbox.bytes(), outbox.since()))
    }

    /// Gives up the replay of what the client has not acknowledged, to free memory.
    pub(in crate::session) fn overflow(&mut self) {
        if let Some(player) = self.player_mut() {
            player.outbox.overflow();
        }
    }

    /// Sends the Beacon that is due by now, encoded at the end of `buffer`. Returns true if the state of the link
    /// changes.
    pub(in crate::session) fn beat(&mut self, time: &TickTime, buffer: &mut BytesMut) -> bool {
        let Some(player) = self.player_mut() else { return false };
        let (received, latency_ms) = (player.inbox.received(), player.latency.round_trip_ms());
        let beacon_count = &mut player.beacon_count;
        let Binding::Linked(link) = &mut player.binding else { return false };
        let before = link.state();
        if let Some(sent) = link.beat(time, (received, latency_ms), buffer) {
            *beacon_count = sent;
        }
        link.state() != before
    }

    /// Hands the link what is queued for it. Returns how many unreliable frames were dropped for want of
    /// room.
    #[inline]
    pub(in crate::session) fn flush(&mut self, to: &mut impl Outlet) -> u64 {
        let Some(Player { binding: Binding::Linked(link), inbox, outbox, .. }) = self.player_mut() else {
            return 0;
        };
        link.flush(inbox.take_ack(ACK_EVERY_FRAMES), outbox, to)
    }

    /// Returns true if the link was not given all that is counted.
    pub(in crate::session) fn has_unsent(&self) -> bool {
        self.player().is_some_and(|player| player.outbox.has_unsent())
    }

    /// Returns the link, and where the proxies keep it.
    pub(in crate::session) fn link_slot(&mut self) -> Option<(LinkKey, &mut LinkSlot)> {
        let link = self.player_mut()?.link_mut()?;
        Some((link.key(), link.slot_mut()))
    }

    /// Tells what the agenda has to know since the last notice.
    pub(in crate::session) fn notice(&mut self, limits: &Limits) -> Notice {
        let (notice, bytes) = match self.player_mut() {
            Some(Player { marks, binding, inbox, outbox, .. }) => {
                (marks.compare((binding, inbox, outbox), limits), outbox.bytes())
            }
            None => (Notice::default(), 0),
        };
        notice.with_bytes(std::mem::replace(&mut self.noted_bytes, bytes), bytes)
    }

    /// As [`notice`](Self::notice), after a frame was put and nothing else.
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

    /// What the agenda knows of a client's session.
    pub(in crate::session) fn marks(&mut self) -> Option<&mut Marks> {
        Some(&mut self.player_mut()?.marks)
    }
}
