//! The default game.

/// The arena's messages (`proto/arena/v1`).
#[allow(
    missing_docs,
    clippy::too_many_lines,
    reason = "generated: the .proto files hold the documentation"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/arena.v1.rs"));
}
