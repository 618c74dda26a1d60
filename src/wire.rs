//! Messages, frames, lanes and limits: what clients and servers share.
//!
//! A frame is a big-endian `u16` message id and a proto3 body. The transport preserves the boundaries
//! of frames. This module encodes and decodes only: it opens no socket and holds no session.
//!
//! Data flow: a message → [`encode`] → a frame's bytes → a transport → [`Frame::parse`] →
//! [`Frame::decode`] → a message.

mod credentials;
#[cfg(feature = "quic")]
pub mod discovery;
mod finite;
mod frame;
mod limits;
#[cfg(feature = "quic")]
mod millis;
#[cfg(feature = "quic")]
pub mod quic;
#[cfg(feature = "server")]
pub(crate) mod retry;
mod secret;
#[cfg(feature = "server")]
pub mod ticket;
#[cfg(feature = "udp")]
pub mod udp;
#[cfg(any(feature = "udp", feature = "quic"))]
pub(crate) mod waiting;
#[cfg(any(feature = "udp", feature = "quic"))]
pub(crate) mod window;

pub use crate::settings::ConfigError;
pub use credentials::{CredentialKind, Credentials};
pub use finite::Finite;
#[cfg(feature = "server")]
pub(crate) use frame::encode_into;
pub use frame::{Frame, FrameError, Lane, Range, WireMessage, decode, encode, id_of, lane_of};
pub use limits::*;
#[cfg(feature = "quic")]
pub(crate) use millis::millis;
#[cfg(feature = "server")]
pub(crate) use millis::whole_seconds;

/// The protobuf runtime that generated code uses.
pub use prost;

/// The core messages, generated from `proto/waystation/v1`.
#[allow(missing_docs, clippy::too_many_lines, reason = "generated: the .proto files hold the documentation")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/waystation.v1.rs"));

    impl std::fmt::Display for Reason {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.as_str_name().trim_start_matches("REASON_"))
        }
    }
}
