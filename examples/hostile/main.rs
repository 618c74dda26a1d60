//! Peers that keep no rule, to see that a server keeps serving others.
//!
//! Run `cargo run --release` in one terminal, `cargo run --release -- bot --clients 20` in a
//! second, and this in a third: `cargo run --release --example hostile -- 20`, for twenty seconds of
//! everything, or with names behind it (`udp`, `initials`, `half_open`, `alpn`, `origin`, `oversized`,
//! `unread`, `slow`, `empty`, `forbidden`) for only those. It speaks to the dev profile on this machine only, and keeps a
//! pace, so that it takes the server's patience and not the machine's processor.

mod frames;
mod http;
mod quic;
mod udp;
mod whoever;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// Does something bad until the time is up; says what it did.
type Attack = fn(End) -> io::Result<String>;

/// All that is done at once, by name.
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

/// When to stop.
#[derive(Clone, Copy)]
struct End(Instant);

impl End {
    #[allow(clippy::disallowed_methods, reason = "an attacker's own clock")]
    fn after(seconds: u64) -> Self {
        Self(Instant::now() + Duration::from_secs(seconds))
    }

    /// Waits a moment; whether there is time for more.
    #[allow(clippy::disallowed_methods, reason = "an attacker's own clock")]
    fn pause(self, pace: Duration) -> bool {
        thread::sleep(pace);
        Instant::now() < self.0
    }
}

#[allow(clippy::print_stdout, reason = "an example speaks to whoever runs it")]
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
