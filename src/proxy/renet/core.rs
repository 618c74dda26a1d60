//! netcode and the links together: what a datagram, a command and a batch do.
//!
//! It runs on the adapter's thread, but does not know it: time comes in as an argument, and
//! datagrams leave by an [`Outgoing`].
//!
//! Data flow: datagram → guard → netcode → [`Links`]; command → [`Links`]; batch: timeouts,
//! then what renet has to send → netcode → [`Outgoing`].

use std::net::SocketAddr;
use std::time::Duration;

use renetcode::{NetcodeServer, ServerAuthentication, ServerConfig, ServerResult};

use super::RenetConfig;
use super::links::Links;
use super::tokens::UsedTokens;
use crate::ident::LinkId;
use crate::proxy::udp::Outgoing;
use crate::proxy::{LinkEnd, ProxyCommand};
use crate::wire::udp::{NETCODE_PROTOCOL_ID, guard, read_identity};

/// The state of the adapter, but for its socket and ports.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) links: Links,
    netcode: NetcodeServer,
    used: UsedTokens,
    /// The clock at the last batch.
    batch_at: Duration,
    /// The clock when netcode last looked for links that time out or want a keep-alive.
    upkeep_at: Duration,
    /// Links and clients, for a while: iterating and changing them at once is not possible.
    scratch: Vec<(LinkId, u64)>,
}

impl Core {
    /// `unix_now` is when `now` is, in Unix time: connect tokens expire by it.
    pub(super) fn new(config: &RenetConfig, unix_now: Duration, now: Duration) -> Self {
        Self {
            links: Links::new(),
            netcode: netcode_server(config, unix_now),
            used: UsedTokens::default(),
            batch_at: now,
            upkeep_at: now,
            scratch: Vec::new(),
        }
    }

    /// Begins anew after a panic: all links are lost. Of what was, only the tokens that are used up
    /// are kept, and what the tick has yet to be told.
    pub(super) fn restart(&mut self, config: &RenetConfig, unix_now: Duration, now: Duration) {
        self.links.abandon(now);
        self.netcode = netcode_server(config, unix_now);
        (self.batch_at, self.upkeep_at) = (now, now);
        self.scratch = Vec::new();
    }

    /// Tells all clients that their links are gone, so that they need not wait to find out.
    pub(super) fn hang_up(&mut self, out: &mut Outgoing) {
        for client in self.netcode.clients_id() {
            while let ServerResult::ClientDisconnected { addr, payload, .. } = self.netcode.disconnect(client)
            {
                if let Some(payload) = payload {
                    out.send(payload, addr);
                }
            }
        }
    }

    /// Takes a datagram.
    pub(super) fn receive(
        &mut self,
        datagram: &mut [u8],
        from: SocketAddr,
        at: Duration,
        out: &mut Outgoing,
    ) {
        self.links.tally.datagram_in_count += 1;
        let linked = self.links.at(from).is_some();
        let welcome = linked || (self.links.has_room() && self.used.admits(datagram));
        if !guard::admits_from_client(datagram, linked) || !welcome {
            self.links.tally.guard_dropped_count += 1;
            return;
        }
        let request = UsedTokens::read(datagram);
        let broken = match self.netcode.process_packet(from, datagram) {
            ServerResult::None => None,
            ServerResult::PacketToSend { addr, payload } => {
                if let Some(token) = request {
                    self.used.note_request(addr, token);
                }
                out.send(payload, addr);
                None
            }
            ServerResult::Payload { client_id, payload } => {
                let link = self.links.of(client_id);
                link.filter(|link| !self.links.payload(*link, payload, at)).map(|_| client_id)
            }
            ServerResult::ClientConnected { client_id, addr, user_data, payload } => {
                self.used.note_opened(addr);
                out.send(payload, addr);
                if self.links.of(client_id).is_none() {
                    self.links.open(client_id, addr, read_identity(&user_data), at);
                    None
                } else {
                    // One client with two addresses, by mixing up two handshakes: neither is kept.
                    Some(client_id)
                }
            }
            ServerResult::ClientDisconnected { client_id, .. } => {
                if let Some(link) = self.links.of(client_id) {
                    self.links.end(link, LinkEnd::ByPeer, at);
                }
                None
            }
        };
        if let Some(client) = broken {
            self.disconnect(client, LinkEnd::Failed, at, out);
        }
    }

    /// Carries out what the tick commanded.
    pub(super) fn command(&mut self, command: ProxyCommand, at: Duration, out: &mut Outgoing) {
        let (link, lives) = match command {
            ProxyCommand::Send { link, frame } => (link, self.links.send(link, frame)),
            ProxyCommand::Close { link, frame } => (link, self.links.close(link, frame, at)),
            ProxyCommand::Cut { link } => {
                self.flush_and_disconnect(link, LinkEnd::ByServer, at, out);
                return;
            }
            ProxyCommand::Pause { link } => {
                self.links.pause(link, true, at);
                return;
            }
            ProxyCommand::Unpause { link } => {
                self.links.pause(link, false, at);
                return;
            }
        };
        if !lives {
            tracing::debug!(%link, "the client does not take what is sent");
            self.flush_and_disconnect(link, LinkEnd::Failed, at, out);
        }
    }

    /// Does what is due once a tick: moves the time of netcode and renet on, ends what is over,
    /// and sends.
    pub(super) fn batch(&mut self, now: Duration, out: &mut Outgoing) {
        let delta = now.saturating_sub(self.batch_at).min(BATCH_STEP_MAX);
        self.batch_at = now;
        self.netcode.update(delta);
        self.links.renet.update(delta);
        self.used.expire(self.netcode.current_time());
        self.links.begin_batch();
        for link in self.links.flushed() {
            self.flush_and_disconnect(link, LinkEnd::ByServer, now, out);
        }
        if now.saturating_sub(self.upkeep_at) >= UPKEEP_EVERY {
            self.upkeep_at = now;
            self.upkeep(now, out);
        }
        self.flush(now, out);
    }

    /// Ends all links, after sending what is queued.
    pub(super) fn disconnect_all(&mut self, end: LinkEnd, at: Duration, out: &mut Outgoing) {
        let links: Vec<LinkId> = self.links.iter().map(|(link, _)| link).collect();
        for link in links {
            self.flush_and_disconnect(link, end, at, out);
        }
    }

    /// Times links out and keeps the others alive.
    fn upkeep(&mut self, now: Duration, out: &mut Outgoing) {
        let mut all = std::mem::take(&mut self.scratch);
        all.extend(self.links.iter());
        for (link, client) in all.drain(..) {
            match self.netcode.update_client(client) {
                ServerResult::PacketToSend { addr, payload } => {
                    out.send(payload, addr);
                }
                ServerResult::ClientDisconnected { addr, payload, .. } => {
                    if let Some(payload) = payload {
                        out.send(payload, addr);
                    }
                    self.links.end(link, LinkEnd::Silent, now);
                }
                _ => {}
            }
        }
        self.scratch = all;
    }

    /// Sends what renet has for each link.
    fn flush(&mut self, now: Duration, out: &mut Outgoing) {
        let mut all = std::mem::take(&mut self.scratch);
        all.extend(self.links.iter());
        for (link, client) in all.drain(..) {
            if !self.flush_link(link, client, out) {
                self.disconnect(client, LinkEnd::Failed, now, out);
            }
        }
        self.scratch = all;
    }

    /// Sends what renet has for a link. Whether it may live on: renet gives up on one whose client
    /// makes it acknowledge more than fits a packet, and netcode refuses a packet near that.
    fn flush_link(&mut self, link: LinkId, client: u64, out: &mut Outgoing) -> bool {
        let mut fits = true;
        let packets = self.links.renet.get_packets_to_send(link.0).unwrap_or_default();
        for packet in packets {
            match self.netcode.generate_payload_packet(client, &packet) {
                Ok((address, datagram)) => out.send(datagram, address),
                Err(_) => fits = false,
            }
        }
        fits && self.links.is_alive(link)
    }

    fn flush_and_disconnect(&mut self, link: LinkId, end: LinkEnd, at: Duration, out: &mut Outgoing) {
        if let Some(client) = self.links.client(link) {
            self.flush_link(link, client, out);
            self.disconnect(client, end, at, out);
        }
    }

    /// Ends the link of a client, and whatever else netcode has under its id.
    fn disconnect(&mut self, client: u64, end: LinkEnd, at: Duration, out: &mut Outgoing) {
        while let ServerResult::ClientDisconnected { addr, payload, .. } = self.netcode.disconnect(client) {
            if let Some(payload) = payload {
                out.send(payload, addr);
            }
        }
        if let Some(link) = self.links.of(client) {
            self.links.end(link, end, at);
        }
    }
}

fn netcode_server(config: &RenetConfig, unix_now: Duration) -> NetcodeServer {
    NetcodeServer::new(ServerConfig {
        current_time: unix_now,
        max_clients: config.max_links,
        protocol_id: NETCODE_PROTOCOL_ID,
        public_addresses: config.public_addresses.clone(),
        authentication: ServerAuthentication::Secure { private_key: config.key },
    })
}

/// Most that a batch moves time on. After a longer stall the clients' datagrams wait in the socket
/// still, and nobody is to be timed out for them; connect tokens last longer by so much.
const BATCH_STEP_MAX: Duration = Duration::from_secs(1);
/// How often netcode looks at each link. It searches for each by its id, which for a thousand
/// links is a million comparisons; a link that renet sends on needs no keep-alive anyhow.
const UPKEEP_EVERY: Duration = Duration::from_millis(100);
