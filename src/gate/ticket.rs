//! Tickets: the check of what a Hello shows, and the tickets that are used up.
//!
//! A client proves that it may open a session by a ticket, or by a link whose transport has asked for a proof already.
//! A ticket opens one session. The gate remembers the used ones until they expire, and takes none
//! that was minted before it began, which an earlier run of the server may have seen used.
//!
//! Data flow: Hello → [`Tickets::check`], which changes nothing → the [policy](super::GatePolicy), or a verdict →
//! whether there is room for the session → [`Tickets::use_up`] → the session.

use std::collections::BTreeSet;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::GateConfig;
use super::hello::{Denial, OpenRequest};
use crate::wire::ticket::{TICKET_EXPIRE_MAX, TICKET_ID_BYTES, Ticket, TicketKey};
use crate::wire::v1::Reason;
use crate::wire::{millis, retry};

/// When a used ticket expires, in Unix time, and its id.
pub(super) type Mark = (Duration, [u8; TICKET_ID_BYTES]);

/// The tickets of this server: which are genuine, and which are used up.
#[derive(Resource, Debug)]
pub(super) struct Tickets {
    key: Option<TicketKey>,
    /// When the gate began, in Unix time to the millisecond.
    since: Duration,
    used: BTreeSet<Mark>,
    is_full: bool,
}

/// What a Hello for a new session has shown beside its credentials.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    /// The user whom the link or the ticket names.
    pub(super) known_as: Option<String>,
    /// The client has proved that it may enter.
    pub(super) is_proof: bool,
    /// What is used up when the session opens.
    pub(super) mark: Option<Mark>,
}

impl Tickets {
    pub(super) fn new(config: &GateConfig) -> Self {
        Self {
            key: config.tickets.clone(),
            since: Duration::from_millis(millis(config.unix.now())),
            used: BTreeSet::new(),
            is_full: false,
        }
    }

    /// Checks what a Hello shows beside its credentials. `is_vouched` says that the adapter of the link has asked for a
    /// proof. A ticket that is shown has to be good, even where none is needed. `unix` is
    /// [`TickInput::unix`](crate::tick::TickInput::unix).
    pub(super) fn check(
        &self,
        request: &OpenRequest,
        is_vouched: bool,
        unix: Duration,
    ) -> Result<Shown, Denial> {
        let ticket = match &self.key {
            Some(key) if !request.ticket.is_empty() => Some(self.open(key, &request.ticket, unix)?),
            _ => None,
        };
        let is_proof = is_vouched || request.identity.is_some() || ticket.is_some();
        let mark = ticket.as_ref().map(|ticket| (ticket.expires, ticket.id));
        let known_as = match (&request.identity, ticket.and_then(|ticket| ticket.identity)) {
            (Some(link), Some(ticket)) if *link != ticket => return Err(UNUSABLE),
            (Some(identity), _) => Some(identity.clone()),
            (None, identity) => identity,
        };
        Ok(Shown { known_as, is_proof, mark })
    }

    fn open(&self, key: &TicketKey, text: &str, now: Duration) -> Result<Ticket, Denial> {
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

    /// Uses up the ticket that was shown, now that its session opens.
    pub(super) fn use_up(&mut self, shown: &Shown, now: Duration) -> Result<(), Denial> {
        let Some(mark) = shown.mark else { return Ok(()) };
        // It was good when it was shown, and has expired while an authenticator decided.
        if mark.0 <= now {
            return Err(UNUSABLE);
        }
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
pub(super) const UNUSABLE: Denial = Denial::new(
    Reason::Unauthenticated,
    "this ticket opens no session: it is unknown, used or too old; ask the server's discovery for another",
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
    use crate::identity::Credentials;
    use crate::tick::{Clock, UnixClock};
    use crate::wire::ticket::TICKET_EXPIRE;

    const START: Duration = Duration::from_millis(1_700_000_000_500);
    const MS: Duration = Duration::from_millis(1);

    /// A gate that begins at `START`.
    fn gate() -> (TicketKey, Tickets) {
        let key = TicketKey::new([7; 32]);
        let config = GateConfig {
            tickets: Some(key.clone()),
            unix: UnixClock::manual(Clock::manual(), START),
            ..GateConfig::default()
        };
        (key, Tickets::new(&config))
    }

    fn request(ticket: &str) -> OpenRequest {
        let credentials = Credentials::Anonymous { name: "bob".to_owned() };
        OpenRequest { identity: None, credentials, ticket: ticket.to_owned() }
    }

    fn denied(tickets: &Tickets, text: &str, now: Duration) -> Option<Reason> {
        tickets.check(&request(text), false, now).err().map(|denial| denial.reason)
    }

    #[test]
    fn a_ticket_opens_one_session_within_its_time() {
        let (key, mut tickets) = gate();
        let mut now = START;
        let text = key.mint(START, TICKET_EXPIRE, Some("ada")).expect("a ticket");

        let shown = tickets.check(&request(&text), false, now).expect("good");
        let second = tickets.check(&request(&text), false, now).expect("not used yet");
        assert_eq!(shown.known_as.as_deref(), Some("ada"));
        tickets.use_up(&shown, now).expect("room");

        assert_eq!(denied(&tickets, &text, now), Some(Reason::Unauthenticated), "used");
        assert!(tickets.use_up(&second, now).is_err(), "used in the same tick");
        let late = key.mint(START, TICKET_EXPIRE, None).expect("a ticket");
        now += TICKET_EXPIRE - MS;
        assert_eq!(denied(&tickets, &late, now), None, "in its last moment");
        now += MS;
        assert_eq!(denied(&tickets, &late, now), Some(Reason::Unauthenticated), "stale");
        let next = key.mint(START + TICKET_EXPIRE, TICKET_EXPIRE, None).expect("a ticket");
        let shown = tickets.check(&request(&next), false, now).expect("good");
        tickets.use_up(&shown, now).expect("room");
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
    fn a_link_that_was_asked_for_a_proof_is_one_and_nothing_is_none() {
        let (_, tickets) = gate();
        let linked = |identity: &str| OpenRequest { identity: Some(identity.to_owned()), ..request("") };

        let nothing = tickets.check(&request(""), false, START).expect("nothing is wrong with it");
        let vouched = tickets.check(&request(""), true, START).expect("its connect token");
        let named = tickets.check(&linked("ada"), false, START).expect("its transport knows it");

        assert_eq!([&nothing, &vouched, &named].map(|shown| shown.is_proof), [false, true, true]);
        assert_eq!((vouched.known_as, named.known_as.as_deref()), (None, Some("ada")));
    }

    #[test]
    fn a_link_and_a_ticket_that_name_two_clients_open_nothing() {
        let (key, tickets) = gate();
        let text = key.mint(START, TICKET_EXPIRE, Some("ada")).expect("a ticket");
        let on_link_of = |name: &str| {
            let request = OpenRequest { identity: Some(name.to_owned()), ..request(&text) };
            tickets.check(&request, true, START).map(|shown| shown.known_as).ok().flatten()
        };

        assert_eq!(on_link_of("ada").as_deref(), Some("ada"));
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
        let shown = tickets.check(&request(&text), false, now).expect("good");

        let denial = tickets.use_up(&shown, now).expect_err("no room");

        assert_eq!(denial.reason, Reason::Throttled);
        assert!(denial.retry_after_ms > 0);
        assert_eq!(denied(&tickets, &text, now), None, "it is not used up");
        now += TICKET_EXPIRE;
        tickets
            .use_up(&Shown { mark: Some((START + TICKET_EXPIRE_MAX, [1; 16])), ..shown }, now)
            .expect("room again");
    }

    #[test]
    fn a_ticket_that_expires_while_somebody_decides_opens_nothing() {
        let (key, mut tickets) = gate();
        let text = key.mint(START, TICKET_EXPIRE, None).expect("a ticket");
        let shown = tickets.check(&request(&text), false, START + TICKET_EXPIRE - MS).expect("good");

        for _ in 0..2 {
            let denial = tickets.use_up(&shown, START + TICKET_EXPIRE).expect_err("it has expired");
            assert_eq!(denial.reason, Reason::Unauthenticated);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_gate_panic_or_open(text in "\\PC{1,600}") {
            let (_, tickets) = gate();
            prop_assert_eq!(denied(&tickets, &text, START), Some(Reason::Unauthenticated));
        }
    }
}
