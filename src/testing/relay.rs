//! A relay between real sockets that simulates a bad network for tests, over UDP and TCP.
//!
//! The relay loses, delays, reorders, duplicates and interrupts traffic. It is not a proxy of this crate, and it does
//! not parse the traffic. Its delays are in real time. Tests on virtual time set [`Faults`](super::Faults) of a link
//! instead.
//!
//! Each decision depends only on the seed, the number of the flow, and the number of the packet in its direction. A
//! flow is a UDP socket or a TCP connection of a client. Flows are numbered in the order in which they appear. So the
//! same seed treats the same traffic alike on each machine. Outages depend on the seed and on the time since the
//! start.
//!
//! Over TCP no data is lost, as on a real network. A segment that is lost, or that is sent in an outage, arrives later
//! by the time that TCP takes to send it again. The segments behind it wait for it. Reordering and duplication have no
//! effect over TCP.
//!
//! Data flow: a client's socket → the listener of a route → [`Network`] decides when a packet arrives → a queue in the
//! order of arrival → the flow's socket to the server; and the same way back. All of it runs on one thread.
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

/// The configuration of a [`Relay`].
#[derive(Debug, Clone, Default)]
pub struct RelayConfig {
    /// The seed of all decisions. Default: 0.
    pub seed: u64,
    /// The routes, at most [`ROUTES_MAX`]. Default: no routes.
    pub routes: Vec<Route>,
    /// The network that is simulated on all routes. Default: a network without faults.
    pub network: Network,
    /// The time after the start from which on the network has no faults. Then all traffic in flight arrives before a
    /// test counts it. Default: `None`, which is never.
    pub heals_after: Option<Duration>,
}

/// A route through a relay: a listener, and the server that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    is_tcp: bool,
    listen: SocketAddr,
    server: SocketAddr,
}

impl Route {
    /// Returns a route for datagrams to a server. It listens on a free port of 127.0.0.1.
    #[must_use]
    pub fn udp(server: SocketAddr) -> Self {
        Self { is_tcp: false, listen: (Ipv4Addr::LOCALHOST, 0).into(), server }
    }

    /// Returns a route for TCP connections to a server. It listens on a free port of 127.0.0.1.
    #[must_use]
    pub fn tcp(server: SocketAddr) -> Self {
        Self { is_tcp: true, ..Self::udp(server) }
    }

    /// Sets the address to listen on.
    #[must_use]
    pub fn at(self, listen: SocketAddr) -> Self {
        Self { listen, ..self }
    }
}

/// The error of starting or changing a relay.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The address of a listener cannot be used.
    #[error("cannot listen on {address} ({cause}); check that the port is not in use")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        #[source]
        cause: io::Error,
    },
    /// The operating system provides no poll or thread.
    #[error("the operating system provides no poll or thread ({0}); run fewer relays at a time")]
    System(#[from] io::Error),
    /// A field of the configuration is out of range.
    #[error("{field} is {value}; it may be {range}")]
    Range {
        /// The name of the field.
        field: &'static str,
        /// The value of the field.
        value: String,
        /// The permitted values, in words.
        range: &'static str,
    },
}

/// A relay that runs on a thread of its own until it is stopped or dropped.
///
/// A relay uses at most 64 MiB for datagrams in flight, and 128 KiB for each of at most 1,024 TCP connections.
#[derive(Debug)]
pub struct Relay {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

/// The state that a relay and its thread share.
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
    /// Returns [`RelayError`] if an address cannot be used, if a field of the configuration is out of range, or if the
    /// operating system provides no poll or thread.
    pub fn start(config: RelayConfig) -> Result<Self, RelayError> {
        config.network.check()?;
        if config.routes.len() > ROUTES_MAX {
            let value = config.routes.len().to_string();
            return Err(RelayError::Range { field: "routes", value, range: "at most 16" });
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

    /// Returns the addresses of the listeners, in the order of the routes.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the counts since the start.
    #[must_use]
    pub fn counts(&self) -> RelayCounts {
        *locked(&self.shared.counts)
    }

    /// Changes the network for all packets that arrive at the relay from now on. Packets in flight are not affected.
    ///
    /// # Errors
    ///
    /// Returns [`RelayError::Range`] if a field of the network is out of range. Nothing is changed then.
    pub fn change(&self, network: Network) -> Result<(), RelayError> {
        network.check()?;
        *locked(&self.shared.network) = network;
        Ok(())
    }

    /// Stops the relay and returns its counts. Packets in flight are lost.
    #[must_use]
    pub fn stop(mut self) -> RelayCounts {
        self.join();
        self.counts()
    }

    fn join(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        // If the waker fails, the thread reads the flag when it wakes next.
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

/// Locks a mutex, also after a panic: the mutexes hold plain values, which are never half written.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The direction of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

impl Direction {
    const BOTH: [Self; 2] = [Self::Up, Self::Down];

    /// Returns the index of this direction in a pair. It is also the index of the end that sends.
    const fn index(self) -> usize {
        self as usize
    }

    /// Returns the index of the end that receives.
    const fn end(self) -> usize {
        1 - self.index()
    }

    /// Returns the other direction.
    const fn back(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// The most routes of a relay. A server has fewer listeners.
pub const ROUTES_MAX: usize = 16;
