//! The thread of a relay, which waits for sockets and for packets that are due.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry, Token};

use super::counts::Tally;
use super::dues::{Cargo, Dues};
use super::network::Network;
use super::path::Moment;
use super::tcp::Connections;
use super::udp::{Flows, Work};
use super::{RelayConfig, RelayError, Shared, locked};

/// The state of the thread.
pub(super) struct Turn {
    poll: Poll,
    begun: Instant,
    seed: u64,
    heals_after: Option<Duration>,
    shared: Arc<Shared>,
    flows: Flows,
    connections: Connections,
    dues: Dues,
    tally: Tally,
    next_token: usize,
    buffer: Vec<u8>,
    swept_at: Duration,
}

impl Turn {
    /// Binds all listeners. Also returns their addresses.
    pub(super) fn new(
        config: &RelayConfig,
        shared: Arc<Shared>,
    ) -> Result<(Self, Vec<SocketAddr>), RelayError> {
        let poll = Poll::new()?;
        let (mut flows, mut connections) = (Flows::default(), Connections::default());
        let mut addresses = Vec::new();
        let mut next_token = WAKE.0;
        for route in &config.routes {
            next_token += 1;
            let listening = if route.is_tcp {
                connections.listen(next_token, route.listen, route.server, poll.registry())
            } else {
                flows.listen(next_token, route.listen, route.server, poll.registry())
            };
            let listen = |cause| RelayError::Listen { address: route.listen, cause };
            addresses.push(listening.map_err(listen)?);
        }
        let turn = Self {
            poll,
            begun: now(),
            seed: config.seed,
            heals_after: config.heals_after,
            shared,
            flows,
            connections,
            dues: Dues::default(),
            tally: Tally::default(),
            next_token,
            buffer: vec![0; DATAGRAM_MAX],
            swept_at: Duration::ZERO,
        };
        Ok((turn, addresses))
    }

    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Relays until the relay is stopped.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.shared.is_stopping.load(Ordering::Acquire) {
            self.deliver();
            let wait = self.dues.next_at().map(|at| at.saturating_sub(self.begun.elapsed()));
            match self.poll.poll(&mut events, wait) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "the relay stops: it cannot poll its sockets");
                    break;
                }
            }
            for event in &events {
                let (mut work, flows, connections) = self.parts();
                if event.token() != WAKE && !flows.read(event.token().0, &mut work) {
                    connections.handle(event, &mut work);
                }
            }
            self.sweep();
            *locked(&self.shared.counts) = self.tally.counts;
        }
        *locked(&self.shared.counts) = self.tally.counts;
    }

    /// Delivers all packets that have arrived.
    fn deliver(&mut self) {
        let now = self.begun.elapsed();
        while let Some(cargo) = self.dues.pop(now) {
            let (mut work, flows, connections) = self.parts();
            match cargo {
                Cargo::Datagram { flow, direction, bytes } => {
                    flows.deliver(flow, direction, &bytes, work.tally);
                }
                Cargo::Segment { connection, direction, bytes } => {
                    connections.deliver(connection, direction, &bytes, &mut work);
                }
                Cargo::Reset { connection } => connections.reset(connection, work.tally),
                Cargo::Gone { connection } => connections.end(connection),
            }
        }
    }

    /// Borrows the context of an event, the flows and the connections.
    fn parts(&mut self) -> (Work<'_>, &mut Flows, &mut Connections) {
        let work = Work {
            moment: self.moment(),
            dues: &mut self.dues,
            tally: &mut self.tally,
            registry: self.poll.registry(),
            next_token: &mut self.next_token,
            buffer: &mut self.buffer,
        };
        (work, &mut self.flows, &mut self.connections)
    }

    fn moment(&self) -> Moment {
        let now = self.begun.elapsed();
        let is_healed = self.heals_after.is_some_and(|after| now >= after);
        let network = if is_healed { Network::default() } else { *locked(&self.shared.network) };
        Moment { network, seed: self.seed, now }
    }

    fn sweep(&mut self) {
        let now = self.begun.elapsed();
        if now >= self.swept_at + SWEEP_EVERY {
            self.swept_at = now;
            self.flows.sweep(now);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a relay between real sockets runs in real time")]
fn now() -> Instant {
    Instant::now()
}

/// The token of the waker. The tokens of listeners and of other sockets are higher.
pub(super) const WAKE: Token = Token(0);
/// The length of the buffer in bytes, which holds any datagram.
const DATAGRAM_MAX: usize = 65_536;
/// The most events of one poll. The next poll returns the others.
const EVENTS_MAX: usize = 256;
/// The time between two searches for silent flows.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
