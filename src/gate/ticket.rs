//! Who may open a session: the check of what a Hello proves, and the tickets that are used up.
//!
//! A new session is proved by a ticket, or by a link whose transport has asked for a proof already.
//! A ticket opens one session. The gate remembers the used ones until they expire, and takes none
//! that was minted before it began, which an earlier run of the server may have seen used.
//!
//! Data flow: Hello → [`Tickets::prove`], which changes nothing → whether there is room for the
//! session → [`Tickets::use_up`] → the session.

use std::collections::BTreeSet;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::hello::{Denial, OpenRequest};
use super::{GateConfig, GatePolicy};
use crate::session::Principal;
use crate::wire::ticket::{TICKET_EXPIRE_MAX, TICKET_ID_BYTES, Ticket, TicketKey};
use crate::wire::v1::Reason;
use crate::wire::{millis, retry};

/// When a used ticket expires, in Unix time, and its id.
type Mark = (Duration, [u8; TICKET_ID_BYTES]);

/// The tickets of this server: which are genuine, and which are used up.
#[derive(Resource, Debug)]
pub(super) struct Tickets {
    policy: GatePolicy,
    key: Option<TicketKey>,
    /// When the gate began, in Unix time to the millisecond.
    since: Duration,
    used: BTreeSet<Mark>,
    is_full: bool,
}

/// What a Hello for a new session has proved.
#[derive(Debug)]
pub(super) struct Proof {
    /// Who the session will belong to.
    pub(super) principal: Principal,
    /// What is used up when the session opens.
    mark: Option<Mark>,
}

impl Tickets {
    pub(super) fn new(config: &GateConfig) -> Self {
        Self {
            policy: config.policy,
            key: config.tickets.clone(),
            since: Duration::from_millis(millis(config.unix.now())),
            used: BTreeSet::new(),
            is_full: false,
        }
    }

    /// Says who a Hello proves its client to be, or why it may not open a session. `is_vouched` says
    /// that the adapter of the link has asked for a proof. A ticket that is shown has to be good, even
    /// where none is needed. `unix` is [`TickInput::unix`](crate::tick::TickInput::unix).
    pub(super) fn prove(
        &self,
        request: OpenRequest,
        is_vouched: bool,
        unix: Duration,
    ) -> Result<Proof, Denial> {
        let ticket = match &self.key {
            Some(key) if !request.ticket.is_empty() => Some(self.check(key, &request.ticket, unix)?),
            _ => None,
        };
        let is_proved = is_vouched || request.identity.is_some() || ticket.is_some();
        if self.policy == GatePolicy::Proved && !is_proved {
            return Err(MISSING);
        }
        let mark = ticket.as_ref().map(|ticket| (ticket.expires, ticket.id));
        let principal = match (request.identity, ticket.and_then(|ticket| ticket.identity)) {
            (Some(link), Some(ticket)) if link != ticket => return Err(UNUSABLE),
            (Some(identity), _) | (None, Some(identity)) => Principal::named(&identity),
            (None, None) => Principal::anonymous(&request.name),
        };
        Ok(Proof { principal, mark })
    }

    fn check(&self, key: &TicketKey, text: &str, now: Duration) -> Result<Ticket, Denial> {
        let ticket = key.open(text).map_err(|_| UNUSABLE)?;
        let is_in_time =
            ticket.minted >= self.since && now < ticket.expires && ticket.expires <= now + AHEAD_MAX;
        let is_used = self.used.contains(&(ticket.expires, ticket.id));
        if is_in_time && !is_used {
            return Ok(ticket);
        }
        tracing::debug!(is_in_time, is_used, "a genuine ticket opens no session");
        Err(UNUSABLE)
    }

    /// Uses up the ticket of a proof, now that its session opens.
    pub(super) fn use_up(&mut self, proof: &Proof, now: Duration) -> Result<(), Denial> {
        let Some(mark) = proof.mark else { return Ok(()) };
        while self.used.first().is_some_and(|(expires, _)| *expires <= now) {
            self.used.pop_first();
        }
        if self.used.len() >= USED_MAX {
            if !std::mem::replace(&mut self.is_full, true) {
                tracing::warn!(
                    count = self.used.len(),
                    "the server remembers no further used tickets, and opens no further sessions by ticket \
                     until some of them expire: look for a login that hands out too many"
                );
            }
            return Err(CROWDED);
        }
        self.is_full = false;
        if self.used.insert(mark) { Ok(()) } else { Err(UNUSABLE) }
    }
}

/// One answer for every ticket that opens nothing, whatever is wrong with it.
const UNUSABLE: Denial = Denial::new(
    Reason::Unauthenticated,
    "this ticket opens no session: it is unknown, used or too old; ask the server's discovery for another",
);
const MISSING: Denial = Denial::new(
    Reason::Unauthenticated,
    "a new session needs a ticket: ask the server's discovery (/v1/connect), with a bearer, and show it in the Hello",
);
const CROWDED: Denial =
    Denial::later(Reason::Throttled, "too many sessions were opened by tickets lately", retry::IN_USE);
/// How far ahead a ticket may expire: its longest lifetime, and as much again for a minter whose clock
/// is ahead of this server's.
const AHEAD_MAX: Duration = TICKET_EXPIRE_MAX.saturating_mul(2);
/// Used tickets that are remembered, about 3 MiB: 100 sessions a second for as long as any ticket
/// is remembered. Beyond, no session opens by ticket until some have expired.
const USED_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tick::{Clock, UnixClock};
    use crate::wire::ticket::TICKET_EXPIRE;

    const START: Duration = Duration::from_millis(1_700_000_000_500);
    const MS: Duration = Duration::from_millis(1);

    /// A gate that wants proof, and begins at `START`.
    fn gate() -> (TicketKey, Tickets) {
        let key = TicketKey::new([7; 32]);
        let config = GateConfig {
            policy: GatePolicy::Proved,
            tickets: Some(key.clone()),
            unix: UnixClock::manual(Clock::manual(), START),
            ..GateConfig::default()
        };
        (key, Tickets::new(&config))
    }

    fn request(ticket: &str) -> OpenRequest {
        OpenRequest { identity: None, name: "bob".to_owned(), ticket: ticket.to_owned() }
    }

    fn denied(tickets: &Tickets, text: &str, now: Duration) -> Option<Reason> {
        tickets.prove(request(text), false, now).err().map(|denial| denial.reason)
    }

    #[test]
    fn a_ticket_opens_one_session_within_its_time() {
        let (key, mut tickets) = gate();
        let mut now = START;
        let text = key.mint(START, TICKET_EXPIRE, Some("ada")).expect("a ticket");

        let proof = tickets.prove(request(&text), false, now).expect("good");
        let second = tickets.prove(request(&text), false, now).expect("not used yet");
        assert_eq!(proof.principal, Principal::named("ada"));
        tickets.use_up(&proof, now).expect("room");

        assert_eq!(denied(&tickets, &text, now), Some(Reason::Unauthenticated), "used");
        assert!(tickets.use_up(&second, now).is_err(), "used in the same tick");
        let late = key.mint(START, TICKET_EXPIRE, None).expect("a ticket");
        now += TICKET_EXPIRE - MS;
        assert_eq!(denied(&tickets, &late, now), None, "in its last moment");
        now += MS;
        assert_eq!(denied(&tickets, &late, now), Some(Reason::Unauthenticated), "stale");
        let next = key.mint(START + TICKET_EXPIRE, TICKET_EXPIRE, None).expect("a ticket");
        let proof = tickets.prove(request(&next), false, now).expect("good");
        tickets.use_up(&proof, now).expect("room");
        assert_eq!(tickets.used.len(), 1, "what has expired is forgotten");
    }

    #[test]
    fn a_ticket_of_an_earlier_run_or_of_too_far_a_time_opens_nothing() {
        let (key, tickets) = gate();
        let mut now = START;
        let before = key.mint(START - MS, TICKET_EXPIRE_MAX, None).expect("a ticket");
        let ahead = key.mint(START + TICKET_EXPIRE_MAX + MS, TICKET_EXPIRE_MAX, None).expect("a ticket");

        assert_eq!(denied(&tickets, &before, now), Some(Reason::Unauthenticated));
        assert_eq!(
            denied(&tickets, &ahead, now),
            Some(Reason::Unauthenticated),
            "it would be remembered for too long"
        );
        now += MS;
        assert_eq!(denied(&tickets, &ahead, now), None);
    }

    #[test]
    fn without_a_ticket_only_a_link_that_was_asked_for_a_proof_opens_a_session() {
        let (_, tickets) = gate();
        let linked = |identity: &str| OpenRequest { identity: Some(identity.to_owned()), ..request("") };

        assert_eq!(denied(&tickets, "", START), Some(Reason::Unauthenticated));
        let vouched = tickets.prove(request(""), true, START).expect("its connect token is a proof");
        assert_eq!(vouched.principal, Principal::anonymous("bob"));
        let named = tickets.prove(linked("ada"), false, START).expect("its transport knows it");
        assert_eq!(named.principal, Principal::named("ada"));
        let open = Tickets { policy: GatePolicy::Open, ..gate().1 };
        assert_eq!(denied(&open, "", START), None);
    }

    #[test]
    fn a_link_and_a_ticket_that_name_two_clients_open_nothing() {
        let (key, tickets) = gate();
        let text = key.mint(START, TICKET_EXPIRE, Some("ada")).expect("a ticket");
        let on_link_of = |name: &str| {
            let request = OpenRequest { identity: Some(name.to_owned()), ..request(&text) };
            tickets.prove(request, true, START).map(|proof| proof.principal).ok()
        };

        assert_eq!(on_link_of("ada"), Some(Principal::named("ada")));
        assert_eq!(on_link_of("eve"), None);
    }

    #[test]
    fn used_tickets_are_remembered_up_to_a_bound_and_then_nobody_new_comes_in() {
        let (key, mut tickets) = gate();
        let mut now = START;
        let mark = |number: u32| {
            (START + TICKET_EXPIRE, {
                let mut id = [0; TICKET_ID_BYTES];
                id[..4].copy_from_slice(&number.to_be_bytes());
                id
            })
        };
        tickets.used = (0..u32::try_from(USED_MAX).expect("it fits")).map(mark).collect();
        let text = key.mint(START, TICKET_EXPIRE, None).expect("a ticket");
        let proof = tickets.prove(request(&text), false, now).expect("good");

        let denial = tickets.use_up(&proof, now).expect_err("no room");

        assert_eq!(denial.reason, Reason::Throttled);
        assert!(denial.retry_after_ms > 0);
        assert_eq!(denied(&tickets, &text, now), None, "it is not used up");
        now += TICKET_EXPIRE;
        tickets
            .use_up(&Proof { mark: Some((START + TICKET_EXPIRE_MAX, [1; 16])), ..proof }, now)
            .expect("room again");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_gate_panic_or_open(text in "\\PC{0,600}") {
            let (_, tickets) = gate();
            prop_assert_eq!(denied(&tickets, &text, START), Some(Reason::Unauthenticated));
        }
    }
}
