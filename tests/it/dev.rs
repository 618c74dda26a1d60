//! Tests the command `waystation dev` with a package that builds in a moment: its server listens, and answers each
//! connection with one word.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};

use crate::binary::{terminate, until, waystation};
use crate::made_game::Scratch;

const MANIFEST: &str = "[package]\nname = \"words\"\nedition = \"2024\"\n[workspace]\n";
const MAIN: &str = r#"use std::io::Write as _;
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("listening {} {arguments:?}", listener.local_addr().expect("an address"));
    for link in listener.incoming() {
        let _ = link.expect("a link").write_all(b"WORD");
    }
}
"#;

/// The running command. It is killed when this value is dropped, and its server with it.
struct Dev {
    process: Child,
    out: BufReader<ChildStdout>,
}

impl Dev {
    fn start(scratch: &Scratch, arguments: &[&str]) -> Self {
        let mut command = waystation();
        command.arg("dev").args(arguments).current_dir(scratch.path()).stdout(Stdio::piped());
        // Cargo reports the error that the test makes.
        command.stderr(Stdio::null());
        command.env("CARGO_TARGET_DIR", scratch.path().join("target")).env("CARGO", env!("CARGO"));
        let mut process = command.spawn().expect("the binary starts");
        let out = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, out }
    }

    /// Reads lines until one begins with `beginning`, and returns the rest of that line.
    fn line(&mut self, beginning: &str) -> String {
        loop {
            let mut line = String::new();
            let length = self.out.read_line(&mut line).expect("a line");
            assert!(length > 0, "the command ended without a line that begins with {beginning:?}");
            if let Some(rest) = line.strip_prefix(beginning) {
                return rest.trim().to_owned();
            }
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // The command ends its server after a SIGTERM, and cannot do so if it is killed.
        terminate(self.process.id());
        let _ = self.process.wait();
    }
}

/// Returns the word with which the server at an address answers, or `None` if there is no server.
fn word(address: &str) -> Option<String> {
    let mut word = String::new();
    TcpStream::connect(address).ok()?.read_to_string(&mut word).ok()?;
    Some(word)
}

#[test]
fn a_change_replaces_the_server_and_a_failed_build_does_not() {
    let scratch = Scratch::new("dev");
    scratch.write("Cargo.toml", MANIFEST);
    scratch.write("src/main.rs", MAIN.replace("WORD", "first"));
    let mut dev = Dev::start(&scratch, &["--", "--tick-hz", "30"]);
    let first = dev.line("listening ");
    let (first, arguments) = first.split_once(' ').expect("an address");
    assert_eq!((word(first).as_deref(), arguments), (Some("first"), r#"["serve", "--tick-hz", "30"]"#));

    scratch.edit("src/main.rs", "fn main() {", "fn main() { this is no Rust");
    assert!(dev.line("dev: the build has failed").contains("goes on"));
    assert_eq!(word(first).as_deref(), Some("first"));

    scratch.write("src/main.rs", MAIN.replace("WORD", "second"));
    let second = dev.line("listening ");
    let second = second.split(' ').next().expect("an address");
    assert_eq!((word(first), word(second).as_deref()), (None, Some("second")));

    drop(dev);
    until("the server has ended", || word(second).is_none());
}
