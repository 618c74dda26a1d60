//! The server's end: a listener, and the adapter that it starts.
//!
//! The adapter sends events of each link to the tick: `Opened` first, then a `Frame` for each frame that arrives, and
//! `Closed` last. It carries out the commands of the tick.

use std::collections::{BTreeMap, VecDeque};
use std::io::Result;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use waystation::client::Offer;
use waystation::ident::LinkId;
use waystation::proxy::{
    AdapterPort, Count, LinkEnd, Listener, ListenerHandle, OfferSource, ProxyCommand, ProxyEvent,
    ProxyEventKind,
};
use waystation::wire::Lane;

use super::tcp::{ARRIVED_MAX, Tcp};

/// A bound listener, before the adapter starts.
pub(crate) struct TcpListening(TcpListener, SocketAddr);

impl TcpListening {
    pub(crate) fn bind(listen: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self(listener, address))
    }
}

impl Listener for TcpListening {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn local_addr(&self) -> SocketAddr {
        self.1
    }

    fn offers(&self) -> Box<dyn OfferSource> {
        Box::new(vec![Offer::new("tcp", format!("tcp://{}", self.1))])
    }

    fn start(self, port: AdapterPort) -> Result<ListenerHandle> {
        let (opened, stop) = (Opened::default(), Arc::<AtomicBool>::default());
        port.set_counters(opened.clone());
        let stopped = Arc::clone(&stop);
        let end = move || stop.store(true, Ordering::Release);
        ListenerHandle::spawn("tcp", self.1, end, move || adapt(port, &self.0, &opened, &stopped))
    }
}

/// The number of links that were opened since the start.
#[derive(Clone, Default)]
struct Opened(Arc<AtomicU64>);

impl Count for Opened {
    fn each(&self, counter: &mut dyn FnMut(&'static str, u64)) {
        counter("opened", self.0.load(Ordering::Relaxed));
    }
}

/// A link of the adapter.
struct Served {
    tcp: Tcp,
    /// The tick has paused the link: the adapter does not read it.
    is_paused: bool,
}

fn adapt(mut port: AdapterPort, listener: &TcpListener, opened: &Opened, stop: &AtomicBool) {
    let (mut links, mut events, mut ids) = (BTreeMap::new(), VecDeque::new(), (1..).map(LinkId));
    while !stop.load(Ordering::Acquire) && !port.commands.is_closed() {
        let at = port.clock.now();
        if let Ok(tcp) = listener.accept().and_then(|(socket, _)| Tcp::new(socket))
            && let Some(link) = ids.next()
        {
            events.push_back(ProxyEvent { link, at, kind: ProxyEventKind::Opened(Default::default()) });
            links.insert(link, Served { tcp, is_paused: false });
            opened.0.fetch_add(1, Ordering::Relaxed);
        }
        port.commands.drain_all(|command| obey(&mut links, command));
        let has_room = events.is_empty();
        links.retain(|link, Served { tcp, is_paused }| {
            let is_over = tcp.is_over();
            // Frames that arrive while the link is closing are ignored.
            let is_read = has_room && !*is_paused && tcp.outbox.is_some();
            let frames = tcp.inbox.try_iter().take(if is_read { ARRIVED_MAX } else { 0 });
            let frames = frames.map(|bytes| ProxyEventKind::Frame { lane: Lane::Reliable, bytes });
            let end = is_over.then_some(ProxyEventKind::Closed(LinkEnd::ByPeer));
            let event = |kind| ProxyEvent { link: *link, at, kind };
            events.extend(tcp.outflow.report().into_iter().chain(frames).chain(end).map(event));
            !is_over
        });
        port.events.send(&mut events, |_| {}); // Events that do not fit stay queued.
        thread::sleep(Duration::from_millis(2));
    }
    port.commands.drain_all(|command| obey(&mut links, command));
}

fn obey(links: &mut BTreeMap<LinkId, Served>, command: ProxyCommand) {
    let Some(Served { tcp, is_paused }) = links.get_mut(&command.link()) else { return };
    match command {
        // If the queue is full because the client does not read, the link is cut. The client may resume.
        ProxyCommand::Send { frame, .. } if tcp.push(frame.clone()) => {}
        ProxyCommand::Send { .. } | ProxyCommand::Cut { .. } => _ = tcp.socket.shutdown(Shutdown::Both),
        ProxyCommand::Close { frame, .. } => _ = tcp.outbox.take().map(|outbox| outbox.try_send(frame)),
        ProxyCommand::Pause { .. } => *is_paused = true,
        ProxyCommand::Unpause { .. } => *is_paused = false,
    }
}
