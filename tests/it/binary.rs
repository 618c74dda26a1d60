//! The binary, from outside: what it prints, how it ends, and that bots can play on it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use waystation::wire::udp::token_from_text;

/// A server that ends with the test, on a port that was free.
struct Server {
    process: Child,
    out: BufReader<ChildStdout>,
    address: String,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let mut process = waystation()
            .args(["serve", "--listen", "127.0.0.1:0", "--quic-listen", "127.0.0.1:0"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut out = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        let address = line
            .strip_prefix("listening udp ")
            .and_then(|rest| rest.split([',', '\n']).next())
            .unwrap_or_else(|| panic!("not where it listens: {line}"))
            .to_owned();
        Self { process, out, address }
    }

    /// The next line that begins so.
    fn line(&mut self, beginning: &str) -> String {
        let mut line = String::new();
        while !line.starts_with(beginning) {
            line.clear();
            let length = self.out.read_line(&mut line).expect("a line");
            assert!(length > 0, "it ended without a line that begins with {beginning}");
        }
        line
    }

    /// Ends it as a container would; what it still prints, on standard output and error.
    fn stop(mut self) -> (bool, String, String) {
        let pid = self.process.id().to_string();
        let killed = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status();
        assert!(killed.expect("a shell").success());
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).expect("text");
        let mut stderr = self.process.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut err).expect("text");
        (self.process.wait().expect("a status").success(), out, err)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended, unless the test failed before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn waystation() -> Command {
    Command::new(env!("CARGO_BIN_EXE_waystation"))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn bots_play_on_a_server_that_reports_each_second_and_sums_up_at_the_end() {
    let mut server = Server::start(&["--log", "transitions"]);

    let played = waystation()
        .args(["bot", "--clients", "5", "--seconds", "2", "--public-addr", &server.address])
        .output()
        .expect("the binary starts");
    let status = server.line("tick_p50_ms=");
    let (success, out, log) = server.stop();

    assert!(played.status.success(), "{}", text(&played));
    assert!(status.contains(" agents=20 zones=1 "), "{status}");
    assert!(success);
    let summary = out.lines().last().expect("a summary");
    assert!(summary.starts_with("ticks=") && summary.contains(" registered=5 resumed=0 "), "{summary}");
    for news in ["SessionRegistered", "ZoneJoined", "ZoneParted", "SessionUnregistered", "SessionClosed"] {
        let count = log.lines().filter(|line| line.contains(news) && line.contains("principal=~")).count();
        assert_eq!(count, 5, "{news} in {log}");
    }
}

#[test]
fn a_port_in_use_ends_a_server_with_an_error_that_says_so() {
    let first = Server::start(&[]);

    let second = waystation().args(["--listen", &first.address]).output().expect("the binary starts");

    assert_eq!(second.status.code(), Some(1));
    let error = text(&second);
    assert!(error.contains(&first.address) && error.contains("in use"), "{error}");
    assert!(first.stop().0);
}

#[test]
fn a_token_is_one_line_and_never_the_same() {
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
