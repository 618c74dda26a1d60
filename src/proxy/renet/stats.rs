//! What the UDP adapter counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// A reading of [`RenetStats`]: counts since the start.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct RenetCounts {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        struct Shared {
            $($name: AtomicU64,)*
        }

        impl RenetStats {
            /// What was counted so far.
            #[must_use]
            pub fn counts(&self) -> RenetCounts {
                RenetCounts {
                    $($name: self.0.$name.load(Ordering::Relaxed),)*
                }
            }

            /// Adds what a turn of the thread's loop has counted, and clears it.
            pub(super) fn add(&self, tally: &mut RenetCounts) {
                let tally = std::mem::take(tally);
                $(if tally.$name > 0 {
                    self.0.$name.fetch_add(tally.$name, Ordering::Relaxed);
                })*
            }
        }
    };
}

counters! {
    /// Datagrams received, good or bad.
    datagram_in_count,
    /// Datagrams sent.
    datagram_out_count,
    /// Datagrams and payloads that the guard dropped; their senders' links live on.
    guard_dropped_count,
    /// Links closed because their client broke renet's rules.
    guard_closed_count,
    /// Unreliable frames to clients that were dropped for want of room.
    unreliable_dropped_count,
    /// Datagrams that could not be sent, or errors of the socket on receiving.
    socket_error_count,
    /// Links opened.
    opened_count,
    /// Links ended.
    closed_count,
    /// Times the thread failed and began anew, with all its links lost.
    restart_count,
}

/// Counters of a UDP adapter, shared with its thread. Clones are the same counters.
#[derive(Debug, Clone, Default)]
pub struct RenetStats(Arc<Shared>);
