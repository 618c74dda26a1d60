//! Counters that an adapter's thread shares with those who watch it.

use std::fmt;

/// Counters of an adapter, which another thread counts in.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use waystation::proxy::{Count, Proxies};
/// use waystation::tick::Clock;
///
/// struct Resent(Arc<AtomicU64>);
///
/// impl Count for Resent {
///     fn each(&self, counter: &mut dyn FnMut(&'static str, u64)) {
///         counter("resent", self.0.load(Ordering::Relaxed));
///     }
/// }
///
/// let mut proxies = Proxies::default();
/// let port = proxies.attach("radio", Clock::wall());
/// let resent = Arc::new(AtomicU64::new(0));
/// port.set_counters(Resent(Arc::clone(&resent)));
/// resent.fetch_add(3, Ordering::Relaxed);
/// assert_eq!(proxies.counters()[0].to_string(), "radio.resent=3");
/// ```
pub trait Count: Send + Sync {
    /// Tells each counter: its name, in snake case, and what was counted since the start.
    fn each(&self, counter: &mut dyn FnMut(&'static str, u64));
}

/// What one counter of an adapter has counted since the start. Its `Display` is `proxy.name=value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// The name that the proxy was attached under.
    pub proxy: &'static str,
    /// The counter's name.
    pub name: &'static str,
    /// What was counted.
    pub value: u64,
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}={}", self.proxy, self.name, self.value)
    }
}

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

        impl $crate::proxy::Count for $stats {
            fn each(&self, counter: &mut dyn FnMut(&'static str, u64)) {
                let counts = self.counts();
                $(counter(stringify!($name).trim_end_matches("_count"), counts.$name);)*
            }
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
