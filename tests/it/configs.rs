//! Unusable values in configurations are refused before a server or a client is created.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bevy_app::App;
use waystation::admin::{HttpConfig, HttpError, HttpServer};
use waystation::client::{Client, ClientConfig, UdpDial};
use waystation::config::{ConfigError, ServerConfig};
use waystation::gate::GateConfig;
use waystation::proxy::quic::{QuicConfig, QuicError, QuicProxy};
use waystation::proxy::renet::{RenetConfig, RenetError, RenetProxy};
use waystation::proxy::tls::Tls;
use waystation::proxy::websocket::{WebSocketConfig, WebSocketError, WebSocketProxy};
use waystation::server::ServerPlugins;
use waystation::session::SessionConfig;
use waystation::wire::udp::DEV_KEY;

const ZERO: Duration = Duration::ZERO;
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Fields of a configuration, each with a function that sets an unusable value.
type Wrong<C> = [(&'static str, fn(&mut C))];

/// Asserts that the error is about `field`, and names its value, its range and a cure.
#[track_caller]
fn assert_names(error: &ConfigError, field: &str) {
    let ConfigError { field: named, value, range, cure } = error;
    assert_eq!(*named, field);
    assert!(!value.is_empty() && !range.is_empty() && cure.len() > 20, "{error:?}");
    assert_eq!(error.to_string(), format!("{field} is {value}, and must be {range}: {cure}"));
}

/// Runs `act`, which must panic, and returns the panic's message.
fn panic_of(act: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(act)).expect_err("the configuration is refused");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn a_server_with_an_unusable_session_config_does_not_start() {
    let wrong: &Wrong<SessionConfig> = &[
        ("SessionConfig::timeout", |it| it.timeout = WEEK),
        ("SessionConfig::link_timeout", |it| it.link_timeout = ZERO),
        ("SessionConfig::link_timeout", |it| it.link_timeout = WEEK),
        ("SessionConfig::outbox_max_frames", |it| it.outbox_max_frames = 0),
        ("SessionConfig::outbox_max_bytes", |it| it.outbox_max_bytes = 1_000),
        ("SessionConfig::outboxes_max_bytes", |it| it.outboxes_max_bytes = 100_000),
        ("SessionConfig::unacked_max", |it| it.unacked_max = ZERO),
        ("SessionConfig::dispatch_max_frames", |it| it.dispatch_max_frames = 0),
        ("SessionConfig::inbox_max_frames", |it| it.inbox_max_frames = 0),
        ("SessionConfig::messages_per_second", |it| it.messages_per_second = 0),
        ("SessionConfig::messages_burst", |it| it.messages_burst = 0),
        ("SessionConfig::bytes_per_second", |it| it.bytes_per_second = 0),
        ("SessionConfig::bytes_burst", |it| it.bytes_burst = 0),
        ("SessionConfig::control_per_second", |it| it.control_per_second = 2),
        ("SessionConfig::control_burst", |it| it.control_burst = 2),
        ("SessionConfig::max_sessions", |it| it.max_sessions = 0),
    ];
    // This pattern does not compile with a new field. If the field is a number or a time, add a line above too.
    let SessionConfig {
        timeout: _,
        link_timeout: _,
        outbox_max_frames: _,
        outbox_max_bytes: _,
        outboxes_max_bytes: _,
        unacked_max: _,
        dispatch_max_frames: _,
        inbox_max_frames: _,
        messages_per_second: _,
        messages_burst: _,
        bytes_per_second: _,
        bytes_burst: _,
        control_per_second: _,
        control_burst: _,
        max_sessions: _,
        on_disconnect: _,
    } = SessionConfig::default();

    for (field, spoil) in wrong {
        let mut config = ServerConfig::default();
        spoil(&mut config.session);
        let error = config.check().expect_err(field);
        let panic = panic_of(|| {
            App::new().add_plugins(ServerPlugins::new(config));
        });

        assert_names(&error, field);
        assert_eq!(panic, error.to_string());
    }
    assert_eq!(ServerConfig::default().check(), Ok(()));
}

#[test]
fn a_server_with_an_unusable_gate_config_does_not_start() {
    let wrong: &Wrong<GateConfig> = &[
        ("GateConfig::hello_timeout", |it| it.hello_timeout = ZERO),
        ("GateConfig::hello_timeout", |it| it.hello_timeout = WEEK),
        ("GateConfig::max_guests", |it| it.max_guests = 0),
        ("GateConfig::max_sessions_per_network", |it| it.max_sessions_per_network = Some(0)),
        ("GateConfig::sessions_burst_per_network", |it| it.sessions_burst_per_network = 0),
        ("GateConfig::sessions_per_second_per_network", |it| it.sessions_per_second_per_network = 0),
        ("GateConfig::drain", |it| it.drain = WEEK),
    ];

    for (field, spoil) in wrong {
        let mut config = ServerConfig::default();
        spoil(&mut config.gate);
        let error = config.check().expect_err(field);
        let panic = panic_of(|| {
            App::new().add_plugins(ServerPlugins::new(config));
        });

        assert_names(&error, field);
        assert_eq!(panic, error.to_string());
    }
}

#[test]
fn a_client_with_an_unusable_config_is_not_created() {
    let wrong: &Wrong<ClientConfig> = &[
        ("ClientConfig::link_timeout", |it| it.link_timeout = ZERO),
        ("ClientConfig::link_timeout", |it| it.link_timeout = WEEK),
        ("ClientConfig::dial_timeout", |it| it.dial_timeout = ZERO),
        ("ClientConfig::dial_timeout", |it| it.dial_timeout = WEEK),
        ("ClientConfig::backoff_min", |it| it.backoff_min = ZERO),
        ("ClientConfig::backoff_max", |it| it.backoff_max = Duration::from_millis(50)),
        ("ClientConfig::backoff_max", |it| it.backoff_max = WEEK),
        ("ClientConfig::tries", |it| it.tries = 0),
        ("ClientConfig::game", |it| it.game = "g".repeat(4_096)),
    ];

    for (field, spoil) in wrong {
        let mut config = ClientConfig::default();
        spoil(&mut config);
        let error = config.check().expect_err(field);
        let dial = || UdpDial::minting(waystation::wire::udp::TokenMint::new(DEV_KEY, vec![any_port()]));
        let panic = panic_of(|| drop(Client::new(dial(), config.clone())));
        let panic_with_token = panic_of(|| drop(Client::resume_with_token(dial(), config, vec![7; 32])));

        assert_names(&error, field);
        assert_eq!([panic, panic_with_token], [error.to_string(), error.to_string()]);
    }
    assert_eq!(ClientConfig::default().check(), Ok(()));
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[test]
fn an_adapter_with_an_unusable_config_is_not_bound() {
    let tls = Tls::self_signed(&["localhost".to_owned()]).expect("a certificate");
    let quic: &Wrong<QuicConfig> = &[
        ("QuicConfig::max_links", |it| it.max_links = 0),
        ("QuicConfig::max_links", |it| it.max_links = usize::MAX),
        ("QuicConfig::max_handshakes", |it| it.max_handshakes = 0),
        ("QuicConfig::handshake_timeout", |it| it.handshake_timeout = ZERO),
        ("QuicConfig::socket_buffer_bytes", |it| it.socket_buffer_bytes = 0),
        ("QuicConfig::public_address", |it| it.public_address = Some(String::new())),
        ("QuicConfig::public_address", |it| it.public_address = Some("https://play.example".to_owned())),
        ("QuicConfig::public_address", |it| it.public_address = Some("play.example:port".to_owned())),
        ("QuicConfig::public_address", |it| it.public_address = Some("2001:db8::1".to_owned())),
        ("QuicLimits::bidi_streams", |it| it.limits.bidi_streams = 1),
        ("QuicLimits::uni_streams", |it| it.limits.uni_streams = 2),
        ("QuicLimits::stream_window_bytes", |it| it.limits.stream_window_bytes = 0),
        ("QuicLimits::connection_window_bytes", |it| it.limits.connection_window_bytes = 0),
        ("QuicLimits::send_window_bytes", |it| it.limits.send_window_bytes = 0),
        ("QuicLimits::idle_timeout", |it| it.limits.idle_timeout = ZERO),
        ("QuicLimits::idle_timeout", |it| it.limits.idle_timeout = Duration::MAX),
        ("QuicLimits::keep_alive", |it| it.limits.keep_alive = ZERO),
        ("QuicLimits::keep_alive", |it| it.limits.keep_alive = WEEK),
    ];
    let udp: &Wrong<RenetConfig> = &[
        ("RenetConfig::max_links", |it| it.max_links = 0),
        ("RenetConfig::max_links", |it| it.max_links = 1_025),
        ("RenetConfig::socket_buffer_bytes", |it| it.socket_buffer_bytes = 0),
    ];
    let websocket: &Wrong<WebSocketConfig> = &[
        ("WebSocketConfig::max_links", |it| it.max_links = 0),
        ("WebSocketConfig::max_links", |it| it.max_links = usize::MAX),
        ("WebSocketConfig::send_buffer_bytes", |it| it.send_buffer_bytes = 65_536),
        ("WebSocketConfig::public_url", |it| it.public_url = Some("play.example/ws".to_owned())),
        ("WebSocketConfig::public_url", |it| it.public_url = Some("https://play.example/ws".to_owned())),
    ];

    for (field, spoil) in quic {
        let mut config = QuicConfig { listen: any_port(), ..QuicConfig::default() };
        spoil(&mut config);
        match QuicProxy::bind(config, &tls) {
            Err(QuicError::Config(error)) => assert_names(&error, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    for (field, spoil) in udp {
        let mut config = RenetConfig { listen: any_port(), ..RenetConfig::new(DEV_KEY) };
        spoil(&mut config);
        match RenetProxy::bind(config) {
            Err(RenetError::Config(error)) => assert_names(&error, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    for (field, spoil) in websocket {
        let mut config = WebSocketConfig::default();
        spoil(&mut config);
        match WebSocketProxy::new(config) {
            Err(WebSocketError::Config(error)) => assert_names(&error, field),
            Ok(_) => panic!("an unusable {field} is accepted"),
        }
    }
}

#[test]
fn an_http_server_with_an_unusable_config_is_not_bound() {
    let wrong: &Wrong<HttpConfig> = &[
        ("HttpConfig::max_connects_per_address", |it| it.max_connects_per_address = 0),
        ("HttpConfig::connects_per_second", |it| it.connects_per_second = 0),
        ("HttpConfig::max_connections", |it| it.max_connections = 0),
        ("HttpConfig::header_timeout", |it| it.header_timeout = ZERO),
        ("HttpConfig::header_timeout", |it| it.header_timeout = WEEK),
    ];

    for (field, spoil) in wrong {
        let mut config = HttpConfig { listen: any_port(), ..HttpConfig::default() };
        spoil(&mut config);
        match HttpServer::bind(config) {
            Err(HttpError::Config(error)) => assert_names(&error, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}
