//! A bad network for tests: a relay between real sockets, over UDP and TCP, that loses, delays, reorders,
//! doubles and interrupts what passes through it.
//!
//! It is not a proxy for players, and it does not look into what it carries. Its delays are real
//! time; tests on virtual time give a link [`Faults`](super::Faults) instead.
//!
//! Each decision depends only on the seed, the flow's number and the packet's number in its
//! direction. A flow is a client's UDP socket or TCP connection, numbered as they appear. The same
//! seed therefore does the same to the same traffic, whatever the machine's speed. Outages depend
//! on the seed and on the time since the start.
//!
//! Over TCP nothing is lost for good, as on a real network: a segment that the network loses, or
//! that meets an outage, arrives later by the time that TCP takes to send it again, and holds up
//! all that follows it. Reordering and doubling do not show over TCP.
//!
//! Data flow: a client's socket → the route's listener → [`Network`] decides when a packet arrives
//! → a queue in the order of arrival → the flow's own socket to the server, and back the same way.
//! All of it runs on one thread.
//!
//! ```
//! use std::net::UdpSocket;
//! use std::time::Duration;
//! use waystation::testing::{Network, Relay, RelayConfig, Route};
//!
//! let server = UdpSocket::bind("127.0.0.1:0")?;
//! let relay = Relay::start(RelayConfig {
//!     seed: 1,
//!     routes: vec![Route::udp(server.local_addr()?)],
//!     network: Network { delay: Duration::from_millis(20), ..Network::default() },
//!     ..RelayConfig::default()
//! })?;
//! let client = UdpSocket::bind("127.0.0.1:0")?;
//! client.send_to(b"hello", relay.addresses()[0])?;
//! let mut buffer = [0; 16];
//! let (length, outer) = server.recv_from(&mut buffer)?;
//! assert_eq!(&buffer[..length], b"hello");
//! assert_ne!(outer, client.local_addr()?, "the server sees the relay's socket");
//! println!("{}", relay.stop());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod counts;
mod dice;
mod dues;
mod network;
mod path;
mod tcp;
#[cfg(test)]
mod tests;
mod turn;
mod udp;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::Waker;

pub use counts::{RelayCounts, WayCounts};
pub use network::{Network, Outages};
use turn::Turn;

/// What a [`Relay`] is told.
#[derive(Debug, Clone, Default)]
pub struct RelayConfig {
    /// The seed of all decisions.
    pub seed: u64,
    /// The ways through the relay, [`ROUTES_MAX`] at most.
    pub routes: Vec<Route>,
    /// What it does to the traffic of all routes.
    pub network: Network,
    /// From this time after the start on, the network is faultless. Default: never. A test that
    /// ends with a count of what arrived lets the rest arrive.
    pub heals_after: Option<Duration>,
}

/// One way through a relay: a listener, and the server behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    is_tcp: bool,
    listen: SocketAddr,
    server: SocketAddr,
}

impl Route {
    /// A route for datagrams to a server. It listens on a free port of 127.0.0.1.
    #[must_use]
    pub fn udp(server: SocketAddr) -> Self {
        Self { is_tcp: false, listen: (Ipv4Addr::LOCALHOST, 0).into(), server }
    }

    /// A route for TCP connections to a server. It listens on a free port of 127.0.0.1.
    #[must_use]
    pub fn tcp(server: SocketAddr) -> Self {
        Self { is_tcp: true, ..Self::udp(server) }
    }

    /// The same route, listening on this address.
    #[must_use]
    pub fn at(self, listen: SocketAddr) -> Self {
        Self { listen, ..self }
    }
}

/// A relay that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// A listener's address cannot be used.
    #[error("cannot listen on {address} ({cause}); is the port in use?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// The system gives no poll or thread.
    #[error("the system gives the relay no poll or thread ({0}); are there too many?")]
    System(#[from] io::Error),
    /// A field of the network is out of range.
    #[error("{field} is {value}; it may be {range}")]
    Range {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        range: &'static str,
    },
}

/// A relay that runs on a thread of its own until it is stopped or dropped.
///
/// Worst-case memory: 64 MiB of datagrams under way, and 128 KiB for each of 1,024 TCP connections.
#[derive(Debug)]
pub struct Relay {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

/// What a relay shares with its thread.
#[derive(Debug)]
struct Shared {
    network: Mutex<Network>,
    counts: Mutex<RelayCounts>,
    is_stopping: AtomicBool,
}

impl Relay {
    /// Binds the listeners and starts the thread.
    ///
    /// # Errors
    ///
    /// [`RelayError`]: an address is in use, a field of the network is out of range, or the system
    /// gives no thread.
    pub fn start(config: RelayConfig) -> Result<Self, RelayError> {
        config.network.check()?;
        if config.routes.len() > ROUTES_MAX {
            let value = config.routes.len().to_string();
            return Err(RelayError::Range { field: "routes", value, range: "16 at most" });
        }
        let shared = Arc::new(Shared {
            network: Mutex::new(config.network),
            counts: Mutex::default(),
            is_stopping: AtomicBool::new(false),
        });
        let (turn, addresses) = Turn::new(&config, Arc::clone(&shared))?;
        let waker = Waker::new(turn.registry(), turn::WAKE)?;
        let thread = thread::Builder::new().name("relay".to_owned()).spawn(move || turn.run())?;
        Ok(Self { addresses, shared, waker, thread: Some(thread) })
    }

    /// Where clients connect, in the order of the routes.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> RelayCounts {
        *locked(&self.shared.counts)
    }

    /// Makes the network another one for all that comes from now on. What is under way arrives when
    /// it would have.
    ///
    /// # Errors
    ///
    /// [`RelayError::Range`]: a field of the network is out of range; it stays as it was.
    pub fn change(&self, network: Network) -> Result<(), RelayError> {
        network.check()?;
        *locked(&self.shared.network) = network;
        Ok(())
    }

    /// Stops it, with all that is under way, and returns what it did.
    #[must_use]
    pub fn stop(mut self) -> RelayCounts {
        self.join();
        self.counts()
    }

    fn join(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        // A thread that cannot be woken sees the flag when it next wakes by itself.
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.join();
    }
}

/// The mutexes hold plain values, which a panic leaves whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

impl Direction {
    const BOTH: [Self; 2] = [Self::Up, Self::Down];

    /// The place of this direction in a pair; also that of the end that it comes from.
    const fn index(self) -> usize {
        self as usize
    }

    /// The place of the end that it goes to.
    const fn end(self) -> usize {
        1 - self.index()
    }

    /// The other direction.
    const fn back(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// Routes of a relay: more than a server has listeners.
pub const ROUTES_MAX: usize = 16;
