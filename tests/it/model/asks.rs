//! Models row 6b in plain Rust: a zone that asks the game.

use waystation::wire::v1::Reason;

use super::parts::{Ask, Asking};
use super::reference::Reference;

impl Reference {
    pub(super) fn open_ask(&mut self, session: usize, request: u32, zone: usize) {
        self.asks_opened += 1;
        let (number, zone_id, deadline) = (self.asks_opened, self.zone_id(zone), self.now + ASK_TIMEOUT);
        self.sessions[session].ask = Some(Ask { number, zone, zone_id, request, deadline });
        self.next.asks.push((session, Asking::Requested(number)));
    }

    /// Applies the game's answer to an ask. An answer to an ask that has ended is only counted.
    pub(super) fn answer(&mut self, session: usize, number: u64, yes: bool) {
        let Some(ask) = self.sessions[session].ask.take_if(|ask| ask.number == number) else {
            self.late_count += 1;
            return self.notes.push("Late answer");
        };
        let Ask { request, zone, .. } = ask;
        match self.obstacle(session, zone) {
            _ if !yes => self.refuse(session, request, Reason::Refused),
            Some(obstacle) => {
                self.refuse(session, request, obstacle.reason());
                self.refuse_game(session, obstacle);
                self.notes.push("Accepted and full");
            }
            None => {
                self.enter(session, request, zone);
                self.notes.push("Accepted");
            }
        }
    }

    /// Cancels an ask that the game has not answered. The client and the game are informed.
    pub(super) fn cancel_ask(&mut self, session: usize, reason: Reason) {
        if let Some(ask) = self.sessions[session].ask.take() {
            self.refuse(session, ask.request, reason);
            self.next.asks.push((session, Asking::Cancelled(reason)));
        }
    }

    /// Cancels an ask and informs only the game, as at the end of a session and at a resync.
    pub(super) fn forget_ask(&mut self, session: usize) {
        if self.sessions[session].ask.take().is_some() {
            self.next.asks.push((session, Asking::Cancelled(Reason::Cancelled)));
        }
    }

    /// Cancels the asks to join zones that were removed.
    pub(super) fn cancel_razed_asks(&mut self) {
        let razed = std::mem::take(&mut self.razed);
        self.cancel_asks(Reason::NoSuchZone, |ask| razed.contains(&ask.zone_id));
    }

    pub(super) fn expire_asks(&mut self) {
        let now = self.now;
        self.cancel_asks(Reason::Cancelled, |ask| ask.deadline <= now);
    }

    /// Cancels the asks of live sessions for which `is_over` returns true.
    pub(super) fn cancel_asks(&mut self, reason: Reason, is_over: impl Fn(&Ask) -> bool) {
        for number in 0..self.sessions.len() {
            let session = &self.sessions[number];
            if session.is_there() && session.ask.as_ref().is_some_and(&is_over) {
                self.cancel_ask(number, reason);
            }
        }
    }
}

/// The time in which the game must answer an ask, in milliseconds.
const ASK_TIMEOUT: u64 = 5_000;
