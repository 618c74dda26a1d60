//! Tests that a ticket opens a new session, over every transport.

use std::time::Duration;

use waystation::config::ServerConfig;
use waystation::gate::GatePolicy;
use waystation::identity::Principal;
use waystation::session::{SessionConfig, SessionCounts};
use waystation::tick::{Clock, UnixClock};
use waystation::wire::PROTOCOL;
use waystation::wire::ticket::{TICKET_EXPIRE, TicketKey};
use waystation::wire::v1::{Bye, Denied, Hello, Probe, ProbeReply, Reason, Welcome};

use super::stage::{Stage, Who};
use super::transports::{ALL, Way};

/// A server that requires a ticket for a new session, and the key that mints tickets.
struct Guarded {
    stage: Stage,
    key: TicketKey,
    clock: Clock,
    unix: UnixClock,
}

impl Guarded {
    fn new(session: SessionConfig) -> Self {
        let (key, clock) = (TicketKey::new([0x5A; 32]), Clock::manual());
        let unix = UnixClock::manual(clock.clone(), Duration::from_secs(1_700_000_000));
        let mut config = ServerConfig { session, ..ServerConfig::default() };
        config.gate.policy = GatePolicy::Identified;
        config.gate.tickets = Some(key.clone());
        config.gate.unix = unix.clone();
        Self { stage: Stage::with(config), key, clock, unix }
    }

    fn ticket(&self, identity: Option<&str>) -> String {
        self.key.mint(self.unix.now(), TICKET_EXPIRE, identity).expect("a ticket is minted")
    }

    fn say(&mut self, who: Who, ticket: &str) {
        self.stage[who].say(&Hello { protocol: PROTOCOL, ticket: ticket.to_owned(), ..Hello::default() });
    }

    /// Sends a Hello with this ticket. Returns the reason of the Denied.
    fn denied(&mut self, who: Who, ticket: &str) -> Reason {
        self.say(who, ticket);
        self.stage.until_saw::<Denied>(who).reason()
    }

    /// Adds a player and opens its session with this ticket.
    fn opened(&mut self, over: Way, ticket: &str) -> Who {
        let who = self.stage.stranger(over);
        self.say(who, ticket);
        self.stage.until_saw::<Welcome>(who);
        who
    }

    fn principal(&self, who: Who) -> Principal {
        let principal = self.stage.game.component::<Principal>(self.stage[who].session());
        principal.expect("the session is live").clone()
    }
}

pub(super) fn wire_core_a_new_session_needs_a_ticket_that_is_fresh_and_genuine(stage: &mut Stage, over: Way) {
    let mut server = Guarded::new(SessionConfig::default());
    let stale = server.ticket(Some("ada"));
    let mut forged = server.ticket(Some("ada"));
    let last = forged.pop().expect("a ticket is not empty");
    forged.push(if last == 'A' { 'B' } else { 'A' });
    let elsewhere = TicketKey::new([0x5B; 32]).mint(server.unix.now(), TICKET_EXPIRE, Some("ada"));
    server.clock.advance(TICKET_EXPIRE);
    let good = server.ticket(Some("ada"));
    let ada = server.stage.stranger(over);

    for bad in ["", &stale, &forged, &elsewhere.expect("a ticket is minted"), &good[1..], "?"] {
        assert_eq!(server.denied(ada, bad), Reason::Unauthenticated, "{bad}");
    }
    assert_eq!(server.stage.game.resource::<SessionCounts>().registered_count, 0);
    server.say(ada, &good);
    server.stage.until_saw::<Welcome>(ada);

    assert_eq!(server.principal(ada), Principal::named("ada"));
    let eve = server.stage.stranger(over);
    assert_eq!(server.denied(eve, &good), Reason::Unauthenticated, "the ticket has been used");
    *stage = server.stage;
}

pub(super) fn wire_core_a_resume_needs_its_token_alone_and_a_probe_nothing(stage: &mut Stage, over: Way) {
    let mut server = Guarded::new(SessionConfig::default());
    let ticket = server.ticket(Some("ada"));
    let ada = server.opened(over, &ticket);
    server.stage.join(ada, "plaza");
    server.stage.lose_link(ada);
    server.clock.advance(TICKET_EXPIRE);

    let welcome = server.stage.resume(ada, over);
    assert!(welcome.resumed && !welcome.resync);
    assert_eq!(server.principal(ada), Principal::named("ada"));

    let eve = server.stage.stranger(over);
    server.stage[eve].say(&Probe { topic: "status".to_owned(), ..Probe::default() });
    assert!(!server.stage.until_saw::<ProbeReply>(eve).body.is_empty());
    *stage = server.stage;
}

pub(super) fn wire_core_a_ticket_that_found_no_room_is_not_used_up(stage: &mut Stage, over: Way) {
    let mut server = Guarded::new(SessionConfig { max_sessions: 1, ..SessionConfig::default() });
    let (first, second) = (server.ticket(Some("ada")), server.ticket(Some("bob")));
    let ada = server.opened(over, &first);
    let bob = server.stage.stranger(over);

    assert_eq!(
        server.denied(bob, ""),
        Reason::Unauthenticated,
        "a client without a ticket does not learn that the server is full"
    );
    assert_eq!(server.denied(bob, &second), Reason::Full);
    server.stage[ada].say(&Bye {});
    server.stage.until_closed(ada);
    server.say(bob, &second);
    server.stage.until_saw::<Welcome>(bob);

    assert_eq!(server.principal(bob), Principal::named("bob"));
    *stage = server.stage;
}

#[test]
fn a_session_that_a_ticket_opened_keeps_its_identity_over_all_transports() {
    let mut server = Guarded::new(SessionConfig::default());
    let ticket = server.ticket(Some("ada"));
    let ada = server.opened(Way::WebSocket, &ticket);
    let session = server.stage[ada].session();

    for over in ALL.iter().chain(ALL) {
        server.stage.lose_link(ada);
        let welcome = server.stage.resume(ada, *over);
        assert_eq!((welcome.session, welcome.resumed), (session.0, true), "{over:?}");
        assert_eq!(server.principal(ada), Principal::named("ada"), "{over:?}");
    }
}
