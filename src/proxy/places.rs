//! How many links an adapter can have, and how many it has: so that the tick can make room for others
//! before there is none.
//!
//! An adapter that is full turns every client away, one that resumes a session included. Only the tick knows
//! which links have a session, so an adapter says [how many places](AdapterPort::set_places) it has. The gate
//! then opens no more sessions than leave some places free, and cuts links without a session in time.

#[cfg(doc)]
use super::AdapterPort;
use super::{Proxies, ProxyCommand};
use crate::ident::{LinkKey, ProxyId};

/// The links of one adapter.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// How many it has.
    pub(super) open_count: usize,
    /// How many of these the tick has cut, and the adapter has not ended yet.
    pub(super) cut_count: usize,
}

impl Proxies {
    /// How many links a proxy can have at a time; `None` if its adapter does not say.
    #[must_use]
    pub fn places(&self, proxy: ProxyId) -> Option<usize> {
        self.ports.get(usize::from(proxy.0)).and_then(|port| port.told.places)
    }

    /// How many links a proxy has, those that were told to close included, those that were cut not.
    #[must_use]
    pub fn link_count(&self, proxy: ProxyId) -> usize {
        self.ports.get(usize::from(proxy.0)).map_or(0, |port| port.places.link_count())
    }

    /// Closes a link at once. A link that is gone, or was cut before, is left alone.
    pub fn cut(&mut self, link: LinkKey) {
        let Some(open) = self.links.get_mut(link).filter(|open| !open.is_cut) else { return };
        open.is_cut = true;
        if let Some(port) = self.ports.get_mut(usize::from(link.proxy.0)) {
            port.places.cut_count += 1;
        }
        self.command(link.proxy, ProxyCommand::Cut { link: link.link });
    }

    /// The proxies that have hardly a place left, and how many links each has too many.
    pub(crate) fn surpluses(&self) -> impl Iterator<Item = (ProxyId, usize)> {
        let ids = (0..=u16::MAX).map(ProxyId);
        ids.zip(&self.ports).filter_map(|(id, port)| {
            let max = port.told.places?;
            let surplus = port.places.link_count().saturating_sub(max - max / HEADROOM_SHARE);
            (surplus > 0).then_some((id, surplus))
        })
    }

    /// Notes that a link has opened.
    pub(super) fn note_opened(&mut self, link: LinkKey) {
        if self.links.open(link)
            && let Some(port) = self.ports.get_mut(usize::from(link.proxy.0))
        {
            port.places.open_count += 1;
        }
    }

    /// Notes that a link is gone.
    pub(super) fn note_closed(&mut self, link: LinkKey) {
        self.closing.remove(&link);
        let Some(open) = self.links.close(link) else { return };
        if let Some(port) = self.ports.get_mut(usize::from(link.proxy.0)) {
            port.places.open_count -= 1;
            port.places.cut_count -= usize::from(open.is_cut);
            port.batch.forget(link.link);
        }
    }
}

impl Places {
    fn link_count(&self) -> usize {
        self.open_count - self.cut_count
    }
}

/// Of an adapter's places, one in this many stays free for links that open between two ticks. An adapter with
/// fewer places than this keeps none.
const HEADROOM_SHARE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::LinkId;
    use crate::proxy::{LinkEnd, LinkInfo, ProxyEvent, ProxyEventKind};
    use crate::tick::Clock;

    #[test]
    fn a_cut_link_takes_no_place_and_is_counted_until_it_is_gone() {
        let mut proxies = Proxies::default();
        let mut adapter = proxies.attach("adapter", Clock::manual());
        adapter.set_places(32);
        let (id, link) = (adapter.id, LinkKey { proxy: adapter.id, link: LinkId(1) });
        let tell = |proxies: &mut Proxies, link: u64, kind: ProxyEventKind| {
            let event = ProxyEvent { link: LinkId(link), at: std::time::Duration::ZERO, kind };
            adapter.events.send(&mut [event].into(), |_| {});
            proxies.take_events(|_, _| {});
        };
        for number in 1..=31 {
            tell(&mut proxies, number, ProxyEventKind::Opened(LinkInfo::default()));
        }

        let before = proxies.surpluses().collect::<Vec<_>>();
        proxies.cut(link);
        proxies.cut(link);
        let after = (proxies.link_count(id), proxies.surpluses().next(), proxies.link_counts());
        tell(&mut proxies, 1, ProxyEventKind::Closed(LinkEnd::ByServer));
        tell(&mut proxies, 1, ProxyEventKind::Closed(LinkEnd::ByServer));

        assert_eq!(before, [(id, 1)], "two of 32 places stay free");
        assert_eq!(after, (30, None, vec![("adapter", 31)]));
        assert_eq!((proxies.link_count(id), proxies.link_counts()), (30, vec![("adapter", 30)]));
        let commands = &mut Vec::new();
        proxies.send_batches(std::time::Duration::ZERO, |_| {});
        adapter.commands.drain_all(|command| commands.push(command));
        assert_eq!(commands.len(), 1, "a link is cut once");
    }
}
