//! An adapter for links within the process, for tests and as an example of an adapter.
//!
//! An adapter takes commands from its port, applies them to its transport, and turns what the transport receives
//! into events. The transport of this adapter is a pair of queues per link. The adapter has no thread: the methods
//! of [`Loopback`] and [`LoopbackLink`] do the work, so a test decides when it happens.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::budget::Gauge;
use super::{AdapterPort, LinkEnd, LinkInfo, ProxyCommand, ProxyEvent, ProxyEventKind};
use crate::ident::{LinkId, LinkKey, ProxyId};
use crate::wire::{Lane, lane_of};

/// The loopback adapter. Clones share their links.
#[derive(Debug, Clone)]
pub struct Loopback(Arc<Mutex<Hub>>);

/// The client's end of a loopback link.
#[derive(Debug)]
pub struct LoopbackLink {
    hub: Arc<Mutex<Hub>>,
    proxy: ProxyId,
    link: LinkId,
}

/// An error of [`LoopbackLink::send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoopbackError {
    /// The link has closed.
    #[error("the loopback link is closed; open another link")]
    Closed,
    /// The server does not keep up. The frame was not sent.
    #[error("the loopback link is full; let the server tick, then send again")]
    Full,
}

#[derive(Debug)]
struct Hub {
    port: AdapterPort,
    links: BTreeMap<LinkId, Pipe>,
    next: u64,
    /// True if the adapter takes no commands.
    is_stalled: bool,
    /// Events for which the port had no room.
    backlog: VecDeque<ProxyEvent>,
}

/// The state of one link.
#[derive(Debug, Default)]
struct Pipe {
    /// Frames to the client.
    down: VecDeque<Bytes>,
    down_bytes: usize,
    /// Reports to the tick how much the client has received.
    gauge: Gauge,
    /// Reliable frames from the client while the link is paused.
    held: VecDeque<Bytes>,
    paused: bool,
    closed: bool,
    /// True if the client's end was dropped.
    gone: bool,
}

impl Loopback {
    /// Creates an adapter on a port that [`attach`](super::attach) has returned.
    #[must_use]
    pub fn new(port: AdapterPort) -> Self {
        let (links, backlog) = (BTreeMap::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Hub { port, links, next: 1, is_stalled: false, backlog })))
    }

    /// Opens a link.
    #[must_use]
    pub fn connect(&self, info: LinkInfo) -> LoopbackLink {
        let mut hub = lock(&self.0);
        let link = LinkId(hub.next);
        hub.next += 1;
        hub.links.insert(link, Pipe::default());
        hub.event(link, ProxyEventKind::Opened(info));
        LoopbackLink { hub: Arc::clone(&self.0), proxy: hub.port.id, link }
    }

    /// Stops or resumes taking commands, to simulate an adapter whose thread does not run. Events still reach the
    /// tick.
    #[cfg(feature = "testing")]
    pub fn stall(&self, is_stalled: bool) {
        lock(&self.0).is_stalled = is_stalled;
    }

    /// Returns the number of links that are open or whose client's end exists.
    #[must_use]
    pub fn link_count(&self) -> usize {
        let mut hub = lock(&self.0);
        hub.pump();
        hub.links.len()
    }
}

impl LoopbackLink {
    /// Returns the key of the link on the server.
    #[must_use]
    pub fn key(&self) -> LinkKey {
        LinkKey { proxy: self.proxy, link: self.link }
    }

    /// Sends a frame on a lane.
    ///
    /// # Errors
    ///
    /// [`LoopbackError::Closed`] and [`LoopbackError::Full`].
    pub fn send(&self, lane: Lane, frame: Bytes) -> Result<(), LoopbackError> {
        let mut hub = lock(&self.hub);
        hub.pump();
        let full = !hub.backlog.is_empty();
        let pipe = hub.links.get_mut(&self.link).filter(|pipe| !pipe.closed).ok_or(LoopbackError::Closed)?;
        if full || pipe.held.len() >= HELD_MAX {
            return Err(LoopbackError::Full);
        }
        if pipe.paused && lane == Lane::Reliable {
            pipe.held.push_back(frame);
        } else {
            hub.event(self.link, ProxyEventKind::Frame { lane, bytes: frame });
        }
        Ok(())
    }

    /// Returns the next frame from the server, or `None` if no frame waits.
    pub fn receive(&self) -> Option<Bytes> {
        let mut hub = lock(&self.hub);
        hub.pump();
        let pipe = hub.links.get_mut(&self.link)?;
        let frame = pipe.down.pop_front()?;
        pipe.down_bytes -= frame.len();
        if !pipe.closed
            && let Some(room) = pipe.gauge.report(pipe.down_bytes)
        {
            hub.event(self.link, room);
        }
        Some(frame)
    }

    /// Returns true if either side has closed the link. Frames that were sent before can still be received.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let mut hub = lock(&self.hub);
        hub.pump();
        hub.links.get(&self.link).is_none_or(|pipe| pipe.closed)
    }

    /// Closes the link, and the server receives [`LinkEnd::ByPeer`]. To simulate a silent loss, stop using the link
    /// instead.
    pub fn close(&self) {
        let mut hub = lock(&self.hub);
        hub.pump();
        hub.close(self.link, LinkEnd::ByPeer);
    }
}

impl Drop for LoopbackLink {
    /// Frees the queued frames. The server receives no event.
    fn drop(&mut self) {
        let mut hub = lock(&self.hub);
        if let Some(pipe) = hub.links.get_mut(&self.link) {
            (pipe.down, pipe.down_bytes) = (VecDeque::new(), 0);
            pipe.gone = true;
            if pipe.closed {
                hub.links.remove(&self.link);
            }
        }
    }
}

impl Hub {
    fn event(&mut self, link: LinkId, kind: ProxyEventKind) {
        self.backlog.push_back(ProxyEvent { link, at: self.port.clock.now(), kind });
        self.port.events.send(&mut self.backlog, |_| {});
    }

    /// Delivers waiting events and carries out the commands of the tick.
    fn pump(&mut self) {
        self.port.events.send(&mut self.backlog, |_| {});
        if self.is_stalled {
            return;
        }
        let mut commands = Vec::new();
        self.port.commands.drain_all(|command| commands.push(command));
        for command in commands {
            match command {
                ProxyCommand::Send { link, frame } => self.deliver(link, frame),
                ProxyCommand::Close { link, frame } => {
                    self.deliver(link, frame);
                    self.close(link, LinkEnd::ByServer);
                }
                ProxyCommand::Cut { link } => self.close(link, LinkEnd::ByServer),
                ProxyCommand::Pause { link } => self.pause(link, true),
                ProxyCommand::Unpause { link } => self.pause(link, false),
            }
        }
    }

    fn deliver(&mut self, link: LinkId, frame: Bytes) {
        let Some(pipe) = self.links.get_mut(&link).filter(|pipe| !pipe.closed) else {
            return;
        };
        pipe.gauge.take_in(frame.len());
        if pipe.down.len() < DOWN_MAX && !pipe.gone {
            pipe.down_bytes += frame.len();
            pipe.down.push_back(frame);
        } else if lane_of(&frame) == Lane::Reliable && !pipe.gone {
            self.close(link, LinkEnd::Failed);
            return;
        }
        // A dropped frame counts as passed on.
        if let Some(room) = pipe.gauge.report(pipe.down_bytes) {
            self.event(link, room);
        }
    }

    fn pause(&mut self, link: LinkId, paused: bool) {
        let Some(pipe) = self.links.get_mut(&link) else {
            return;
        };
        pipe.paused = paused;
        if !paused {
            for bytes in std::mem::take(&mut pipe.held) {
                self.event(link, ProxyEventKind::Frame { lane: Lane::Reliable, bytes });
            }
        }
    }

    fn close(&mut self, link: LinkId, end: LinkEnd) {
        if let Some(pipe) = self.links.get_mut(&link).filter(|pipe| !pipe.closed) {
            pipe.closed = true;
            pipe.held = VecDeque::new();
            if pipe.gone {
                self.links.remove(&link);
            }
            self.event(link, ProxyEventKind::Closed(end));
        }
    }
}

fn lock(hub: &Mutex<Hub>) -> MutexGuard<'_, Hub> {
    hub.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Maximum number of frames that wait for a client that does not read.
const DOWN_MAX: usize = 4_096;
/// Maximum number of frames that wait while the link is paused.
const HELD_MAX: usize = 1_024;
