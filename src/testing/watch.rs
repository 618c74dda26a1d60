//! Checks, at a client's end of its links, what every client may rely on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bevy_app::{App, Last};
use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::link::{SharedBooks, keep_books, lock};
use super::player::BEFORE_WELCOME;
use crate::client::{Dial, DialError, Link, LinkStatus, Outlook};
use crate::ident::SessionId;
use crate::server::audit::{AuditPlugin, Violations};
use crate::tick::TickSystems;
use crate::wire::v1::{Closed, Welcome};
use crate::wire::{Frame, Lane, WireMessage as _};

/// Watches the links of clients to one server.
///
/// Before its Welcome a link brings nothing but Denied, Closed and `ProbeReply`, and after Closed it brings
/// nothing. What is counted is what the server has sent under that number, without a gap or a frame twice, over
/// all links of a session, unless a resync was announced. A frame for which that does not hold fails the test.
///
/// [`Harness::dial`](super::Harness::dial) watches its links. This is for clients over sockets.
///
/// ```
/// use bevy_app::App;
/// use waystation::client::{Client, ClientConfig, UdpDial};
/// use waystation::config::ServerConfig;
/// use waystation::server::ServerPlugins;
/// use waystation::testing::Watch;
/// use waystation::wire::udp::{DEV_KEY, TokenMint};
///
/// fn client(server: &mut App, mint: TokenMint) -> Client<impl waystation::client::Dial> {
///     let watch = Watch::of(server);
///     Client::new(watch.dial(UdpDial::minting(mint)), ClientConfig::default())
/// }
/// # let _ = (client, DEV_KEY, ServerPlugins::new(ServerConfig::default()));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Watch {
    books: SharedBooks,
}

/// Opens the links of another [`Dial`], and watches them.
#[derive(Debug)]
pub struct WatchedDial<D> {
    dial: D,
    sight: Arc<Mutex<Sight>>,
    books: SharedBooks,
}

/// A link that is watched.
#[derive(Debug)]
pub struct WatchedLink<L> {
    link: L,
    eye: Eye,
}

/// How many counted frames of each session were taken, over all links. Its client tells the server the same.
pub(super) type Sight = BTreeMap<SessionId, u64>;

/// What was seen of one link.
#[derive(Debug)]
pub(super) struct Eye {
    sight: Arc<Mutex<Sight>>,
    books: SharedBooks,
    /// The session, once the link has brought its Welcome.
    session: Option<SessionId>,
    is_closed: bool,
}

impl Watch {
    /// Watches a server: writes down what sessions are sent, and panics after a tick in which an invariant of
    /// sessions and zones did not hold.
    pub fn of(app: &mut App) -> Self {
        if let Some(books) = app.world().get_resource::<SharedBooks>() {
            return Self { books: books.clone() };
        }
        let books = SharedBooks::default();
        if !app.is_plugin_added::<AuditPlugin>() {
            app.add_plugins(AuditPlugin);
        }
        app.insert_resource(books.clone())
            .add_systems(Last, keep_books.in_set(TickSystems::Measure))
            .add_systems(Last, fail_on_violations.after(TickSystems::Measure));
        Self { books }
    }

    /// Watches all links that a client opens.
    pub fn dial<D: Dial>(&self, dial: D) -> WatchedDial<D> {
        WatchedDial { dial, sight: Arc::default(), books: self.books.clone() }
    }
}

fn fail_on_violations(violations: Res<Violations>) {
    assert!(violations.0.is_empty(), "invariants do not hold: {:#?}", violations.0);
}

impl<D: Dial> Dial for WatchedDial<D> {
    type Link = WatchedLink<D::Link>;

    fn dial(&mut self) -> Result<Self::Link, DialError> {
        let link = self.dial.dial()?;
        Ok(WatchedLink { link, eye: Eye::new(&self.sight, &self.books) })
    }

    fn prepare(&mut self, dt: Duration, outlook: &Outlook) {
        self.dial.prepare(dt, outlook);
    }

    fn renews_tickets(&self) -> bool {
        self.dial.renews_tickets()
    }
}

impl<L> WatchedLink<L> {
    /// The link itself.
    pub fn get_mut(&mut self) -> &mut L {
        &mut self.link
    }
}

impl<L: Link> Link for WatchedLink<L> {
    fn update(&mut self, dt: Duration) {
        self.link.update(dt);
    }

    fn status(&self) -> LinkStatus {
        self.link.status()
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        let (lane, frame) = self.link.receive()?;
        // Over a socket, what is unreliable may overtake the Welcome and be overtaken by Closed.
        self.eye.see(&frame, true);
        Some((lane, frame))
    }

    fn send(&mut self, frame: Bytes) -> bool {
        self.link.send(frame)
    }

    fn flush(&mut self) {
        self.link.flush();
    }

    fn is_stream(&self) -> bool {
        self.link.is_stream()
    }

    fn close(&mut self) {
        self.link.close();
    }

    fn ticket(&self) -> Option<&str> {
        self.link.ticket()
    }

    fn failure(&self) -> Option<String> {
        self.link.failure()
    }

    fn times_opening(&self) -> bool {
        self.link.times_opening()
    }

    fn round_trip(&self) -> Option<Duration> {
        self.link.round_trip()
    }

    fn violation(&self) -> Option<String> {
        self.link.violation()
    }
}

impl Eye {
    pub(super) fn new(sight: &Arc<Mutex<Sight>>, books: &SharedBooks) -> Self {
        Self { sight: Arc::clone(sight), books: books.clone(), session: None, is_closed: false }
    }

    /// A frame has arrived.
    ///
    /// # Panics
    ///
    /// If it breaks invariant 11 or 12.
    pub(super) fn see(&mut self, bytes: &Bytes, may_reorder: bool) {
        let frame = Frame::parse(bytes.clone()).expect("the server sends frames");
        let is_early = self.session.is_none() && !BEFORE_WELCOME.contains(&frame.id);
        if (is_early || self.is_closed) && may_reorder && frame.id.lane() == Lane::Unreliable {
            return;
        }
        assert!(!is_early, "11: {} before Welcome", frame.id);
        assert!(!self.is_closed, "11: {} after Closed", frame.id);
        self.is_closed = frame.id == Closed::ID;
        if let Ok(welcome) = frame.decode::<Welcome>() {
            assert_eq!(self.session, None, "11: a second Welcome");
            self.session = Some(SessionId(welcome.session));
            self.welcome(&welcome);
        } else if let Some(session) = self.session.filter(|_| frame.id.is_counted()) {
            let mut sight = lock(&self.sight);
            let taken = sight.entry(session).or_default();
            *taken += 1;
            if let Err(violation) = self.books.check(session, *taken, bytes) {
                panic!("{violation}");
            }
        }
    }

    /// A client that knows the session has told how far it is, and goes on there unless it must begin anew.
    fn welcome(&self, welcome: &Welcome) {
        let (session, base) = (SessionId(welcome.session), welcome.base);
        let taken = lock(&self.sight).insert(session, base);
        match taken.filter(|_| !welcome.resync) {
            Some(taken) => {
                assert_eq!(base, taken, "12: {session} goes on behind another frame than it took last")
            }
            None => {
                assert!(welcome.resumed || base == 0, "12: {session} is new and begins behind {base} frames")
            }
        }
    }
}
