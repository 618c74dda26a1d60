//! A bounded queue between two threads. It is locked once per batch rather than once per item.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use crate::tick::Taken;

/// An item with a size in bytes, for the bound of a port.
pub trait SizeInBytes {
    /// Returns the size of the item in bytes.
    fn size_in_bytes(&self) -> usize;
}

/// The capacity of a port, or the limit of one drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Maximum number of items.
    pub count: usize,
    /// Maximum sum of the items' [weights](SizeInBytes), in bytes. The last item may exceed what is left, so that no item
    /// is too large.
    pub bytes: usize,
}

/// Creates a port with this capacity.
#[must_use]
pub fn port<T: SizeInBytes>(budget: Budget) -> (PortSender<T>, PortReceiver<T>) {
    let queue = Arc::new(Mutex::new(Queue {
        items: VecDeque::new(),
        bytes: 0,
        taken: Taken::default(),
        waker: None,
    }));
    (PortSender { queue: Arc::clone(&queue), budget }, PortReceiver { queue })
}

/// The sending end of a port.
pub struct PortSender<T> {
    queue: Arc<Mutex<Queue<T>>>,
    budget: Budget,
}

/// The receiving end of a port.
pub struct PortReceiver<T> {
    queue: Arc<Mutex<Queue<T>>>,
}

struct Queue<T> {
    items: VecDeque<T>,
    bytes: usize,
    taken: Taken,
    waker: Option<Box<dyn Fn() + Send>>,
}

impl<T: SizeInBytes> PortSender<T> {
    /// Moves items from the front of `batch` into the port until it is full, then wakes the receiver. Calls `moved`
    /// for each item that is moved. Items that do not fit stay in `batch`, in order.
    pub fn send(&self, batch: &mut VecDeque<T>, mut moved: impl FnMut(&T)) {
        let mut queue = lock(&self.queue);
        let fits = || {
            self.budget == UNBOUNDED || batch.iter().map(T::size_in_bytes).sum::<usize>() <= self.budget.bytes
        };
        if queue.items.is_empty() && batch.len() <= self.budget.count && fits() {
            // The whole batch fits, so the queues are swapped.
            for item in batch.iter() {
                moved(item);
                queue.bytes += item.size_in_bytes();
            }
            std::mem::swap(&mut queue.items, batch);
        }
        while queue.items.len() < self.budget.count && queue.bytes < self.budget.bytes {
            let Some(item) = batch.pop_front() else { break };
            moved(&item);
            queue.bytes += item.size_in_bytes();
            queue.items.push_back(item);
        }
        queue.wake();
    }

    /// Returns the number of items and bytes that the receiver has taken since the port was created.
    #[must_use]
    pub fn taken(&self) -> Taken {
        lock(&self.queue).taken
    }

    /// Returns true if the receiver was dropped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        Arc::strong_count(&self.queue) == 1
    }
}

impl<T: SizeInBytes> PortReceiver<T> {
    /// Takes items in order, until the port is empty or `budget` is spent.
    pub fn drain(&mut self, budget: Budget, mut take: impl FnMut(T)) {
        let mut queue = lock(&self.queue);
        let (mut count, mut bytes) = (0, 0);
        while count < budget.count && bytes < budget.bytes {
            let Some(item) = queue.items.pop_front() else {
                break;
            };
            let size_in_bytes = item.size_in_bytes();
            queue.bytes -= size_in_bytes;
            queue.taken.count += 1;
            queue.taken.bytes += size_in_bytes as u64;
            count += 1;
            bytes += size_in_bytes;
            take(item);
        }
    }

    /// Takes all items, in order.
    pub fn drain_all(&mut self, take: impl FnMut(T)) {
        self.drain(UNBOUNDED, take);
    }

    /// Sets a function that the sender calls after each batch. It can wake a receiving thread that waits for
    /// something else.
    pub fn set_waker(&mut self, waker: impl Fn() + Send + 'static) {
        lock(&self.queue).waker = Some(Box::new(waker));
    }

    /// Returns true if the sender was dropped. Items that were sent before can still be taken.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        Arc::strong_count(&self.queue) == 1
    }
}

/// No bound, for a drain that takes all items and for a port whose sender keeps a bound of its own.
pub(crate) const UNBOUNDED: Budget = Budget { count: usize::MAX, bytes: usize::MAX };

impl<T> Queue<T> {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker();
        }
    }
}

/// Locks a queue. A poisoned lock is ignored: after a panic of the other side the queue still holds whole items.
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

    impl SizeInBytes for u8 {
        fn size_in_bytes(&self) -> usize {
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
    fn bytes_bound_a_port() {
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
