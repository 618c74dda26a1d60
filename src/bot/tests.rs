//! Tests bots against a small server with an arena, on virtual time.

mod own;

use super::*;
use crate::bot::arena::proto::{Echo, Say};
use crate::client::tests::net::{Net, Shared, TestDial};
use crate::client::tests::server::Server;
use crate::client::udp::host::Host;
use crate::client::v1::{Join, Joined};
use crate::client::{Dial, DialError, Frame, Lane, Link, LinkStatus, UdpDial, WireMessage};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

const STEP: Duration = Duration::from_millis(20);

/// A function from a session and the number of a Say to the echoes.
type Arena = Box<dyn FnMut(u64, u64) -> Vec<(u64, u64)>>;

fn frame<M: WireMessage>(message: &M) -> Bytes {
    let mut bytes = M::ID.value().to_be_bytes().to_vec();
    message.encode_raw(&mut bytes);
    bytes.into()
}

/// Returns an arena without faults.
fn honest() -> Arena {
    let mut taken = BTreeMap::<u64, u64>::new();
    Box::new(move |session, number| {
        let taken = taken.entry(session).or_default();
        *taken += 1;
        vec![(number, *taken)]
    })
}

/// Returns a server with an arena.
fn server(net: &Shared, mut arena: Arena) -> Server {
    let mut server = Server::new(Rc::clone(net));
    server.answer = Some(Box::new(move |session, received: &Frame| {
        if let Ok(say) = received.decode::<Say>() {
            arena(session, say.number)
                .into_iter()
                .map(|(number, taken)| frame(&Echo { number, taken }))
                .collect()
        } else if let Ok(join) = received.decode::<Join>() {
            vec![frame(&Joined { request: join.request, zone: join.zone, ..Joined::default() })]
        } else {
            Vec::new()
        }
    }));
    server
}

fn arena_bot(_: usize) -> Box<dyn Bot> {
    Box::new(ArenaBot::default())
}

fn play(options: &BotOptions, arena: Arena, mut meddle: impl FnMut(&mut Server, Duration)) -> BotReport {
    let net: Shared = Rc::new(RefCell::new(Net::default()));
    let mut server = server(&net, arena);
    let dials: Vec<_> = (0..options.clients).map(|_| TestDial(Rc::clone(&net))).collect();
    let mut run = BotRun::new(options, &[], dials, |_| None, arena_bot);
    while !run.is_done() {
        run.step(STEP);
        meddle(&mut server, run.now());
        server.tick(STEP);
    }
    let closed = net.borrow().wires.iter().filter(|wire| wire.closed || wire.dropped).count();
    assert_eq!(closed, net.borrow().wires.len(), "all links are closed");
    run.into_report()
}

fn options() -> BotOptions {
    BotOptions {
        clients: 6,
        duration: Duration::from_secs(60),
        cut_every: Some(Duration::from_secs(5)),
        seed: 3,
        ..BotOptions::default()
    }
}

#[test]
fn bots_whose_links_are_cut_in_three_ways_lose_nothing() {
    let report = play(&options(), honest(), |_, _| {});

    assert!(report.passed(), "{report}");
    assert_eq!(report.joined, 6);
    for tally in [report.takeover, report.close, report.silent] {
        assert!(tally.cuts >= 6, "{report}");
    }
    assert!(report.up.sent >= 6 * 5 * 55, "{report}");
    assert_eq!(report.up.sent, report.down.received);
    assert!(report.echoes_timed > 1_000);
    assert!(report.rtt_p50 >= STEP && report.rtt_p99 <= 5 * STEP, "{report}");
    assert_eq!((report.sessions_lost, report.resync_count), (0, 0));
    assert!(report.last_joined_at < Duration::from_secs(1), "{report}");
    let silence = crate::client::ClientConfig::default().link_timeout;
    assert!((silence..silence * 2).contains(&report.longest_absence), "after a silent cut: {report}");
}

#[test]
fn bots_without_cuts_are_not_cut() {
    let report = play(
        &BotOptions { cut_every: None, duration: Duration::from_secs(5), ..options() },
        honest(),
        |_, _| {},
    );

    assert!(report.passed(), "{report}");
    assert_eq!(report.takeover.cuts + report.close.cuts + report.silent.cuts, 0);
}

#[test]
fn an_arena_that_loses_or_doubles_messages_fails_the_run() {
    // How many times the third call is taken, and how many times each of these is echoed.
    let spoiled = |takes: u64, echoes: usize| {
        let mut taken = BTreeMap::<u64, u64>::new();
        let arena: Arena = Box::new(move |session, number| {
            let taken = taken.entry(session).or_default();
            let (takes, echoes) = if number == 3 { (takes, echoes) } else { (1, 1) };
            let first = *taken + 1;
            *taken += takes;
            (first..=*taken).flat_map(|taken| vec![(number, taken); echoes]).collect()
        });
        let options = BotOptions { duration: Duration::from_secs(6), cut_every: None, ..options() };
        let report = play(&options, arena, |_, _| {});
        assert_eq!(report.passed(), report.up.is_clean() && report.down.is_clean());
        let faults = |lane: LaneTally| (lane.lost, lane.doubled, lane.disordered);
        (faults(report.up), faults(report.down))
    };

    assert_eq!(spoiled(1, 1), ((0, 0, 0), (0, 0, 0)));
    assert_eq!(spoiled(0, 1), ((6, 0, 0), (0, 0, 0)), "a call lost");
    assert_eq!(spoiled(2, 1), ((0, 6, 0), (0, 0, 0)), "a call doubled");
    assert_eq!(spoiled(1, 0), ((0, 0, 0), (6, 0, 0)), "an echo lost");
    assert_eq!(spoiled(1, 2), ((0, 0, 0), (0, 6, 0)), "an echo doubled");
}

#[test]
fn an_arena_that_never_echoes_the_last_calls_fails_the_run() {
    let mut honest = honest();
    let report = play(
        &BotOptions { duration: Duration::from_secs(6), cut_every: None, ..options() },
        Box::new(move |session, number| {
            let echoes = honest(session, number);
            if number > 10 { Vec::new() } else { echoes }
        }),
        |_, _| {},
    );

    assert!(!report.passed());
    assert_eq!(report.unsettled, 6);
    assert_eq!(report.up.lost, 0, "the calls were acknowledged");
    assert_eq!(report.down.lost, report.up.sent - 60, "{report}");
}

#[test]
fn after_a_server_has_lost_all_sessions_bots_report_it_and_play_on() {
    let mut forgot = false;
    let report = play(&options(), honest(), |server, now| {
        if now >= Duration::from_secs(30) && !forgot {
            forgot = true;
            server.sessions.clear();
        }
    });

    assert!(!report.passed());
    assert_eq!(report.sessions_lost, 6, "{report}");
    assert!(report.to_string().contains("6 sessions were lost"));
    assert_eq!(report.unsettled, 0, "all bots have new sessions");
    assert_eq!(report.down.doubled + report.up.doubled, 0);
}

/// A dial whose links report the transports of a list in turn.
struct LabelDial(TestDial, Vec<Transport>);

struct LabelLink(<TestDial as Dial>::Link, Transport);

impl Dial for LabelDial {
    type Link = LabelLink;

    fn dial(&mut self) -> Result<LabelLink, DialError> {
        self.1.rotate_left(1);
        Ok(LabelLink(self.0.dial()?, self.1[0]))
    }
}

impl Link for LabelLink {
    fn update(&mut self, dt: Duration) {
        self.0.update(dt);
    }

    fn status(&self) -> LinkStatus {
        self.0.status()
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        self.0.receive()
    }

    fn send(&mut self, frame: Bytes) -> bool {
        self.0.send(frame)
    }

    fn flush(&mut self) {
        self.0.flush();
    }

    fn close(&mut self) {
        self.0.close();
    }
}

/// Runs a mix whose dials report the transports `turns`.
fn play_mix(turns: &[Transport]) -> BotReport {
    let net: Shared = Rc::new(RefCell::new(Net::default()));
    let mut server = server(&net, honest());
    let options = BotOptions { transports: Transports::Mix, ..options() };
    let dials: Vec<_> =
        (0..options.clients).map(|_| LabelDial(TestDial(Rc::clone(&net)), turns.to_vec())).collect();
    let used = [Transport::Udp, Transport::WebSocket];
    let mut run = BotRun::new(&options, &used, dials, |link: &LabelLink| Some(link.1), arena_bot);
    while !run.is_done() {
        run.step(STEP);
        server.tick(STEP);
    }
    run.into_report()
}

#[test]
fn in_a_mix_each_new_link_has_another_transport() {
    let report = play_mix(&[Transport::Udp, Transport::WebSocket]);

    assert!(report.passed(), "{report}");
    let cuts = report.takeover.cuts + report.close.cuts + report.silent.cuts;
    assert_eq!((report.moved_count, report.stayed_count), (cuts, 0), "{report}");
    let rows = &report.transports;
    assert_eq!(rows.iter().map(|row| row.cuts).sum::<u64>(), cuts);
    assert_eq!(rows.iter().map(|row| row.same_id).sum::<u64>(), cuts);
    assert_eq!(rows.iter().map(|row| row.links).sum::<u64>(), cuts + 6);
    assert_eq!(rows.iter().map(|row| row.echoes_timed).sum::<u64>(), report.echoes_timed);
    assert!(rows.iter().all(|row| row.rtt_p50 >= STEP), "{report}");
}

#[test]
fn a_mix_with_two_links_in_a_row_over_the_same_transport_fails() {
    let report = play_mix(&[Transport::Udp, Transport::WebSocket, Transport::WebSocket]);
    let silent = play_mix(&[Transport::Udp]);

    assert!(report.stayed_count > 0 && report.moved_count > 0, "{report}");
    assert!(report.to_string().contains("new links did not change the transport"), "{report}");
    assert!(silent.to_string().contains("no link over ws"), "{silent}");
}

#[test]
fn bots_lose_nothing_over_real_sockets() {
    // Each step waits for the sockets, so steps are longer than in other tests.
    let step = Duration::from_millis(50);
    let net: Shared = Rc::new(RefCell::new(Net::default()));
    let mut server = server(&net, honest());
    let mut host = Host::bind();
    let options = BotOptions {
        duration: Duration::from_secs(30),
        cut_every: Some(Duration::from_secs(3)),
        ..options()
    };
    let dials: Vec<_> =
        (1..=options.clients as u64).map(|index| UdpDial::new(host.tokens(1_000 * index))).collect();
    let mut run = BotRun::new(&options, &[], dials, |_| None, arena_bot);
    let mut links = BTreeMap::new();

    while !run.is_done() {
        run.step(step);
        host.pump(step);
        for id in host.opened.drain(..) {
            links.insert(id, TestDial(Rc::clone(&net)).dial().unwrap());
        }
        for id in host.closed.drain(..) {
            links.remove(&id).unwrap().close();
        }
        for (&id, link) in &mut links {
            while let Some(frame) = host.receive(id) {
                link.send(frame);
            }
        }
        server.tick(step);
        for (&id, link) in &mut links {
            while let Some((_, frame)) = link.receive() {
                host.send(id, frame);
            }
        }
    }

    let report = run.into_report();
    assert!(report.passed(), "{report}");
    assert!(report.every_kind_due);
    assert!(report.close.cuts > 0 && report.silent.cuts > 0, "{report}");
    assert_eq!(report.unasked.cuts, 0, "{report}");
}
