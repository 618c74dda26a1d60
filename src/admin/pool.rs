//! Bounds the number of HTTP connections, and closes idle ones to make room for new ones.
//!
//! The pool groups connections by network. When there are too many, the longest idle connection of the network with
//! the most connections is closed. So an attacker who opens idle connections displaces only the attacker's own, and
//! any number of players behind one address can connect while there is room.
//!
//! A connection is idle since its last request, or since it was opened. A request counts when its head is complete.
//! A connection that becomes a link over WebSocket leaves the pool.
//!
//! Data flow: a connection enters → it notes each request → it is put out, or leaves.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::proxy::Network;
use crate::proxy::grouped::{Grouped, Spot};

/// The pool, which the tasks of one thread share.
#[derive(Debug, Clone)]
pub(super) struct Pool(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    max: usize,
    /// The members that were not put out, each with the notification that puts it out. Within a group they are
    /// ordered by their last request.
    exits: Grouped<Group, Rc<Notify>>,
    /// Number of members that exist: those in `exits`, and those that were put out and have not ended.
    held_count: usize,
    /// The number of the last connection that entered without the address of its client.
    last_untold: u64,
}

/// The group in which a connection counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// A group for one connection of a relay, while the relay has not reported its client.
    Untold(u64),
    /// The connections of one network.
    Of(Network),
}

/// A connection in the pool, until it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    pool: Pool,
    spot: Cell<Spot<Group>>,
    exit: Rc<Notify>,
}

impl Pool {
    /// Creates a pool for up to `max` connections, at least one.
    pub(super) fn new(max: usize) -> Self {
        Self(Rc::new(RefCell::new(State { max: max.max(1), ..State::default() })))
    }

    /// Adds a connection. `address` is the address of its client, if that is known. If there are too many
    /// connections, puts out another one.
    pub(super) fn enter(&self, address: Option<IpAddr>) -> Member {
        let mut state = self.0.borrow_mut();
        let group = match address {
            Some(ip) => Group::Of(Network::of(ip)),
            None => {
                state.last_untold += 1;
                Group::Untold(state.last_untold)
            }
        };
        let exit = Rc::new(Notify::new());
        let spot = state.exits.enter(group, Rc::clone(&exit));
        state.held_count += 1;
        if state.exits.count() > state.max {
            state.put_one_out();
        }
        Member { pool: self.clone(), spot: Cell::new(spot), exit }
    }

    /// Puts out the longest idle connection of the network with the most connections. Returns false if there is no
    /// connection.
    pub(super) fn put_one_out(&self) -> bool {
        self.0.borrow_mut().put_one_out()
    }

    /// Waits until all connections that were put out have ended.
    pub(super) async fn settle(&self) {
        // The connections end when their tasks run.
        while self.has_leaving() {
            yield_now().await;
        }
    }

    fn has_leaving(&self) -> bool {
        let state = self.0.borrow();
        state.held_count > state.exits.count()
    }
}

impl State {
    fn put_one_out(&mut self) -> bool {
        let Some((spot, _)) = self.exits.first_of_fullest() else { return false };
        self.exits.leave(spot).inspect(|exit| exit.notify_one());
        true
    }
}

impl Member {
    /// Notes a request on the connection by a client at this address.
    pub(super) fn asked(&self, address: IpAddr) {
        let mut state = self.pool.0.borrow_mut();
        let Some(exit) = state.exits.leave(self.spot.get()) else { return };
        self.spot.set(state.exits.enter(Group::Of(Network::of(address)), exit));
    }

    /// Waits until the connection is put out.
    pub(super) async fn put_out(&self) {
        self.exit.notified().await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.pool.0.borrow_mut();
        state.exits.leave(self.spot.get());
        state.held_count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use std::time::Duration;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Returns true if a member was put out.
    fn is_out(member: &Member) -> bool {
        !member.pool.0.borrow().exits.holds(member.spot.get())
    }

    fn outs(members: &[Member]) -> Vec<bool> {
        members.iter().map(is_out).collect()
    }

    #[test]
    fn the_longest_idle_connection_of_the_largest_network_is_put_out_first() {
        let pool = Pool::new(4);
        let quiet = pool.enter(Some(ip(1)));
        let grouped: Vec<Member> = (0..3).map(|_| pool.enter(Some(ip(2)))).collect();
        grouped[0].asked(ip(2));

        let newcomer = pool.enter(Some(ip(3)));

        assert_eq!(outs(&grouped), [false, true, false], "the first one has sent a request meanwhile");
        assert!(!is_out(&quiet) && !is_out(&newcomer));
    }

    #[test]
    fn a_network_that_would_outgrow_others_puts_out_its_own_connections() {
        let pool = Pool::new(10);
        let others: Vec<Member> = (0..5).map(|_| pool.enter(Some(ip(1)))).collect();

        let flood: Vec<Member> = (0..1_000).map(|_| pool.enter(Some(ip(2)))).collect();

        assert!(others.iter().all(|member| !is_out(member)), "a tie would put one of them out");
        assert_eq!(flood.iter().filter(|member| !is_out(member)).count(), 5);
    }

    #[test]
    fn networks_are_ipv4_addresses_and_64_bits_of_ipv6() {
        let pool = Pool::new(3);
        let v6 = |bits: u128| IpAddr::V6(((0x2001_0DB8_u128 << 96) | bits).into());
        let alone = pool.enter(Some(v6(1 << 64)));
        let same = [pool.enter(Some(v6(1))), pool.enter(Some(v6(2)))];

        let _newcomer = pool.enter(Some(ip(1)));

        assert!(is_out(&same[0]) && !is_out(&same[1]) && !is_out(&alone));
    }

    #[test]
    fn a_relayed_connection_counts_alone_until_the_relay_reports_its_client() {
        let pool = Pool::new(6);
        let greedy: Vec<Member> = (0..2).map(|_| pool.enter(Some(ip(1)))).collect();
        let relayed: Vec<Member> = (0..4).map(|_| pool.enter(None)).collect();

        let _first = pool.enter(None);
        assert_eq!(outs(&greedy), [true, false]);
        for member in &relayed[..3] {
            member.asked(ip(9));
        }
        let _second = pool.enter(None);

        assert_eq!(outs(&relayed), [true, false, false, false]);
    }

    #[test]
    fn a_connection_that_ends_makes_room_and_leaves_no_state() {
        let pool = Pool::new(2);
        let first = pool.enter(Some(ip(1)));
        drop(pool.enter(Some(ip(1))));
        let second = pool.enter(Some(ip(2)));
        assert!(!is_out(&first) && !is_out(&second));

        drop((first, second));

        let state = pool.0.borrow();
        assert!(state.exits.groups().is_empty() && state.exits.count() == 0 && state.held_count == 0);
    }

    #[test]
    fn a_connection_that_was_put_out_is_notified_and_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let pool = Pool::new(1);
            let first = pool.enter(Some(ip(1)));
            let task = tokio::task::spawn_local(async move { first.put_out().await });

            let second = pool.enter(Some(ip(2)));
            assert!(pool.has_leaving());
            pool.settle().await;

            assert!(task.is_finished() && !is_out(&second));
            assert!(timeout(Duration::ZERO, second.put_out()).await.is_err(), "it stays");
            assert!(pool.put_one_out());
            second.put_out().await;
            assert!(!pool.put_one_out(), "there is no other connection");
        });
    }
}
