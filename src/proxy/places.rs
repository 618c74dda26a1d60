//! Counts the links of each adapter and compares the count with the adapter's maximum.
//!
//! A full adapter refuses every client, including a client that resumes a session. Only the tick can tell links
//! with a session from guests. So an adapter declares its [maximum number of links](AdapterPort::set_places),
//! called its places. The gate keeps some places free when it opens sessions, and cuts guests before all places are
//! taken.

#[cfg(doc)]
use super::AdapterPort;
use super::{Proxies, ProxyCommand};
use crate::ident::{LinkKey, ProxyId};

/// The number of links of one adapter.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Number of links that are open.
    pub(super) open_count: usize,
    /// Number of open links that the tick has cut and that the adapter has not closed yet.
    pub(super) cut_count: usize,
}

impl Proxies {
    /// Returns the maximum number of links of a proxy, or `None` if its adapter has not declared one.
    #[must_use]
    pub fn places(&self, proxy: ProxyId) -> Option<usize> {
        self.ports.get(usize::from(proxy.0)).and_then(|port| port.told.places)
    }

    /// Returns the number of open links of a proxy. The count includes closing links and excludes links that were
    /// cut.
    #[must_use]
    pub fn link_count(&self, proxy: ProxyId) -> usize {
        self.ports.get(usize::from(proxy.0)).map_or(0, |port| port.places.link_count())
    }

    /// Closes a link at once, without a last frame. Does nothing if the link has closed or was cut before.
    pub fn cut(&mut self, link: LinkKey) {
        let Some(open) = self.links.get_mut(link).filter(|open| !open.is_cut) else { return };
        open.is_cut = true;
        if let Some(port) = self.ports.get_mut(usize::from(link.proxy.0)) {
            port.places.cut_count += 1;
        }
        self.command(link.proxy, ProxyCommand::Cut { link: link.link });
    }

    /// Returns the proxies with too few free places, each with the number of links to cut.
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

    /// Notes that a link has closed.
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

/// One in this many places of an adapter stays free for links that open between two ticks. An adapter with fewer
/// places than this keeps no place free.
const HEADROOM_SHARE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::LinkId;
    use crate::proxy::{LinkEnd, LinkInfo, ProxyEvent, ProxyEventKind};
    use crate::tick::Clock;

    #[test]
    fn a_cut_link_takes_no_place_and_is_counted_until_it_has_closed() {
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
