//! The configuration and the counters of sessions.

use std::time::Duration;

use bevy_ecs::prelude::*;

use super::OnDisconnect;
use crate::wire;

crate::settings! {
    /// Timeouts and bounds of all sessions of a server.
    #[derive(Resource, Debug, Clone, PartialEq, Eq)]
    pub struct SessionConfig {
        /// Time for which a session lives without a link. Range: 0 s to 24 h. Default: 5 s. If it is zero, sessions
        /// cannot be resumed. With a value of more than a few minutes, abandoned sessions and their outboxes
        /// accumulate.
        pub timeout: Duration = Duration::from_secs(5),
        /// Time without a received frame after which a link is lost. Range: 2 s to 24 h. Default: 5 s, which clients
        /// assume too. With a longer time, the server notices later that a client has vanished.
        pub link_timeout: Duration = wire::LINK_TIMEOUT,
        /// Maximum number of frames in the outbox of one session. Minimum: 64. Default: 512. If a further frame is
        /// sent, the session loses its link as SLOW, and its next resume is a resync.
        pub outbox_max_frames: usize = wire::OUTBOX_MAX_FRAMES,
        /// Maximum number of bytes in the outbox of one session, which is memory. Minimum: 64 KiB. Default: 256 KiB.
        /// If a frame does not fit, the session loses its link as SLOW, and its next resume is a resync.
        pub outbox_max_bytes: usize = wire::OUTBOX_MAX_BYTES,
        /// Maximum number of bytes in all outboxes together at the end of a tick. Minimum: `outbox_max_bytes`.
        /// Default: 256 MiB. If there are more bytes, the server empties outboxes until the rest fits. The outboxes
        /// whose clients have acknowledged nothing for two seconds come first. Among them, and among the others, the
        /// largest come first. A session whose outbox is emptied loses its link as SLOW, and its next resume is a
        /// resync. The bytes of a broadcast count once for each recipient, although the recipients share the memory.
        pub outboxes_max_bytes: usize = 256 * 1024 * 1024,
        /// Time for which a counted frame may stay unacknowledged. Minimum: 2 s. Default: 10 s. A session that
        /// exceeds it loses its link as SLOW, and may be resumed.
        pub unacked_max: Duration = wire::UNACKED_MAX,
        /// Maximum number of frames of one session that are dispatched in one tick. The rest follow in the next tick.
        /// Minimum: 1. Default: 256.
        pub dispatch_max_frames: usize = 256,
        /// Number of frames of one session that may wait for dispatch before the server stops reading the link.
        /// Minimum: 1. Default: 512, which holds everything that a client sends again after a resume. Unreliable
        /// frames beyond the limit are dropped. The server also stops reading when the waiting frames exceed 256 KiB,
        /// so an inbox occupies little more than this. Frames that are already in the port of the proxy are still
        /// accepted.
        pub inbox_max_frames: usize = wire::OUTBOX_MAX_FRAMES,
        /// Number of messages that a session may send per second in the long run. Minimum: 1. Default: 120. Link
        /// control does not count. Messages that a client sends again after a resume are not counted, up to the size
        /// of an outbox. Reliable messages beyond the rate wait; if too many wait, the server stops reading the link.
        /// Unreliable messages beyond the rate are dropped.
        pub messages_per_second: u32 = wire::MESSAGES_PER_SECOND,
        /// Number of messages that a session may send at once after a quiet time. Minimum: 1. Default: 240.
        pub messages_burst: u32 = wire::MESSAGES_BURST,
        /// Bytes of messages that a session may send per second in the long run. Minimum: 1. Default: 32 KiB. With a
        /// low rate and a large inbox, the server stops reading a link for a long time, and the client's Acks arrive
        /// late. Choose the values so that this delay stays well below [`unacked_max`](Self::unacked_max).
        pub bytes_per_second: u32 = wire::BYTES_PER_SECOND,
        /// Bytes of messages that a session may send at once after a quiet time. Minimum: 1. Default: 64 KiB. The
        /// last message may be larger than what is left of the burst, so even the largest message can be sent.
        pub bytes_burst: u32 = wire::BYTES_BURST,
        /// Number of Acks, Pings and Probes that a session may send per second in the long run. Further ones are
        /// dropped. Minimum: 3. Default: 60.
        pub control_per_second: u32 = wire::CONTROL_PER_SECOND,
        /// Number of Acks, Pings and Probes that a session may send at once after a quiet time. Minimum: 3. Default:
        /// 120.
        pub control_burst: u32 = wire::CONTROL_BURST,
        /// Maximum number of sessions, without agents. Further Hellos for new sessions are denied as FULL. Minimum:
        /// 1. Default: 10,000. Each session occupies up to an inbox, an outbox and 16 KiB, which is 528 KiB with the
        /// default limits. All outboxes together are bounded by `outboxes_max_bytes`.
        pub max_sessions: usize = 10_000,
        /// Hook that each new session gets as its [`OnDisconnect`]. Default: no hook.
        pub on_disconnect: Option<OnDisconnect> = None => skipped,
    }
}

/// Counters since the start of the server. The counters of sessions and links leave out agents; the counters
/// of messages and answers include them.
#[derive(Resource, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Number of sessions that were opened.
    pub registered_count: u64,
    /// Number of times that a session was resumed.
    pub resumed_count: u64,
    /// Number of resumes with a resync. `resumed_count` includes them.
    pub resync_count: u64,
    /// Number of times that a session lost its link, takeovers included.
    pub disconnected_count: u64,
    /// Number of sessions that their clients ended with Bye.
    pub unregistered_count: u64,
    /// Number of sessions that ended without a Bye.
    pub expired_count: u64,
    /// Number of links without a session that were cut because there were too many of them.
    pub cut_guest_count: u64,
    /// Number of Hellos that were denied.
    pub denied_count: u64,
    /// Number of links that were closed because the client did not read or acknowledge its frames in time.
    pub slow_count: u64,
    /// Number of sessions that ended because the client broke the protocol.
    pub protocol_count: u64,
    /// Number of frames that arrived on links that no longer drive a session.
    pub stale_frame_count: u64,
    /// Number of messages with an id that no call has, or of a message that only servers send.
    pub stray_frame_count: u64,
    /// Number of unreliable frames that did not parse or were too long.
    pub malformed_frame_count: u64,
    /// Number of calls from sessions in no zone.
    pub nonmember_call_count: u64,
    /// Number of calls that contained NaN or an infinity. Each of them was dropped, and the session went on.
    pub nonfinite_call_count: u64,
    /// Number of calls that no system of the game read in the tick of their dispatch. Counted in debug builds
    /// only.
    pub unread_call_count: u64,
    /// Number of the game's answers to asks that had already ended.
    pub late_answer_count: u64,
    /// Number of messages that were not queued, because the session had ended, had a full outbox or was
    /// waiting for a resync, or because the game sent too many messages in one tick.
    pub undelivered_count: u64,
    /// Number of messages that the game sent to an entity that exists and is no session, or broadcast to an entity
    /// that exists and is no zone. `undelivered_count` includes those to no session.
    pub misdirected_count: u64,
    /// Number of clients' counted frames that were lost, because a session was restored from a record older
    /// than the state of its client.
    pub missed_count: u64,
    /// Number of unreliable frames and link control frames of clients that were dropped because they
    /// exceeded the rates or because too many frames were waiting for dispatch.
    pub throttled_frame_count: u64,
    /// Number of unreliable frames that were not sent, because there was no link or the link had no room.
    pub dropped_unreliable_count: u64,
}
