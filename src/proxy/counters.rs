//! Counters that an adapter's thread shares with whoever watches it.

/// Makes a struct of counts and its shared twin: the thread counts in the one, without locks, and
/// adds it to the other once a turn.
macro_rules! counters {
    (
        $(#[$counts_doc:meta])* $counts:ident,
        $(#[$stats_doc:meta])* $stats:ident:
        $($(#[$doc:meta])* $name:ident),* $(,)?
    ) => {
        $(#[$counts_doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        $(#[$stats_doc])*
        #[derive(Debug, Clone, Default)]
        pub struct $stats(std::sync::Arc<Shared>);

        #[derive(Debug, Default)]
        struct Shared {
            $($name: std::sync::atomic::AtomicU64,)*
        }

        impl $stats {
            /// What was counted so far.
            #[must_use]
            pub fn counts(&self) -> $counts {
                $counts {
                    $($name: self.0.$name.load(std::sync::atomic::Ordering::Relaxed),)*
                }
            }

            /// Adds what a turn of the thread's loop has counted, and clears it.
            pub(super) fn add(&self, tally: &mut $counts) {
                let tally = std::mem::take(tally);
                $(if tally.$name > 0 {
                    self.0.$name.fetch_add(tally.$name, std::sync::atomic::Ordering::Relaxed);
                })*
            }
        }
    };
}
