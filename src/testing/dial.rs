//! The client library's way into a test: links within the process.

use std::time::Duration;

use bytes::Bytes;

use crate::client::{Dial, DialError, Link, LinkStatus};
use crate::proxy::LinkInfo;
use crate::proxy::loopback::{Loopback, LoopbackLink};
use crate::wire::{Lane, lane_of};

/// Opens links for a [`Client`](crate::client::Client), each through the other proxy.
#[derive(Debug, Clone)]
pub struct HarnessDial {
    proxies: [Loopback; 2],
    count: usize,
}

/// A link of a [`HarnessDial`].
#[derive(Debug)]
pub struct HarnessLink(LoopbackLink);

impl HarnessDial {
    pub(super) fn new(proxies: [Loopback; 2]) -> Self {
        Self { proxies, count: 0 }
    }
}

impl Dial for HarnessDial {
    type Link = HarnessLink;

    fn dial(&mut self) -> Result<HarnessLink, DialError> {
        self.count += 1;
        Ok(HarnessLink(self.proxies[self.count % 2].connect(LinkInfo::default())))
    }
}

impl Link for HarnessLink {
    fn update(&mut self, _dt: Duration) {}

    fn status(&self) -> LinkStatus {
        if self.0.is_closed() { LinkStatus::Closed } else { LinkStatus::Open }
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        let frame = self.0.receive()?;
        Some((lane_of(&frame), frame))
    }

    fn send(&mut self, frame: Bytes) -> bool {
        self.0.send(lane_of(&frame), frame).is_ok()
    }

    fn flush(&mut self) {}

    fn close(&mut self) {
        self.0.close();
    }
}
