//! The thread of an adapter over UDP.
//!
//! It waits for datagrams and for the tick. Datagrams are taken as they come; what costs
//! something for each link is done once a tick, when the tick has flushed its commands, or when
//! it has not for [`BATCH_AT_LEAST_EVERY`]. What fails begins anew, a few times. What a datagram
//! means is the [`Transport`]'s to know.

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

/// What an adapter does with datagrams and commands; its thread calls it. All times are the port's
/// clock's.
pub(super) trait Transport: Send + 'static {
    /// The thread's name, for the log.
    const NAME: &'static str;
    /// Longest datagram in bytes.
    const DATAGRAM_MAX: usize;
    /// Datagrams taken before commands are looked at again: some milliseconds' work.
    const DATAGRAMS_PER_TURN: usize;
    /// How long datagrams are gathered before they are looked at, if the tick does not come first.
    const GATHER: Duration;

    /// Takes a datagram.
    fn receive(&mut self, datagram: &mut [u8], from: SocketAddr, at: Duration, out: &mut Outgoing);

    /// Does what cannot wait for a batch, after datagrams were received or something came
    /// [due](Self::due).
    fn settle(&mut self, now: Duration, out: &mut Outgoing);

    /// When [`settle`](Self::settle) is to be called, if nothing is received.
    fn due(&mut self) -> Option<Duration>;

    /// Carries out what the tick commanded.
    fn command(&mut self, command: ProxyCommand, now: Duration, out: &mut Outgoing);

    /// Does what is due once a tick, and sends.
    fn batch(&mut self, now: Duration, out: &mut Outgoing);

    /// Hands events to the tick, and counts to whoever watches.
    fn deliver(&mut self, port: &PortSender<ProxyEvent>, now: Duration, out: &mut Outgoing);

    /// Whether all events are with the tick.
    fn is_delivered(&self) -> bool;

    /// Whether links are held until they are flushed.
    fn any_closing(&self) -> bool;

    /// Ends all links, after sending what is queued.
    fn disconnect_all(&mut self, end: LinkEnd, now: Duration, out: &mut Outgoing);

    /// Tells all clients that their links are gone. What is broken may be what this uses.
    fn hang_up(&mut self, now: Duration, out: &mut Outgoing);

    /// Begins anew after a panic, without a look at what may be broken: all links are lost.
    fn restart(&mut self, now: Duration);

    /// The thread goes on after that.
    fn note_restart(&mut self);
}

/// A bound socket that nobody reads yet, and what it takes to wait on it.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) address: SocketAddr,
    socket: mio::net::UdpSocket,
    poll: Poll,
    waker: Arc<Waker>,
}

/// What the system did not give.
#[derive(Debug)]
pub(super) enum Unbound {
    /// The address.
    Address(io::Error),
    /// The means to wait on a socket.
    Wait(io::Error),
}

/// What the thread owns.
#[derive(Debug)]
pub(super) struct Pump<T> {
    pub(super) transport: T,
    out: Outgoing,
    poll: Poll,
    port: AdapterPort,
    /// The handle asks for an end.
    stop: Arc<AtomicBool>,
    /// Commands taken from the port, so that it is not locked while they are carried out.
    commands: Vec<ProxyCommand>,
}

impl Bound {
    /// Binds a socket with buffers of this size.
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
            // A thread that cannot be woken looks by itself four times a second.
            let _ = waker.wake();
        };
        ListenerHandle::spawn(T::NAME, address, end, move || pump.run())
    }

    pub(super) fn pump<T: Transport>(self, transport: T, mut port: AdapterPort) -> Pump<T> {
        let waker = self.waker;
        port.commands.set_waker(move || {
            // A thread that cannot be woken looks by itself four times a second.
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
    /// Runs until the tick or the handle is gone. After a panic it begins anew, unless there were
    /// too many of late: then it gives up, and the server stops.
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
            tracing::error!(thread, failure, "a network thread failed, and its links are lost: report a bug");
            self.restart();
            if !restarts.admit() {
                self.port.give_up(Restarts::refusal(&failure));
                self.deliver_all();
                return;
            }
            self.transport.note_restart();
        }
    }

    /// As at first, on the same socket. All links are lost; their clients are told, if that still
    /// works.
    fn restart(&mut self) {
        let now = self.port.clock.now();
        let (transport, out) = (&mut self.transport, &mut self.out);
        // What is broken may be what is used here; then clients find out by themselves.
        let _ = catch_unwind(AssertUnwindSafe(|| transport.hang_up(now, out)));
        self.transport.restart(now);
        self.commands.clear();
        self.deliver();
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "an adapter's own wait; what it stamps is read from the port's clock"
    )]
    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let (mut batched, mut received) = (Instant::now(), Instant::now());
        // What came before is announced no second time.
        let mut readable = true;
        loop {
            // What is left in the socket is announced no second time.
            let wait = if readable { Duration::ZERO } else { self.patience(batched.elapsed()) };
            let woken = self.wait(&mut events, wait, &mut readable)?;
            self.out.begin_turn();
            if readable {
                // A wake-up for each datagram would cost more than the datagrams do.
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

    /// How long nothing need be done, so long after a batch.
    fn patience(&mut self, since_batch: Duration) -> Duration {
        let batch = BATCH_AT_LEAST_EVERY.saturating_sub(since_batch);
        let due = self.transport.due().map(|due| due.saturating_sub(self.port.clock.now()));
        batch.min(due.unwrap_or(batch))
    }

    /// Waits for datagrams or the tick. Whether it was the tick.
    fn wait(&mut self, events: &mut Events, wait: Duration, readable: &mut bool) -> io::Result<bool> {
        match self.poll.poll(events, Some(wait)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error),
        }
        *readable |= events.iter().any(|event| event.token() == SOCKET);
        Ok(events.iter().any(|event| event.token() == WAKER))
    }

    /// Takes datagrams until there are none, or enough for one turn. Whether there may be more.
    fn receive(&mut self) -> bool {
        let at = self.port.clock.now();
        // A byte more than a datagram may have, so that one that is too long is seen as such.
        let mut buffer = [0; DATAGRAM_MAX + 1];
        let buffer = &mut buffer[..=T::DATAGRAM_MAX];
        for _ in 0..T::DATAGRAMS_PER_TURN {
            match self.out.socket.recv_from(buffer) {
                Ok((length, from)) => {
                    self.transport.receive(&mut buffer[..length], from, at, &mut self.out);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // As a rule, an earlier datagram met a closed port.
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

    /// Sends what was commanded before the end, waits for closing links for a while, and
    /// disconnects all.
    #[allow(clippy::disallowed_methods, reason = "an adapter's own wait, which no tick is there to see")]
    fn finish(&mut self, events: &mut Events) -> io::Result<()> {
        self.out.begin_turn();
        self.batch();
        let begun = Instant::now();
        // Other clients' datagrams end a turn early, so it is time that is counted.
        while begun.elapsed() < LINGER && self.transport.any_closing() {
            self.wait(events, LINGER_TURN, &mut false)?;
            self.out.begin_turn();
            self.receive();
            self.batch();
        }
        self.transport.disconnect_all(LinkEnd::ByServer, self.port.clock.now(), &mut self.out);
        self.deliver();
        Ok(())
    }

    /// Waits until the tick was told that all links are gone.
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

/// Announces datagrams.
const SOCKET: Token = Token(0);
/// Announces the tick.
const WAKER: Token = Token(1);
/// There are two sources of events.
const EVENTS: usize = 4;
/// Longest datagram that any transport takes: more than a network carries in one piece.
const DATAGRAM_MAX: usize = 2_048;
/// A stalled tick must not keep links from being kept alive: netcode sends at this pace itself.
const BATCH_AT_LEAST_EVERY: Duration = Duration::from_millis(250);
/// How long the end waits for clients to acknowledge their last frames, so that a client that is
/// gone holds up nobody; and when it looks again whether they have.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_TURN: Duration = Duration::from_millis(20);
