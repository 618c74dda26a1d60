//! Tests the limits on new sessions and on guests: how many one network may have, and that no guest can prevent
//! a player from resuming.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use waystation::config::ServerConfig;
use waystation::ident::{LinkId, ProxyId};
use waystation::proxy::{self, AdapterPort, LinkEnd, LinkInfo, ProxyCommand, ProxyEvent, ProxyEventKind};
use waystation::session::{SessionConfig, SessionCounts, SessionTable};
use waystation::testing::{Harness, HarnessLink, Player, Via};
use waystation::wire::v1::{Bye, Denied, Hello, Probe, Reason, Welcome};
use waystation::wire::{self, Frame, Lane};

use crate::support::{game, game_bounded, game_with};

/// Returns the info of a link from this host of an IPv4 network.
fn from(host: u8) -> LinkInfo {
    LinkInfo { address: Some((Ipv4Addr::new(192, 0, 2, host), 5_000).into()), ..LinkInfo::default() }
}

/// Returns the info of a link from one of the 65,536 IPv6 networks of an attacker.
fn from_many(network: u16, host: u16) -> LinkInfo {
    let ip = Ipv6Addr::new(0x2001, 0xdb8, 1, network, 0, 0, 0, host);
    LinkInfo { address: Some((ip, 5_000).into()), ..LinkInfo::default() }
}

/// Returns a player that has just sent a Hello for a new session.
fn newcomer(game: &Harness, via: Via, info: LinkInfo) -> Player {
    let mut player = Player::new();
    player.connect_as(game, via, info);
    player.hello();
    player
}

/// Returns the reason and the retry time of the Denied that a player has received since the last call.
fn denied(player: &mut Player) -> Option<(Reason, Duration)> {
    let denied = player.take::<Denied>().pop()?;
    Some((denied.reason(), Duration::from_millis(denied.retry_after_ms.into())))
}

fn player_count(game: &Harness) -> usize {
    game.resource::<SessionTable>().player_count()
}

#[test]
fn silent_links_from_many_networks_do_not_prevent_a_player_from_resuming() {
    let mut game = game();
    let mut ada = game.member(Via::Beta, "hall");
    let open_links = |game: &Harness| -> Vec<HarnessLink> {
        let hosts = (0..128).flat_map(|network| (0..32).map(move |host| (network, host)));
        hosts.map(|(network, host)| game.link_as(Via::Alpha, from_many(network, host))).collect()
    };
    let mut links = open_links(&game);
    game.tick();
    ada.close();
    game.tick();

    ada.connect_as(&game, Via::Beta, from(1));
    game.tick();
    links.extend(open_links(&game));
    game.tick();
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert!(ada.is_welcome(), "not welcome: denied {:?}, closed {:?}", denied(&mut ada), ada.closed());
    assert_eq!(
        links.iter().filter(|link| !link.is_closed()).count(),
        4_095,
        "the pool is bounded, and Ada's link was in it"
    );
    assert_eq!(game.resource::<SessionCounts>().cut_guest_count, 4_096 + 1);
}

#[test]
fn one_network_does_not_take_every_place() {
    let session = SessionConfig { max_sessions: 200, ..SessionConfig::default() };
    let mut game = game_bounded(session);
    let mut taken = Vec::new();
    for _ in 0..8 {
        taken.extend((0..25).map(|_| newcomer(&game, Via::Alpha, from(66))));
        for _ in 0..20 {
            game.tick();
            taken.iter_mut().for_each(Player::pump);
        }
    }

    let mut ada = newcomer(&game, Via::Beta, from(7));
    game.exchange(&mut [&mut ada]);

    assert!(ada.is_welcome(), "{:?}; one network holds {} of 200", denied(&mut ada), player_count(&game));
    let (reason, retry_after) = denied(taken.last_mut().expect("many")).expect("over the limit");
    assert_eq!(reason, Reason::Throttled);
    assert!(retry_after >= Duration::from_secs(1), "{retry_after:?}");
}

#[test]
fn players_behind_ipv4_addresses_of_a_dual_stack_socket_are_not_one_address() {
    let mut game = game();
    let from = |last: u8| LinkInfo {
        address: Some((Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped(), 5_000).into()),
        ..LinkInfo::default()
    };

    let links: Vec<_> = (1..=100).map(|last| game.link_as(Via::Alpha, from(last))).collect();
    game.tick();

    assert_eq!(game.resource::<SessionCounts>().cut_guest_count, 0);
    assert!(links.iter().all(|link| !link.is_closed()));
}

#[test]
fn a_school_behind_one_address_has_sessions_within_three_seconds() {
    let mut game = game();
    let mut school: Vec<Player> = (0..300).map(|_| newcomer(&game, Via::Alpha, from(1))).collect();

    for _ in 0..60 {
        game.tick();
        school.iter_mut().for_each(Player::pump);
    }

    assert_eq!(school.iter().filter(|player| player.is_welcome()).count(), 300);
}

#[test]
fn a_session_counts_against_its_network_until_it_ends_and_may_resume() {
    let mut config = ServerConfig::default();
    config.gate.max_sessions_per_network = Some(2);
    let mut game = game_with(config);
    let mut ada = newcomer(&game, Via::Alpha, from(1));
    let mut bob = newcomer(&game, Via::Alpha, from(1));
    game.exchange(&mut [&mut ada, &mut bob]);
    ada.close();
    game.tick();

    let mut eve = newcomer(&game, Via::Beta, from(1));
    ada.connect_as(&game, Via::Beta, from(1));
    ada.resume();
    game.exchange(&mut [&mut ada, &mut eve]);
    let while_both_are_there = denied(&mut eve).map(|(reason, _)| reason);
    bob.send(&Bye {});
    game.exchange(&mut [&mut ada, &mut bob]);
    eve.hello();
    game.exchange(&mut [&mut ada, &mut eve]);

    assert!(ada.is_welcome());
    assert_eq!(while_both_are_there, Some(Reason::Throttled), "a session without a link keeps its place");
    assert!(eve.is_welcome(), "a place is free again: {:?}", denied(&mut eve));
}

#[test]
fn a_network_that_opens_sessions_too_fast_is_denied_with_a_retry_time() {
    let mut config = ServerConfig::default();
    config.gate.sessions_burst_per_network = 4;
    config.gate.sessions_per_second_per_network = 2;
    let mut game = game_with(config);
    let mut players: Vec<Player> = (0..6).map(|_| newcomer(&game, Via::Alpha, from(1))).collect();
    let mut other = newcomer(&game, Via::Alpha, from(2));
    game.tick();
    for player in players.iter_mut().chain([&mut other]) {
        player.pump();
    }

    let waits: Vec<_> = players.iter_mut().map(denied).collect();
    for (player, _) in players.iter_mut().zip(&waits).filter(|(_, wait)| wait.is_some()) {
        player.say(&Probe::default());
    }
    let mut played = Vec::new();
    for (player, wait) in players.iter_mut().zip(&waits) {
        let Some((_, wait)) = wait else { continue };
        game.run_ms(u64::try_from(wait.as_millis()).expect("short") - played.len() as u64 * 500);
        player.hello();
        game.exchange(&mut [player]);
        played.push(player.is_welcome());
    }

    let throttled = |ms| Some((Reason::Throttled, Duration::from_millis(ms)));
    assert_eq!(waits, [None, None, None, None, throttled(500), throttled(1_000)]);
    assert!(other.is_welcome(), "another network is not affected");
    assert_eq!(played, [true, true], "players that wait as long as Denied states are welcome");
}

/// Opens links of hostile guests. Each sends a Probe, a Hello, a Hello with a bad token, or nothing. Some close.
fn misbehave(rng: &mut StdRng, game: &Harness, guests: &mut Vec<Player>, link_count: usize) {
    let networks = [1, 2, 128, 60_000][rng.random_range(0..4)];
    for host in 0..link_count {
        let mut eve = Player::new();
        let own = rng.random_bool(0.1);
        let network = rng.random_range(0..networks);
        eve.connect_as(game, Via::Alpha, if own { from(1) } else { from_many(network, host as u16) });
        match rng.random_range(0..5) {
            0 => eve.say(&Probe { topic: "status".to_owned(), ..Probe::default() }),
            1 => eve.resume_with(vec![host as u8; 32].into(), false),
            2 => eve.hello(),
            _ => {}
        }
        guests.push(eve);
    }
    if rng.random_bool(0.2) {
        let keep = rng.random_range(0..=guests.len());
        guests.truncate(keep);
    }
}

/// Asserts that a player among hostile guests resumes after at most one retry, each time it loses its link.
/// `per_tick` links open in each tick. The player's Hello follows its link within `delay_max` ticks.
fn resumes_among_guests(seed: u64, per_tick: usize, delay_max: usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut config = ServerConfig::default();
    config.gate.max_guests = GUESTS;
    let mut game = game_with(config);
    let mut ada = Player::new();
    ada.connect_as(&game, Via::Beta, from(1));
    ada.hello();
    game.exchange(&mut [&mut ada]);
    let mut guests = Vec::new();
    for _ in 0..6 {
        ada.close();
        for attempt in 1.. {
            ada.connect_as(&game, Via::Beta, from(1));
            for _ in 0..rng.random_range(0..=delay_max) {
                misbehave(&mut rng, &game, &mut guests, per_tick);
                game.tick();
            }
            ada.resume();
            misbehave(&mut rng, &game, &mut guests, per_tick);
            game.exchange(&mut [&mut ada]);
            assert!(game.resource::<waystation::gate::Guests>().guest_count() <= GUESTS);
            if ada.is_welcome() {
                break;
            }
            assert!(attempt < 2, "seed {seed}: not welcome: closed {:?}", ada.closed());
        }
        guests.iter_mut().for_each(Player::pump);
    }
}

#[test]
fn a_player_with_a_prompt_hello_resumes_among_hostile_guests() {
    for seed in 0..12 {
        resumes_among_guests(seed, 2 * GUESTS, 0);
    }
}

#[test]
fn a_player_on_a_slow_network_resumes_among_hostile_guests() {
    // Fewer guests than the pool keeps open in the two seconds for which a guest is fresh.
    for seed in 0..12 {
        resumes_among_guests(seed, GUESTS / 41, 30);
    }
}

/// An adapter with links that a test opens itself.
struct Adapter {
    port: AdapterPort,
    open: Vec<LinkId>,
    last: u64,
    places: usize,
    tokens: Vec<(LinkId, Welcome)>,
}

impl Adapter {
    fn new(game: &mut Harness, places: usize) -> Self {
        let port = proxy::attach(&mut game.app, "narrow");
        port.set_places(places);
        Self { port, open: Vec::new(), last: 0, places, tokens: Vec::new() }
    }

    fn tell(&self, link: LinkId, kind: ProxyEventKind) {
        let event = ProxyEvent { link, at: self.port.clock.now(), kind };
        self.port.events.send(&mut VecDeque::from([event]), |_| {});
    }

    /// Opens a link if a place is free.
    fn open(&mut self, info: LinkInfo, hello: Option<Hello>) -> Option<LinkId> {
        if self.open.len() >= self.places {
            return None;
        }
        self.last += 1;
        let link = LinkId(self.last);
        self.open.push(link);
        self.tell(link, ProxyEventKind::Opened(info));
        if let Some(hello) = hello {
            self.tell(link, ProxyEventKind::Frame { lane: Lane::Reliable, bytes: wire::encode(&hello) });
        }
        Some(link)
    }

    /// Carries out the commands of the tick, and returns the frames that it sends.
    fn obey(&mut self) -> Vec<(LinkId, Frame)> {
        let (mut commands, mut frames) = (Vec::new(), Vec::new());
        self.port.commands.drain_all(|command| commands.push(command));
        for command in commands {
            match command {
                ProxyCommand::Send { link, frame } => {
                    frames.push((link, Frame::parse(frame).expect("a frame")))
                }
                ProxyCommand::Cut { link } | ProxyCommand::Close { link, .. } => {
                    self.open.retain(|open| *open != link);
                    self.tell(link, ProxyEventKind::Closed(LinkEnd::ByServer));
                }
                ProxyCommand::Pause { .. } | ProxyCommand::Unpause { .. } => {}
            }
        }
        frames
    }
}

#[test]
fn an_adapter_always_has_places_for_resumes() {
    let mut game = game();
    let mut adapter = Adapter::new(&mut game, 64);
    let hello = || Some(Hello { protocol: wire::PROTOCOL, ..Hello::default() });
    let mut full_count = 0;

    for number in 0..100 {
        adapter.open(from(number), hello()).expect("a place for a Hello");
        if number % 4 != 3 {
            continue;
        }
        game.tick();
        for (to, frame) in adapter.obey() {
            if let Ok(welcome) = frame.decode::<Welcome>() {
                adapter.tokens.push((to, welcome));
            } else if let Ok(denied) = frame.decode::<Denied>() {
                assert_eq!(denied.reason(), Reason::Full);
                full_count += 1;
            }
        }
    }
    let session_count = adapter.tokens.len();
    for round in 0..20_u16 {
        while adapter.open.len() < adapter.places - 1 {
            adapter.open(from_many(round, 1), None).expect("a place");
        }
        let (old, welcome) = adapter.tokens.remove(0);
        let resume = wire::v1::Resume { token: welcome.token, ..Default::default() };
        let resume = Hello { protocol: wire::PROTOCOL, resume: Some(resume), ..Hello::default() };
        let link = adapter.open(from(1), Some(resume)).expect("a place for a resume");
        game.tick();
        let mut welcomed = false;
        for (to, frame) in adapter.obey() {
            welcomed |= to == link && frame.decode::<Welcome>().is_ok_and(|welcome| welcome.resumed);
        }
        assert!(welcomed, "round {round}");
        assert!(!adapter.open.contains(&old), "the place of the former link is free");
        game.tick();
        adapter.obey();
        assert!(adapter.open.len() <= 60, "four places are free for new links: {}", adapter.open.len());
    }

    assert_eq!((session_count, full_count), (56, 44), "an eighth of the places is for resumes and guests");
    assert_eq!(adapter.port.id, ProxyId(2));
}

/// The number of places for guests in the tests with random guests.
const GUESTS: usize = 256;
