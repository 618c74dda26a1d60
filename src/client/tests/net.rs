//! Implements links in memory that fail as planned.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::client::{Dial, DialError, Link, LinkStatus};
use crate::wire::Lane;

/// What happens to one link, in frames of the reliable lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Number of frames that reach the server before the link fails.
    pub(crate) up: usize,
    /// Number of frames that reach the client before the link fails.
    pub(crate) down: usize,
    /// True if both ends see the failure, false if frames are lost silently.
    pub(crate) told: bool,
    /// Number of frames that the link takes between two flushes.
    pub(crate) room: usize,
}

impl Plan {
    pub(crate) const PERFECT: Self = Self { up: usize::MAX, down: usize::MAX, told: true, room: usize::MAX };
}

#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) up: VecDeque<(Lane, Bytes)>,
    down: VecDeque<(Lane, Bytes)>,
    plan: Plan,
    room: usize,
    opening: bool,
    age: Duration,
    dead: bool,
    /// True if the server can see that the link is closed.
    pub(crate) closed: bool,
    /// True if the client has dropped its end.
    pub(crate) dropped: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) wires: Vec<Wire>,
    /// Plans of the next links. Further links do not fail.
    pub(crate) plans: VecDeque<Plan>,
    /// True if dialling fails.
    pub(crate) refusing: bool,
    /// True if links do not open.
    pub(crate) stuck: bool,
    /// True if all frames of a link share one stream.
    pub(crate) is_stream: bool,
    /// Index of the first link whose frames reach the server. Frames on earlier links do not arrive.
    pub(crate) heard_from: usize,
    /// Time that a link takes to open.
    pub(crate) opens_in: Duration,
    /// Time from the opening of a link to its first frame from the server.
    pub(crate) answers_in: Duration,
    pub(crate) dials: usize,
    /// Tickets of the next links. Further links have no ticket.
    pub(crate) tickets: VecDeque<&'static str>,
    /// What [`Dial::renews_tickets`] returns.
    pub(crate) renews_tickets: bool,
}

pub(crate) type Shared = Rc<RefCell<Net>>;

#[derive(Debug)]
pub(crate) struct TestDial(pub(crate) Shared);

#[derive(Debug)]
pub(crate) struct TestLink {
    net: Shared,
    index: usize,
    ticket: Option<&'static str>,
}

impl Dial for TestDial {
    type Link = TestLink;

    fn dial(&mut self) -> Result<TestLink, DialError> {
        let mut net = self.0.borrow_mut();
        net.dials += 1;
        if net.refusing {
            return Err(DialError::Other("refused".to_owned()));
        }
        let plan = net.plans.pop_front().unwrap_or(Plan::PERFECT);
        let opening = net.stuck || !net.opens_in.is_zero();
        net.wires.push(Wire {
            up: VecDeque::new(),
            down: VecDeque::new(),
            plan,
            room: plan.room,
            opening,
            age: Duration::ZERO,
            dead: false,
            closed: false,
            dropped: false,
        });
        let ticket = net.tickets.pop_front();
        Ok(TestLink { net: Rc::clone(&self.0), index: net.wires.len() - 1, ticket })
    }

    fn renews_tickets(&self) -> bool {
        self.0.borrow().renews_tickets
    }
}

impl Link for TestLink {
    fn update(&mut self, dt: Duration) {
        let mut net = self.net.borrow_mut();
        let (is_stuck, opens_in) = (net.stuck, net.opens_in);
        let wire = &mut net.wires[self.index];
        wire.age += dt;
        wire.opening &= is_stuck || wire.age < opens_in;
    }

    fn status(&self) -> LinkStatus {
        let wire = &self.net.borrow().wires[self.index];
        if wire.closed {
            LinkStatus::Closed
        } else if wire.opening {
            LinkStatus::Opening
        } else {
            LinkStatus::Open
        }
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        let mut net = self.net.borrow_mut();
        let answers_at = net.opens_in + net.answers_in;
        let wire = &mut net.wires[self.index];
        if wire.age < answers_at {
            return None;
        }
        wire.down.pop_front()
    }

    fn send(&mut self, frame: Bytes) -> bool {
        let mut net = self.net.borrow_mut();
        let is_heard = self.index >= net.heard_from;
        let wire = &mut net.wires[self.index];
        if wire.closed || wire.room == 0 {
            return false;
        }
        wire.room -= 1;
        if is_heard {
            wire.carry_up(frame);
        }
        true
    }

    fn is_stream(&self) -> bool {
        self.net.borrow().is_stream
    }

    fn flush(&mut self) {
        let wire = &mut self.net.borrow_mut().wires[self.index];
        wire.room = wire.plan.room;
    }

    fn ticket(&self) -> Option<&str> {
        self.ticket
    }

    fn close(&mut self) {
        let wire = &mut self.net.borrow_mut().wires[self.index];
        // A link that has failed silently cannot inform its peer.
        wire.closed |= !wire.dead;
    }
}

impl Drop for TestLink {
    fn drop(&mut self) {
        self.net.borrow_mut().wires[self.index].dropped = true;
    }
}

impl Wire {
    fn carry_up(&mut self, frame: Bytes) {
        let lane = lane(&frame);
        if spend(&mut self.plan.up, lane) && !self.dead {
            self.up.push_back((lane, frame));
        } else {
            self.die();
        }
    }

    /// Sends a frame of the server.
    pub(crate) fn carry_down(&mut self, frame: Bytes) {
        let lane = lane(&frame);
        self.carry_down_on(lane, frame);
    }

    /// Sends a frame of the server on this lane.
    pub(crate) fn carry_down_on(&mut self, lane: Lane, frame: Bytes) {
        if spend(&mut self.plan.down, lane) && !self.dead {
            self.down.push_back((lane, frame));
        } else {
            self.die();
        }
    }

    fn die(&mut self) {
        self.dead = true;
        self.closed |= self.plan.told;
    }
}

fn lane(frame: &Bytes) -> Lane {
    if frame[0] & 0x80 == 0 { Lane::Reliable } else { Lane::Unreliable }
}

fn spend(budget: &mut usize, lane: Lane) -> bool {
    if lane == Lane::Unreliable {
        return true;
    }
    let left = *budget > 0;
    *budget = budget.saturating_sub(1);
    left
}
