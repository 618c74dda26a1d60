//! Closes links: sends Closed as the last frame, and cuts the link if that frame is not delivered in time.

use std::time::Duration;

use super::{Proxies, ProxyCommand};
use crate::ident::LinkKey;
use crate::wire::v1::{Closed, Reason};
use crate::wire::{self, CLOSE_TIMEOUT, retry};

impl Proxies {
    /// Closes a link with a last frame: Closed with this reason and detail. The link stays open until the frame is
    /// flushed, for [`CLOSE_TIMEOUT`] at most. `detail` is cut to 256 characters.
    ///
    /// Does nothing if the link has closed, is closing or was cut.
    pub fn close(&mut self, link: LinkKey, reason: Reason, detail: &str, now: Duration) {
        self.close_within(CLOSE_TIMEOUT, link, reason, detail, now);
    }

    /// Closes a link that its session has lost. Works like [`close`](Self::close), but the link stays open for 1 s
    /// at most.
    pub(crate) fn close_lost(&mut self, link: LinkKey, reason: Reason, now: Duration) {
        self.close_within(LOST_LINK_TIMEOUT, link, reason, "", now);
    }

    fn close_within(&mut self, hold: Duration, link: LinkKey, reason: Reason, detail: &str, now: Duration) {
        let Some(open) = self.links.get_mut(link).filter(|open| !open.is_closing && !open.is_cut) else {
            return;
        };
        open.is_closing = true;
        let retry_after_ms = if reason == Reason::Shutdown { retry::in_ms(retry::RESTART) } else { 0 };
        let detail = detail.chars().take(DETAIL_MAX_CHARS).collect();
        let frame = wire::encode(&Closed { reason: reason.into(), detail, retry_after_ms });
        self.command(link.proxy, ProxyCommand::Close { link: link.link, frame });
        self.closing.insert(link, now + hold);
    }

    /// Returns the number of closing links.
    #[must_use]
    pub fn closing_count(&self) -> usize {
        self.closing.len()
    }

    /// Returns the open links that are not being closed, in any order.
    pub(crate) fn kept_links(&self) -> impl Iterator<Item = LinkKey> {
        self.links
            .keys()
            .filter(|link| self.links.get(*link).is_some_and(|open| !open.is_closing && !open.is_cut))
    }

    /// Cuts the closing links whose deadline has passed.
    pub(super) fn cut_overdue(&mut self, now: Duration) {
        let overdue: Vec<LinkKey> =
            self.closing.iter().filter(|(_, deadline)| **deadline <= now).map(|(link, _)| *link).collect();
        for link in overdue {
            self.closing.remove(&link);
            self.cut(link);
        }
    }
}

/// How long a link that its session has lost stays open. The session has lost the link because nothing was received
/// on it, or because its client did not read. So the last frame may be held up by the network while the time for a
/// resume passes, which is 5 s by default. When the server cuts a TCP connection, a client that sends gets a reset
/// ahead of the data that waits. The link is therefore cut while most of the time for a resume is left.
const LOST_LINK_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum length of the `detail` of a Closed, in characters.
pub(crate) const DETAIL_MAX_CHARS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::LinkId;
    use crate::proxy::{LinkInfo, ProxyEvent, ProxyEventKind};
    use crate::tick::Clock;

    /// Returns how long a link stays open after `close` if its last frame is never flushed.
    fn held_for(close: fn(&mut Proxies, LinkKey)) -> Duration {
        let mut proxies = Proxies::default();
        let mut adapter = proxies.attach("adapter", Clock::manual());
        let link = LinkKey { proxy: adapter.id, link: LinkId(1) };
        let kind = ProxyEventKind::Opened(LinkInfo::default());
        adapter.events.send(&mut [ProxyEvent { link: link.link, at: Duration::ZERO, kind }].into(), |_| {});
        proxies.take_events(|_, _| {});
        close(&mut proxies, link);
        let mut now = Duration::ZERO;
        loop {
            proxies.send_batches(now, |_| {});
            let mut is_cut = false;
            adapter.commands.drain_all(|command| is_cut |= matches!(command, ProxyCommand::Cut { .. }));
            if is_cut {
                return now;
            }
            now += Duration::from_millis(50);
        }
    }

    #[test]
    fn a_lost_link_is_cut_while_its_session_can_still_be_resumed() {
        let lost = held_for(|proxies, link| proxies.close_lost(link, Reason::Timeout, Duration::ZERO));
        let kicked = held_for(|proxies, link| proxies.close(link, Reason::Kicked, "", Duration::ZERO));

        assert_eq!((lost, kicked), (Duration::from_secs(1), Duration::from_secs(5)));
    }
}
