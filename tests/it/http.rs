//! Discovery, health and the play page, over real sockets.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use bevy_app::App;
use waystation::admin::axum::{Router, routing};
use waystation::admin::{ConnectAuth, Health, HttpConfig, HttpServer, Pages};
use waystation::client::{Dial as _, Link as _, LinkStatus, UdpDial};
use waystation::proxy::Origins;
use waystation::proxy::quic::{QuicConfig, QuicProxy};
use waystation::proxy::renet::{RenetConfig, RenetProxy};
use waystation::proxy::tls::Tls;
use waystation::proxy::{self, Listener as _, Offers, ProxyEventKind};
use waystation::server::ServerPlugins;
use waystation::tick::{Clock, TickInput};
use waystation::wire::discovery::Discovery;
use waystation::wire::ticket::TicketKey;
use waystation::wire::udp::{DEV_KEY, token_from_text};

use crate::stage::now;
use crate::stage::websocket::{Setup, Stage, ask, get};

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head and a body").1
}

fn with_http(change: impl FnOnce(&mut HttpConfig)) -> Stage {
    let mut setup = Setup::default();
    change(&mut setup.http);
    Stage::with(setup)
}

#[test]
fn discovery_offers_all_transports_and_its_token_opens_a_link_over_udp() {
    let listen = ([127, 0, 0, 1], 0).into();
    let udp = RenetProxy::bind(RenetConfig { listen, ..RenetConfig::new(DEV_KEY) }).expect("a free port");
    let tls = Tls::self_signed(&["localhost".to_owned()]).expect("a certificate");
    let hash: String = tls.sha256().expect("self-signed").iter().map(|byte| format!("{byte:02x}")).collect();
    let mut setup = Setup::default();
    setup.http.name = "hall".to_owned();
    setup.http.connect_auth = ConnectAuth::hook(|bearer| {
        if bearer == "ada's ticket" { Ok(Some("ada".to_owned())) } else { Err("no such ticket".to_owned()) }
    });
    setup.http.tickets = Some(TicketKey::new(DEV_KEY));
    let public_address = Some("play.example:7778".to_owned());
    let quic = QuicProxy::bind(QuicConfig { listen, public_address, ..QuicConfig::default() }, &tls);
    for source in [udp.offers(), quic.expect("a free port").offers()] {
        setup.offers.add(source);
    }
    let mut stage = Stage::with(setup);
    let _udp = udp.start(proxy::attach(&mut stage.app, "udp")).expect("a thread");
    let server = stage.local_addr();

    let answer = get(server, "/v1/connect", "authorization: Bearer ada's ticket\r\n");
    let offer = Discovery::parse(body(&answer).as_bytes()).expect("a valid discovery answer");

    assert!(answer.contains("cache-control: no-store"), "{answer}");
    assert_eq!(offer.name, "hall");
    let names: Vec<&str> = offer.offers.iter().map(|offer| &*offer.transport).collect();
    assert_eq!(names, ["udp", "quic", "webtransport", "websocket"]);
    assert_eq!(offer.offer("websocket").expect("present in the answer").url, format!("ws://{server}/ws"));
    for (name, url) in
        [("quic", "quic://play.example:7778"), ("webtransport", "https://play.example:7778/wt")]
    {
        let offer = offer.offer(name).expect("present in the answer");
        assert_eq!((offer.url.as_str(), offer.cert_sha256.as_deref()), (url, Some(&*hash)));
    }

    let token = offer.offer("udp").and_then(|offer| offer.token.clone()).expect("a connect token");
    let ticket =
        TicketKey::new(DEV_KEY).open(&offer.ticket.expect("present in the answer")).expect("genuine");
    assert_eq!((ticket.identity.as_deref(), offer.ticket_expires_s), (Some("ada"), Some(30)));
    assert_eq!(ticket.expires - ticket.minted, Duration::from_secs(30));

    let mut link = UdpDial::new(move || token_from_text(&token)).dial().expect("a token for this server");
    let mut identity = None;
    stage.until("the link is open on both sides", |stage| {
        link.update(Duration::from_millis(2));
        link.flush();
        for (_, event) in &stage.app.world().resource::<TickInput>().events {
            if let ProxyEventKind::Opened(info) = &event.kind {
                identity.clone_from(&info.identity);
            }
        }
        link.status() == LinkStatus::Open && identity.is_some()
    });
    assert_eq!(identity.as_deref(), Some("ada"));
}

#[test]
fn a_games_own_routes_are_served_beside_those_of_the_server_and_may_panic() {
    let mut app = App::new();
    app.add_plugins(ServerPlugins::default());
    let listen = ([127, 0, 0, 1], 0).into();
    let own = Router::new()
        .route("/best", routing::get(|| std::future::ready("ada, 30 points")))
        .route("/broken", routing::get(|| async { planned_panic() }));
    let http =
        HttpServer::bind(HttpConfig { listen, ..HttpConfig::default() }).expect("a free port").routes(own);
    let health = Health::watch(&mut app);
    let http = http.start(Offers::default(), health, None).expect("a thread");
    app.update();

    let broken = get(http.local_addr(), "/broken", "");
    let best = get(http.local_addr(), "/best", "");
    let live = get(http.local_addr(), "/livez", "");
    let nothing = get(http.local_addr(), "/worst", "");

    assert_eq!(broken, "", "the connection is closed");
    assert!(best.starts_with("HTTP/1.1 200") && body(&best) == "ada, 30 points", "{best}");
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    assert!(nothing.starts_with("HTTP/1.1 404"), "{nothing}");
    assert!(!http.is_finished());
}

fn planned_panic() -> &'static str {
    panic!("planned")
}

#[test]
fn discovery_without_a_valid_bearer_is_401_and_names_what_is_missing() {
    let closed = with_http(|http| http.connect_auth = ConnectAuth::nobody());
    let stage = with_http(|http| http.connect_auth = ConnectAuth::bearer("0123456789abcdef"));
    let (closed, server) = (closed.local_addr(), stage.local_addr());

    let nobody = get(closed, "/v1/connect", "authorization: Bearer 0123456789abcdef\r\n");
    let without = get(server, "/v1/connect", "");
    let wrong = get(server, "/v1/connect", "authorization: Bearer 0123456789abcdeg\r\n");
    let other = get(server, "/v1/connect", "authorization: Basic 0123456789abcdef\r\n");
    let right = get(server, "/v1/connect", "authorization: bearer 0123456789abcdef\r\n");

    for refused in [&nobody, &without, &wrong, &other] {
        assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
        assert!(refused.contains("www-authenticate: Bearer"), "{refused}");
        assert!(!refused.contains("\"protocol\""), "{refused}");
    }
    assert!(body(&nobody).contains("--bearer-file"), "{nobody}");
    assert!(body(&without).contains("Authorization: Bearer"), "{without}");
    assert!(right.starts_with("HTTP/1.1 200"), "{right}");
}

#[test]
fn discovery_is_limited_to_a_burst_and_then_to_a_rate() {
    let clock = Clock::manual();
    let mut setup = Setup { clock: clock.clone(), ..Setup::default() };
    setup.http.max_connects_per_address = 3;
    setup.http.connects_per_second = 2;
    let stage = Stage::with(setup);
    let server = stage.local_addr();

    for _ in 0..3 {
        assert!(get(server, "/v1/connect", "").starts_with("HTTP/1.1 200"));
    }
    let refused = get(server, "/v1/connect", "");
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("retry-after: 1"), "{refused}");

    clock.advance(Duration::from_secs(1));
    let later = [(); 3].map(|()| get(server, "/v1/connect", ""));
    assert!(later[0].starts_with("HTTP/1.1 200") && later[1].starts_with("HTTP/1.1 200"));
    assert!(later[2].starts_with("HTTP/1.1 429"), "{}", later[2]);
}

#[test]
fn only_pages_of_listed_origins_may_request_discovery() {
    let listed = vec!["https://play.example".to_owned()];
    let stage = with_http(|http| http.origins = Origins::Only(listed));
    let server = stage.local_addr();

    let allowed = get(server, "/v1/connect", "origin: https://play.example\r\n");
    let refused = get(server, "/v1/connect", "origin: https://elsewhere.example\r\n");
    let asked_before = ask(
        server,
        &format!(
            "OPTIONS /v1/connect HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\
             origin: https://play.example\r\naccess-control-request-headers: authorization\r\n\r\n"
        ),
    );

    assert!(allowed.starts_with("HTTP/1.1 200"), "{allowed}");
    assert!(allowed.contains("access-control-allow-origin: https://play.example"), "{allowed}");
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    assert!(!refused.contains("access-control-allow-origin"), "{refused}");
    assert!(asked_before.starts_with("HTTP/1.1 204"), "{asked_before}");
    assert!(asked_before.contains("access-control-allow-headers: authorization"), "{asked_before}");
}

#[test]
fn health_is_503_while_ticks_stall_and_200_when_they_go_on() {
    let clock = Clock::manual();
    let mut stage = Stage::with(Setup { clock: clock.clone(), ..Setup::default() });
    let server = stage.local_addr();
    let ask = || ["/healthz", "/livez"].map(|path| get(server, path, ""));

    let [not_yet, starting] = ask();
    stage.app.update();
    let alive = ask();
    clock.advance(Duration::from_secs(5));
    let stalled = ask();
    stage.app.update();
    let again = ask();

    assert!(not_yet.starts_with("HTTP/1.1 503"), "before the first tick the server is not ready: {not_yet}");
    assert!(starting.starts_with("HTTP/1.1 200"), "before the first tick the server is alive: {starting}");
    assert!(body(&not_yet).starts_with("{\"status\":\"starting\","), "{not_yet}");
    for answer in &alive {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("cache-control: no-store"), "{answer}");
        assert_eq!(body(answer), "{\"status\":\"ok\",\"tick\":1,\"tick_age_ms\":0,\"draining\":false}\n");
    }
    for answer in &stalled {
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        let wanted = "{\"status\":\"stalled\",\"tick\":1,\"tick_age_ms\":5000,\"draining\":false}\n";
        assert_eq!(body(answer), wanted);
    }
    for answer in &again {
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"tick\":2"), "{answer}");
    }
}

#[test]
fn the_page_is_served_with_its_scripts_and_styles_and_not_twice() {
    let stage = Stage::with(Setup {
        pages: Some(Pages::embedded(&PAGES).policy("default-src 'none'")),
        ..Setup::default()
    });
    let server = stage.local_addr();

    let page = get(server, "/play", "");
    let paths = ["/play/play.js", "/play/play.css"];
    let files = paths.map(|path| get(server, path, ""));
    let tag = page.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag").to_owned();
    let known = get(server, "/play", &format!("if-none-match: {tag}\r\n"));
    let (folder, elsewhere) = (get(server, "/play/", ""), get(server, "/", ""));

    assert_eq!(body(&folder), body(&page));
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("content-type: text/html"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'"), "{page}");
    for (path, (file, kind)) in paths.iter().zip(files.iter().zip(["text/javascript", "text/css"])) {
        // The links have no leading slash, so that the page also works under a path prefix.
        let link = format!("\"{}\"", path.trim_start_matches('/'));
        assert!(body(&page).contains(&link), "the page does not link to {link}");
        assert!(
            file.starts_with("HTTP/1.1 200") && file.contains(&format!("content-type: {kind}")),
            "{path}"
        );
        assert!(file.contains("x-content-type-options: nosniff"), "{path}");
    }
    assert!(known.starts_with("HTTP/1.1 304") && body(&known).is_empty(), "{known}");
    assert!(elsewhere.starts_with("HTTP/1.1 404") && elsewhere.contains("its pages"), "{elsewhere}");
}

#[test]
#[cfg(unix)]
fn a_folder_of_pages_is_read_on_each_request_and_never_left() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("pages-{}", std::process::id()));
    fs::create_dir_all(folder.join("dist/levels")).expect("a folder");
    let write = |file: &str, text: &str| fs::write(folder.join(file), text).expect("a file");
    write("secret.txt", "outside");
    write("dist/index.html", "first");
    write("dist/levels/one.json", "{}");
    std::os::unix::fs::symlink(folder.join("secret.txt"), folder.join("dist/link.txt")).expect("a link");
    let pages = Pages::folder(folder.join("dist")).expect("a folder");
    let stage = Stage::with(Setup { pages: Some(pages), ..Setup::default() });
    let server = stage.local_addr();

    let first = get(server, "/", "");
    write("dist/index.html", "second");
    let second = get(server, "/index.html", "");
    let level = get(server, "/levels/one.json", "");
    let outside = ["/link.txt", "/../secret.txt", "/%2e%2e/secret.txt", "/levels", "/levels/two.json"];
    let outside = outside.map(|path| get(server, path, ""));
    let discovery = get(server, "/v1/connect", "");

    fs::remove_dir_all(&folder).expect("the folder is removed");
    assert_eq!((body(&first), body(&second)), ("first", "second"));
    assert!(level.contains("content-type: application/json") && body(&level) == "{}", "{level}");
    for answer in outside {
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
    assert!(discovery.starts_with("HTTP/1.1 200"), "pages hide no path of the server: {discovery}");
}

#[test]
fn a_client_that_sends_a_head_too_slowly_is_disconnected() {
    let stage = with_http(|http| http.header_timeout = Duration::from_millis(300));
    let server = stage.local_addr();
    let mut slow = TcpStream::connect(server).expect("a connection");
    slow.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
    let begun = now();

    // The client sends a byte every 20 ms and never completes the head. The server must not wait for it.
    let mut bytes = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: ".iter().chain(std::iter::repeat(&b'y'));
    let ended = loop {
        let sent = slow.write(&[*bytes.next().expect("it repeats")]);
        let heard = slow.read(&mut [0; 1_024]);
        let is_over = sent.is_err()
            || heard.as_ref().is_ok_and(|count| *count == 0)
            || heard.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        if is_over {
            break true;
        }
        if now() >= begun + Duration::from_secs(30) {
            break false;
        }
    };

    assert!(ended, "the connection is still open after 30 s");
    assert!(get(server, "/livez", "").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let stage = Stage::new();
    let server = stage.local_addr();

    let answer = get(server, "/healthz", &format!("x: {}\r\n", "y".repeat(20_000)));

    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

/// The files of the arena's page.
const PAGES: [(&str, &[u8]); 3] = [
    ("play/index.html", include_bytes!("../../assets/play/index.html")),
    ("play/play.js", include_bytes!("../../assets/play/play.js")),
    ("play/play.css", include_bytes!("../../assets/play/play.css")),
];
