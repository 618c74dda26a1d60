//! A player of a test: a client whose every step is chosen.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::end::{End, RealLink};
use super::link::SharedBooks;
use super::{Faults, Harness, HarnessLink, Via};
use crate::client::{Link, LinkStatus};
use crate::ident::{MessageId, SessionId};
use crate::proxy::LinkInfo;
use crate::wire::v1::credentials::Kind;
use crate::wire::v1::{
    Ack, Anonymous, Beacon, Closed, Credentials, Denied, Hello, Joined, Parted, Ping, ProbeReply, Reason,
    Resume, Welcome,
};
use crate::wire::{self, Frame, Lane, WireMessage};

/// What a player leaves out of what a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hang {
    /// Nothing.
    #[default]
    Never,
    /// It acknowledges nothing: neither by Ack nor with the echo of a beacon.
    Acks,
    /// It sends nothing of its own accord.
    Mute,
}

/// A client that keeps what outlives a link: its session, token, counts and outbox.
///
/// It checks what every client may rely on, and fails the test otherwise: nothing before Welcome
/// but Denied, Closed and `ProbeReply`, nothing after Closed, acks that can be.
#[derive(Debug, Default)]
pub struct Player {
    link: Option<End>,
    books: SharedBooks,
    welcomed: bool,
    closed: Option<Reason>,
    session: Option<SessionId>,
    token: Bytes,
    zone: Option<String>,
    received: u64,
    sent: u64,
    outbox: VecDeque<Bytes>,
    frames: Vec<Frame>,
    seen: Vec<Bytes>,
    /// What it leaves out.
    pub hang: Hang,
    /// The name it gives.
    pub name: String,
}

impl Player {
    /// A player without a link.
    #[must_use]
    pub fn new() -> Self {
        Self { name: "ada".to_owned(), ..Self::default() }
    }

    /// Opens a link. An older one is left as it is, unread.
    pub fn connect(&mut self, game: &Harness, via: Via) {
        self.connect_as(game, via, LinkInfo::default());
    }

    /// Opens a link of which the transport knows something.
    pub fn connect_as(&mut self, game: &Harness, via: Via, info: LinkInfo) {
        self.take_up(game, End::Harness(game.link_as(via, info)));
    }

    /// Goes on over a link of any transport. It says nothing until it is [stepped](Self::step) and open.
    pub fn connect_over(&mut self, game: &Harness, link: Box<dyn Link>) {
        self.take_up(game, End::Real(RealLink::new(link)));
    }

    fn take_up(&mut self, game: &Harness, link: End) {
        self.link = Some(link);
        self.books = game.books();
        self.welcomed = false;
        self.closed = None;
    }

    /// Lets `dt` pass for a link that is not in the process.
    pub fn step(&mut self, dt: Duration) {
        if let Some(End::Real(link)) = &mut self.link {
            link.step(dt);
        }
    }

    /// Whether its link carries frames.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        match &self.link {
            None => false,
            Some(End::Real(link)) => link.status() == LinkStatus::Open,
            Some(link) => !link.is_over(),
        }
    }

    /// What this player was until now, with its link, for a test of what becomes of that; this one
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
            outbox: self.outbox.clone(),
            hang: Hang::Mute,
            name: format!("the former {}", self.name),
            ..Self::default()
        }
    }

    /// Other faults for its link, from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        if let Some(End::Harness(link)) = &self.link {
            link.set_faults(faults);
        }
    }

    /// Loses the link without a word to anybody; what was on its way to here is lost. A link of the
    /// harness is handed out.
    pub fn cut(&mut self) -> Option<HarnessLink> {
        match self.link.take() {
            Some(End::Harness(link)) => Some(link),
            _ => None,
        }
    }

    /// Closes the link, as a transport that says so.
    pub fn close(&mut self) {
        if let Some(mut link) = self.link.take() {
            link.close();
        }
    }

    /// Asks for a new session.
    pub fn hello(&mut self) {
        let credentials = Credentials { kind: Some(Kind::Anonymous(Anonymous { name: self.name.clone() })) };
        self.say(&Hello { protocol: wire::PROTOCOL, credentials: Some(credentials), ..Hello::default() });
    }

    /// Asks to resume its session, with the newest token it has.
    pub fn resume(&mut self) {
        self.resume_with(self.token.clone(), false);
    }

    /// Asks to resume a session with any token.
    pub fn resume_with(&mut self, token: Bytes, resync: bool) {
        let trimmed = self.sent - self.outbox.len() as u64;
        let resume = Resume { token, received: self.received, trimmed, resync };
        self.say(&Hello { protocol: wire::PROTOCOL, resume: Some(resume), ..Hello::default() });
    }

    /// Forgets all but its token, as a page that was reloaded.
    pub fn reload(&mut self) {
        *self = Self { token: self.token.clone(), name: self.name.clone(), ..Self::default() };
    }

    /// Sends a message: a counted one through its outbox, so that a resume sends it again. Until
    /// it is welcome nothing else leaves.
    pub fn send<M: WireMessage>(&mut self, message: &M) {
        if M::ID.is_counted() {
            self.sent += 1;
            self.outbox.push_back(wire::encode(message));
        }
        if self.is_welcome() {
            self.say(message);
        }
    }

    /// Sends a message on the link it has, past all books.
    pub fn say<M: WireMessage>(&mut self, message: &M) {
        self.say_bytes(M::ID.lane(), wire::encode(message));
    }

    /// Sends any bytes on any lane.
    pub fn say_bytes(&mut self, lane: Lane, bytes: impl Into<Bytes>) {
        if let Some(link) = &mut self.link {
            link.send(lane, bytes.into());
        }
    }

    /// Reads what arrived, and does what a client does about it.
    pub fn pump(&mut self) {
        let mut counted = false;
        while let Some((_, is_counted)) = self.next() {
            counted |= is_counted;
        }
        if counted && self.hang == Hang::Never {
            self.say(&Ack { received: self.received });
        }
    }

    /// Takes one frame from the link, if there is one, and nothing behind it.
    pub fn pump_one(&mut self) -> Option<MessageId> {
        self.next().map(|(id, _)| id)
    }

    /// Takes all messages of a type that were seen and not yet taken.
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

    /// Takes the first message of a type that was seen and not yet taken.
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
    /// If there is none.
    #[track_caller]
    pub fn expect<M: WireMessage>(&mut self) -> M {
        let found = self.frames.iter().position(|frame| frame.decode::<M>().is_ok());
        let Some(index) = found else {
            panic!("{} saw no {}, but {:?}", self.name, M::NAME, self.ids());
        };
        self.frames.remove(index).decode().expect("it was decoded before")
    }

    /// No message of a type was seen that is not taken yet.
    ///
    /// # Panics
    ///
    /// If there is one.
    #[track_caller]
    pub fn expect_no<M: WireMessage>(&self) {
        let count = self.frames.iter().filter(|frame| frame.decode::<M>().is_ok()).count();
        assert_eq!(count, 0, "{} saw {}: {:?}", self.name, M::NAME, self.ids());
    }

    /// These are the reliable frames that were seen and not yet taken, in this order. All are taken.
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
    /// If it saw anything else.
    #[track_caller]
    pub fn saw(&mut self, ids: impl IntoIterator<Item = MessageId>) {
        let seen: Vec<MessageId> = self
            .take_frames()
            .iter()
            .map(|frame| frame.id)
            .filter(|id| id.lane() == Lane::Reliable)
            .collect();
        assert_eq!(seen, ids.into_iter().collect::<Vec<_>>(), "what {} saw", self.name);
    }

    /// Takes all frames that were seen and not yet taken, in order.
    pub fn take_frames(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.frames)
    }

    /// The ids of all frames seen and not taken, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<MessageId> {
        self.frames.iter().map(|frame| frame.id).collect()
    }

    /// All that it ever saw.
    #[must_use]
    pub fn seen(&self) -> &[Bytes] {
        &self.seen
    }

    /// Its session.
    ///
    /// # Panics
    ///
    /// If it never had one.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session.expect("the player has a session")
    }

    /// Whether it has a link on which it was welcomed and not closed.
    #[must_use]
    pub fn is_welcome(&self) -> bool {
        self.link.is_some() && self.welcomed && self.closed.is_none()
    }

    /// Why its link was closed, if it was told.
    #[must_use]
    pub fn closed(&self) -> Option<Reason> {
        self.closed
    }

    /// Whether its link is closed, with or without a word.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.link.as_ref().is_none_or(End::is_over)
    }

    /// Why its link ended, in its transport's words; `None` if that does not know, or it has not ended.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.link.as_ref().and_then(End::failure)
    }

    /// The zone it believes to be in.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Its newest token.
    #[must_use]
    pub fn token(&self) -> Bytes {
        self.token.clone()
    }

    /// Counted frames it took.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Counted frames it sent that the server has not said to have taken.
    #[must_use]
    pub fn unacked_count(&self) -> usize {
        self.outbox.len()
    }

    /// Takes a frame from the link: its id, and whether it was counted. What is unreliable and
    /// comes too early or too late on a faulty link is ignored.
    fn next(&mut self) -> Option<(MessageId, bool)> {
        loop {
            let link = self.link.as_mut()?;
            let bytes = link.receive()?;
            let frame = Frame::parse(bytes.clone()).expect("the server sends frames");
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

    /// Acts on a frame; whether it was counted.
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
            match self.hang {
                Hang::Never => self.say(&Ping { id: beacon.id, received: self.received }),
                Hang::Acks => self.say(&Ping { id: beacon.id, received: 0 }),
                Hang::Mute => {}
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
                // A reloaded page: the server knows better.
                self.sent = welcome.received;
            }
            self.trim(welcome.received);
        } else {
            (self.received, self.sent, self.zone) = (0, 0, None);
            self.outbox.clear();
        }
        if self.hang != Hang::Mute {
            self.say(&Ack { received: self.received });
            for frame in self.outbox.clone() {
                self.say_bytes(Lane::Reliable, frame);
            }
        }
    }

    fn trim(&mut self, received: u64) {
        assert!(received <= self.sent, "an ack of {received}, {} sent", self.sent);
        while self.sent - (self.outbox.len() as u64) < received {
            self.outbox.pop_front();
        }
    }
}

/// What may come before Welcome.
pub(super) const BEFORE_WELCOME: [MessageId; 4] = [Welcome::ID, Denied::ID, Closed::ID, ProbeReply::ID];
