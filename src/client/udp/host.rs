//! Implements the server's end of UDP links for tests, with one thread and a clock of its own, without a guard.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use bytes::Bytes;
use renet::RenetServer;
use renetcode::{
    ConnectToken, NETCODE_MAX_PACKET_BYTES, NetcodeServer, ServerAuthentication, ServerConfig, ServerResult,
};

use crate::wire::udp::{
    CHANNEL_RELIABLE, CHANNEL_UNRELIABLE, DEV_KEY, NETCODE_PROTOCOL_ID, TokenMint, connection_config,
};

pub(crate) struct Host {
    socket: UdpSocket,
    netcode: NetcodeServer,
    renet: RenetServer,
    /// Links that have opened, in order.
    pub(crate) opened: Vec<u64>,
    /// Links that have closed, in order.
    pub(crate) closed: Vec<u64>,
}

impl Host {
    pub(crate) fn bind() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let address = socket.local_addr().unwrap();
        let netcode = NetcodeServer::new(ServerConfig {
            current_time: UNIX_NOW,
            max_clients: 64,
            protocol_id: NETCODE_PROTOCOL_ID,
            public_addresses: vec![address],
            authentication: ServerAuthentication::Secure { private_key: DEV_KEY },
        });
        Self {
            socket,
            netcode,
            renet: RenetServer::new(connection_config()),
            opened: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// Returns a source of fresh tokens with the link ids `first`, `first` + 1 and so on.
    pub(crate) fn tokens(&self, first: u64) -> impl FnMut() -> Result<ConnectToken, String> + Send + 'static {
        let mint = TokenMint::new(DEV_KEY, vec![self.socket.local_addr().unwrap()]);
        let mut next = first;
        move || {
            next += 1;
            mint.mint(UNIX_NOW, next - 1, None).map_err(|error| error.to_string())
        }
    }

    /// Lets time pass, receives datagrams, and sends what is due.
    pub(crate) fn pump(&mut self, dt: Duration) {
        let mut buffer = [0; NETCODE_MAX_PACKET_BYTES];
        // Waits a little for the first datagram, to pace the test, and then reads without waiting.
        self.socket.set_nonblocking(false).unwrap();
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            self.socket.set_nonblocking(true).unwrap();
            let result = self.netcode.process_packet(from, &mut buffer[..length]);
            handle(result, from, &self.socket, &mut self.renet, &mut self.opened, &mut self.closed);
        }
        self.renet.update(dt);
        self.netcode.update(dt);
        for id in self.netcode.clients_id() {
            let Some(peer) = self.netcode.client_addr(id) else {
                continue;
            };
            for packet in self.renet.get_packets_to_send(id).unwrap_or_default() {
                if let Ok((to, datagram)) = self.netcode.generate_payload_packet(id, &packet) {
                    let _ = self.socket.send_to(datagram, to);
                }
            }
            let result = self.netcode.update_client(id);
            handle(result, peer, &self.socket, &mut self.renet, &mut self.opened, &mut self.closed);
        }
    }

    pub(crate) fn receive(&mut self, link: u64) -> Option<Bytes> {
        self.renet
            .receive_message(link, CHANNEL_RELIABLE)
            .or_else(|| self.renet.receive_message(link, CHANNEL_UNRELIABLE))
    }

    pub(crate) fn send(&mut self, link: u64, frame: Bytes) {
        let channel = if frame[0] & 0x80 == 0 { CHANNEL_RELIABLE } else { CHANNEL_UNRELIABLE };
        self.renet.send_message(link, channel, frame);
    }

    /// Sends a payload without renet, as a broken server might.
    pub(crate) fn send_payload(&mut self, link: u64, payload: &[u8]) {
        let (to, datagram) = self.netcode.generate_payload_packet(link, payload).unwrap();
        self.socket.send_to(datagram, to).unwrap();
    }

    /// Sends a datagram without netcode, as an attacker may who forges the server's address.
    pub(crate) fn send_datagram(&self, link: u64, datagram: &[u8]) {
        let to = self.netcode.client_addr(link).unwrap();
        self.socket.send_to(datagram, to).unwrap();
    }

    /// Ends a link and informs the client.
    pub(crate) fn disconnect(&mut self, link: u64) {
        let Some(peer) = self.netcode.client_addr(link) else {
            return;
        };
        let result = self.netcode.disconnect(link);
        handle(result, peer, &self.socket, &mut self.renet, &mut self.opened, &mut self.closed);
    }
}

fn handle(
    result: ServerResult<'_, '_>,
    from: SocketAddr,
    socket: &UdpSocket,
    renet: &mut RenetServer,
    opened: &mut Vec<u64>,
    closed: &mut Vec<u64>,
) {
    match result {
        ServerResult::None => {}
        ServerResult::PacketToSend { addr, payload } => {
            let _ = socket.send_to(payload, addr);
        }
        ServerResult::Payload { client_id, payload } => {
            let _ = renet.process_packet_from(payload, client_id);
        }
        ServerResult::ClientConnected { client_id, payload, .. } => {
            let _ = socket.send_to(payload, from);
            renet.add_connection(client_id);
            opened.push(client_id);
        }
        ServerResult::ClientDisconnected { client_id, payload, .. } => {
            if let Some(payload) = payload {
                let _ = socket.send_to(payload, from);
            }
            renet.remove_connection(client_id);
            closed.push(client_id);
        }
    }
}

/// An arbitrary time, which both ends use.
const UNIX_NOW: Duration = Duration::from_secs(1_000_000);
