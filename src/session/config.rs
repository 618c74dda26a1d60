//! Timeouts, bounds and counts of sessions.

use std::time::Duration;

use bevy_ecs::prelude::*;

use super::OnDisconnect;
use crate::wire;

/// Timeouts and bounds, for all sessions of a server.
#[derive(Resource, Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// How long a session lives without a link. Default 5 s; 0 means no resumption; above some
    /// minutes, abandoned sessions add up, each with its outbox.
    pub timeout: Duration,
    /// A link on which nothing was received for this long is lost. Default 5 s, which clients
    /// assume too: 2 s to 30 s are safe.
    pub link_timeout: Duration,
    /// Reliable frames that a session may have unacknowledged. Default 512.
    pub outbox_max_frames: usize,
    /// Bytes that they may have. Default 256 KiB a session.
    pub outbox_max_bytes: usize,
    /// Bytes of all outboxes together at the end of a tick. Default 256 MiB, and that is what they
    /// take at most: a broadcast's bytes are shared, but counted for each of its recipients.
    pub outboxes_max_bytes: usize,
    /// A linked session that leaves a reliable frame unacknowledged for this long is dropped as
    /// a slow consumer; it may resume. Default 10 s.
    pub unacked_max: Duration,
    /// Frames of one session that one tick dispatches; the rest follow in the next. Default 256.
    pub dispatch_max_frames: usize,
    /// Frames that may wait for dispatch before the server stops reading the link. Default 512:
    /// what a client resends after a resume fits. Unreliable frames beyond it are dropped. One
    /// session holds at most this or 256 KiB, and what is already in its proxy's port.
    pub inbox_max_frames: usize,
    /// Messages a second that a session may send, link control aside. Default 120, at least 1.
    /// What a client replays after a resume is not measured, up to an outbox. Over a rate, reliable
    /// messages wait, and in the end the link is not read; unreliable ones are dropped.
    pub messages_per_second: u32,
    /// Messages that it may send at once after it was quiet. Default 240, at least 1.
    pub messages_burst: u32,
    /// Bytes a second that they may have. Default 32 KiB, at least 1. The inbox and the rate
    /// together say how long an Ack may be behind what is not read: well under `unacked_max`.
    pub bytes_per_second: u32,
    /// Bytes that it may send at once. Default 64 KiB, and what the last message is longer than is left.
    pub bytes_burst: u32,
    /// Acks, Pings and Probes a second that a session may send; the rest is dropped. Default 60;
    /// from 3 up clients work.
    pub control_per_second: u32,
    /// Of these, at once. Default 120.
    pub control_burst: u32,
    /// Sessions, agents not counted. Default 10,000; further Hellos are denied as FULL.
    pub max_sessions: usize,
    /// What a session does whenever it loses its link. Default: nothing.
    pub on_disconnect: Option<OnDisconnect>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            link_timeout: wire::LINK_TIMEOUT,
            outbox_max_frames: wire::OUTBOX_MAX_FRAMES,
            outbox_max_bytes: wire::OUTBOX_MAX_BYTES,
            outboxes_max_bytes: 256 * 1024 * 1024,
            unacked_max: wire::UNACKED_MAX,
            dispatch_max_frames: 256,
            inbox_max_frames: wire::OUTBOX_MAX_FRAMES,
            messages_per_second: wire::MESSAGES_PER_SECOND,
            messages_burst: wire::MESSAGES_BURST,
            bytes_per_second: wire::BYTES_PER_SECOND,
            bytes_burst: wire::BYTES_BURST,
            control_per_second: wire::CONTROL_PER_SECOND,
            control_burst: wire::CONTROL_BURST,
            max_sessions: 10_000,
            on_disconnect: None,
        }
    }
}

/// What happened since the start, in numbers. Agents are not counted.
#[derive(Resource, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Sessions opened.
    pub registered_count: u64,
    /// Times a session went on over another link.
    pub resumed_count: u64,
    /// Of these, how often what was under way was void.
    pub resync_count: u64,
    /// Times a session lost its link, takeovers included.
    pub disconnected_count: u64,
    /// Sessions that their clients ended.
    pub unregistered_count: u64,
    /// Sessions that ended in any other way.
    pub expired_count: u64,
    /// Links without a session that were cut because there were too many of them.
    pub turned_away_count: u64,
    /// Hellos that were denied.
    pub denied_count: u64,
    /// Links dropped because their client did not take or acknowledge what was sent.
    pub slow_count: u64,
    /// Sessions ended because their client broke the protocol.
    pub protocol_count: u64,
    /// Frames of links that were bound no more.
    pub stale_frame_count: u64,
    /// Ids that no call has, and messages in the wrong direction.
    pub stray_frame_count: u64,
    /// Unreliable frames that did not parse.
    pub malformed_frame_count: u64,
    /// Calls of sessions that were in no zone.
    pub nonmember_call_count: u64,
    /// Calls that held NaN or an infinity, those of agents included. Each was dropped, and its
    /// session goes on: it is the game that gives numbers a meaning, not the protocol.
    pub nonfinite_call_count: u64,
    /// Calls that no system of the game's read in their tick; counted in debug builds only.
    pub unread_call_count: u64,
    /// Answers of the game to a Join that waited no more.
    pub late_answer_count: u64,
    /// Reliable frames that were not queued, because the session was closing or awaits a resync.
    pub undelivered_count: u64,
    /// Reliable frames of clients that are lost, since a session was restored from an older record than its
    /// client had seen.
    pub missed_count: u64,
    /// Unreliable frames of clients, and link control, that were dropped because they were over
    /// the rates or because too much waits for dispatch.
    pub throttled_frame_count: u64,
    /// Unreliable frames that were not sent, because there was no link or no room.
    pub dropped_unreliable_count: u64,
}
