//! Handles the datagrams, commands and batches of the UDP adapter, with netcode and the links.
//!
//! The code reads no clock and no socket: it gets the time as an argument and sends datagrams by an [`Outgoing`].
//!
//! Data flow: datagram → guard → netcode → [`Links`]; command → [`Links`]; batch: timeouts, then packets of renet →
//! netcode → [`Outgoing`].

use std::net::SocketAddr;
use std::time::Duration;

use renetcode::{NetcodeServer, ServerAuthentication, ServerConfig, ServerResult};

use super::RenetConfig;
use super::links::Links;
use super::stats::RenetStats;
use super::tokens::UsedTokens;
use crate::ident::LinkId;
use crate::proxy::port::PortSender;
use crate::proxy::pump::Transport;
use crate::proxy::udp::Outgoing;
use crate::proxy::{LinkEnd, ProxyCommand, ProxyEvent};
use crate::wire::discovery::UDP;
use crate::wire::udp::guard::{self, DATAGRAM_MAX};
use crate::wire::udp::{NETCODE_PROTOCOL_ID, read_identity};

/// The state of the adapter except its socket and its ports.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) links: Links,
    config: RenetConfig,
    stats: RenetStats,
    netcode: NetcodeServer,
    used: UsedTokens,
    /// Time of the last batch.
    batch_at: Duration,
    /// Time at which netcode last checked the links for timeouts and keep-alives.
    upkeep_at: Duration,
    /// A reused buffer for the list of links, because links can end while the code iterates.
    scratch: Vec<(LinkId, u64)>,
}

impl Core {
    pub(super) fn new(config: RenetConfig, stats: RenetStats, now: Duration) -> Self {
        Self {
            links: Links::new(),
            netcode: netcode_server(&config),
            config,
            stats,
            used: UsedTokens::default(),
            batch_at: now,
            upkeep_at: now,
            scratch: Vec::new(),
        }
    }
}

impl Transport for Core {
    const NAME: &'static str = UDP;
    const DATAGRAM_MAX: usize = DATAGRAM_MAX;
    const DATAGRAMS_PER_TURN: usize = 1_024;
    // renet answers once per tick, so gathering datagrams saves nothing.
    const GATHER: Duration = Duration::ZERO;

    fn receive(&mut self, datagram: &mut [u8], from: SocketAddr, at: Duration, out: &mut Outgoing) {
        self.links.tally.datagram_in_count += 1;
        let linked = self.links.at(from).is_some();
        let welcome = linked || (self.links.has_room() && self.used.admits(datagram));
        if !guard::admits_from_client(datagram, linked) || !welcome {
            self.links.tally.guard_dropped_count += 1;
            return;
        }
        let request = UsedTokens::read(datagram);
        if request.is_some_and(|(expires, _)| self.config.unix.now().as_secs() >= expires) {
            self.links.tally.expired_token_count += 1;
            tracing::debug!(%from, "a connect token has expired");
            return;
        }
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
                    // Two mixed handshakes gave one client two addresses. Both links end.
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

    fn settle(&mut self, _now: Duration, _out: &mut Outgoing) {}

    fn due(&mut self) -> Option<Duration> {
        None
    }

    fn command(&mut self, command: ProxyCommand, at: Duration, out: &mut Outgoing) {
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
            tracing::debug!(%link, "the client does not read what is sent; its link ends");
            self.flush_and_disconnect(link, LinkEnd::Failed, at, out);
        }
    }

    /// Advances the time of netcode and renet, ends closing links that are flushed, and sends.
    fn batch(&mut self, now: Duration, out: &mut Outgoing) {
        let delta = now.saturating_sub(self.batch_at).min(BATCH_STEP_MAX);
        self.batch_at = now;
        let unix_now = self.config.unix.now();
        self.netcode.update(netcode_step(delta, unix_now.saturating_sub(self.netcode.current_time())));
        self.links.renet.update(delta);
        self.used.expire(unix_now);
        self.links.begin_batch(now);
        for link in self.links.flushed() {
            self.flush_and_disconnect(link, LinkEnd::ByServer, now, out);
        }
        if now.saturating_sub(self.upkeep_at) >= UPKEEP_EVERY {
            self.upkeep_at = now;
            self.upkeep(now, out);
        }
        self.flush(now, out);
    }

    fn deliver(&mut self, port: &PortSender<ProxyEvent>, now: Duration, out: &mut Outgoing) {
        self.links.deliver(port, now);
        let tally = &mut self.links.tally;
        tally.datagram_out_count += std::mem::take(&mut out.sent_count);
        tally.socket_error_count += std::mem::take(&mut out.error_count);
        self.stats.add(tally);
    }

    fn is_delivered(&self) -> bool {
        self.links.is_delivered()
    }

    fn any_closing(&self) -> bool {
        self.links.any_closing()
    }

    fn disconnect_all(&mut self, end: LinkEnd, at: Duration, out: &mut Outgoing) {
        let links: Vec<LinkId> = self.links.iter().map(|(link, _)| link).collect();
        for link in links {
            self.flush_and_disconnect(link, end, at, out);
        }
    }

    fn hang_up(&mut self, _now: Duration, out: &mut Outgoing) {
        for client in self.netcode.clients_id() {
            while let ServerResult::ClientDisconnected { addr, payload, .. } = self.netcode.disconnect(client)
            {
                if let Some(payload) = payload {
                    out.send(payload, addr);
                }
            }
        }
    }

    /// Keeps only the used tokens and the events that are not in the port yet.
    fn restart(&mut self, now: Duration) {
        self.links.abandon(now);
        self.netcode = netcode_server(&self.config);
        (self.batch_at, self.upkeep_at) = (now, now);
        self.scratch = Vec::new();
    }

    fn note_restart(&mut self) {
        self.links.tally.restart_count += 1;
    }
}

impl Core {
    /// Ends the links that have timed out and sends keep-alives on the others.
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

    /// Sends the packets of renet on each link.
    fn flush(&mut self, now: Duration, out: &mut Outgoing) {
        let mut all = std::mem::take(&mut self.scratch);
        all.extend(self.links.iter());
        for (link, client) in all.drain(..) {
            if !self.flush_link(link, client, now, false, out) {
                self.disconnect(client, LinkEnd::Failed, now, out);
            }
        }
        self.scratch = all;
    }

    /// Sends the packets of renet on a link. If the link `ends`, sends everything that waits.
    ///
    /// Returns false if the link has to end. renet disconnects a client whose packets need more acknowledgements
    /// than fit into one packet, and netcode refuses a packet of nearly that size.
    fn flush_link(
        &mut self,
        link: LinkId,
        client: u64,
        now: Duration,
        ends: bool,
        out: &mut Outgoing,
    ) -> bool {
        let mut fits = true;
        for packet in self.links.packets(link, now, ends) {
            match self.netcode.generate_payload_packet(client, &packet) {
                Ok((address, datagram)) => out.send(datagram, address),
                Err(_) => fits = false,
            }
        }
        fits && self.links.is_alive(link)
    }

    fn flush_and_disconnect(&mut self, link: LinkId, end: LinkEnd, at: Duration, out: &mut Outgoing) {
        if let Some(client) = self.links.client(link) {
            self.flush_link(link, client, at, true, out);
            self.disconnect(client, end, at, out);
        }
    }

    /// Ends the link of a client and all netcode connections with the client's id.
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

/// Returns by how much a batch advances the time of netcode. The batch advances the time of the links by `delta`,
/// and the time of netcode is `behind` Unix time.
///
/// netcode has one time for links and tokens. It is never ahead of [`RenetConfig::unix`], so netcode accepts each
/// token that has not expired. Expired tokens are dropped before netcode. After a stall the time of netcode is
/// behind. It catches up slowly, so that no link times out because of the stall. While it is behind, unfinished
/// handshakes are kept longer; there is no other effect.
///
/// Unix time may run slower than the time of the links by up to 5 %, and so may the time of netcode.
fn netcode_step(delta: Duration, behind: Duration) -> Duration {
    behind.clamp(delta / 20 * 19, delta + delta / CATCH_UP)
}

fn netcode_server(config: &RenetConfig) -> NetcodeServer {
    NetcodeServer::new(ServerConfig {
        current_time: config.unix.now(),
        max_clients: config.max_links,
        protocol_id: NETCODE_PROTOCOL_ID,
        public_addresses: config.public_addresses.clone(),
        authentication: ServerAuthentication::Secure { private_key: config.key },
    })
}

/// Largest step of the links' time in one batch. After a longer stall the datagrams of clients still wait in the
/// socket, so no link may time out.
const BATCH_STEP_MAX: Duration = Duration::from_secs(1);
/// The time of netcode catches up by one part in this many. That is faster than Unix time gains on the monotonic
/// clock. After a stall of 60 s it takes 10 minutes, during which netcode's timeout of 5 s lasts 4.55 s.
const CATCH_UP: u32 = 10;
/// Time between two checks of all links by netcode. netcode searches its clients for each link, which is a million
/// comparisons for a thousand links. A link on which renet sends needs no keep-alive.
const UPKEEP_EVERY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::io;

    use bevy_app::App;

    use proptest::prelude::*;

    use super::*;
    use crate::proxy::renet::RenetProxy;
    use crate::proxy::restarts::RESTARTS_MAX;
    use crate::proxy::{self, ProxyEventKind, ProxyPlugin};
    use crate::tick::{Clock, Failure, StopRequested, TickInput, TickPlugin, UnixClock};
    use crate::wire::udp::DEV_KEY;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// For any changes of the wall clock and any stalls, the time of netcode is never ahead of Unix time and
        /// stays near it.
        #[test]
        fn netcodes_time_follows_unix_time_and_is_never_ahead_of_it(
            events in prop::collection::vec((1_u64..10_000, 0..2_000_000_000_u64), 1..20),
        ) {
            let clock = Clock::manual();
            let unix = UnixClock::manual(clock.clone(), Duration::from_secs(1_000_000_000));
            let (mut netcode, mut batch_at) = (unix.now(), clock.now());
            let mut batch = |dt: Duration| {
                clock.advance(dt);
                let delta = (clock.now() - batch_at).min(BATCH_STEP_MAX);
                batch_at = clock.now();
                netcode += netcode_step(delta, unix.now().saturating_sub(netcode));
                unix.now().checked_sub(netcode)
            };

            for (stall_ms, wall_s) in events {
                unix.set_wall(Duration::from_secs(wall_s));
                for dt_ms in std::iter::once(stall_ms).chain([50; 200]) {
                    prop_assert!(batch(Duration::from_millis(dt_ms)).is_some(), "netcode is ahead");
                }
            }
            // The time catches up within 20 times the length of the stall.
            let behind = batch(Duration::ZERO).unwrap_or_default();
            for _ in 0..behind.as_millis() * 20 / 50 + 100 {
                batch(Duration::from_millis(50));
            }
            prop_assert_eq!(batch(Duration::from_millis(50)), Some(Duration::ZERO));
        }
    }

    #[test]
    fn a_thread_that_fails_loses_its_links_and_gives_up_after_too_many_restarts() {
        let mut app = App::new();
        let clock = Clock::manual();
        app.add_plugins((TickPlugin { clock, ..TickPlugin::default() }, ProxyPlugin));
        let bound = RenetProxy::bind(RenetConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..RenetConfig::new(DEV_KEY)
        })
        .expect("a free port");
        let (address, stats) = (bound.local_addr(), bound.stats());
        let port = proxy::attach(&mut app, "udp");
        let core = Core::new(bound.config, stats.clone(), port.clock.now());
        let pump = bound.bound.pump(core, port);
        let mut opened = 0;

        pump.run_caught(|pump| {
            opened += 1;
            pump.transport.links.open(7, address, None, Duration::ZERO);
            if opened == 2 { Err(io::Error::other("a closed socket")) } else { panic!("a bug") }
        });
        app.update();

        assert_eq!(opened, 1 + RESTARTS_MAX);
        assert_eq!(stats.counts().restart_count, RESTARTS_MAX as u64);
        let arrivals = &app.world().resource::<TickInput>().events;
        let kinds = arrivals.iter().map(|(_, event)| (event.link.0, &event.kind));
        for (index, (link, kind)) in kinds.enumerate() {
            assert_eq!(link, 1 + index as u64 / 2, "no link id is used again");
            match index % 2 {
                0 => assert!(matches!(kind, ProxyEventKind::Opened(_))),
                _ => assert!(matches!(kind, ProxyEventKind::Closed(LinkEnd::Failed))),
            }
        }
        assert_eq!(arrivals.len(), 2 * (1 + RESTARTS_MAX));
        assert!(app.world().resource::<StopRequested>().0);
        let failure = app.world().resource::<Failure>().0.clone().expect("why it stops");
        assert!(failure.contains("udp") && failure.contains("a bug"), "{failure}");
    }
}
