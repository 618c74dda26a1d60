//! Authenticators: a Hello waits for its verdict, and nothing else is delayed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bevy_app::App;
use waystation::config::ServerConfig;
use waystation::gate::{
    AddAuthenticator as _, AuthPort, Authenticator, Authenticators, GatePolicy, QUESTIONS_MAX,
    QUESTIONS_PER_NETWORK, Question, VERDICT_TIMEOUT, serve_authenticator,
};
use waystation::identity::{CredentialKind, Credentials, Principal, User};
use waystation::proxy::LinkInfo;
use waystation::server::ServerPlugins;
use waystation::session::{SessionCounts, SessionTable};
use waystation::testing::{Harness, Player, Via};
use waystation::tick::{Answer, QuestionId, Recorder, Replay, Verdict};
use waystation::wire::v1::credentials::Kind;
use waystation::wire::v1::{self, Denied, Hello, Password, Reason, Welcome};

use crate::stage::{WATCHDOG, now};
use crate::support::{echoes, game_with, say};

/// Returns a server that accepts passwords, and the port of its authenticator.
fn server(policy: GatePolicy) -> (Harness, AuthPort) {
    let mut config = ServerConfig::default();
    config.gate.policy = policy;
    let mut game = game_with(config);
    let port = attach(&mut game.app);
    (game, port)
}

fn attach(app: &mut App) -> AuthPort {
    app.world_mut().resource_mut::<Authenticators>().attach([CredentialKind::Password])
}

/// Sends a Hello with a name and a password, and runs one tick.
fn log_in(game: &mut Harness, player: &mut Player, user: &str) {
    let password = Password { user: user.to_owned(), password: "hunter2".to_owned(), ..Password::default() };
    let credentials = v1::Credentials { kind: Some(Kind::Password(password)) };
    player.say(&Hello { protocol: 1, credentials: Some(credentials), ..Hello::default() });
    game.tick();
    player.pump();
}

fn questions(port: &mut AuthPort) -> Vec<Question> {
    let mut questions = Vec::new();
    port.questions.drain_all(|question| questions.push(question));
    questions
}

fn answer(game: &mut Harness, port: &AuthPort, question: QuestionId, verdict: Verdict) {
    let mut batch = VecDeque::from([Answer { question, verdict }]);
    port.answers.send(&mut batch, |_| {});
    assert!(batch.is_empty(), "the port has no room for answers");
    game.tick();
}

fn denial(player: &mut Player) -> (Reason, String, u32) {
    player.pump();
    let denied = player.expect::<Denied>();
    (denied.reason(), denied.detail, denied.retry_after_ms)
}

fn at(address: &str) -> LinkInfo {
    let address: SocketAddr = address.parse().expect("an address");
    LinkInfo { address: Some(address), ..LinkInfo::default() }
}

#[test]
fn a_client_gets_a_session_after_the_verdict_and_resumes_over_the_other_proxy() {
    for policy in [GatePolicy::Open, GatePolicy::Identified, GatePolicy::Custom] {
        let (mut game, mut port) = server(policy);
        let mut ada = game.stranger(Via::Alpha);

        log_in(&mut game, &mut ada, "ada");
        game.run_ms(1_000);
        let asked = questions(&mut port);
        let [Question { id, credentials: Credentials::Password { user, password, .. }, .. }] = &asked[..]
        else {
            panic!("expected one question with a password, got {asked:?}")
        };
        assert_eq!((user.as_str(), password.as_str()), ("ada", "hunter2"));
        assert_eq!(game.resource::<SessionTable>().session_count(), 0);
        let user = User { name: "ada".into(), realm: "club".into(), slot: "phone".into() };
        answer(&mut game, &port, *id, Verdict::Accept(Principal::of(user.clone())));
        game.exchange(&mut [&mut ada]);

        assert!(ada.is_welcome());
        assert_eq!(game.component::<Principal>(ada.session()).and_then(Principal::user), Some(&user));
        game.join(&mut ada, "hall");
        ada.cut();
        ada.connect(&game, Via::Beta);
        ada.resume();
        game.exchange(&mut [&mut ada]);
        say(&mut ada, 1..=1);
        game.exchange(&mut [&mut ada]);
        assert_eq!(echoes(&mut ada), [1]);
        assert_eq!(questions(&mut port), [], "a resume asks no authenticator");
    }
}

#[test]
fn a_client_that_is_denied_may_try_again_on_the_same_link() {
    let (mut game, mut port) = server(GatePolicy::Identified);
    let mut ada = game.stranger(Via::Beta);

    log_in(&mut game, &mut ada, "ada");
    let first = questions(&mut port)[0].id;
    answer(&mut game, &port, first, Verdict::Deny("x".repeat(1_000)));
    assert_eq!(denial(&mut ada), (Reason::Unauthenticated, "x".repeat(256), 0));
    log_in(&mut game, &mut ada, "ada");
    let second = questions(&mut port)[0].id;
    answer(&mut game, &port, second, Verdict::RetryAfter(Duration::from_secs(9)));
    let (reason, _, retry_after_ms) = denial(&mut ada);
    assert_eq!((reason, retry_after_ms), (Reason::Throttled, 9_000));
    log_in(&mut game, &mut ada, "ada");
    let third = questions(&mut port)[0].id;
    answer(&mut game, &port, third, Verdict::Accept(Principal::named("ada")));

    ada.pump();
    ada.expect::<Welcome>();
    assert_eq!(game.resource::<SessionCounts>().denied_count, 2);
}

#[test]
fn a_client_with_a_long_retry_after_does_not_keep_its_link_until_then() {
    let (mut game, mut port) = server(GatePolicy::Identified);
    let mut ada = game.stranger(Via::Alpha);

    log_in(&mut game, &mut ada, "ada");
    let question = questions(&mut port)[0].id;
    answer(&mut game, &port, question, Verdict::RetryAfter(Duration::from_secs(3_600)));
    assert_eq!(denial(&mut ada).2, 3_600_000);
    game.run_ms(14_000);
    ada.pump();
    assert_eq!(ada.closed(), None, "the link stays open for 10 s plus the 5 s of the Hello timeout");
    game.run_ms(2_000);
    ada.pump();

    assert_eq!(ada.closed(), Some(Reason::Timeout));
}

#[test]
fn credentials_without_an_authenticator_are_denied_and_never_treated_as_anonymous() {
    for policy in [GatePolicy::Open, GatePolicy::Identified, GatePolicy::Custom] {
        let mut config = ServerConfig::default();
        config.gate.policy = policy;
        let mut game = game_with(config);
        let mut ada = game.stranger(Via::Alpha);

        log_in(&mut game, &mut ada, "ada");

        assert_eq!(denial(&mut ada).0, Reason::Unauthenticated, "{policy:?}");
        assert_eq!(game.resource::<SessionTable>().session_count(), 0);
    }
}

#[test]
fn a_missing_verdict_denies_the_client_after_a_timeout_and_a_late_verdict_is_dropped() {
    let (mut game, mut port) = server(GatePolicy::Identified);
    let mut ada = game.stranger(Via::Alpha);

    log_in(&mut game, &mut ada, "ada");
    let asked_at = game.now();
    while game.resource::<Authenticators>().open_count() > 0 {
        assert!(game.now() - asked_at < 2 * VERDICT_TIMEOUT, "the question is still open");
        ada.pump();
        ada.expect_no::<Denied>();
        game.tick();
    }
    let waited = game.now() - asked_at;
    assert!((VERDICT_TIMEOUT..=VERDICT_TIMEOUT + game.period()).contains(&waited), "{waited:?}");
    let (reason, _, retry_after_ms) = denial(&mut ada);
    assert!(reason == Reason::Throttled && retry_after_ms > 0);

    let late = questions(&mut port)[0].id;
    log_in(&mut game, &mut ada, "ada");
    answer(&mut game, &port, late, Verdict::Accept(Principal::named("eve")));
    ada.pump();
    ada.expect_no::<Welcome>();
    let fresh = questions(&mut port)[0].id;
    answer(&mut game, &port, fresh, Verdict::Accept(Principal::named("ada")));
    ada.pump();
    assert_eq!(game.component(ada.session()), Some(&Principal::named("ada")));
}

#[test]
fn row_22_a_link_that_is_lost_during_authentication_leaves_no_session() {
    for via in [Via::Alpha, Via::Beta] {
        let (mut game, mut port) = server(GatePolicy::Identified);
        let mut ada = game.stranger(via);

        log_in(&mut game, &mut ada, "ada");
        let question = questions(&mut port)[0].id;
        ada.close();
        game.tick();
        assert_eq!(
            game.resource::<Authenticators>().open_count(),
            1,
            "a question counts as open until it is answered"
        );
        answer(&mut game, &port, question, Verdict::Accept(Principal::named("ada")));
        game.run_ms(1_000);

        assert_eq!(game.resource::<SessionCounts>().registered_count, 0);
        assert_eq!(game.resource::<Authenticators>().open_count(), 0);
    }
}

#[test]
fn a_second_hello_before_the_verdict_is_a_protocol_error() {
    let (mut game, mut port) = server(GatePolicy::Identified);
    let mut ada = game.stranger(Via::Alpha);

    log_in(&mut game, &mut ada, "ada");
    log_in(&mut game, &mut ada, "eve");
    let asked = questions(&mut port);
    answer(&mut game, &port, asked[0].id, Verdict::Accept(Principal::named("ada")));
    ada.pump();

    assert_eq!((asked.len(), ada.closed()), (1, Some(Reason::Protocol)));
    assert_eq!(game.resource::<SessionTable>().session_count(), 0);
}

#[test]
fn a_verdict_that_names_another_user_than_the_link_opens_nothing() {
    for (verdict, is_welcome) in [("ada", true), ("eve", false)] {
        let (mut game, mut port) = server(GatePolicy::Identified);
        let mut ada = Player::new();
        let info = LinkInfo { identity: Some("ada".to_owned()), ..LinkInfo::default() };
        ada.connect_as(&game, Via::Alpha, info);

        log_in(&mut game, &mut ada, "ada");
        let asked = questions(&mut port);
        assert_eq!(asked[0].user.as_deref(), Some("ada"));
        answer(&mut game, &port, asked[0].id, Verdict::Accept(Principal::named(verdict)));
        ada.pump();

        assert_eq!(ada.is_welcome(), is_welcome);
    }
}

#[test]
fn a_network_with_too_many_questions_does_not_delay_verdicts_for_other_networks() {
    let (mut game, mut port) = server(GatePolicy::Identified);
    let mut players: Vec<Player> = (0..QUESTIONS_PER_NETWORK + 10)
        .map(|_| {
            let mut eve = Player::new();
            eve.connect_as(&game, Via::Alpha, at("192.0.2.1:7"));
            eve
        })
        .collect();
    let mut ada = Player::new();
    ada.connect_as(&game, Via::Beta, at("198.51.100.1:7"));

    for eve in &mut players {
        log_in(&mut game, eve, "eve");
    }
    let denied_count = players.iter_mut().map(|eve| eve.take::<Denied>().len()).sum::<usize>();
    assert_eq!(denied_count, 10);
    questions(&mut port);
    log_in(&mut game, &mut ada, "ada");
    let question = questions(&mut port)[0].id;
    answer(&mut game, &port, question, Verdict::Accept(Principal::named("ada")));
    ada.pump();

    assert!(ada.is_welcome());
}

#[test]
fn an_authenticator_that_reads_no_questions_has_a_bounded_queue_and_its_clients_are_denied() {
    let (mut game, mut port) = server(GatePolicy::Identified);
    let mut denied_count = 0;

    // Three times as many questions as may be open, over more than twice the verdict timeout.
    for _ in 0..12 {
        let mut players: Vec<Player> = (0..QUESTIONS_MAX / 4)
            .map(|_| {
                let mut eve = game.stranger(Via::Alpha);
                let kind = Kind::Password(Password::default());
                let credentials = Some(v1::Credentials { kind: Some(kind) });
                eve.say(&Hello { protocol: 1, credentials, ..Hello::default() });
                eve
            })
            .collect();
        game.run_ms(1_000);
        for eve in &mut players {
            eve.pump();
            denied_count += eve.take::<Denied>().len();
            eve.close();
        }
        game.tick();
        assert!(game.resource::<Authenticators>().open_count() <= QUESTIONS_MAX);
    }

    assert_eq!(denied_count, 2 * QUESTIONS_MAX);
    assert_eq!(questions(&mut port).len(), QUESTIONS_MAX);
}

#[test]
fn an_authenticator_cannot_answer_questions_of_another_one() {
    let (mut game, mut port) = server(GatePolicy::Identified);
    let other = game.app.world_mut().resource_mut::<Authenticators>().attach([CredentialKind::Bearer]);
    let mut ada = game.stranger(Via::Alpha);

    log_in(&mut game, &mut ada, "ada");
    let question = questions(&mut port)[0].id;
    answer(&mut game, &other, question, Verdict::Accept(Principal::named("eve")));
    ada.pump();
    ada.expect_no::<Welcome>();
    answer(&mut game, &port, question, Verdict::Accept(Principal::named("ada")));
    ada.pump();

    assert_eq!(game.component(ada.session()), Some(&Principal::named("ada")));
}

#[test]
fn a_run_with_verdicts_is_repeated_from_its_inputs() {
    let game = || {
        let mut app = App::new();
        app.add_plugins(ServerPlugins::default());
        let port = attach(&mut app);
        (app, port)
    };
    let mut config = Harness::with(ServerConfig::default());
    let mut port = attach(&mut config.app);
    Recorder::install(&mut config.app, 1_000);
    let mut players = [config.stranger(Via::Alpha), config.stranger(Via::Beta)];
    for player in &mut players {
        log_in(&mut config, player, "ada");
    }
    for (number, question) in questions(&mut port).into_iter().enumerate() {
        let verdict =
            [Verdict::Accept(Principal::named("ada")), Verdict::Deny(String::new())][number].clone();
        answer(&mut config, &port, question.id, verdict);
    }
    config.exchange(&mut players.iter_mut().collect::<Vec<_>>());
    let recording = Recorder::take(&mut config.app);

    let (mut again, mut silent) = game();
    let ticks = recording.ticks.len();
    Replay::install(&mut again, recording);
    for _ in 0..ticks {
        again.update();
    }

    let counts = |app: &App| *app.world().resource::<SessionCounts>();
    assert_eq!(counts(&again), counts(&config.app));
    let session = players[0].session();
    let entity = again.world().resource::<SessionTable>().find(session).expect("the same session");
    assert_eq!(again.world().get::<Principal>(entity), Some(&Principal::named("ada")));
    assert_eq!(questions(&mut silent), [], "a replay asks no authenticator");
}

/// An authenticator that never decides on `eve`, panics on `mallory`, and accepts all other users.
struct Moody;

impl Authenticator for Moody {
    async fn check(&self, question: Question) -> Verdict {
        let Credentials::Password { user, .. } = question.credentials else {
            return Verdict::Deny(String::new());
        };
        if user == "eve" {
            std::future::pending::<()>().await;
        }
        assert_ne!(user, "mallory", "planned");
        Verdict::Accept(Principal::named(&user))
    }
}

#[test]
fn a_check_that_panics_or_never_returns_refuses_that_login_and_nothing_else() {
    let mut game = Harness::new();
    game.app.add_authenticator([CredentialKind::Password], Moody);
    let mut players = ["eve", "mallory", "ada", "bob"].map(|user| {
        let mut player = game.stranger(Via::Alpha);
        log_in(&mut game, &mut player, user);
        player
    });

    // The authenticator runs on its own thread. The virtual clock stands still until it has decided three checks.
    let begun = now();
    while game.resource::<Authenticators>().open_count() > 1 {
        assert!(begun.elapsed() < WATCHDOG, "the authenticator did not decide three of the four checks");
        thread::yield_now();
        game.tick_after(Duration::ZERO);
    }
    game.pass(VERDICT_TIMEOUT);
    game.exchange(&mut players.iter_mut().collect::<Vec<_>>());

    let [eve, mallory, ada, bob] = &mut players;
    assert!(ada.is_welcome() && bob.is_welcome());
    assert_eq!(denial(mallory).0, Reason::Unauthenticated);
    assert_eq!(denial(eve).0, Reason::Throttled);
}

/// An authenticator that blocks a thread until the test drops the other end of `release`.
struct Blocking {
    begun: Sender<()>,
    release: Arc<Mutex<Receiver<()>>>,
}

impl Authenticator for Blocking {
    async fn check(&self, _: Question) -> Verdict {
        let (begun, release) = (self.begun.clone(), Arc::clone(&self.release));
        let work = tokio::task::spawn_blocking(move || {
            begun.send(()).expect("the test waits");
            // Returns when the test drops its end of the channel.
            let _ = release.lock().expect("nobody panics").recv();
        });
        work.await.expect("no panic");
        Verdict::Deny(String::new())
    }
}

#[test]
fn work_that_blocks_for_ever_does_not_keep_the_authenticator_from_ending_with_the_server() {
    let (begun_in, begun) = channel();
    let (release_in, release) = channel();
    let blocking = Blocking { begun: begun_in, release: Arc::new(Mutex::new(release)) };
    let mut game = Harness::new();
    let port = attach(&mut game.app);
    let thread = serve_authenticator(port, blocking).expect("a thread");
    let mut ada = game.stranger(Via::Beta);
    log_in(&mut game, &mut ada, "ada");
    begun.recv_timeout(WATCHDOG).expect("the check begins");

    drop(game);

    let since = now();
    while !thread.is_finished() {
        assert!(since.elapsed() < WATCHDOG, "the authenticator's thread waits for work that never ends");
        thread::sleep(Duration::from_millis(1));
    }
    drop(release_in);
}
