//! Counters that the thread of an adapter shares with other threads.

use std::fmt;

/// The counters of an adapter. The adapter's thread updates them; other threads read them.
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
    /// Calls `counter` for each counter with its name in snake case and its value since the start.
    fn each(&self, counter: &mut dyn FnMut(&'static str, u64));
}

/// A reading of one counter of an adapter. Its `Display` output is `proxy.name=value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// The name that the proxy was attached under.
    pub proxy: &'static str,
    /// The name of the counter.
    pub name: &'static str,
    /// The count since the start.
    pub value: u64,
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}={}", self.proxy, self.name, self.value)
    }
}

/// Defines a struct of counts and a struct of the same counts that threads share. The adapter's thread counts in
/// the first one without synchronization, and adds it to the second one in each turn of its loop.
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
            /// Returns the counts since the start.
            #[must_use]
            pub fn counts(&self) -> $counts {
                $counts {
                    $($name: self.0.$name.load(std::sync::atomic::Ordering::Relaxed),)*
                }
            }

            /// Adds the counts of one turn of the loop, and sets `tally` to 0.
            pub(super) fn add(&self, tally: &mut $counts) {
                let tally = std::mem::take(tally);
                $(if tally.$name > 0 {
                    self.0.$name.fetch_add(tally.$name, std::sync::atomic::Ordering::Relaxed);
                })*
            }
        }
    };
}
