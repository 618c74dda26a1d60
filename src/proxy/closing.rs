//! How a link is closed: behind a last frame that says why, and not for longer than that is of use.

use std::time::Duration;

use super::{Proxies, ProxyCommand};
use crate::ident::LinkKey;
use crate::wire::v1::{Closed, Reason};
use crate::wire::{self, CLOSE_TIMEOUT, retry};

impl Proxies {
    /// Closes a link behind a last frame that says why. It is held until that is flushed, for
    /// [`CLOSE_TIMEOUT`] at most. A link that is gone, or was told to go before, is left alone.
    pub fn close(&mut self, link: LinkKey, reason: Reason, detail: &str, now: Duration) {
        self.close_within(CLOSE_TIMEOUT, link, reason, detail, now);
    }

    /// Closes a link that its session has lost, as [`close`](Self::close) does, but holds it for a second at
    /// most.
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

    /// Links that were told to close and are not gone yet.
    #[must_use]
    pub fn closing_count(&self) -> usize {
        self.closing.len()
    }

    /// Links that are there and were not told to go, in any order.
    pub(crate) fn kept_links(&self) -> impl Iterator<Item = LinkKey> {
        self.links
            .keys()
            .filter(|link| self.links.get(*link).is_some_and(|open| !open.is_closing && !open.is_cut))
    }

    /// Cuts the links that took too long to close.
    pub(super) fn cut_overdue(&mut self, now: Duration) {
        let overdue: Vec<LinkKey> =
            self.closing.iter().filter(|(_, deadline)| **deadline <= now).map(|(link, _)| *link).collect();
        for link in overdue {
            self.closing.remove(&link);
            self.cut(link);
        }
    }
}

/// How long a link is held that its session has lost, because nothing came from its client or because its
/// client took nothing. The last frame may have to wait behind all that the network holds up, and meanwhile
/// the session's window passes, 5 s by default. Over TCP a client that sends learns from the system's reset
/// that its connection is gone, ahead of what waits, so the connection ends while most of the window is left.
const LOST_LINK_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest words on why a link was closed, in characters: a line or two to show to a player.
pub(crate) const DETAIL_MAX_CHARS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::LinkId;
    use crate::proxy::{LinkInfo, ProxyEvent, ProxyEventKind};
    use crate::tick::Clock;

    /// How long a link is held that is closed in this way and whose last frame never leaves.
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
    fn a_link_whose_session_lost_it_is_cut_while_the_session_can_still_be_resumed() {
        let lost = held_for(|proxies, link| proxies.close_lost(link, Reason::Timeout, Duration::ZERO));
        let kicked = held_for(|proxies, link| proxies.close(link, Reason::Kicked, "", Duration::ZERO));

        assert_eq!((lost, kicked), (Duration::from_secs(1), Duration::from_secs(5)));
    }
}
