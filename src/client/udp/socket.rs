//! Sockets for links, one each, on ports that rest between two uses.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// A socket that sends to `peer` without ever blocking, on a port that this process has not used
/// of late: a server holds the address of a link that was lost silently, or is being closed, and
/// answers no other link from there until it has let go. A process with many clients would now
/// and then get such a port again.
pub(super) fn open(peer: SocketAddr) -> io::Result<UdpSocket> {
    // Those that were not taken stay open until one is, so that the system offers another.
    let mut refused = Vec::new();
    loop {
        let socket = bind(peer)?;
        let port = socket.local_addr()?.port();
        if refused.len() >= OFFERS_MAX || RECENT.note(port) {
            return Ok(socket);
        }
        refused.push(socket);
    }
}

/// A socket that sends to `peer` without ever blocking, on any port.
pub(in crate::client) fn bind(peer: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(peer)?;
    Ok(socket)
}

/// The ports that were used last, oldest first.
struct Recent(Mutex<VecDeque<u16>>);

impl Recent {
    /// Notes the use of a port; false, and nothing is noted, if it was used of late.
    fn note(&self, port: u16) -> bool {
        let mut ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ports.contains(&port) {
            return false;
        }
        if ports.len() >= RESTING_MAX {
            ports.pop_front();
        }
        ports.push_back(port);
        true
    }
}

static RECENT: Recent = Recent(Mutex::new(VecDeque::new()));

/// Ports that rest: a thousand clients that come back every four seconds use one again after
/// sixteen, when no server holds it any more. A seventh of what Linux offers.
const RESTING_MAX: usize = 4_096;
/// Offers of the system that are turned down for one link; where ports are scarce, any will do.
const OFFERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_rests_until_many_others_were_used() {
        let recent = Recent(Mutex::new(VecDeque::new()));

        assert!(recent.note(1));
        assert!(!recent.note(1));
        for port in 2..=u16::try_from(RESTING_MAX).expect("fewer than there are ports") {
            assert!(recent.note(port));
        }
        assert!(!recent.note(1));
        assert!(recent.note(5_000));

        assert!(recent.note(1));
    }

    #[test]
    fn no_two_links_in_a_row_have_the_same_port() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut ports = Vec::new();

        for _ in 0..200 {
            let socket = open(peer).expect("a socket");
            ports.push(socket.local_addr().expect("bound").port());
        }

        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 200);
    }
}
