//! Listeners: the server's side of a transport, from the bound port to the thread that serves it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use bevy_app::App;
use bevy_ecs::prelude::*;

use super::offers::{OfferSource, Offers};
use super::{AdapterPort, attach};

/// A transport that has bound its port and is not served yet.
///
/// [`AddListener::add_listener`] serves it. The example `custom_transport` implements it for a transport of its own.
pub trait Listener: Sized + Send + 'static {
    /// The name that its proxy is attached under: it appears in logs, and before the names of its counters.
    fn name(&self) -> &'static str;

    /// Where it listens. If the system was to choose the port, this is the chosen one.
    fn local_addr(&self) -> SocketAddr;

    /// What discovery tells clients. An empty vector keeps the transport out of discovery.
    fn offers(&self) -> Box<dyn OfferSource>;

    /// Serves links on a port as [`attach`] returns it, on a thread of its own. The port is also where the adapter says
    /// [what it counts](AdapterPort::set_counters) and [how many links it can have](AdapterPort::set_places).
    ///
    /// # Errors
    ///
    /// The operating system gives no thread.
    fn start(self, port: AdapterPort) -> io::Result<ListenerHandle>;
}

/// A listener that is served. If it is dropped, the listener sends what the tick has commanded, closes its links and
/// ends. The drop waits for that: two seconds at most for the transports of this crate.
pub struct ListenerHandle {
    name: &'static str,
    address: SocketAddr,
    end: Box<dyn Fn() + Send + Sync>,
    thread: Option<JoinHandle<()>>,
}

impl ListenerHandle {
    /// Starts a thread that serves a listener. `serve` returns soon after `end` was called, and after the port of the
    /// adapter was [closed](super::port::PortReceiver::is_closed). The thread is named `name`.
    ///
    /// # Errors
    ///
    /// The operating system gives no thread. The message names the cure.
    pub fn spawn(
        name: &'static str,
        address: SocketAddr,
        end: impl Fn() + Send + Sync + 'static,
        serve: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(serve).map_err(|cause| {
            io::Error::new(
                cause.kind(),
                format!("the thread {name} cannot start: {cause}; raise the limit of threads"),
            )
        })?;
        Ok(Self { name, address, end: Box::new(end), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns true if the thread has ended: because the server was dropped, or because the adapter gave up after
    /// faults that it logged.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for ListenerHandle {
    fn drop(&mut self) {
        (self.end)();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(listener = self.name, "the thread of a listener has panicked");
        }
    }
}

impl fmt::Debug for ListenerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerHandle")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// The listeners that end with the app.
#[derive(Resource, Debug, Default)]
pub(crate) struct Listeners(pub(crate) Vec<ListenerHandle>);

/// Adds transports to an app.
pub trait AddListener {
    /// Serves a listener and [offers](Offers) it by discovery. It ends when the app is dropped.
    ///
    /// ```
    /// use bevy_app::App;
    /// use waystation::proxy::AddListener as _;
    /// use waystation::proxy::renet::{RenetConfig, RenetProxy};
    /// use waystation::server::ServerPlugins;
    /// use waystation::wire::udp::DEV_KEY;
    ///
    /// let mut app = App::new();
    /// let listen = ([127, 0, 0, 1], 0).into();
    /// let udp = RenetProxy::bind(RenetConfig { listen, ..RenetConfig::new(DEV_KEY) })?;
    /// app.add_plugins(ServerPlugins::default()).add_listener(udp)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The operating system gives no thread.
    fn add_listener(&mut self, listener: impl Listener) -> io::Result<&mut Self>;
}

impl AddListener for App {
    fn add_listener(&mut self, listener: impl Listener) -> io::Result<&mut Self> {
        let offers = listener.offers();
        let port = attach(self, listener.name());
        let handle = listener.start(port)?;
        let world = self.world_mut();
        world.get_resource_or_init::<Offers>().add(offers);
        world.get_resource_or_init::<Listeners>().0.push(handle);
        Ok(self)
    }
}
