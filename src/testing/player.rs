//! A player of a test: a client whose steps the test controls.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::end::{End, RealLink};
use super::link::SharedFrameLog;
use super::{Faults, Harness, HarnessLink, Via};
use crate::client::{Link, LinkStatus};
use crate::ident::{MessageId, SessionId};
use crate::proxy::LinkInfo;
use crate::wire::v1::credentials::Kind;
use crate::wire::v1::{
    Ack, Anonymous, Beacon, Closed, Credentials, Denied, Hello, Join, Joined, Parted, Ping, ProbeReply,
    Reason, Resume, Welcome,
};
use crate::wire::{self, Frame, Lane, WireMessage};

/// The automatic actions of a client that a player leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Omitted {
    /// The player leaves out no action.
    #[default]
    Never,
    /// The player acknowledges nothing, neither by Ack nor by Ping.
    Acks,
    /// The player sends nothing on its own.
    Mute,
}

/// A scripted client. It keeps its session, token, counts and outbox over all links.
///
/// A player fails the test if the server breaks a rule: if a frame other than Denied, Closed and `ProbeReply` arrives
/// before Welcome, if any frame arrives after Closed, or if the server acknowledges more than the player has sent.
#[derive(Debug, Default)]
pub struct Player {
    link: Option<End>,
    books: SharedFrameLog,
    welcomed: bool,
    closed: Option<Reason>,
    session: Option<SessionId>,
    token: Bytes,
    zone: Option<String>,
    received: u64,
    sent: u64,
    /// Number of the last counted frame that was sent on any link.
    tried: u64,
    outbox: VecDeque<Bytes>,
    join_count: u32,
    frames: Vec<Frame>,
    seen: Vec<Bytes>,
    /// The actions that the player leaves out. Default: [`Omitted::Never`].
    pub omits: Omitted,
    /// The name in the player's Hello. [`Player::new`] sets `ada`.
    pub name: String,
}

impl Player {
    /// Returns a player without a link.
    #[must_use]
    pub fn new() -> Self {
        Self { name: "ada".to_owned(), ..Self::default() }
    }

    /// Opens a link. Drops an earlier link unread.
    pub fn connect(&mut self, game: &Harness, via: Via) {
        self.connect_as(game, via, LinkInfo::default());
    }

    /// Opens a link with information about it, such as an address or an identity. Drops an earlier link unread.
    pub fn connect_as(&mut self, game: &Harness, via: Via, info: LinkInfo) {
        self.take_up(game, End::Harness(game.link_as(via, info)));
    }

    /// Uses a link of any transport. It sends nothing before it is open and [stepped](Self::step).
    pub fn connect_over(&mut self, game: &Harness, link: Box<dyn Link>) {
        self.take_up(game, End::Real(RealLink::new(link)));
    }

    fn take_up(&mut self, game: &Harness, link: End) {
        self.link = Some(link);
        self.books = game.books();
        self.welcomed = false;
        self.closed = None;
    }

    /// Advances a link of a transport by `dt`. Does nothing to a link of the harness.
    pub fn step(&mut self, dt: Duration) {
        if let Some(End::Real(link)) = &mut self.link {
            link.step(dt);
        }
    }

    /// Returns true if the player has an open link.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        match &self.link {
            None => false,
            Some(End::Real(link)) => link.status() == LinkStatus::Open,
            Some(link) => !link.is_over(),
        }
    }

    /// Splits off a player with the present link and state, so that a test can use the old link later. This player
    /// goes on without a link.
    #[must_use]
    pub fn leave_behind(&mut self) -> Self {
        Self {
            link: self.link.take(),
            books: self.books.clone(),
            welcomed: self.welcomed,
            session: self.session,
            token: self.token.clone(),
            received: self.received,
            sent: self.sent,
            tried: self.tried,
            outbox: self.outbox.clone(),
            omits: Omitted::Mute,
            name: format!("the former {}", self.name),
            ..Self::default()
        }
    }

    /// Sets the faults of the link, if it is a link of the harness.
    pub fn set_faults(&mut self, faults: Faults) {
        if let Some(End::Harness(link)) = &self.link {
            link.set_faults(faults);
        }
    }

    /// Loses the link silently. Frames in flight to the player are lost. Returns the link if it is a link of the
    /// harness.
    pub fn cut(&mut self) -> Option<HarnessLink> {
        match self.link.take() {
            Some(End::Harness(link)) => Some(link),
            _ => None,
        }
    }

    /// Closes the link, and the server gets an event.
    pub fn close(&mut self) {
        if let Some(mut link) = self.link.take() {
            link.close();
        }
    }

    /// Sends a Hello for a new session.
    pub fn hello(&mut self) {
        let credentials = Credentials { kind: Some(Kind::Anonymous(Anonymous { name: self.name.clone() })) };
        self.say(&Hello { protocol: wire::PROTOCOL, credentials: Some(credentials), ..Hello::default() });
    }

    /// Sends a Hello that resumes the session with the newest token.
    pub fn resume(&mut self) {
        self.resume_with(self.token.clone(), false);
    }

    /// Sends a Hello that resumes a session with the given token.
    pub fn resume_with(&mut self, token: Bytes, resync: bool) {
        let trimmed = self.sent - self.outbox.len() as u64;
        let resume = Resume { token, received: self.received, trimmed, resync, sent: self.tried };
        self.say(&Hello { protocol: wire::PROTOCOL, resume: Some(resume), ..Hello::default() });
    }

    /// Discards all state but the token and the name, as a page that is reloaded.
    pub fn reload(&mut self) {
        *self = Self { token: self.token.clone(), name: self.name.clone(), ..Self::default() };
    }

    /// Sends a message. A counted message is also put into the outbox, so that it is sent again after a resume. Without
    /// a link that was welcomed, other messages are dropped.
    pub fn send<M: WireMessage>(&mut self, message: &M) {
        if M::ID.is_counted() {
            self.sent += 1;
            self.outbox.push_back(wire::encode(message));
        }
        if self.is_welcome() {
            self.say(message);
            self.tried = self.sent;
        }
    }

    /// Sends a Join of a zone, with a payload for the game. Returns the request id, which the answer repeats: 1 for the
    /// first call of this method, and one more for each further call.
    ///
    /// ```
    /// use waystation::testing::{Harness, Via};
    /// use waystation::wire::v1::Joined;
    ///
    /// let mut game = Harness::new();
    /// let mut ada = game.player(Via::Alpha);
    /// let request = ada.join("hall", "a red hat");
    /// game.exchange(&mut [&mut ada]);
    /// assert_eq!(ada.expect::<Joined>().request, request);
    /// ```
    pub fn join(&mut self, zone: impl Into<String>, payload: impl Into<Bytes>) -> u32 {
        self.join_count += 1;
        let request = self.join_count;
        self.send(&Join { request, zone: zone.into(), payload: payload.into() });
        request
    }

    /// Sends a message on the link directly, without counting it.
    pub fn say<M: WireMessage>(&mut self, message: &M) {
        self.say_bytes(M::ID.lane(), wire::encode(message));
    }

    /// Sends bytes on a lane.
    pub fn say_bytes(&mut self, lane: Lane, bytes: impl Into<Bytes>) {
        if let Some(link) = &mut self.link {
            link.send(lane, bytes.into());
        }
    }

    /// Receives all frames that have arrived, and does what a client does.
    pub fn pump(&mut self) {
        let mut counted = false;
        while let Some((_, is_counted)) = self.next() {
            counted |= is_counted;
        }
        if counted && self.omits == Omitted::Never {
            self.say(&Ack { received: self.received });
        }
    }

    /// Receives one frame. Returns its id, or `None` if no frame has arrived.
    pub fn pump_one(&mut self) -> Option<MessageId> {
        self.next().map(|(id, _)| id)
    }

    /// Takes all received messages of a type that were not taken before.
    pub fn take<M: WireMessage>(&mut self) -> Vec<M> {
        let mut taken = Vec::new();
        self.frames.retain(|frame| match frame.decode::<M>() {
            Ok(message) => {
                taken.push(message);
                false
            }
            Err(_) => true,
        });
        taken
    }

    /// Takes the first received message of a type that was not taken before.
    ///
    /// ```
    /// use waystation::testing::{Harness, Via};
    /// use waystation::wire::v1::Joined;
    ///
    /// let mut game = Harness::new();
    /// let mut ada = game.member(Via::Alpha, "hall");
    /// assert_eq!(ada.expect::<Joined>().zone, "hall");
    /// ada.expect_no::<Joined>();
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if there is no message of this type.
    #[track_caller]
    pub fn expect<M: WireMessage>(&mut self) -> M {
        let found = self.frames.iter().position(|frame| frame.decode::<M>().is_ok());
        let Some(index) = found else {
            panic!("{} received no {}, but {:?}", self.name, M::NAME, self.ids());
        };
        self.frames.remove(index).decode().expect("it was decoded before")
    }

    /// Asserts that no received message of a type is left to take.
    ///
    /// # Panics
    ///
    /// Panics if there is one.
    #[track_caller]
    pub fn expect_no<M: WireMessage>(&self) {
        let count = self.frames.iter().filter(|frame| frame.decode::<M>().is_ok()).count();
        assert_eq!(count, 0, "{} received {}: {:?}", self.name, M::NAME, self.ids());
    }

    /// Takes all received frames, and asserts that the reliable ones among them have these ids, in this order.
    ///
    /// ```
    /// use waystation::testing::{Harness, Via};
    /// use waystation::wire::WireMessage as _;
    /// use waystation::wire::v1::{Joined, Welcome};
    ///
    /// let mut game = Harness::new();
    /// let mut ada = game.member(Via::Alpha, "hall");
    /// ada.saw([Welcome::ID, Joined::ID]);
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the ids differ.
    #[track_caller]
    pub fn saw(&mut self, ids: impl IntoIterator<Item = MessageId>) {
        let seen: Vec<MessageId> = self
            .take_frames()
            .iter()
            .map(|frame| frame.id)
            .filter(|id| id.lane() == Lane::Reliable)
            .collect();
        assert_eq!(seen, ids.into_iter().collect::<Vec<_>>(), "the frames that {} received", self.name);
    }

    /// Takes all received frames that were not taken before, in order.
    pub fn take_frames(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.frames)
    }

    /// Returns the ids of all received frames that were not taken, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<MessageId> {
        self.frames.iter().map(|frame| frame.id).collect()
    }

    /// Returns all frames that the player has ever received.
    #[must_use]
    pub fn seen(&self) -> &[Bytes] {
        &self.seen
    }

    /// Returns the id of the player's session.
    ///
    /// # Panics
    ///
    /// Panics if the player never had a session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session.expect("the player has a session")
    }

    /// Returns true if the player has received Welcome on its link, and not Closed.
    #[must_use]
    pub fn is_welcome(&self) -> bool {
        self.link.is_some() && self.welcomed && self.closed.is_none()
    }

    /// Returns the reason in the Closed frame, or `None` if no Closed has arrived on the link.
    #[must_use]
    pub fn closed(&self) -> Option<Reason> {
        self.closed
    }

    /// Returns true if the player has no link, or if its link is closed or cut.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.link.as_ref().is_none_or(End::is_over)
    }

    /// Returns the transport's reason for the end of the link. `None` if there is no reason, or if the link has not
    /// ended.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.link.as_ref().and_then(End::failure)
    }

    /// Returns the name of the zone that the session is in, as far as the player has received.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Returns the newest resume token.
    #[must_use]
    pub fn token(&self) -> Bytes {
        self.token.clone()
    }

    /// Returns the number of counted frames that the player has received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Returns the number of counted frames that the player has sent and the server has not acknowledged.
    #[must_use]
    pub fn unacked_count(&self) -> usize {
        self.outbox.len()
    }

    /// Receives a frame. Returns its id, and whether it was counted. Ignores unreliable frames before Welcome and after
    /// Closed if the link may reorder frames.
    fn next(&mut self) -> Option<(MessageId, bool)> {
        loop {
            let link = self.link.as_mut()?;
            let bytes = link.receive()?;
            let frame = Frame::parse(bytes.clone()).expect("a frame of the server has an id");
            let is_early = !self.welcomed && !BEFORE_WELCOME.contains(&frame.id);
            let is_odd = is_early || self.closed.is_some();
            if is_odd && link.may_reorder() && frame.id.lane() == Lane::Unreliable {
                continue;
            }
            assert!(!is_early, "11: {} before Welcome", frame.id);
            assert_eq!(self.closed, None, "11: a frame after Closed: {bytes:?}");
            let is_counted = self.take_in(&frame, &bytes);
            let id = frame.id;
            self.seen.push(bytes);
            self.frames.push(frame);
            return Some((id, is_counted));
        }
    }

    /// Handles a frame. Returns true if it was counted.
    fn take_in(&mut self, frame: &Frame, bytes: &Bytes) -> bool {
        if frame.id.is_counted() {
            self.received += 1;
            if let Some(session) = self.session
                && let Err(violation) = self.books.check(session, self.received, bytes)
            {
                panic!("{violation}");
            }
        }
        if let Ok(welcome) = frame.decode::<Welcome>() {
            self.welcome(welcome);
        } else if let Ok(closed) = frame.decode::<Closed>() {
            self.closed = Some(closed.reason());
        } else if let Ok(ack) = frame.decode::<Ack>() {
            self.trim(ack.received);
        } else if let Ok(beacon) = frame.decode::<Beacon>() {
            self.trim(beacon.received);
            match self.omits {
                Omitted::Never => self.say(&Ping { id: beacon.id, received: self.received }),
                Omitted::Acks => self.say(&Ping { id: beacon.id, received: 0 }),
                Omitted::Mute => {}
            }
        } else if let Ok(joined) = frame.decode::<Joined>() {
            self.zone = Some(joined.zone);
        } else if frame.decode::<Parted>().is_ok() {
            self.zone = None;
        }
        frame.id.is_counted()
    }

    fn welcome(&mut self, welcome: Welcome) {
        self.welcomed = true;
        self.session = Some(SessionId(welcome.session));
        self.token = welcome.token;
        if welcome.resumed {
            self.received = welcome.base;
            self.zone = Some(welcome.zone).filter(|zone| !zone.is_empty());
            if self.sent < welcome.received {
                // After a reload, the count of the server is the right one.
                self.sent = welcome.received;
            }
            self.trim(welcome.received);
        } else {
            (self.received, self.sent, self.tried, self.zone) = (0, 0, 0, None);
            self.outbox.clear();
        }
        if self.omits != Omitted::Mute {
            self.say(&Ack { received: self.received });
            for frame in self.outbox.clone() {
                self.say_bytes(Lane::Reliable, frame);
            }
            self.tried = self.sent;
        }
    }

    fn trim(&mut self, received: u64) {
        assert!(received <= self.sent, "an acknowledgement of {received}, but {} were sent", self.sent);
        while self.sent - (self.outbox.len() as u64) < received {
            self.outbox.pop_front();
        }
    }
}

/// The messages that may arrive before Welcome, and Welcome itself.
pub(super) const BEFORE_WELCOME: [MessageId; 4] = [Welcome::ID, Denied::ID, Closed::ID, ProbeReply::ID];
