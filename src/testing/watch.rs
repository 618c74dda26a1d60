//! Checks what clients receive on their links: invariants 11 and 12 of `docs/sessions.md`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bevy_app::{App, Last};
use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::link::{SharedFrameLog, lock, record_frames};
use super::player::BEFORE_WELCOME;
use crate::client::{Dial, DialError, DialState, Link, LinkStatus};
use crate::ident::SessionId;
use crate::server::audit::{AuditPlugin, Violations};
use crate::tick::TickSystems;
use crate::wire::v1::{Closed, Welcome};
use crate::wire::{Frame, Lane, WireMessage as _};

/// Checks the links of clients to one server. A frame that breaks a rule panics, so that the test fails.
///
/// - Before Welcome, a link receives only Denied, Closed and `ProbeReply`. After Closed, it receives nothing.
/// - Over all links of a session, the client receives each counted frame once and in order, unless Welcome
///   announces a resync.
///
/// [`Harness::dial`](super::Harness::dial) checks its links without this type. Use it for clients over sockets.
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
    books: SharedFrameLog,
}

/// Opens the links of another [`Dial`] and checks what they receive.
#[derive(Debug)]
pub struct WatchedDial<D> {
    dial: D,
    received: Arc<Mutex<ReceivedCounts>>,
    books: SharedFrameLog,
}

/// A link whose received frames are checked.
#[derive(Debug)]
pub struct WatchedLink<L> {
    link: L,
    checks: LinkCheck,
}

/// The number of counted frames that the client of each session has received, over all links.
pub(super) type ReceivedCounts = BTreeMap<SessionId, u64>;

/// The checks of one link.
#[derive(Debug)]
pub(super) struct LinkCheck {
    received: Arc<Mutex<ReceivedCounts>>,
    books: SharedFrameLog,
    /// The session. `None` until the link has received Welcome.
    session: Option<SessionId>,
    is_closed: bool,
}

impl Watch {
    /// Records the frames that a server sends to its sessions. After this call, a tick that breaks an invariant of
    /// sessions and zones panics.
    pub fn of(app: &mut App) -> Self {
        if let Some(books) = app.world().get_resource::<SharedFrameLog>() {
            return Self { books: books.clone() };
        }
        let books = SharedFrameLog::default();
        if !app.is_plugin_added::<AuditPlugin>() {
            app.add_plugins(AuditPlugin);
        }
        app.insert_resource(books.clone())
            .add_systems(Last, record_frames.in_set(TickSystems::Measure))
            .add_systems(Last, fail_on_violations.after(TickSystems::Measure));
        Self { books }
    }

    /// Checks all links that the client of this dial opens.
    pub fn dial<D: Dial>(&self, dial: D) -> WatchedDial<D> {
        WatchedDial { dial, received: Arc::default(), books: self.books.clone() }
    }
}

fn fail_on_violations(violations: Res<Violations>) {
    assert!(violations.0.is_empty(), "invariants do not hold: {:#?}", violations.0);
}

impl<D: Dial> Dial for WatchedDial<D> {
    type Link = WatchedLink<D::Link>;

    fn dial(&mut self) -> Result<Self::Link, DialError> {
        let link = self.dial.dial()?;
        Ok(WatchedLink { link, checks: LinkCheck::new(&self.received, &self.books) })
    }

    fn prepare(&mut self, dt: Duration, state: &DialState) {
        self.dial.prepare(dt, state);
    }

    fn renews_tickets(&self) -> bool {
        self.dial.renews_tickets()
    }
}

impl<L> WatchedLink<L> {
    /// Returns the link itself.
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
        // Over a socket, an unreliable frame may arrive before Welcome or after Closed.
        self.checks.check(&frame, true);
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

    fn rebind(&mut self) -> io::Result<bool> {
        self.link.rebind()
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

impl LinkCheck {
    pub(super) fn new(received: &Arc<Mutex<ReceivedCounts>>, books: &SharedFrameLog) -> Self {
        Self { received: Arc::clone(received), books: books.clone(), session: None, is_closed: false }
    }

    /// Checks a received frame. Unreliable frames may arrive out of order if `may_reorder` is true.
    ///
    /// # Panics
    ///
    /// Panics if the frame breaks invariant 11 or 12.
    pub(super) fn check(&mut self, bytes: &Bytes, may_reorder: bool) {
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
            let mut received = lock(&self.received);
            let taken = received.entry(session).or_default();
            *taken += 1;
            if let Err(violation) = self.books.check(session, *taken, bytes) {
                panic!("{violation}");
            }
        }
    }

    /// Checks that a resumed session continues behind the last frame that the client has received, unless Welcome
    /// announces a resync.
    fn welcome(&self, welcome: &Welcome) {
        let (session, base) = (SessionId(welcome.session), welcome.base);
        let taken = lock(&self.received).insert(session, base);
        match taken.filter(|_| !welcome.resync) {
            Some(taken) => {
                assert_eq!(base, taken, "12: {session} does not continue behind the last received frame")
            }
            None => {
                assert!(welcome.resumed || base == 0, "12: {session} is new, but its base is {base}")
            }
        }
    }
}
