//! A socket of datagrams, for the adapters over UDP.
//!
//! It binds with large buffers, and sends without ever blocking for long. It does not know what
//! a datagram means.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Socket, Type};

/// The smallest buffer of a socket in the kernel, in bytes: some 40 full datagrams.
pub(super) const SOCKET_BUFFER_MIN_BYTES: usize = 64 * 1024;

/// Binds a nonblocking socket. Buffers that are smaller than asked for are no error, but a warning.
pub(super) fn bind(listen: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    enlarge(&socket, buffer_bytes);
    socket.bind(&listen.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

fn enlarge(socket: &Socket, wanted: usize) {
    // What counts is what is there afterwards.
    let _ = socket.set_recv_buffer_size(wanted);
    let _ = socket.set_send_buffer_size(wanted);
    let receive = socket.recv_buffer_size().unwrap_or_default();
    let send = socket.send_buffer_size().unwrap_or_default();
    if receive.min(send) < wanted / 2 {
        tracing::warn!(
            wanted,
            receive,
            send,
            "the socket's buffers are small, and bursts will be lost: raise net.core.rmem_max and \
             net.core.wmem_max with sysctl"
        );
    }
}

/// Sends datagrams.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) socket: UdpSocket,
    /// Sent since the caller last took it.
    pub(super) sent_count: u64,
    /// Not sent, the same.
    pub(super) error_count: u64,
    /// How often it may still wait for a full socket in this turn of the loop.
    waits: u32,
}

impl Outgoing {
    pub(super) fn new(socket: UdpSocket) -> Self {
        Self { socket, sent_count: 0, error_count: 0, waits: 0 }
    }

    /// Begins a turn of the loop.
    pub(super) fn begin_turn(&mut self) {
        self.waits = WAITS_MAX;
    }

    /// Sends, or loses, a datagram. Who needs it to arrive sends it again.
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
                    tracing::debug!(%error, %to, "a datagram could not be sent");
                }
            }
            return;
        }
    }
}

/// Waits for a full socket in one turn of the loop: 5 ms in all, a tenth of a tick.
const WAITS_MAX: u32 = 10;
const WAIT: Duration = Duration::from_micros(500);
