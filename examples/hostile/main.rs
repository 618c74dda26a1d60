//! Peers that break the rules of all transports, while a server serves other clients.
//!
//! Run `cargo run --release` in one terminal, `cargo run --release -- bot --clients 20` in a second one, and
//! `cargo run --release --example hostile -- 20` in a third one. It runs all attacks for 20 seconds, or those that
//! are named after the number: `udp`, `initials`, `half_open`, `alpn`, `origin`, `oversized`, `unread`, `slow`,
//! `empty`, `forbidden`. It attacks a server of the `dev` profile on this machine only. Each attack has a fixed pace,
//! so that it does not take the processor from the server.

mod any_certificate;
mod frames;
mod http;
mod quic;
mod udp;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// Attacks the server until the time is up. Returns a summary.
type Attack = fn(End) -> io::Result<String>;

/// The attacks, by name. They run at the same time.
const ATTACKS: &[(&str, Attack)] = &[
    ("udp", udp::garbage),
    ("initials", quic::initials),
    ("half_open", quic::half_open),
    ("alpn", quic::wrong_alpn),
    ("origin", http::wrong_origin),
    ("oversized", http::oversized),
    ("unread", http::unread),
    ("slow", http::slow),
    ("empty", frames::empty),
    ("forbidden", frames::forbidden),
];

/// The time at which attacks stop.
#[derive(Clone, Copy)]
struct End(Instant);

impl End {
    #[allow(clippy::disallowed_methods, reason = "an attacker does not run in a tick")]
    fn after(seconds: u64) -> Self {
        Self(Instant::now() + Duration::from_secs(seconds))
    }

    /// Waits for this duration. Returns true if time is left.
    #[allow(clippy::disallowed_methods, reason = "an attacker does not run in a tick")]
    fn pause(self, pace: Duration) -> bool {
        thread::sleep(pace);
        Instant::now() < self.0
    }
}

#[allow(clippy::print_stdout, reason = "an example prints its results")]
fn main() {
    let mut args = std::env::args().skip(1).peekable();
    let seconds = args.next_if(|text| text.parse::<u64>().is_ok()).and_then(|text| text.parse().ok());
    let end = End::after(seconds.unwrap_or(20));
    let chosen: Vec<String> = args.collect();
    let running: Vec<_> = ATTACKS
        .iter()
        .filter(|(name, _)| chosen.is_empty() || chosen.iter().any(|wanted| wanted == name))
        .map(|(name, attack)| (name, thread::spawn(move || attack(end))))
        .collect();
    for (name, attack) in running {
        match attack.join() {
            Ok(Ok(done)) => println!("{name:>10}: {done}"),
            Ok(Err(error)) => println!("{name:>10}: ended by {error}"),
            Err(_) => println!("{name:>10}: panicked"),
        }
    }
}
