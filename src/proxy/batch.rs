//! Collects the commands for one adapter and bounds how many wait.
//!
//! Two kinds of commands wait: those for the next flush, and those in the port that the adapter has not taken. This
//! module bounds both together. It uses the number of commands that the adapter had taken when the tick began, so a
//! tick does not depend on what the adapter does while the tick runs. The port itself has no bound.
//!
//! - Counted frames stay in the outboxes while a proxy [has no room](super::Proxies::has_room).
//! - Unreliable frames are dropped and counted while a proxy has no room.
//! - Reliable link control, such as Acks and answers, may exceed the bound by [`CONTROL_BUDGET`]. If that is used
//!   up too, the link is cut, so that no frame is lost on an open link.
//! - Close and Cut are always added, at most one of each per link.
//! - Pause and Unpause wait while there is no room. Only the last one of each link is kept.

use std::collections::{BTreeMap, VecDeque};

use super::ProxyCommand;
use super::port::{Budget, PortSender, SizeInBytes as _, Taken};
use crate::ident::LinkId;

/// The commands for one adapter.
#[derive(Debug)]
pub(super) struct Batch {
    commands: VecDeque<ProxyCommand>,
    /// All commands since the start.
    given: Taken,
    /// The commands that the adapter had not taken when the tick began, and those added since.
    waiting: Taken,
    budget: Budget,
    /// Links to pause (true) or to unpause (false) as soon as there is room.
    pauses: BTreeMap<LinkId, bool>,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            commands: VecDeque::new(),
            given: Taken::default(),
            waiting: Taken::default(),
            budget: COMMAND_BUDGET,
            pauses: BTreeMap::new(),
        }
    }
}

impl Batch {
    /// Returns true if there is room for frames.
    pub(super) fn has_room(&self) -> bool {
        self.is_below(self.budget)
    }

    /// Returns true if there is room for link control.
    pub(super) fn has_room_for_control(&self) -> bool {
        let Budget { count, bytes } = self.budget;
        self.is_below(Budget { count: count + CONTROL_BUDGET.count, bytes: bytes + CONTROL_BUDGET.bytes })
    }

    #[inline]
    fn is_below(&self, budget: Budget) -> bool {
        self.waiting.count < budget.count as u64 && self.waiting.bytes < budget.bytes as u64
    }

    /// Replaces the bound [`COMMAND_BUDGET`], for tests.
    pub(super) fn set_budget(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// Adds a command.
    #[inline(always)]
    pub(super) fn push(&mut self, command: ProxyCommand) {
        match command {
            ProxyCommand::Pause { link } => self.pause(link, true),
            ProxyCommand::Unpause { link } => self.pause(link, false),
            command => {
                self.push_now(command);
                self.check();
            }
        }
    }

    fn pause(&mut self, link: LinkId, is_pause: bool) {
        self.pauses.insert(link, is_pause);
        self.push_pauses();
    }

    #[inline]
    fn check(&self) {
        let waiting = self.waiting.count;
        let max = (self.budget.count + CONTROL_BUDGET.count + CLOSINGS_MAX) as u64;
        if waiting > max {
            tracing::error!(waiting, max, "more commands wait for an adapter than its links allow");
        }
        debug_assert!(waiting <= max, "{waiting} commands wait for an adapter; its links allow {max}");
    }

    /// Notes how many commands the adapter has taken since the start.
    pub(super) fn note_taken(&mut self, taken: Taken) {
        self.waiting = self.given.since(taken);
        self.push_pauses();
    }

    /// Removes the waiting pause of a link that has closed.
    pub(super) fn forget(&mut self, link: LinkId) {
        self.pauses.remove(&link);
    }

    /// Moves all commands to the port and wakes the adapter. The adapter is woken even if there are no commands,
    /// because it also has work to do once per tick. A replay has no port; then the commands are discarded.
    pub(super) fn send(
        &mut self,
        port: Option<&PortSender<ProxyCommand>>,
        mut sent: impl FnMut(&ProxyCommand),
    ) {
        match port {
            Some(port) => port.send(&mut self.commands, sent),
            None => self.commands.drain(..).for_each(|command| sent(&command)),
        }
        debug_assert!(self.commands.is_empty(), "the command port has no bound");
    }

    fn push_pauses(&mut self) {
        while self.has_room()
            && let Some((link, is_pause)) = self.pauses.pop_first()
        {
            self.push_now(if is_pause {
                ProxyCommand::Pause { link }
            } else {
                ProxyCommand::Unpause { link }
            });
        }
    }

    #[inline]
    fn push_now(&mut self, command: ProxyCommand) {
        let bytes = command.size_in_bytes() as u64;
        for sum in [&mut self.given, &mut self.waiting] {
            sum.count += 1;
            sum.bytes += bytes;
        }
        self.commands.push_back(command);
    }
}

/// Bound on the commands that wait for one adapter: one second at 20 Hz and 13,000 frames per tick. The recipients
/// of a broadcast share its bytes, so this bounds work rather than memory.
pub(super) const COMMAND_BUDGET: Budget = Budget { count: 262_144, bytes: 128 * 1024 * 1024 };

/// Additional bound for link control, which no outbox keeps: a Welcome, an Ack and an answer for each of 10,000
/// links.
const CONTROL_BUDGET: Budget = Budget { count: 32_768, bytes: 4 * 1024 * 1024 };

/// Largest number of Close and Cut commands: two for each of 65,536 links. No adapter has more links.
const CLOSINGS_MAX: usize = 2 * 65_536;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::ident::LinkKey;
    use crate::proxy::port::{UNBOUNDED, port};
    use crate::proxy::{LinkInfo, Proxies, ProxyEvent, ProxyEventKind};
    use crate::tick::Clock;

    fn send(link: u64) -> ProxyCommand {
        ProxyCommand::Send { link: LinkId(link), frame: Bytes::from_static(b"frame") }
    }

    #[test]
    fn room_returns_when_the_tick_notes_what_the_adapter_has_taken() {
        let (sender, mut receiver) = port(UNBOUNDED);
        let mut batch = Batch { budget: Budget { count: 2, bytes: 1_000 }, ..Batch::default() };

        batch.push(send(1));
        assert!(batch.has_room());
        batch.push(send(2));
        batch.send(Some(&sender), |_| {});
        assert!(!batch.has_room() && batch.has_room_for_control());
        receiver.drain_all(|_| {});
        assert!(!batch.has_room(), "the tick has not noted what was taken");
        batch.note_taken(sender.taken());

        assert!(batch.has_room());
    }

    #[test]
    fn without_room_only_the_last_pause_of_each_link_waits() {
        let (sender, mut receiver) = port(UNBOUNDED);
        let mut batch = Batch { budget: Budget { count: 1, bytes: 1_000 }, ..Batch::default() };
        batch.push(send(1));
        for _ in 0..1_000 {
            batch.push(ProxyCommand::Pause { link: LinkId(1) });
            batch.push(ProxyCommand::Unpause { link: LinkId(1) });
            batch.push(ProxyCommand::Pause { link: LinkId(2) });
        }
        batch.forget(LinkId(2));

        batch.send(Some(&sender), |_| {});
        receiver.drain_all(|_| {});
        batch.note_taken(sender.taken());
        batch.send(Some(&sender), |_| {});
        let mut left = Vec::new();
        receiver.drain_all(|command| left.push(command));

        assert!(matches!(left[..], [ProxyCommand::Unpause { link: LinkId(1) }]), "{left:?}");
    }

    #[test]
    fn a_send_without_room_for_link_control_cuts_the_link() {
        let mut proxies = Proxies::default();
        let mut adapter = proxies.attach("adapter", Clock::manual());
        let link = |number| LinkKey { proxy: adapter.id, link: LinkId(number) };
        for number in [1, 2] {
            let kind = ProxyEventKind::Opened(LinkInfo::default());
            let event = ProxyEvent { link: LinkId(number), at: Duration::ZERO, kind };
            adapter.events.send(&mut [event].into(), |_| {});
        }
        proxies.take_events(|_, _| {});
        let frame = Bytes::from_static(&[0, 1]);
        let max = COMMAND_BUDGET.count + CONTROL_BUDGET.count;

        for _ in 0..max + 10 {
            proxies.send(link(1), frame.clone());
        }
        proxies.send(link(2), frame);
        proxies.send_batches(Duration::ZERO, |_| {});

        assert!(!proxies.has_room(adapter.id));
        assert_eq!((proxies.room(link(1)), proxies.room(link(2))), (0, 0));
        let mut commands = Vec::new();
        adapter.commands.drain_all(|command| commands.push(command));
        assert_eq!(commands.len(), max + 2);
        assert!(matches!(commands[max..], [ProxyCommand::Cut { .. }, ProxyCommand::Cut { .. }]));
    }
}
