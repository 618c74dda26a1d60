//! The UDP socket of the UDP and QUIC adapters.
//!
//! The socket has large kernel buffers. A send waits for a full socket, for a bounded time per turn of the loop.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Socket, Type};

/// Smallest kernel buffer of a socket that a configuration may ask for, in bytes: about 40 full datagrams.
pub(super) const SOCKET_BUFFER_MIN_BYTES: usize = 64 * 1024;

/// Binds a nonblocking socket. Logs a warning if a kernel buffer is less than half of `buffer_bytes`.
pub(super) fn bind(listen: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    enlarge(&socket, buffer_bytes);
    socket.bind(&listen.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

fn enlarge(socket: &Socket, wanted: usize) {
    // The sizes that the kernel has granted are read below.
    let _ = socket.set_recv_buffer_size(wanted);
    let _ = socket.set_send_buffer_size(wanted);
    let receive = socket.recv_buffer_size().unwrap_or_default();
    let send = socket.send_buffer_size().unwrap_or_default();
    if receive.min(send) < wanted / 2 {
        tracing::warn!(
            wanted,
            receive,
            send,
            "the kernel's buffers for a UDP socket are too small, so bursts of datagrams will be lost; \
             raise net.core.rmem_max and net.core.wmem_max with sysctl"
        );
    }
}

/// The sending side of a socket, with counts.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) socket: UdpSocket,
    /// Datagrams sent since the caller last reset the count.
    pub(super) sent_count: u64,
    /// Socket errors since the caller last reset the count.
    pub(super) error_count: u64,
    /// Number of waits for a full socket that are left in this turn of the loop.
    waits: u32,
}

impl Outgoing {
    pub(super) fn new(socket: UdpSocket) -> Self {
        Self { socket, sent_count: 0, error_count: 0, waits: 0 }
    }

    /// Begins a turn of the loop, with the full number of waits.
    pub(super) fn begin_turn(&mut self) {
        self.waits = WAITS_MAX;
    }

    /// Sends a datagram, or drops it on an error. The protocol above retransmits what has to arrive.
    pub(super) fn send(&mut self, datagram: &[u8], to: SocketAddr) {
        loop {
            match self.socket.send_to(datagram, to) {
                Ok(_) => self.sent_count += 1,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.waits > 0 => {
                    self.waits -= 1;
                    thread::sleep(WAIT);
                    continue;
                }
                Err(error) => {
                    self.error_count += 1;
                    tracing::debug!(%error, %to, "cannot send a datagram");
                }
            }
            return;
        }
    }
}

/// Number of waits for a full socket in one turn of the loop. Together they last 5 ms, a tenth of a tick at 20 Hz.
const WAITS_MAX: u32 = 10;
const WAIT: Duration = Duration::from_micros(500);
