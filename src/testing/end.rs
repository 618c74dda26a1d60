//! A player's end of a link: of the harness, or of any transport.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::HarnessLink;
use crate::client::{Link, LinkStatus};
use crate::wire::Lane;

/// What a player sends and receives on.
#[derive(Debug)]
pub(super) enum End {
    /// In the process, on virtual time.
    Harness(HarnessLink),
    /// Over a socket, in time of its own.
    Real(RealLink),
}

/// A link of a transport, and what it has no room for yet.
pub(super) struct RealLink {
    link: Box<dyn Link>,
    /// Reliable frames. A test holds few, and all of them are its own.
    waiting: VecDeque<Bytes>,
}

impl RealLink {
    pub(super) fn new(link: Box<dyn Link>) -> Self {
        Self { link, waiting: VecDeque::new() }
    }

    /// Lets `dt` pass, takes in what the network brought, and lets leave what was handed over.
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

    /// Sends on the lane that the frame's id says, whichever was asked for. A reliable frame waits
    /// for room, behind those that wait.
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
            // A link that is gone or full loses it, as links do; the outbox has it.
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

    /// Whether it is closed or cut.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Harness(link) => link.is_closed() || link.is_cut(),
            Self::Real(link) => link.status() == LinkStatus::Closed,
        }
    }

    /// Why it ended, where its transport knows.
    pub(super) fn failure(&self) -> Option<String> {
        match self {
            Self::Harness(_) => None,
            Self::Real(link) => link.link.failure(),
        }
    }

    /// Whether unreliable frames may come before Welcome and after Closed.
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
