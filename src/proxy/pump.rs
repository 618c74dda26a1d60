//! The thread of an adapter over a UDP socket, which serves `renet` and `quic`.
//!
//! The thread waits for datagrams and for commands of the tick. It handles datagrams as they arrive. It does the
//! work per link in a batch, after the tick has flushed its commands, and at least every [`BATCH_AT_LEAST_EVERY`].
//! After a panic or an error of the socket the thread restarts, a limited number of times. The [`Transport`]
//! interprets the datagrams.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};

use super::port::PortSender;
use super::restarts::Restarts;
use super::udp::{self, Outgoing};
use super::{AdapterPort, LinkEnd, ListenerHandle, ProxyCommand, ProxyEvent};
use crate::tick::panic_text;

/// The protocol of an adapter over UDP: handles datagrams and commands, on the adapter's thread. All times are of
/// the port's clock.
pub(super) trait Transport: Send + 'static {
    /// The name of the thread.
    const NAME: &'static str;
    /// Length of the longest datagram, in bytes.
    const DATAGRAM_MAX: usize;
    /// Maximum number of datagrams in one turn of the loop. They take some milliseconds.
    const DATAGRAMS_PER_TURN: usize;
    /// Minimum time between two reads of the socket. It does not apply when the tick has woken the thread.
    const GATHER: Duration;

    /// Handles a datagram.
    fn receive(&mut self, datagram: &mut [u8], from: SocketAddr, at: Duration, out: &mut Outgoing);

    /// Does the work that cannot wait for a batch. The thread calls it after it has received datagrams, and when
    /// the transport is [due](Self::due).
    fn settle(&mut self, now: Duration, out: &mut Outgoing);

    /// Returns the time at which [`settle`](Self::settle) must be called even if nothing is received.
    fn due(&mut self) -> Option<Duration>;

    /// Carries out a command of the tick.
    fn command(&mut self, command: ProxyCommand, now: Duration, out: &mut Outgoing);

    /// Does the work of a batch, and sends.
    fn batch(&mut self, now: Duration, out: &mut Outgoing);

    /// Moves events to the port, and publishes the counts.
    fn deliver(&mut self, port: &PortSender<ProxyEvent>, now: Duration, out: &mut Outgoing);

    /// Returns true if all events are in the port.
    fn is_delivered(&self) -> bool;

    /// Returns true if any link is closing.
    fn any_closing(&self) -> bool;

    /// Sends what is queued, then ends all links.
    fn disconnect_all(&mut self, end: LinkEnd, now: Duration, out: &mut Outgoing);

    /// Notifies all clients that their links have ended. The state may be inconsistent after a panic, so this
    /// method may panic too.
    fn hang_up(&mut self, now: Duration, out: &mut Outgoing);

    /// Resets the transport after a panic, without reading state that may be inconsistent. All links are lost.
    fn restart(&mut self, now: Duration);

    /// Counts a restart of the thread.
    fn note_restart(&mut self);
}

/// A bound socket before the thread starts, and the means to wait on it.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) address: SocketAddr,
    socket: mio::net::UdpSocket,
    poll: Poll,
    waker: Arc<Waker>,
}

/// An error of [`Bound::bind`].
#[derive(Debug)]
pub(super) enum Unbound {
    /// The socket cannot be bound to the address.
    Address(io::Error),
    /// The operating system does not provide the means to wait on a socket.
    Wait(io::Error),
}

/// The state of the thread.
#[derive(Debug)]
pub(super) struct Pump<T> {
    pub(super) transport: T,
    out: Outgoing,
    poll: Poll,
    port: AdapterPort,
    /// True if the handle was dropped and the thread has to end.
    stop: Arc<AtomicBool>,
    /// Commands taken from the port. The port is not locked while they are carried out.
    commands: Vec<ProxyCommand>,
}

impl Bound {
    /// Binds a socket with kernel buffers of this size.
    pub(super) fn bind(listen: SocketAddr, buffer_bytes: usize) -> Result<Self, Unbound> {
        let mut socket = udp::bind(listen, buffer_bytes).map_err(Unbound::Address)?;
        let address = socket.local_addr().map_err(Unbound::Address)?;
        let poll = Poll::new().map_err(Unbound::Wait)?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(Unbound::Wait)?;
        poll.registry().register(&mut socket, SOCKET, Interest::READABLE).map_err(Unbound::Wait)?;
        Ok(Self { address, socket, poll, waker: Arc::new(waker) })
    }

    /// Starts the thread.
    pub(super) fn start<T: Transport>(self, transport: T, port: AdapterPort) -> io::Result<ListenerHandle> {
        let (address, waker) = (self.address, Arc::clone(&self.waker));
        let pump = self.pump(transport, port);
        let stop = Arc::clone(&pump.stop);
        let end = move || {
            stop.store(true, Ordering::Release);
            // If the wake-up fails, the thread wakes by itself after 250 ms.
            let _ = waker.wake();
        };
        ListenerHandle::spawn(T::NAME, address, end, move || pump.run())
    }

    pub(super) fn pump<T: Transport>(self, transport: T, mut port: AdapterPort) -> Pump<T> {
        let waker = self.waker;
        port.commands.set_waker(move || {
            // If the wake-up fails, the thread wakes by itself after 250 ms.
            let _ = waker.wake();
        });
        Pump {
            transport,
            out: Outgoing::new(self.socket),
            poll: self.poll,
            port,
            stop: Arc::default(),
            commands: Vec::new(),
        }
    }
}

impl<T: Transport> Pump<T> {
    /// Runs until the app or the handle is dropped. After a failure the thread restarts. If it has restarted too
    /// often recently, the adapter gives up and the server stops.
    fn run(self) {
        self.run_caught(Self::serve);
    }

    pub(super) fn run_caught(mut self, mut serve: impl FnMut(&mut Self) -> io::Result<()>) {
        let mut restarts = Restarts::default();
        loop {
            let ended = catch_unwind(AssertUnwindSafe(|| serve(&mut self)));
            let failure = match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(panic) => panic_text(panic.as_ref()).to_owned(),
            };
            let thread = T::NAME;
            tracing::error!(
                thread,
                failure,
                "a network thread failed and all its links are lost; please report this bug"
            );
            self.restart();
            if !restarts.admit() {
                self.port.give_up(Restarts::refusal(&failure));
                self.deliver_all();
                return;
            }
            self.transport.note_restart();
        }
    }

    /// Restarts the transport on the same socket. All links are lost. Their clients are notified if that still
    /// works.
    fn restart(&mut self) {
        let now = self.port.clock.now();
        let (transport, out) = (&mut self.transport, &mut self.out);
        // The state may be inconsistent. If this panics, the clients time out.
        let _ = catch_unwind(AssertUnwindSafe(|| transport.hang_up(now, out)));
        self.transport.restart(now);
        self.commands.clear();
        self.deliver();
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the wait of an adapter; the times of events are read from the port's clock"
    )]
    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let (mut batched, mut received) = (Instant::now(), Instant::now());
        // mio does not announce datagrams again that arrived before this call.
        let mut readable = true;
        loop {
            // mio does not announce datagrams again that are left in the socket.
            let wait = if readable { Duration::ZERO } else { self.patience(batched.elapsed()) };
            let woken = self.wait(&mut events, wait, &mut readable)?;
            self.out.begin_turn();
            if readable {
                // A wake-up per datagram would cost more than the work on the datagrams.
                if !woken {
                    thread::sleep(T::GATHER.saturating_sub(received.elapsed()));
                }
                received = Instant::now();
                readable = self.receive();
            }
            if woken || batched.elapsed() >= BATCH_AT_LEAST_EVERY {
                batched = Instant::now();
                self.batch();
            } else {
                self.transport.settle(self.port.clock.now(), &mut self.out);
            }
            self.deliver();
            if self.stop.load(Ordering::Acquire) || self.port.commands.is_closed() {
                return self.finish(&mut events);
            }
        }
    }

    /// Returns how long the thread may wait, given the time since the last batch.
    fn patience(&mut self, since_batch: Duration) -> Duration {
        let batch = BATCH_AT_LEAST_EVERY.saturating_sub(since_batch);
        let due = self.transport.due().map(|due| due.saturating_sub(self.port.clock.now()));
        batch.min(due.unwrap_or(batch))
    }

    /// Waits for datagrams or for the tick. Returns true if the tick or the handle has woken the thread.
    fn wait(&mut self, events: &mut Events, wait: Duration, readable: &mut bool) -> io::Result<bool> {
        match self.poll.poll(events, Some(wait)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error),
        }
        *readable |= events.iter().any(|event| event.token() == SOCKET);
        Ok(events.iter().any(|event| event.token() == WAKER))
    }

    /// Handles datagrams until the socket is empty or the turn has its maximum. Returns true if there may be more
    /// datagrams.
    fn receive(&mut self) -> bool {
        let at = self.port.clock.now();
        // One byte more than the longest datagram, so that a longer datagram is recognized.
        let mut buffer = [0; DATAGRAM_MAX + 1];
        let buffer = &mut buffer[..=T::DATAGRAM_MAX];
        for _ in 0..T::DATAGRAMS_PER_TURN {
            match self.out.socket.recv_from(buffer) {
                Ok((length, from)) => {
                    self.transport.receive(&mut buffer[..length], from, at, &mut self.out);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Usually an earlier datagram was sent to a closed port.
                Err(_) => self.out.error_count += 1,
            }
        }
        true
    }

    fn batch(&mut self) {
        let now = self.port.clock.now();
        let commands = &mut self.commands;
        self.port.commands.drain_all(|command| commands.push(command));
        for command in commands.drain(..) {
            self.transport.command(command, now, &mut self.out);
        }
        self.transport.batch(now, &mut self.out);
    }

    fn deliver(&mut self) {
        self.transport.deliver(&self.port.events, self.port.clock.now(), &mut self.out);
    }

    /// Carries out the pending commands, waits up to [`LINGER`] on the port's clock for closing links, and disconnects
    /// all links.
    #[allow(clippy::disallowed_methods, reason = "the watchdog of the wait after the last tick")]
    fn finish(&mut self, events: &mut Events) -> io::Result<()> {
        self.out.begin_turn();
        self.batch();
        let (begun, watchdog) = (self.port.clock.now(), Instant::now());
        // Datagrams of other clients end a turn early, so the loop measures time rather than turns.
        while self.port.clock.now().saturating_sub(begun) < LINGER
            && watchdog.elapsed() < LINGER_WATCHDOG
            && self.transport.any_closing()
        {
            self.wait(events, LINGER_TURN, &mut false)?;
            self.out.begin_turn();
            self.receive();
            self.batch();
        }
        self.transport.disconnect_all(LinkEnd::ByServer, self.port.clock.now(), &mut self.out);
        self.deliver();
        Ok(())
    }

    /// Waits until all events are in the port.
    fn deliver_all(&mut self) {
        while !self.transport.is_delivered()
            && !self.port.events.is_closed()
            && !self.stop.load(Ordering::Acquire)
        {
            thread::sleep(LINGER_TURN);
            self.deliver();
        }
    }
}

/// The event source of datagrams.
const SOCKET: Token = Token(0);
/// The event source of the tick and the handle.
const WAKER: Token = Token(1);
/// Capacity for mio's events. There are two event sources.
const EVENTS: usize = 4;
/// Length of the longest datagram of all transports, in bytes. It is longer than an unfragmented packet.
const DATAGRAM_MAX: usize = 2_048;
/// Longest time between two batches. So links are kept alive while the tick is stalled.
const BATCH_AT_LEAST_EVERY: Duration = Duration::from_millis(250);
/// How long the thread waits at its end for clients to acknowledge their last frames.
const LINGER: Duration = Duration::from_secs(1);
/// The longest wait by the clock of the machine, since a test may have stopped the clock of the port.
const LINGER_WATCHDOG: Duration = Duration::from_secs(10);
/// How long one turn of that wait lasts.
const LINGER_TURN: Duration = Duration::from_millis(20);
