//! The `waystation` binary as a process: its output, its exit, and bots that play on it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use waystation::client::{AnyDial, Client, ClientConfig, ClientEvent};
use waystation::wire::ticket::TicketKey;
use waystation::wire::udp::token_from_text;
use waystation::wire::v1::Reason;

use crate::stage::now;
use crate::stage::websocket::get;

/// A server process on free ports. It is killed when this value is dropped.
pub(crate) struct Server {
    process: Child,
    out: BufReader<ChildStdout>,
    /// First line of its output, which lists the addresses that it listens on.
    listening: String,
}

impl Server {
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_by(waystation(), options)
    }

    /// Starts a server after a shell command that limits its open files, for example `ulimit -n 64`.
    pub(crate) fn start_with_limit(limit: &str, options: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        let binary = env!("CARGO_BIN_EXE_waystation");
        shell.args(["-c", &format!("{limit} && exec \"$0\" \"$@\""), binary]);
        Self::start_by(shell, options)
    }

    pub(crate) fn start_by(mut command: Command, options: &[&str]) -> Self {
        let mut process = command
            .arg("serve")
            .args(["--listen", FREE, "--quic-listen", FREE, "--http-listen", FREE])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut out = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        Self { process, out, listening: line }
    }

    /// Returns the address that the server listens on for `what`, for example `udp`.
    pub(crate) fn address(&self, what: &str) -> &str {
        let rest = self.listening.strip_prefix("listening ").unwrap_or_default();
        rest.split([',', '\n'])
            .find_map(|part| part.trim().strip_prefix(what)?.strip_prefix(' '))
            .unwrap_or_else(|| panic!("no address for {what} in: {}", self.listening))
    }

    /// Runs bots against this server until they end.
    fn bots(&self, options: &[&str]) -> Output {
        let server = format!("http://{}", self.address("http"));
        let bots = waystation().args(["bot", "--server", &server]).args(options).output();
        bots.expect("the binary starts")
    }

    /// Reads lines until one begins with `beginning`, and returns that line.
    fn line(&mut self, beginning: &str) -> String {
        let mut line = String::new();
        while !line.starts_with(beginning) {
            line.clear();
            let length = self.out.read_line(&mut line).expect("a line");
            assert!(length > 0, "the server ended without a line that begins with {beginning}");
        }
        line
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends SIGTERM to the server, as a container runtime does.
    fn terminate(&self) {
        assert!(terminate(self.pid()));
    }

    /// Stops the server with SIGTERM. Returns true if it succeeded, and the rest of its standard output and error.
    pub(crate) fn stop(mut self) -> (bool, String, String) {
        self.terminate();
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).expect("text");
        let mut stderr = self.process.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut err).expect("text");
        (self.process.wait().expect("a status").success(), out, err)
    }

    /// Stops the server once its log has a line with this text. Returns the log.
    pub(crate) fn stop_after_log(mut self, part: &str) -> String {
        let stderr = self.process.stderr.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        let reading = thread::spawn(move || {
            // The test may have failed and be gone.
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| _ = sender.send(line));
        });
        let mut log = String::new();
        while !log.contains(part) {
            let line = lines.recv_timeout(Duration::from_secs(60));
            let line = line.unwrap_or_else(|_| panic!("{part} is not in the log:\n{log}"));
            log.push_str(&line);
            log.push('\n');
        }
        self.terminate();
        self.process.wait().expect("a status");
        reading.join().expect("the log ends with the process");
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server is still running if the test failed or did not stop it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends SIGTERM to a process. Returns false if it has ended.
pub(crate) fn terminate(process: u32) -> bool {
    let killed = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &process.to_string()]).status();
    killed.expect("a shell").success()
}

pub(crate) fn waystation() -> Command {
    Command::new(env!("CARGO_BIN_EXE_waystation"))
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn bots_play_on_a_server_that_prints_a_status_each_second_and_a_summary_at_the_end() {
    let mut server = Server::start(&["--log", "transitions"]);

    let played = server.bots(&["--clients", "5", "--seconds", "2"]);
    let status = server.line("tick_p50_ms=");
    let (success, out, log) = server.stop();

    assert!(played.status.success(), "{}", text(&played));
    assert!(status.contains(" agents=20 zones=1 "), "{status}");
    assert!(success);
    let summary = out.lines().last().expect("a summary");
    assert!(summary.starts_with("ticks=") && summary.contains(" registered=5 resumed=0 "), "{summary}");
    assert!(summary.contains(" udp.opened=5") && !summary.contains(" quic."), "{summary}");
    for news in ["SessionRegistered", "ZoneJoined", "ZoneParted", "SessionUnregistered", "SessionClosed"] {
        let count = log.lines().filter(|line| line.contains(news) && line.contains("principal=~")).count();
        assert_eq!(count, 5, "{news} in {log}");
    }
}

#[test]
fn bots_in_a_mix_resume_each_time_over_another_transport() {
    let server = Server::start(&["--set", "game.agents=0"]);

    let played = server.bots(&["--transport", "mix", "--clients", "8", "--seconds", "6", "--cut-every", "2"]);

    let table = text(&played);
    assert!(played.status.success(), "{table}");
    assert!(table.contains("over the same 0"), "{table}");
    for transport in ["udp", "quic", "wt", "ws"] {
        let row = table.lines().find(|line| line.starts_with(transport)).expect("a row");
        let links = row.split_whitespace().nth(1).and_then(|links| links.parse().ok());
        assert!(links.is_some_and(|links: u64| links >= 2), "{table}");
    }
    let (success, out, _) = server.stop();
    assert!(success);
    let summary = out.lines().last().expect("a summary");
    assert!(summary.contains(" registered=8 ") && summary.contains(" protocol_errors=0 "), "{summary}");
    for counter in ["udp.opened", "quic.quic_opened", "quic.webtransport_opened", "websocket.opened"] {
        assert!(summary.contains(&format!(" {counter}=")), "{counter} is missing in: {summary}");
    }
}

#[test]
fn a_transport_that_is_left_out_is_not_offered_and_bots_for_it_report_that() {
    let server = Server::start(&["--without", "quic"]);

    let played = server.bots(&["--transport", "quic"]);

    assert_eq!(played.status.code(), Some(1));
    let error = text(&played);
    assert!(error.contains("offers no quic") && error.contains("udp, ws"), "{error}");
    assert!(!server.listening.contains("quic"), "{}", server.listening);
}

#[test]
fn a_server_that_drains_is_alive_and_not_ready_and_still_answers_discovery() {
    let server = Server::start(&["--drain", "10min"]);
    let http = server.address("http").parse().expect("an address");
    let is_ready = || get(http, "/healthz", "").starts_with("HTTP/1.1 200");
    until("the server is ready", is_ready);
    let before = get(http, "/v1/connect", "");

    server.terminate();
    until("the server is not ready", || !is_ready());
    let [ready, live, connect] = ["/healthz", "/livez", "/v1/connect"].map(|path| get(http, path, ""));

    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("{\"status\":\"draining\","), "{ready}");
    assert!(live.starts_with("HTTP/1.1 200") && live.contains("\"draining\":true"), "{live}");
    assert!(connect.starts_with("HTTP/1.1 200") && connect.contains("\"token\":"), "{connect}");
    assert!(connect.contains("\"draining\":true") && !before.contains("\"draining\""), "{before}{connect}");
}

/// Waits until `so` returns true. Panics after a minute, which is far longer than any wait should take.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = now() + Duration::from_secs(60);
    while !so() {
        assert!(now() < deadline, "did not happen within a minute: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_reports_a_port_in_use_and_exits() {
    let first = Server::start(&[]);

    for (what, option) in [("udp", "--listen"), ("quic", "--quic-listen"), ("http", "--http-listen")] {
        let taken = first.address(what);
        let others =
            ["--listen", "--quic-listen", "--http-listen"].into_iter().filter(|other| *other != option);
        let mut second = waystation();
        second.args([option, taken]).args(others.flat_map(|other| [other, FREE]));
        let second = second.output().expect("the binary starts");

        assert_eq!(second.status.code(), Some(1), "{what}");
        let error = text(&second);
        assert!(error.contains(taken) && error.contains("in use"), "{error}");
    }
    assert!(first.stop().0);
}

#[test]
fn outside_the_dev_profile_a_server_without_a_certificate_does_not_start_and_names_the_cure() {
    let files = Files::new("refused");
    let key = files.write("key", &"5a".repeat(32));
    let start = |options: &[&str]| {
        let ports = ["--listen", FREE, "--quic-listen", FREE, "--http-listen", FREE];
        let output = waystation().args(["--key-file", &key]).args(ports).args(options).output();
        let output = output.expect("the binary starts");
        assert_eq!(output.status.code(), Some(1));
        text(&output)
    };

    let none = start(&[]);
    let unreadable =
        start(&["--public-host", "h", "--tls-cert", "/no/such.pem", "--tls-key", "/no/such.key"]);

    assert!(none.contains("--tls-cert") && none.contains("--without quic"), "{none}");
    assert!(unreadable.contains("/no/such.pem") && unreadable.contains("PEM"), "{unreadable}");
}

#[test]
fn outside_the_dev_profile_bots_play_with_a_certificate_and_a_bearer() {
    let files = Files::new("public");
    let pair = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a pair");
    let sha256: String = Sha256::digest(pair.cert.der()).iter().map(|byte| format!("{byte:02x}")).collect();
    let key = files.write("key", &"5a".repeat(32));
    let bearer = files.write("bearer", "a-bearer-of-20-bytes\n");
    let certificate = files.write("cert.pem", &pair.cert.pem());
    let certificate_key = files.write("key.pem", &pair.signing_key.serialize_pem());
    let server = Server::start(
        &[
            ["--key-file", &key],
            ["--bearer-file", &bearer],
            ["--tls-cert", &certificate],
            ["--tls-key", &certificate_key],
            ["--public-host", "127.0.0.1"],
        ]
        .concat(),
    );
    let url = format!("https://{}?cert_sha256={sha256}", server.address("https"));
    let play = |options: &[&str]| {
        let bots = ["bot", "--server", &url, "--clients", "3", "--seconds", "2"];
        waystation().args(bots).args(options).output().expect("the binary starts")
    };

    for transport in ["udp", "ws", "mix"] {
        let played = play(&["--transport", transport, "--bearer-file", &bearer]);
        assert!(played.status.success(), "{transport}: {}", text(&played));
    }
    let stranger = play(&[]);

    assert_eq!(stranger.status.code(), Some(1));
    assert!(text(&stranger).contains("requires a bearer"), "{}", text(&stranger));
    assert!(server.stop().0);
}

/// A folder for the files of a test. It is deleted when this value is dropped.
pub(crate) struct Files(PathBuf);

impl Files {
    pub(crate) fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("waystation-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("the file can be written");
        path.to_str().expect("a path").to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_token_is_one_line_and_differs_each_time() {
    let print = || {
        let output = waystation().arg("token").output().expect("the binary starts");
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };

    let (first, second) = (print(), print());

    assert_ne!(first, second);
    assert_eq!(first.lines().count(), 1);
    let token = token_from_text(&first).expect("a token");
    assert_eq!(token.server_addresses[0].expect("an address").port(), 7_777);
}

#[test]
fn the_token_command_prints_a_ticket_with_the_given_key_identity_and_lifetime() {
    let files = Files::new("ticket");
    let key = files.write("key", &"5a".repeat(32));
    let print = |options: &[&str]| {
        let output = waystation().args(["token", "--ticket"]).args(options).output();
        let output = output.expect("the binary starts");
        (output.status.success(), text(&output))
    };

    let (success, line) = print(&["--key-file", &key, "--identity", "ada", "--seconds", "60"]);
    let (is_long, error) = print(&["--seconds", "301"]);

    assert!(success && line.lines().count() == 1, "{line}");
    let ticket = TicketKey::new([0x5A; 32]).open(line.trim()).expect("of this key");
    assert_eq!(ticket.identity.as_deref(), Some("ada"));
    assert_eq!((ticket.expires - ticket.minted).as_secs(), 60);
    assert!(!is_long && error.contains("300"), "{error}");
}

#[test]
fn outside_the_dev_profile_a_server_without_a_bearer_warns_and_denies_every_client() {
    let files = Files::new("closed");
    let key = files.write("key", &"5a".repeat(32));
    let server = Server::start(
        &[["--key-file", &key], ["--without", "quic"], ["--public-host", "127.0.0.1"]]
            .concat()
            .into_iter()
            .chain(["--http-plain"])
            .collect::<Vec<_>>(),
    );

    let closed = stranger(&format!("ws://{}/ws", server.address("http")));
    let (success, _, log) = server.stop();

    assert_eq!(closed, Some(Reason::Unauthenticated));
    assert!(success);
    let warnings = log.lines().filter(|line| line.contains("gives no client a ticket")).count();
    assert_eq!(warnings, 1, "{log}");
    assert!(log.contains("--bearer-file") && log.contains("waystation token --ticket"), "{log}");
}

/// Connects to this URL without a ticket, and returns the reason with which the client is closed.
fn stranger(url: &str) -> Option<Reason> {
    let mut client = Client::new(AnyDial::new([url]).expect("a URL"), ClientConfig::default());
    loop {
        client.update(STEP);
        assert_eq!(client.session_id(), None, "a client without a ticket has a session");
        while let Some(event) = client.poll() {
            if let ClientEvent::Closed { reason, .. } = event {
                return reason;
            }
        }
        thread::sleep(STEP);
    }
}

/// Time between two updates of a client.
const STEP: Duration = Duration::from_millis(5);
/// A port that the system chooses.
const FREE: &str = "127.0.0.1:0";
