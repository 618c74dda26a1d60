//! The settings of a whole server: its keys, their docs, and the mistakes that its checks find.

use std::collections::BTreeMap;
use std::time::Duration;

use waystation::admin::HttpConfig;
use waystation::config::{ConfigError, ServerConfig};
use waystation::proxy::quic::QuicConfig;
use waystation::proxy::renet::RenetConfig;
use waystation::proxy::websocket::WebSocketConfig;
use waystation::settings::{Inputs, Key, Leaf as _, Loaded, Mistakes, Value, keys, load};

waystation::settings! {
    /// A server with all transports.
    #[derive(Debug)]
    struct Everything {
        /// The server.
        server: ServerConfig = ServerConfig::default() => flat,
        /// UDP.
        udp: RenetConfig = RenetConfig::default(),
        /// QUIC and WebTransport.
        quic: QuicConfig = QuicConfig::default(),
        /// WebSocket.
        websocket: WebSocketConfig = WebSocketConfig::default(),
        /// HTTP.
        http: HttpConfig = HttpConfig::default(),
    }
}

fn check(settings: &Everything) -> Vec<ConfigError> {
    [
        settings.server.check_all(),
        settings.udp.check_all(),
        settings.quic.check_all(),
        settings.websocket.check_all(),
        settings.http.check_all(),
    ]
    .concat()
}

fn loaded(text: &str) -> Result<Loaded<Everything>, Mistakes> {
    load(Inputs { file: Some(("waystation.toml", text)), ..Inputs::default() }, check)
}

#[test]
fn no_two_keys_of_a_server_have_the_same_variable() {
    let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in keys::<Everything>() {
        paths.entry(key.variable).or_default().push(key.path);
    }

    let doubled: Vec<_> = paths.values().filter(|paths| paths.len() > 1).collect();

    assert!(doubled.is_empty(), "{doubled:?}");
    assert_eq!(paths["WAYSTATION_QUIC_LIMITS_IDLE_TIMEOUT"], ["quic.limits.idle_timeout"]);
}

#[test]
fn the_doc_of_each_key_says_its_default() {
    let wrong: Vec<String> = keys::<Everything>()
        .iter()
        .filter(|key| documented(key).as_ref() != Some(&key.default))
        .map(|key| format!("{}: {:?}, documented {:?}", key.field, key.default, documented(key)))
        .collect();

    assert!(wrong.is_empty(), "the docs of these fields give another default:\n{}", wrong.join("\n"));
}

/// Returns the default that the doc of a key gives.
fn documented(key: &Key) -> Option<Value> {
    let doc = key.docs.join(" ");
    let default = doc.split_once("Default: ")?.1;
    let number_end =
        default.find(|c: char| !(c.is_ascii_digit() || c == ',' || c == '.')).unwrap_or(default.len());
    let number = default[..number_end].trim_end_matches(['.', ',']).replace(',', "");
    let unit = default[number_end..].trim_start().split(|c: char| !c.is_alphabetic()).next()?;
    let word = default.split(['.', ',']).next()?;
    match &key.default {
        Value::Integer(_) => {
            let factor = match unit {
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                _ => 1,
            };
            Some(Value::Integer(number.parse::<i128>().ok()? * factor))
        }
        Value::Text(_) if !number.is_empty() && !default.starts_with('`') => {
            Duration::read(&Value::Text(format!("{number}{unit}"))).ok().map(|time| time.write())
        }
        Value::Text(_) if word == "empty" => Some(Value::Text(String::new())),
        Value::Text(_) => {
            let quoted = default.strip_prefix('`').and_then(|text| text.split('`').next());
            Some(Value::Text(quoted.unwrap_or(word).to_owned()))
        }
        Value::Bool(_) => Some(Value::Bool(word == "true")),
        Value::List(_) => (word == "empty").then(|| Value::List(Vec::new())),
        _ => None,
    }
}

#[test]
fn the_shown_file_of_a_server_loads_to_the_same_values() {
    let text = "
rate = 60
seed = \"18446744073709551615\"
[session]
timeout = \"2min\"
outbox_max_bytes = \"1MiB\"
[gate]
policy = \"identified\"
max_sessions_per_network = 9
[udp]
listen = \"0.0.0.0:7777\"
public_addresses = [\"192.0.2.1:7777\", \"[2001:db8::1]:7777\"]
[quic.limits]
keep_alive = \"500ms\"
[websocket]
public_url = \"wss://play.example/ws\"
";
    let first = loaded(text).expect("no mistake");

    let shown = first.show();
    let second = loaded(&shown).expect("no mistake");

    assert_eq!(values(&second), values(&first));
    assert_eq!(second.value.server.seed, Some(u64::MAX));
    for line in [
        "rate = 60  # waystation.toml:2\n",
        "\n# link_timeout = \"5s\"\n",
        "\n# bytes_per_second = \"32KiB\"\n",
        "\n[quic.limits]\n",
        "a quarter of `session.max_sessions`, but",
    ] {
        assert!(shown.contains(line), "{line:?} is missing in:\n{shown}");
    }
    for marked in ["](", "Config::", "MAX`", "LinkMemory"] {
        assert!(!shown.contains(marked), "{marked:?} is in:\n{shown}");
    }
}

/// Returns the lines of the tables and of the keys that do not have their default, without sources.
fn values(loaded: &Loaded<Everything>) -> Vec<String> {
    let shown = loaded.show();
    let lines = shown.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn each_value_that_a_check_refuses_is_reported_with_its_key() {
    let mistakes = loaded(REFUSED).expect_err("mistakes");

    let found: Vec<String> = mistakes.as_slice().iter().map(|mistake| mistake.source.to_string()).collect();
    let lines =
        REFUSED.lines().enumerate().filter(|(_, line)| line.contains('=') && !line.starts_with("outboxes"));
    let expected: Vec<String> = lines.map(|(at, _)| format!("waystation.toml:{}", at + 1)).collect();
    assert_eq!(found, expected, "{mistakes}");
    assert!(mistakes.as_slice().iter().all(|mistake| mistake.key.is_some()), "{mistakes}");
    let of_link_timeout = &mistakes.as_slice()[2];
    assert_eq!(
        of_link_timeout.to_string(),
        "waystation.toml:5: session.link_timeout is 1s, and must be 2s to 86400s: clients answer one Beacon a second, \
         and a shorter timeout closes their links; the default is 5 s, which clients assume; \
         WAYSTATION_SESSION_LINK_TIMEOUT overrides it"
    );
    assert!(
        mistakes
            .to_string()
            .starts_with("waystation.toml:2: rate is 3, and must be a whole number from 4 to 240;")
    );
}

/// A file in which each value is out of range.
const REFUSED: &str = "
rate = 3
[session]
timeout = \"48h\"
link_timeout = \"1s\"
outbox_max_frames = 0
outbox_max_bytes = 0
outboxes_max_bytes = 0
unacked_max = \"1s\"
dispatch_max_frames = 0
inbox_max_frames = 0
messages_per_second = 0
messages_burst = 0
bytes_per_second = 0
bytes_burst = 0
control_per_second = 0
control_burst = 0
max_sessions = 0
[gate]
hello_timeout = \"0s\"
max_guests = 0
max_sessions_per_network = 0
sessions_burst_per_network = 0
sessions_per_second_per_network = 0
drain = \"48h\"
[udp]
max_links = 0
socket_buffer_bytes = 0
[quic]
max_links = 0
max_handshakes = 0
handshake_timeout = \"0s\"
socket_buffer_bytes = 0
public_address = \"https://play.example\"
[quic.limits]
bidi_streams = 0
uni_streams = 0
stream_window_bytes = 1
connection_window_bytes = 0
send_window_bytes = 0
idle_timeout = \"0s\"
keep_alive = \"0s\"
[websocket]
max_links = 0
send_buffer_bytes = 0
public_url = \"http://play.example\"
[http]
max_connects_per_address = 0
connects_per_second = 0
max_connections = 0
header_timeout = \"0s\"
";
