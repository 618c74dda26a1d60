//! A player's end of a link, which is a link of the harness or of any transport.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::HarnessLink;
use crate::client::{Link, LinkStatus};
use crate::wire::Lane;

/// The client's end of a link.
#[derive(Debug)]
pub(super) enum End {
    /// A link within the process, on virtual time.
    Harness(HarnessLink),
    /// A link of a transport.
    Real(RealLink),
}

/// A link of a transport, and the reliable frames that it has no room for.
pub(super) struct RealLink {
    link: Box<dyn Link>,
    /// The reliable frames that wait. The test itself bounds them.
    waiting: VecDeque<Bytes>,
}

impl RealLink {
    pub(super) fn new(link: Box<dyn Link>) -> Self {
        Self { link, waiting: VecDeque::new() }
    }

    /// Advances the link by `dt`, and sends the frames that wait.
    pub(super) fn step(&mut self, dt: Duration) {
        self.link.update(dt);
        while let Some(frame) = self.waiting.front()
            && self.link.send(frame.clone())
        {
            self.waiting.pop_front();
        }
        self.link.flush();
    }

    pub(super) fn status(&self) -> LinkStatus {
        self.link.status()
    }

    /// Sends a frame on the lane of its id. On the reliable `lane`, a frame that does not fit waits behind those that
    /// wait already. On the unreliable `lane` it is dropped.
    fn send(&mut self, lane: Lane, frame: Bytes) {
        let sent = (lane == Lane::Unreliable || self.waiting.is_empty()) && self.link.send(frame.clone());
        if !sent && lane == Lane::Reliable {
            self.waiting.push_back(frame);
        }
    }
}

impl End {
    pub(super) fn send(&mut self, lane: Lane, frame: Bytes) {
        match self {
            // A closed or full link loses the frame. The outbox still has it.
            Self::Harness(link) => drop(HarnessLink::send(link, lane, frame)),
            Self::Real(link) => link.send(lane, frame),
        }
    }

    pub(super) fn receive(&mut self) -> Option<Bytes> {
        match self {
            Self::Harness(link) => HarnessLink::receive(link),
            Self::Real(link) => link.link.receive().map(|(_, frame)| frame),
        }
    }

    pub(super) fn close(&mut self) {
        match self {
            Self::Harness(link) => HarnessLink::close(link),
            Self::Real(link) => link.link.close(),
        }
    }

    /// Returns true if the link is closed or cut.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Harness(link) => link.is_closed() || link.is_cut(),
            Self::Real(link) => link.status() == LinkStatus::Closed,
        }
    }

    /// Returns why the link ended, if the transport reports a reason.
    pub(super) fn failure(&self) -> Option<String> {
        match self {
            Self::Harness(_) => None,
            Self::Real(link) => link.link.failure(),
        }
    }

    /// Returns true if unreliable frames may arrive before Welcome and after Closed.
    pub(super) fn may_reorder(&self) -> bool {
        match self {
            Self::Harness(link) => link.was_faulty(),
            Self::Real(_) => true,
        }
    }
}

impl fmt::Debug for RealLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealLink")
            .field("status", &self.status())
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}
