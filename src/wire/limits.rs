//! The limits that both sides keep. Fields of the configs default to these.

use std::time::Duration;

/// The version of the protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;

/// Longest frame of a client before its Welcome, in bytes: a Hello with a bearer token fits, and
/// a stranger cannot make the server hold more.
pub const FRAME_MAX_BEFORE_WELCOME: usize = 4 * 1024;

/// Longest frame of a client after its Welcome, in bytes.
pub const FRAME_MAX_CLIENT: usize = 16 * 1024;

/// Longest frame of a server, in bytes.
pub const FRAME_MAX_SERVER: usize = 64 * 1024;

/// Frames that an outbox holds unacknowledged: eight acks' worth, so that a lost ack or two
/// stop nobody.
pub const OUTBOX_MAX_FRAMES: usize = 512;

/// Bytes that an outbox holds unacknowledged.
pub const OUTBOX_MAX_BYTES: usize = 256 * 1024;

/// An Ack is sent at the latest after this many counted frames.
pub const ACK_EVERY_FRAMES: u64 = 64;

/// An Ack is sent at the latest this long after a counted frame.
pub const ACK_EVERY: Duration = Duration::from_secs(1);

/// A link on which nothing was received for this long is lost, on both sides.
pub const LINK_TIMEOUT: Duration = Duration::from_secs(5);

/// A link without an accepted Hello for this long is closed.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// A link is held at most this long for its last frames to be flushed.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a Beacon is sent.
pub const BEACON_EVERY: Duration = Duration::from_secs(1);

/// A slow consumer is one that has left a reliable frame unacknowledged for this long.
pub const UNACKED_MAX: Duration = Duration::from_secs(10);

/// Messages a second that a session may send, link control aside: sixty inputs, and as many calls.
pub const MESSAGES_PER_SECOND: u32 = 120;

/// Messages that it may send at once: two seconds' worth, so that what a stalled link held back
/// passes when it is there again.
pub const MESSAGES_BURST: u32 = 2 * MESSAGES_PER_SECOND;

/// Bytes a second that a session may send: 270 for each message at the full rate.
pub const BYTES_PER_SECOND: u32 = 32 * 1024;

/// Bytes that it may send at once: two seconds' worth, as with messages.
pub const BYTES_BURST: u32 = 2 * BYTES_PER_SECOND;

/// Acks, Pings and Probes a second that a session may send. A client needs three; one that
/// acknowledges each batch of a server at the fastest tick rate sends 240, and of these it may
/// lose some, since an Ack says all that the one before it said.
pub const CONTROL_PER_SECOND: u32 = 60;

/// Of these, at once.
pub const CONTROL_BURST: u32 = 2 * CONTROL_PER_SECOND;

/// Unknown ids and messages in the wrong direction that a session may send before it is closed:
/// a client one version ahead is not cut at its first message.
pub const STRAY_MESSAGES_MAX: u32 = 10;

/// Bytes of a resume token.
pub const TOKEN_BYTES: usize = 32;

/// A link's Probes are answered this often at most; what comes sooner is dropped.
pub const PROBE_EVERY: Duration = Duration::from_millis(250);
