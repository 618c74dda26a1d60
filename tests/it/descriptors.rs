//! The server's limit of open files: the server raises the soft limit, and under a low hard limit it reserves
//! files for HTTP requests.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::binary::{Server, until};
use crate::stage::websocket::get;

fn http(server: &Server) -> SocketAddr {
    server.address("http").parse().expect("an address")
}

fn silent(server: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(server).expect("the kernel accepts the connection")).collect()
}

/// Returns true if the server still holds a connection that sends nothing.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    let heard = (&*stream).read(&mut [0; 16]);
    heard.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Asserts that a health request was answered. The status may be 503, because ticks may be late on a loaded
/// machine.
fn assert_answered(health: &str) {
    assert!(["HTTP/1.1 200", "HTTP/1.1 503"].iter().any(|status| health.starts_with(status)), "{health}");
}

/// Opens a WebSocket, which stays open until it is dropped. If the server answers with another
/// status, returns the beginning of that answer as an error.
fn open_link(server: SocketAddr) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(server).expect("the kernel accepts the connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    let ask = b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(ask).expect("room");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    if &answer == b"HTTP/1.1 101" { Ok(stream) } else { Err(String::from_utf8_lossy(&answer).into_owned()) }
}

#[test]
fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let server = Server::start_with_limit("ulimit -Sn 100", &[]);
    let http = http(&server);

    let connections = silent(http, 300);

    assert_answered(&get(http, "/healthz", ""));
    assert!(connections.iter().all(is_open), "all connections are open");
    drop(connections);
    let (_, _, log) = server.stop();
    let line = log.lines().find(|line| line.contains("open files")).expect("the log reports the limit");
    assert!(line.contains("limit="), "{line}");
}

#[test]
fn under_a_low_hard_limit_connection_limits_are_reduced_and_a_warning_is_logged() {
    let server = Server::start_with_limit("ulimit -n 200", &[]);
    let http = http(&server);

    let connections = silent(http, 300);
    let health = get(http, "/healthz", "");
    let answers: Vec<Result<TcpStream, String>> = (0..200).map(|_| open_link(http)).collect();
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());

    assert_answered(&health);
    assert!(connections.iter().filter(|stream| is_open(stream)).count() < 100);
    assert!(answers[..80].iter().all(Result::is_ok), "players get most of the files");
    assert!(refused.clone().count() > 20 && refused.clone().all(|answer| answer == "HTTP/1.1 503"));
    assert_answered(&get(http, "/healthz", ""));
    drop((connections, answers));
    let (_, _, log) = server.stop();
    let line = log.lines().find(|line| line.contains("WARN")).expect("a warning");
    assert!(line.contains("limit=200") && line.contains("ulimit -n"), "{line}");
}

#[test]
#[cfg(target_os = "linux")]
fn when_no_file_is_left_idle_connections_are_closed_and_one_line_per_second_is_logged() {
    let server = Server::start_with_limit("ulimit -n 1000", &[]);
    let http = http(&server);
    let mut connections = silent(http, 40);
    until("the server answers", || get(http, "/healthz", "").starts_with("HTTP/1.1 200"));
    // From now on, the server can open four more files than it has open.
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the server runs").count();
    let limit = format!("--nofile={}:1000", open + 4);
    let limited = Command::new("prlimit").args(["--pid", &server.pid().to_string(), &limit]).status();
    assert!(limited.expect("prlimit of util-linux is installed").success());

    connections.extend(silent(http, 200));

    for _ in 0..20 {
        assert_answered(&get(http, "/healthz", ""));
    }
    drop(connections);
    let (_, _, log) = server.stop();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("cannot accept connections")).collect();
    assert!(!told.is_empty() && told.len() <= 60, "{log}");
    assert!(told[0].contains("open files"), "{}", told[0]);
}
