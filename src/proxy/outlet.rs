//! Sends several frames on one link with a single look-up of the link.

use bytes::Bytes;

use super::batch::Batch;
use super::open_links::{LinkSlot, OpenLink};
use super::{Proxies, ProxyCommand};
use crate::ident::{LinkId, LinkKey};

/// An open link and the batch of its proxy.
#[derive(Debug)]
pub(crate) struct LinkOutlet<'a> {
    batch: &'a mut Batch,
    open: &'a mut OpenLink,
    link: LinkId,
    is_overrun: bool,
}

impl Proxies {
    /// Returns an open link to send frames on, or `None` if the link has closed, is closing or was cut. `slot` is
    /// the position at which the link was found before; the method updates it.
    #[inline]
    pub(crate) fn outlet(&mut self, link: LinkKey, slot: &mut LinkSlot) -> Option<LinkOutlet<'_>> {
        let open = self.links.get_at(slot, link).filter(|open| !open.is_closing && !open.is_cut)?;
        let batch = &mut self.ports.get_mut(usize::from(link.proxy.0))?.batch;
        Some(LinkOutlet { batch, open, link: link.link, is_overrun: false })
    }

    /// Loads into the CPU cache what [`outlet`](Self::outlet) will read. The result has no meaning.
    pub(crate) fn prefetch(&self, slot: LinkSlot) -> bool {
        self.links.prefetch(slot)
    }
}

impl LinkOutlet<'_> {
    /// Returns true if the proxy has room for frames; see [`Proxies::has_room`].
    pub(crate) fn keeps_up(&self) -> bool {
        self.batch.has_room()
    }

    /// Returns true if the link may take another frame in this tick; see [`Proxies::room`].
    pub(crate) fn has_room(&self) -> bool {
        self.batch.has_room() && self.open.budget.room() > 0
    }

    /// Sends a frame. If the proxy has no room for link control, the frame is not sent and the link [has to be
    /// cut](Self::is_overrun).
    #[inline]
    pub(crate) fn send(&mut self, frame: Bytes) {
        if !self.batch.has_room_for_control() {
            self.is_overrun = true;
            return;
        }
        self.open.budget.spend(frame.len());
        self.batch.push(ProxyCommand::Send { link: self.link, frame });
    }

    /// Returns true if a frame was not sent. The link then has to be cut.
    pub(crate) fn is_overrun(&self) -> bool {
        self.is_overrun
    }
}
