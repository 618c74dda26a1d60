//! A bounded queue between two threads that is locked once a batch, not once an item.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use crate::tick::Taken;

/// What an item costs, in bytes.
pub trait Weigh {
    /// Bytes that the item carries.
    fn weight(&self) -> usize;
}

/// How much a port holds, or how much a drain takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Items.
    pub count: usize,
    /// Bytes, by [`Weigh`]. One item more than fits is let through, so that none is stuck.
    pub bytes: usize,
}

/// Makes a port that holds as much as `budget` says.
#[must_use]
pub fn port<T: Weigh>(budget: Budget) -> (PortSender<T>, PortReceiver<T>) {
    let queue = Arc::new(Mutex::new(Queue {
        items: VecDeque::new(),
        bytes: 0,
        taken: Taken::default(),
        waker: None,
    }));
    (PortSender { queue: Arc::clone(&queue), budget }, PortReceiver { queue })
}

/// The end that puts items in.
pub struct PortSender<T> {
    queue: Arc<Mutex<Queue<T>>>,
    budget: Budget,
}

/// The end that takes items out.
pub struct PortReceiver<T> {
    queue: Arc<Mutex<Queue<T>>>,
}

struct Queue<T> {
    items: VecDeque<T>,
    bytes: usize,
    taken: Taken,
    waker: Option<Box<dyn Fn() + Send>>,
}

impl<T: Weigh> PortSender<T> {
    /// Moves items from the front of `batch` into the port until it is full, telling `moved` of
    /// each, and wakes the other side. What does not fit stays in `batch`, in order.
    pub fn send(&self, batch: &mut VecDeque<T>, mut moved: impl FnMut(&T)) {
        let mut queue = lock(&self.queue);
        let fits =
            || self.budget == UNBOUNDED || batch.iter().map(T::weight).sum::<usize>() <= self.budget.bytes;
        if queue.items.is_empty() && batch.len() <= self.budget.count && fits() {
            // All of it at once.
            for item in batch.iter() {
                moved(item);
                queue.bytes += item.weight();
            }
            std::mem::swap(&mut queue.items, batch);
        }
        while queue.items.len() < self.budget.count && queue.bytes < self.budget.bytes {
            let Some(item) = batch.pop_front() else { break };
            moved(&item);
            queue.bytes += item.weight();
            queue.items.push_back(item);
        }
        queue.wake();
    }

    /// What the other side has taken by now.
    #[must_use]
    pub fn taken(&self) -> Taken {
        lock(&self.queue).taken
    }

    /// Whether the other side is gone, so that nothing sent will be read.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        Arc::strong_count(&self.queue) == 1
    }
}

impl<T: Weigh> PortReceiver<T> {
    /// Takes items in order, until the port is empty or `budget` is spent.
    pub fn drain(&mut self, budget: Budget, mut take: impl FnMut(T)) {
        let mut queue = lock(&self.queue);
        let (mut count, mut bytes) = (0, 0);
        while count < budget.count && bytes < budget.bytes {
            let Some(item) = queue.items.pop_front() else {
                break;
            };
            let weight = item.weight();
            queue.bytes -= weight;
            queue.taken.count += 1;
            queue.taken.bytes += weight as u64;
            count += 1;
            bytes += weight;
            take(item);
        }
    }

    /// Takes all there is.
    pub fn drain_all(&mut self, take: impl FnMut(T)) {
        self.drain(UNBOUNDED, take);
    }

    /// What the sender calls after each batch, to wake a thread that waits on something else.
    pub fn set_waker(&mut self, waker: impl Fn() + Send + 'static) {
        lock(&self.queue).waker = Some(Box::new(waker));
    }

    /// Whether the other side is gone, so that nothing more will come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        Arc::strong_count(&self.queue) == 1
    }
}

/// No bound: for a drain that takes all, and for a port whose sender keeps one.
pub(crate) const UNBOUNDED: Budget = Budget { count: usize::MAX, bytes: usize::MAX };

impl<T> Queue<T> {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker();
        }
    }
}

/// A panic on the other side leaves a queue of whole items: it is as good as before.
fn lock<T>(queue: &Mutex<Queue<T>>) -> MutexGuard<'_, Queue<T>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> fmt::Debug for PortSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortSender").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for PortReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortReceiver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for u8 {
        fn weight(&self) -> usize {
            usize::from(*self)
        }
    }

    #[test]
    fn a_full_port_leaves_the_rest_with_the_sender_in_order() {
        let (sender, mut receiver) = port::<u8>(Budget { count: 3, bytes: 10 });
        let mut batch = VecDeque::from([1, 2, 3, 4, 5]);

        sender.send(&mut batch, |_| {});

        assert_eq!(batch, [4, 5]);
        let mut taken = Vec::new();
        receiver.drain(Budget { count: 2, bytes: 10 }, |item| taken.push(item));
        sender.send(&mut batch, |_| {});
        receiver.drain_all(|item| taken.push(item));
        assert_eq!(taken, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn bytes_bound_a_port_as_counts_do() {
        let (sender, mut receiver) = port::<u8>(Budget { count: 100, bytes: 10 });
        let mut batch = VecDeque::from([6, 6, 6]);

        sender.send(&mut batch, |_| {});

        assert_eq!(batch, [6]);
        receiver.drain_all(|_| {});
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sender.is_closed());
    }
}
