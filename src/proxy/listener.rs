//! The server side of a transport: the bound port and the thread that serves it.

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
/// [`AddListener::add_listener`] starts to serve it. The example `custom_transport` implements this trait.
pub trait Listener: Sized + Send + 'static {
    /// Returns the name of the proxy. It appears in logs and as a prefix of the names of counters.
    fn name(&self) -> &'static str;

    /// Returns the bound address. If the configured port was 0, it contains the port that the operating system
    /// chose.
    fn local_addr(&self) -> SocketAddr;

    /// Returns the source of the transport's offers for discovery. If the source is an empty vector, discovery does
    /// not list the transport.
    fn offers(&self) -> Box<dyn OfferSource>;

    /// Serves links on a thread of its own. `port` is the adapter's end of its ports, as [`attach`] returns it. On
    /// `port` the implementation can also declare [its counters](AdapterPort::set_counters) and its [maximum number
    /// of links](AdapterPort::set_places).
    ///
    /// # Errors
    ///
    /// Returns an error if the operating system cannot start a thread.
    fn start(self, port: AdapterPort) -> io::Result<ListenerHandle>;
}

/// A running listener.
///
/// When the handle is dropped, the listener carries out the pending commands, closes its links and ends. The drop
/// waits until the listener has ended. That takes up to two seconds for the transports of this crate.
pub struct ListenerHandle {
    name: &'static str,
    address: SocketAddr,
    end: Box<dyn Fn() + Send + Sync>,
    thread: Option<JoinHandle<()>>,
}

impl ListenerHandle {
    /// Starts a thread with this name that runs `serve`. `address` is the bound address that
    /// [`local_addr`](Self::local_addr) returns.
    ///
    /// Dropping the handle calls `end` and waits for the thread. `serve` must return soon after `end` was called,
    /// and soon after the port of the adapter was [closed](super::port::PortReceiver::is_closed).
    ///
    /// # Errors
    ///
    /// Returns an error if the operating system cannot start a thread.
    pub fn spawn(
        name: &'static str,
        address: SocketAddr,
        end: impl Fn() + Send + Sync + 'static,
        serve: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(serve).map_err(|cause| {
            io::Error::new(
                cause.kind(),
                format!("cannot start the thread {name}: {cause}; raise the limit of threads"),
            )
        })?;
        Ok(Self { name, address, end: Box::new(end), thread: Some(thread) })
    }

    /// Returns the address that the listener is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns true if the thread has ended. It ends when the server is dropped, and when the adapter gives up
    /// after failures that it has logged.
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

/// The listeners that end when the app is dropped.
#[derive(Resource, Debug, Default)]
pub(crate) struct Listeners(pub(crate) Vec<ListenerHandle>);

/// An extension of [`App`] that adds transports.
pub trait AddListener {
    /// Serves a listener and adds its [offers](Offers) to discovery. The listener ends when the app is dropped.
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
    /// Returns an error if the operating system cannot start a thread.
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
