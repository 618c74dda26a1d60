//! The thread of the UDP adapter.
//!
//! It waits for datagrams and for the tick. Datagrams are taken as they come; what costs
//! something for each link is done once a tick, when the tick has flushed its commands, or when
//! it has not for [`BATCH_AT_LEAST_EVERY`]. What fails begins anew, a few times.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::core::Core;
use super::stats::RenetStats;
use super::{RenetConfig, unix_now};
use crate::proxy::restarts::Restarts;
use crate::proxy::udp::Outgoing;
use crate::proxy::{AdapterPort, LinkEnd, ProxyCommand};
use crate::tick::panic_text;
use crate::wire::udp::guard::DATAGRAM_MAX;

/// What the thread owns.
#[derive(Debug)]
pub(super) struct Pump {
    pub(super) core: Core,
    pub(super) config: RenetConfig,
    /// A test asks for a panic.
    #[cfg(feature = "testing")]
    pub(super) planted: Arc<AtomicBool>,
    pub(super) out: Outgoing,
    pub(super) poll: Poll,
    pub(super) port: AdapterPort,
    pub(super) stats: RenetStats,
    /// The handle asks for an end.
    pub(super) stop: Arc<AtomicBool>,
    /// Commands taken from the port, so that it is not locked while they are carried out.
    pub(super) commands: Vec<ProxyCommand>,
}

impl Pump {
    /// Runs until the tick or the handle is gone. After a panic it begins anew, unless there were
    /// too many of late: then it gives up, and the server stops.
    pub(super) fn run(self) {
        self.run_caught(Self::serve);
    }

    fn run_caught(mut self, mut serve: impl FnMut(&mut Self) -> io::Result<()>) {
        let mut restarts = Restarts::default();
        loop {
            let ended = catch_unwind(AssertUnwindSafe(|| serve(&mut self)));
            let failure = match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(panic) => panic_text(panic.as_ref()).to_owned(),
            };
            tracing::error!(failure, "the UDP thread failed, and its links are lost: report a bug");
            self.restart();
            if !restarts.admit() {
                self.port.give_up(Restarts::refusal(&failure));
                self.deliver_all();
                return;
            }
            self.core.links.tally.restart_count += 1;
        }
    }

    /// As at first, on the same socket and with the same tokens used up. All links are lost; their
    /// clients are told, if netcode still can.
    fn restart(&mut self) {
        let (core, out) = (&mut self.core, &mut self.out);
        // What is broken may be what is used here; then clients find out by themselves.
        let _ = catch_unwind(AssertUnwindSafe(|| core.hang_up(out)));
        self.core.restart(&self.config, unix_now(), self.port.clock.now());
        self.commands.clear();
        self.deliver();
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "an adapter's own wait; what it stamps is read from the port's clock"
    )]
    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut batched = Instant::now();
        // What came before is announced no second time.
        let mut readable = true;
        loop {
            #[cfg(feature = "testing")]
            assert!(!self.planted.swap(false, Ordering::AcqRel), "a panic that a test has planted");
            // What is left in the socket is announced no second time.
            let wait = if readable {
                Duration::ZERO
            } else {
                BATCH_AT_LEAST_EVERY.saturating_sub(batched.elapsed())
            };
            let woken = self.wait(&mut events, wait, &mut readable)?;
            self.out.begin_turn();
            if readable {
                readable = self.receive();
            }
            if woken || batched.elapsed() >= BATCH_AT_LEAST_EVERY {
                batched = Instant::now();
                self.batch();
            }
            self.deliver();
            if self.stop.load(Ordering::Acquire) || self.port.commands.is_closed() {
                return self.finish(&mut events);
            }
        }
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
        for _ in 0..DATAGRAMS_PER_TURN {
            match self.out.socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    self.core.receive(&mut buffer[..length], from, at, &mut self.out);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // As a rule, an earlier datagram met a closed port.
                Err(_) => self.core.links.tally.socket_error_count += 1,
            }
        }
        true
    }

    fn batch(&mut self) {
        let now = self.port.clock.now();
        let commands = &mut self.commands;
        self.port.commands.drain_all(|command| commands.push(command));
        for command in commands.drain(..) {
            self.core.command(command, now, &mut self.out);
        }
        self.core.batch(now, &mut self.out);
    }

    fn deliver(&mut self) {
        self.core.links.deliver(&self.port.events, self.port.clock.now());
        let tally = &mut self.core.links.tally;
        tally.datagram_out_count += std::mem::take(&mut self.out.sent_count);
        tally.socket_error_count += std::mem::take(&mut self.out.error_count);
        self.stats.add(tally);
    }

    /// Sends what was commanded before the end, waits for closing links for a while, and
    /// disconnects all.
    fn finish(&mut self, events: &mut Events) -> io::Result<()> {
        self.out.begin_turn();
        self.batch();
        for _ in 0..LINGER_TURNS {
            if !self.core.links.any_closing() {
                break;
            }
            self.wait(events, LINGER_TURN, &mut false)?;
            self.out.begin_turn();
            self.receive();
            self.batch();
        }
        self.core.disconnect_all(LinkEnd::ByServer, self.port.clock.now(), &mut self.out);
        self.deliver();
        Ok(())
    }

    /// Waits until the tick was told that all links are gone.
    fn deliver_all(&mut self) {
        while !self.core.links.is_delivered()
            && !self.port.events.is_closed()
            && !self.stop.load(Ordering::Acquire)
        {
            thread::sleep(LINGER_TURN);
            self.deliver();
        }
    }
}

/// Announces datagrams.
pub(super) const SOCKET: Token = Token(0);
/// Announces the tick.
pub(super) const WAKER: Token = Token(1);
/// There are two sources of events.
const EVENTS: usize = 4;
/// A stalled tick must not keep links from being kept alive: netcode sends at this pace itself.
const BATCH_AT_LEAST_EVERY: Duration = Duration::from_millis(250);
/// Datagrams taken before commands are looked at again: some milliseconds' work.
const DATAGRAMS_PER_TURN: usize = 1_024;
/// How long the end waits for clients to acknowledge their last frames: a second in all, so that
/// a client that is gone holds up nobody.
const LINGER_TURNS: u32 = 50;
const LINGER_TURN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bevy_app::App;

    use super::*;
    use crate::proxy::renet::RenetProxy;
    use crate::proxy::restarts::RESTARTS_MAX;
    use crate::proxy::{self, Arrivals, ProxyEventKind, ProxyPlugin};
    use crate::tick::{Clock, Failure, StopRequested, TickPlugin};
    use crate::wire::udp::DEV_KEY;

    #[test]
    fn a_thread_that_fails_ends_its_links_and_gives_up_when_that_does_not_help() {
        let mut app = App::new();
        let clock = Clock::manual();
        app.add_plugins((TickPlugin { clock, ..TickPlugin::default() }, ProxyPlugin));
        let bound = RenetProxy::bind(RenetConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..RenetConfig::new(DEV_KEY)
        })
        .expect("a free port");
        let (address, stats) = (bound.local_addr(), bound.stats());
        let pump = bound.into_pump(proxy::attach(&mut app, "udp"), Arc::default());
        let mut opened = 0;

        pump.run_caught(|pump| {
            opened += 1;
            pump.core.links.open(7, address, None, Duration::ZERO);
            if opened == 2 { Err(io::Error::other("a socket that is gone")) } else { panic!("a bug") }
        });
        app.update();

        assert_eq!(opened, 1 + RESTARTS_MAX);
        assert_eq!(stats.counts().restart_count, RESTARTS_MAX as u64);
        let arrivals = &app.world().resource::<Arrivals>().0;
        let kinds = arrivals.iter().map(|(_, event)| (event.link.0, &event.kind));
        for (index, (link, kind)) in kinds.enumerate() {
            assert_eq!(link, 1 + index as u64 / 2, "no number is used again");
            match index % 2 {
                0 => assert!(matches!(kind, ProxyEventKind::Opened(_))),
                _ => assert!(matches!(kind, ProxyEventKind::Closed(LinkEnd::Failed))),
            }
        }
        assert_eq!(arrivals.len(), 2 * (1 + RESTARTS_MAX));
        assert!(app.world().resource::<StopRequested>().0);
        let failure = app.world().resource::<Failure>().0.clone().expect("why it stops");
        assert!(failure.contains("udp") && failure.contains("a bug"), "{failure}");
    }
}
