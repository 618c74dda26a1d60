//! Limits of the protocol. The configurations use them as defaults.

use std::time::Duration;

/// The version of the protocol that this crate implements.
pub const PROTOCOL: u32 = 1;

/// The longest frame in bytes that a client may send before its Welcome. A Hello with a bearer token
/// fits. The limit bounds what the server holds for a client that it has not identified.
pub const FRAME_MAX_BEFORE_WELCOME: usize = 4 * 1024;

/// The longest frame in bytes that a client may send after its Welcome.
pub const FRAME_MAX_CLIENT: usize = 16 * 1024;

/// The longest frame in bytes that a server may send.
pub const FRAME_MAX_SERVER: usize = 64 * 1024;

/// The frames that an outbox holds. This is eight times [`ACK_EVERY_FRAMES`], so that a side can go on
/// sending when one or two Acks are lost.
pub const OUTBOX_MAX_FRAMES: usize = 512;

/// The bytes that an outbox holds.
pub const OUTBOX_MAX_BYTES: usize = 256 * 1024;

/// The most counted frames that a side receives before it sends an Ack.
pub const ACK_EVERY_FRAMES: u64 = 64;

/// The longest time between the arrival of a counted frame and the Ack.
pub const ACK_EVERY: Duration = Duration::from_secs(1);

/// A side takes its link for lost when it has received nothing for this long.
pub const LINK_TIMEOUT: Duration = Duration::from_secs(5);

/// A server closes a link that has no accepted Hello after this time.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time for which a server keeps a closed link open so that its last frames are delivered.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The time between two Beacons of a session.
pub const BEACON_EVERY: Duration = Duration::from_secs(1);

/// A server closes a link as SLOW when a counted frame stays unacknowledged for this long.
pub const UNACKED_MAX: Duration = Duration::from_secs(10);

/// The messages per second that a session may send, without link control: 60 inputs and 60 calls.
pub const MESSAGES_PER_SECOND: u32 = 120;

/// The burst of messages that a session may send: those of two seconds, so that the messages that a
/// stalled link held back are accepted when the link recovers.
pub const MESSAGES_BURST: u32 = 2 * MESSAGES_PER_SECOND;

/// The bytes per second that a session may send: about 270 for each message at the full rate.
pub const BYTES_PER_SECOND: u32 = 32 * 1024;

/// The burst of bytes that a session may send: those of two seconds, as with messages.
pub const BYTES_BURST: u32 = 2 * BYTES_PER_SECOND;

/// The Acks, Pings and Probes per second that a session may send. A client needs three. A client that
/// acknowledges each batch of a server at the fastest tick rate sends 240, and the server may drop some
/// of them: an Ack supersedes the one before it.
pub const CONTROL_PER_SECOND: u32 = 60;

/// The burst of Acks, Pings and Probes that a session may send.
pub const CONTROL_BURST: u32 = 2 * CONTROL_PER_SECOND;

/// The number of frames with an unknown id, or of a message that only servers send, that ends a session.
/// A client that is one version ahead survives its first unknown message.
pub const STRAY_MESSAGES_MAX: u32 = 10;

/// The length of a resume token in bytes.
pub const TOKEN_BYTES: usize = 32;

/// The shortest time between two answered Probes of a link. The server drops Probes that arrive sooner.
pub const PROBE_EVERY: Duration = Duration::from_millis(250);
