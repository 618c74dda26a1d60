//! Opens UDP sockets for links, on ports that were not used recently.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// Opens a socket that sends to `peer` without blocking, on a port that this process has not used recently.
///
/// A server keeps the address of a link that was lost silently or is being closed, and meanwhile accepts no other
/// link from this address. Without this function, a process with many clients would sometimes get the same port
/// again.
pub(super) fn open(peer: SocketAddr) -> io::Result<UdpSocket> {
    // Rejected sockets stay open until this function returns, so that the system selects other ports.
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

/// Opens a socket that sends to `peer` without blocking, on any port.
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

/// The ports that were used recently, oldest first.
struct Recent(Mutex<VecDeque<u16>>);

impl Recent {
    /// Notes the use of a port. Returns false, and notes nothing, if the port was used recently.
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

/// The number of ports that count as recently used: a seventh of the ports that Linux selects from. 1,000 clients
/// that reconnect every 4 s use a port again after 16 s, when no server keeps it any longer.
const RESTING_MAX: usize = 4_096;
/// The most sockets that are rejected for one link. Then any port is accepted, because ports are scarce.
const OFFERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_used_again_only_after_many_others() {
        let recent = Recent(Mutex::new(VecDeque::new()));

        assert!(recent.note(1));
        assert!(!recent.note(1));
        for port in 2..=u16::try_from(RESTING_MAX).expect("a port number") {
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
