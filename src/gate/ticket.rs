//! Checks the tickets in Hellos, and remembers the used ones.
//!
//! A client proves that it may open a session by a ticket, or by a link whose transport has already asked
//! for a proof. A ticket opens one session. The gate remembers used tickets until they expire. It accepts
//! no ticket that was minted before the gate started, because an earlier run of the server may have used
//! it.
//!
//! Data flow: Hello → [`Tickets::check`], which changes nothing → the [policy](super::GatePolicy), or a
//! verdict → the check for room → [`Tickets::use_up`] → the session.

use std::collections::BTreeSet;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::GateConfig;
use super::hello::{Denial, OpenRequest};
use crate::wire::ticket::{TICKET_EXPIRE_MAX, TICKET_ID_BYTES, Ticket, TicketKey};
use crate::wire::v1::Reason;
use crate::wire::{millis, retry};

/// Identifies a used ticket: its expiry in Unix time, and its id.
pub(super) type Mark = (Duration, [u8; TICKET_ID_BYTES]);

/// Checks tickets and remembers the used ones.
#[derive(Resource, Debug)]
pub(super) struct Tickets {
    key: Option<TicketKey>,
    /// Start of the gate, in Unix time, truncated to milliseconds.
    since: Duration,
    used: BTreeSet<Mark>,
    is_full: bool,
}

/// The proofs of a Hello for a new session, beside its credentials.
#[derive(Debug, Clone, Default)]
pub(super) struct Proofs {
    /// The user that the link or the ticket names.
    pub(super) user: Option<String>,
    /// True if the client has proved that it may open a session.
    pub(super) is_proof: bool,
    /// The ticket that is used up when the session opens.
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

    /// Checks the ticket and the identity of the link. `has_proof` is true if the adapter of the link has
    /// asked for a proof. `unix` is [`TickInput::unix`](crate::tick::TickInput::unix).
    ///
    /// # Errors
    ///
    /// Returns a denial if the ticket is bad, even if no ticket is needed, or if the link and the ticket name
    /// different users.
    pub(super) fn check(
        &self,
        request: &OpenRequest,
        has_proof: bool,
        unix: Duration,
    ) -> Result<Proofs, Denial> {
        let ticket = match &self.key {
            Some(key) if !request.ticket.is_empty() => Some(self.open(key, &request.ticket, unix)?),
            _ => None,
        };
        let is_proof = has_proof || request.identity.is_some() || ticket.is_some();
        let mark = ticket.as_ref().map(|ticket| (ticket.expires, ticket.id));
        let user = match (&request.identity, ticket.and_then(|ticket| ticket.identity)) {
            (Some(link), Some(ticket)) if *link != ticket => return Err(BAD_TICKET),
            (Some(identity), _) => Some(identity.clone()),
            (None, identity) => identity,
        };
        Ok(Proofs { user, is_proof, mark })
    }

    fn open(&self, key: &TicketKey, text: &str, now: Duration) -> Result<Ticket, Denial> {
        let ticket = key.open(text).map_err(|_| BAD_TICKET)?;
        let is_in_time =
            ticket.minted >= self.since && now < ticket.expires && ticket.expires <= now + AHEAD_MAX;
        let is_used = self.used.contains(&(ticket.expires, ticket.id));
        if is_in_time && !is_used {
            return Ok(ticket);
        }
        tracing::debug!(is_in_time, is_used, "ticket refused: it is genuine, but used or outside its time");
        Err(BAD_TICKET)
    }

    /// Marks a ticket as used when its session opens.
    ///
    /// # Errors
    ///
    /// Returns a denial if the ticket has expired or was used since it was checked, or if too many used
    /// tickets are remembered.
    pub(super) fn use_up(&mut self, proofs: &Proofs, now: Duration) -> Result<(), Denial> {
        let Some(mark) = proofs.mark else { return Ok(()) };
        // The ticket may have expired while an authenticator decided.
        if mark.0 <= now {
            return Err(BAD_TICKET);
        }
        while self.used.first().is_some_and(|(expires, _)| *expires <= now) {
            self.used.pop_first();
        }
        if self.used.len() >= USED_MAX {
            if !std::mem::replace(&mut self.is_full, true) {
                tracing::warn!(
                    count = self.used.len(),
                    "too many used tickets are remembered: no session opens by ticket until some of them \
                     expire; check for a login server that mints too many"
                );
            }
            return Err(TOO_MANY_TICKETS);
        }
        self.is_full = false;
        if self.used.insert(mark) { Ok(()) } else { Err(BAD_TICKET) }
    }
}

/// The denial of every ticket that opens no session. It does not show why.
pub(super) const BAD_TICKET: Denial = Denial::new(
    Reason::Unauthenticated,
    "this ticket opens no session: it is unknown, used or expired; get another from the server's discovery",
);
const TOO_MANY_TICKETS: Denial =
    Denial::later(Reason::Throttled, "too many sessions were recently opened by tickets", retry::IN_USE);
/// Longest time until a ticket may expire: twice the longest lifetime of a ticket, because the clock of the program
/// that mints tickets may be ahead of this server's clock.
const AHEAD_MAX: Duration = TICKET_EXPIRE_MAX.saturating_mul(2);
/// Maximum number of remembered used tickets, which take about 3 MiB. It allows 100 sessions per second for
/// the longest time that a ticket is remembered. Beyond it, no session opens by ticket until some have
/// expired.
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

    /// Returns a gate that starts at `START`.
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

        let proofs = tickets.check(&request(&text), false, now).expect("good");
        let second = tickets.check(&request(&text), false, now).expect("not used yet");
        assert_eq!(proofs.user.as_deref(), Some("ada"));
        tickets.use_up(&proofs, now).expect("room");

        assert_eq!(denied(&tickets, &text, now), Some(Reason::Unauthenticated), "used");
        assert!(tickets.use_up(&second, now).is_err(), "used in the same tick");
        let late = key.mint(START, TICKET_EXPIRE, None).expect("a ticket");
        now += TICKET_EXPIRE - MS;
        assert_eq!(denied(&tickets, &late, now), None, "in its last millisecond");
        now += MS;
        assert_eq!(denied(&tickets, &late, now), Some(Reason::Unauthenticated), "expired");
        let next = key.mint(START + TICKET_EXPIRE, TICKET_EXPIRE, None).expect("a ticket");
        let proofs = tickets.check(&request(&next), false, now).expect("good");
        tickets.use_up(&proofs, now).expect("room");
        assert_eq!(tickets.used.len(), 1, "expired tickets are forgotten");
    }

    #[test]
    fn a_ticket_from_before_the_start_or_too_far_ahead_opens_no_session() {
        let (key, tickets) = gate();
        let mut now = START;
        let before = key.mint(START - MS, TICKET_EXPIRE_MAX, None).expect("a ticket");
        let ahead = key.mint(START + TICKET_EXPIRE_MAX + MS, TICKET_EXPIRE_MAX, None).expect("a ticket");

        assert_eq!(denied(&tickets, &before, now), Some(Reason::Unauthenticated));
        assert_eq!(
            denied(&tickets, &ahead, now),
            Some(Reason::Unauthenticated),
            "it would have to be remembered for too long"
        );
        now += MS;
        assert_eq!(denied(&tickets, &ahead, now), None);
    }

    #[test]
    fn a_vouched_link_and_an_identity_are_proofs_and_a_bare_hello_is_not() {
        let (_, tickets) = gate();
        let linked = |identity: &str| OpenRequest { identity: Some(identity.to_owned()), ..request("") };

        let nothing = tickets.check(&request(""), false, START).expect("no ticket, so no bad one");
        let vouched = tickets.check(&request(""), true, START).expect("its connect token");
        let named = tickets.check(&linked("ada"), false, START).expect("the identity of its link");

        assert_eq!([&nothing, &vouched, &named].map(|proofs| proofs.is_proof), [false, true, true]);
        assert_eq!((vouched.user, named.user.as_deref()), (None, Some("ada")));
    }

    #[test]
    fn a_link_and_a_ticket_that_name_different_users_open_no_session() {
        let (key, tickets) = gate();
        let text = key.mint(START, TICKET_EXPIRE, Some("ada")).expect("a ticket");
        let on_link_of = |name: &str| {
            let request = OpenRequest { identity: Some(name.to_owned()), ..request(&text) };
            tickets.check(&request, true, START).map(|proofs| proofs.user).ok().flatten()
        };

        assert_eq!(on_link_of("ada").as_deref(), Some("ada"));
        assert_eq!(on_link_of("eve"), None);
    }

    #[test]
    fn beyond_the_bound_of_used_tickets_no_session_opens_by_ticket() {
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
        let proofs = tickets.check(&request(&text), false, now).expect("good");

        let denial = tickets.use_up(&proofs, now).expect_err("no room");

        assert_eq!(denial.reason, Reason::Throttled);
        assert!(denial.retry_after_ms > 0);
        assert_eq!(denied(&tickets, &text, now), None, "it is not used up");
        now += TICKET_EXPIRE;
        tickets
            .use_up(&Proofs { mark: Some((START + TICKET_EXPIRE_MAX, [1; 16])), ..proofs }, now)
            .expect("room again");
    }

    #[test]
    fn a_ticket_that_expires_before_the_verdict_opens_no_session() {
        let (key, mut tickets) = gate();
        let text = key.mint(START, TICKET_EXPIRE, None).expect("a ticket");
        let proofs = tickets.check(&request(&text), false, START + TICKET_EXPIRE - MS).expect("good");

        for _ in 0..2 {
            let denial = tickets.use_up(&proofs, START + TICKET_EXPIRE).expect_err("it has expired");
            assert_eq!(denial.reason, Reason::Unauthenticated);
        }
    }

    proptest! {
        #[test]
        fn a_forged_ticket_neither_panics_nor_opens_a_session(text in "\\PC{1,600}") {
            let (_, tickets) = gate();
            prop_assert_eq!(denied(&tickets, &text, START), Some(Reason::Unauthenticated));
        }
    }
}
