//! What a bot can do: send calls, join zones, and check answers.

use std::time::Duration;

use bytes::Bytes;

use super::check::EchoCheck;
use super::membership::Membership;
use super::rng::BotRng;
use super::rows::RoundTrips;
use crate::client::{Client, ClientState, Dial, Lane, SendError, SessionId, Transport, WireMessage};
use crate::ident::MessageId;
use crate::wire::encode;

/// What a [`Bot`](super::Bot) can do in its methods: send calls, join zones and check answers.
pub struct Play<'a> {
    pub(super) client: &'a mut dyn AnyClient,
    pub(super) check: &'a mut EchoCheck,
    pub(super) membership: &'a mut Membership,
    pub(super) rng: &'a mut BotRng,
    pub(super) name: &'a str,
    pub(super) now: Duration,
    pub(super) dt: Duration,
    /// False when the time of the run is over. Bots then send nothing new.
    pub(super) is_playing: bool,
    /// The transport of the session's last link.
    pub(super) over: Option<Transport>,
    pub(super) trips: &'a mut RoundTrips,
    /// Why the first call of the run that can never be sent was not sent.
    pub(super) unsendable: &'a mut Option<String>,
}

/// A client, without the type of its dial.
pub(super) trait AnyClient {
    fn send_frame(&mut self, id: MessageId, frame: Bytes) -> Result<(), SendError>;
    fn join(&mut self, zone: &str, payload: Bytes) -> Result<u32, SendError>;
    fn session_id(&self) -> Option<SessionId>;
    fn sent_count(&self) -> u64;
    fn is_linked(&self) -> bool;
}

impl<D: Dial> AnyClient for Client<D> {
    fn send_frame(&mut self, id: MessageId, frame: Bytes) -> Result<(), SendError> {
        Client::send_frame(self, id, frame)
    }

    fn join(&mut self, zone: &str, payload: Bytes) -> Result<u32, SendError> {
        Client::join(self, zone, payload)
    }

    fn session_id(&self) -> Option<SessionId> {
        Client::session_id(self)
    }

    fn sent_count(&self) -> u64 {
        Client::sent_count(self)
    }

    fn is_linked(&self) -> bool {
        self.state() == ClientState::Connected
    }
}

impl Play<'_> {
    /// Sends a call of the game. Returns true if it was sent, or queued for the session's next link.
    ///
    /// A reliable call is not sent while the outbox is full. An unreliable call is not sent while there is no link.
    /// No call is sent when the time of the run is over. A call that can never be sent, for example because it is too
    /// long, fails the run.
    pub fn call<M: WireMessage>(&mut self, call: &M) -> bool {
        if !self.is_playing {
            return false;
        }
        match self.client.send_frame(M::ID, encode(call)) {
            Ok(()) => true,
            Err(SendError::NoSession | SendError::Full | SendError::Dropped | SendError::Leaving) => false,
            Err(error @ (SendError::TooLong { .. } | SendError::LinkControl(_))) => {
                self.unsendable.get_or_insert_with(|| error.to_string());
                false
            }
        }
    }

    /// Sends a reliable call with a number. The bot must pass the answer to [`answered`](Self::answered) or
    /// [`answered_with_count`](Self::answered_with_count). Returns true if the call was sent or queued, as
    /// [`call`](Self::call) does.
    ///
    /// `call` makes the call from its number. The numbers of a session are 1, 2, 3 and so on. If the call is not
    /// sent, the next numbered call gets its number. The answers of a session must come in the order of the calls, and
    /// all in the same form.
    ///
    /// The server drops the calls of a session that is in no zone, and a numbered call that was dropped counts as lost.
    /// So do not number calls in a zone that sessions leave during the run. A session leaves a hard zone when its link
    /// is cut.
    pub fn call_numbered<M: WireMessage>(&mut self, call: impl FnOnce(u64) -> M) -> bool {
        if M::ID.lane() == Lane::Unreliable {
            let why = || format!("message {} is unreliable: only a reliable call can have a number", M::ID);
            self.unsendable.get_or_insert_with(why);
            return false;
        }
        let is_timed = self.client.is_linked();
        let is_sent = self.call(&call(self.check.next_number()));
        if is_sent {
            self.check.said(self.now, is_timed);
        }
        is_sent
    }

    /// Checks an answer that repeats the number of a [numbered call](Self::call_numbered).
    ///
    /// The report counts answers and calls that are lost, doubled or out of order. It cannot tell whether a call or
    /// its answer is lost or doubled. Only a call that the server has never acknowledged is known to be lost on the way
    /// to the server.
    pub fn answered(&mut self, number: u64) {
        let took = self.check.answered(number, self.now);
        self.trips.record(took, self.over);
    }

    /// Checks an answer that repeats the number of a [numbered call](Self::call_numbered), and holds the count of
    /// numbered calls that the game has received from this session, this one included.
    ///
    /// With this count, the report distinguishes faults from client to server from faults from server to client.
    pub fn answered_with_count(&mut self, number: u64, count: u64) {
        let took = self.check.echoed(number, count, self.now);
        self.trips.record(took, self.over);
    }

    /// Asks to join this zone. If the session is in another zone, it leaves that zone when the server sends Joined.
    /// Returns true if the Join was sent or queued, as [`call`](Self::call) does.
    ///
    /// A bot that is in no zone joins [`Bot::zone`](super::Bot::zone) by itself.
    pub fn join(&mut self, zone: &str, payload: impl Into<Bytes>) -> bool {
        self.is_playing && self.ask(zone, payload.into())
    }

    /// Sends a Join, also when the time of the run is over.
    pub(super) fn ask(&mut self, zone: &str, payload: Bytes) -> bool {
        match self.client.join(zone, payload) {
            Ok(request) => {
                self.membership.asked(request, zone, self.client.sent_count(), self.now);
                true
            }
            Err(error) => {
                if matches!(error, SendError::TooLong { .. }) {
                    self.membership.cannot_ask(error);
                    self.unsendable.get_or_insert_with(|| error.to_string());
                }
                false
            }
        }
    }

    /// Returns the time since the start of the run.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Returns the time since the last step of the run. A step takes 20 ms, or more if the machine is busy.
    #[must_use]
    pub fn dt(&self) -> Duration {
        self.dt
    }

    /// Returns the random number generator of this bot.
    pub fn rng(&mut self) -> &mut BotRng {
        self.rng
    }

    /// Returns the name of the bot in its credentials: `bot 1` for the bot with the index 0.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }

    /// Returns the id of the session, or `None` if the session has ended and its last messages are being handled.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.client.session_id()
    }
}
