//! Tests batches of events from adapters: the order in which they take effect. Also tests that a seed
//! reproduces a run.

use std::collections::VecDeque;
use std::time::Duration;

use waystation::arena::v1::{Echo, Say};
use waystation::config::ServerConfig;
use waystation::ident::LinkId;
use waystation::proxy::port::Budget;
use waystation::proxy::{self, AdapterPort, LinkInfo, Proxies, ProxyCommand, ProxyEvent, ProxyEventKind};
use waystation::session::{LossCause, SessionCounts, SessionState};
use waystation::testing::News;
use waystation::testing::{Harness, Player, Via};
use waystation::wire::v1::{Bye, Closed, Hello, Reason, Resume};
use waystation::wire::{self, Frame, Lane, WireMessage};

use crate::support::{game, game_with, said, say, shout};

/// Reports an event of a link that happened at `at`.
fn tell(port: &AdapterPort, at: Duration, link: u64, kind: ProxyEventKind) {
    port.events.send(&mut VecDeque::from([ProxyEvent { link: LinkId(link), at, kind }]), |_| {});
}

fn frame<M: WireMessage>(message: &M) -> ProxyEventKind {
    ProxyEventKind::Frame { lane: Lane::Reliable, bytes: wire::encode(message) }
}

/// Opens a link and sends a Hello on it that resumes a session.
fn resume(port: &AdapterPort, at: Duration, link: u64, player: &Player) {
    let resume = Resume { token: player.token(), received: player.received(), ..Resume::default() };
    tell(port, at, link, ProxyEventKind::Opened(LinkInfo::default()));
    tell(port, at, link, frame(&Hello { protocol: 1, resume: Some(resume), ..Hello::default() }));
}

#[test]
fn row_12_frames_of_a_link_that_was_replaced_are_stale() {
    let mut game = game();
    let mut gamma = proxy::attach(&mut game.app, "gamma");
    let mut ada = game.member(Via::Alpha, "hall");
    ada.cut();
    resume(&gamma, game.now(), 1, &ada);
    game.tick();
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.tick();

    // The adapter had read these frames from the old link before it received the command to close it.
    tell(&gamma, game.now(), 1, frame(&Say { number: 1 }));
    tell(&gamma, game.now(), 1, frame(&Bye {}));
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.resource::<SessionCounts>().stale_frame_count, 2);
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    assert!(said(&game, &ada).is_empty());
    let mut closes = 0;
    gamma.commands.drain_all(|command| closes += u32::from(matches!(command, ProxyCommand::Close { .. })));
    assert_eq!(closes, 1);
}

#[test]
fn a_breach_ends_a_session_after_its_earlier_frames_and_a_guest_at_once() {
    let mut game = game();
    let mut gamma = proxy::attach(&mut game.app, "gamma");
    let mut ada = game.member(Via::Alpha, "hall");
    ada.cut();
    resume(&gamma, game.now(), 1, &ada);
    tell(&gamma, game.now(), 2, ProxyEventKind::Opened(LinkInfo::default()));
    game.tick();

    tell(&gamma, game.now(), 1, frame(&Say { number: 1 }));
    tell(&gamma, game.now(), 1, ProxyEventKind::ProtocolViolation("text"));
    tell(&gamma, game.now(), 2, ProxyEventKind::ProtocolViolation("text"));
    game.tick();
    game.tick();

    assert_eq!(said(&game, &ada), [1]);
    assert_eq!(game.state(ada.session()), None);
    assert_eq!(game.resource::<SessionCounts>().protocol_count, 1);
    let mut closed = Vec::new();
    gamma.commands.drain_all(|command| {
        if let ProxyCommand::Close { link, frame } = command {
            let frame = Frame::parse(frame).expect("a frame");
            closed.push((link.0, frame.decode::<Closed>().expect("Closed").reason()));
        }
    });
    closed.sort_unstable_by_key(|(link, _)| *link);
    assert_eq!(closed, [(1, Reason::Protocol), (2, Reason::Protocol)]);
}

#[test]
fn the_latest_resume_of_a_batch_binds_the_session() {
    let mut game = game();
    let gamma = proxy::attach(&mut game.app, "gamma");
    let mut ada = game.member(Via::Beta, "hall");
    ada.cut();
    let now = game.now();

    // Reported last, but it happened first.
    game.pass(Duration::from_millis(2));
    ada.connect(&game, Via::Alpha);
    ada.resume();
    resume(&gamma, now, 1, &ada);
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.closed(), None);
    assert!(ada.is_welcome());
    let taken_over: Vec<News> = game
        .news_of(ada.session())
        .into_iter()
        .filter(|news| *news == News::Disconnected(LossCause::Replaced))
        .collect();
    assert_eq!(taken_over.len(), 2);
}

#[test]
fn a_link_that_does_not_flush_is_cut_after_five_seconds() {
    let mut game = game();
    let mut gamma = proxy::attach(&mut game.app, "gamma");
    tell(&gamma, game.now(), 1, ProxyEventKind::Opened(LinkInfo::default()));
    tell(&gamma, game.now(), 1, frame(&Bye {}));

    let mut commands = Vec::new();
    game.run_ms(4_900);
    gamma.commands.drain_all(|command| commands.push(command));
    assert!(matches!(commands[..], [ProxyCommand::Close { .. }]), "{commands:?}");
    game.run_ms(300);
    commands.clear();
    gamma.commands.drain_all(|command| commands.push(command));

    assert!(matches!(commands[..], [ProxyCommand::Cut { .. }]), "{commands:?}");
}

#[test]
fn reliable_frames_wait_in_their_outboxes_while_an_adapter_does_not_keep_up() {
    let mut game = game();
    let mut gamma = proxy::attach(&mut game.app, "gamma");
    let mut delta = proxy::attach(&mut game.app, "delta");
    let (mut ada, mut bob) = (game.member(Via::Alpha, "hall"), game.member(Via::Beta, "hall"));
    for (port, player) in [(&gamma, &mut ada), (&delta, &mut bob)] {
        player.cut();
        resume(port, game.now(), 1, player);
    }
    game.tick();
    for port in [&mut gamma, &mut delta] {
        port.commands.drain_all(|_| {});
    }
    let budget = Budget { count: 3, bytes: usize::MAX / 2 };
    game.app.world_mut().resource_mut::<Proxies>().set_command_budget(budget);

    // The adapter of Ada's link takes no commands for a while. The adapter of Bob's link takes all of them.
    (1..=9).for_each(|number| shout(&mut game, number));
    let mut bobs = Vec::new();
    for _ in 0..4 {
        game.tick();
        bobs.extend(echoes_of(&mut delta));
    }
    let mut adas = vec![echoes_of(&mut gamma)];
    for _ in 0..3 {
        game.tick();
        adas.push(echoes_of(&mut gamma));
    }

    assert_eq!(bobs, (1..=9).collect::<Vec<_>>());
    assert_eq!(
        adas,
        [vec![1, 2, 3], vec![4, 5, 6], vec![7, 8, 9], vec![]],
        "each tick sends as many frames as the port has room for"
    );
    assert_eq!(game.view(ada.session()).map(|view| view.held_count), Some(9));
}

/// Returns the numbers of all `Echo` messages in the commands to an adapter since the last call.
fn echoes_of(port: &mut AdapterPort) -> Vec<u64> {
    let mut numbers = Vec::new();
    port.commands.drain_all(|command| {
        if let ProxyCommand::Send { frame, .. } = command
            && let Ok(echo) = Frame::parse(frame).expect("a frame").decode::<Echo>()
        {
            numbers.push(echo.number);
        }
    });
    numbers
}

/// Runs a game with joins, calls, losses, resumes and an expiry, and returns its trace.
fn run(seed: u64) -> u64 {
    let mut game: Harness = game_with(ServerConfig { seed: Some(seed), ..ServerConfig::default() });
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "hall");
    let mut eve = game.member(Via::Beta, "attic");
    for round in 0..20 {
        say(&mut ada, round + 1..=round + 1);
        shout(&mut game, round);
        if round == 5 {
            bob.close();
        }
        if round == 9 {
            bob.connect(&game, Via::Alpha);
            bob.resume();
        }
        if round == 12 {
            eve.cut();
        }
        game.run_with(&mut [&mut ada, &mut bob], 500);
    }
    for player in [&ada, &bob, &eve] {
        game.trace_frames(player);
    }
    game.trace()
}

#[test]
fn equal_seeds_give_equal_traces_and_other_seeds_other_traces() {
    let traces = [run(1), run(1), run(2)];

    assert_eq!(traces[0], traces[1]);
    assert_ne!(traces[0], traces[2]);
}
