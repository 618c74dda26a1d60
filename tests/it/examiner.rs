//! The conformance examination: this crate's client passes, and a client that breaks a row fails that row.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use waystation::arena::v1::Say;
use waystation::client::{
    Client, ClientConfig, ClientEvent, ClientState, Dial, DialError, Link, LinkStatus, UdpDial,
};
use waystation::conformance::{Exam, ROWS, Report, Verdict};
use waystation::proxy::LinkInfo;
use waystation::proxy::loopback::{Loopback, LoopbackLink};
use waystation::tick::Clock;
use waystation::wire::udp::{DEV_KEY, TokenMint};
use waystation::wire::v1::{Ack, Closed, Denied, Hello, Join, Ping, Reason, Welcome};
use waystation::wire::{self, Frame, Lane, WireMessage as _, lane_of};

/// Changes a frame on its way: returns the frames that are passed on in its place.
type Tamper = fn(Bytes) -> Vec<Bytes>;

/// The way in which a client breaks the protocol.
#[derive(Clone, Copy)]
struct Fault {
    up: Tamper,
    down: Tamper,
    config: fn(&mut ClientConfig),
    /// True if the client joins `arena` in every session, as it should.
    joins_again: bool,
    /// True if the client makes calls, which are answered.
    plays: bool,
    /// True if the client stops after a final Closed, as it should.
    stops: bool,
}

const NONE: Fault = Fault {
    up: |frame| vec![frame],
    down: |frame| vec![frame],
    config: |_| {},
    joins_again: true,
    plays: true,
    stops: true,
};

struct Dialer(Loopback, Fault);

struct Tampered {
    link: LoopbackLink,
    fault: Fault,
    arrived: Vec<Bytes>,
}

impl Dial for Dialer {
    type Link = Tampered;

    fn dial(&mut self) -> Result<Tampered, DialError> {
        let link = self.0.connect(LinkInfo::default());
        Ok(Tampered { link, fault: self.1, arrived: Vec::new() })
    }
}

impl Link for Tampered {
    fn update(&mut self, _dt: Duration) {}

    fn status(&self) -> LinkStatus {
        if self.link.is_closed() { LinkStatus::Closed } else { LinkStatus::Open }
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        while self.arrived.is_empty() {
            self.arrived = (self.fault.down)(self.link.receive()?);
        }
        let frame = self.arrived.remove(0);
        Some((lane_of(&frame), frame))
    }

    fn send(&mut self, frame: Bytes) -> bool {
        (self.fault.up)(frame).into_iter().all(|frame| self.link.send(lane_of(&frame), frame).is_ok())
    }

    fn flush(&mut self) {}

    fn close(&mut self) {
        self.link.close();
    }
}

/// Examines a client with this fault, on virtual time.
fn examine(fault: Fault) -> Report {
    let clock = Clock::manual();
    let mut exam = Exam::new(clock.clone(), Duration::from_secs(30));
    let hub = Loopback::new(exam.attach("loopback"));
    let new_client = || {
        let mut config = ClientConfig { seed: Some(1), ..ClientConfig::default() };
        (fault.config)(&mut config);
        Client::new(Dialer(hub.clone(), fault), config)
    };
    let (mut client, mut has_joined, mut number) = (new_client(), false, 0);
    exam.run(|| {
        let dt = Duration::from_millis(5);
        clock.advance(dt);
        client.update(dt);
        // A client that plays makes five calls per second.
        if fault.plays
            && client.state() == ClientState::Connected
            && clock.now().as_millis().is_multiple_of(200)
        {
            number += 1;
            client.send(&Say { number }).expect("room");
        }
        while let Some(event) = client.poll() {
            match event {
                ClientEvent::Connected { .. } if fault.joins_again || !has_joined => {
                    client.join("arena", "").expect("room for one");
                    has_joined = true;
                }
                ClientEvent::Closed { .. } if !fault.stops => client = new_client(),
                _ => {}
            }
        }
        true
    })
}

/// Changes a frame of the message `M`, and returns other frames unchanged.
fn change<M: wire::WireMessage>(frame: Bytes, change: impl FnOnce(&mut M)) -> Bytes {
    let decoded = Frame::parse(frame.clone()).ok().and_then(|frame| frame.decode::<M>().ok());
    decoded.map_or(frame, |mut message| {
        change(&mut message);
        wire::encode(&message)
    })
}

fn is<M: wire::WireMessage>(frame: &Bytes) -> bool {
    wire::id_of(frame) == Some(M::ID)
}

/// Rows, each with a fault that breaks it.
const FAULTS: &[(&str, Fault)] = &[
    ("ack-at-once", Fault { up: |frame| if is::<Ack>(&frame) { vec![] } else { vec![frame] }, ..NONE }),
    (
        "ack-64",
        Fault {
            up: |frame| match wire::id_of(&frame) {
                Some(Ack::ID) => vec![change::<Ack>(frame, |ack| ack.received &= !255)],
                Some(Ping::ID) => vec![change::<Ping>(frame, |ping| ping.received = 0)],
                _ => vec![frame],
            },
            ..NONE
        },
    ),
    ("acks", Fault { up: |frame| vec![change::<Ack>(frame, |ack| ack.received += 1)], ..NONE }),
    ("ping", Fault { up: |frame| vec![change::<Ping>(frame, |ping| ping.id += 10_000)], ..NONE }),
    ("hello", Fault { up: |frame| vec![change::<Hello>(frame, |hello| hello.protocol = 2)], ..NONE }),
    ("cut", Fault { up: |frame| vec![change::<Hello>(frame, |hello| hello.resume = None)], ..NONE }),
    (
        "count",
        Fault {
            up: |frame| {
                let forget = |hello: &mut Hello| {
                    hello.resume.iter_mut().for_each(|resume| resume.received = 0);
                };
                vec![change::<Hello>(frame, forget)]
            },
            ..NONE
        },
    ),
    (
        "no-resend",
        Fault {
            up: |frame| if is::<Join>(&frame) { vec![frame.clone(), frame] } else { vec![frame] },
            ..NONE
        },
    ),
    (
        "one-hello",
        Fault { up: |frame| if is::<Ack>(&frame) { vec![frame, hello()] } else { vec![frame] }, ..NONE },
    ),
    (
        "quiet",
        Fault { up: |frame| if is::<Hello>(&frame) { vec![ack(), frame] } else { vec![frame] }, ..NONE },
    ),
    ("frames", Fault { up: |frame| vec![frame, vec![1].into()], ..NONE }),
    (
        "throttled",
        Fault { down: |frame| vec![change::<Denied>(frame, |denied| denied.retry_after_ms = 0)], ..NONE },
    ),
    (
        "shutdown",
        Fault { down: |frame| vec![change::<Closed>(frame, |closed| closed.retry_after_ms = 0)], ..NONE },
    ),
    (
        "slow",
        Fault {
            down: |frame| {
                let stop = |closed: &mut Closed| {
                    if closed.reason() == Reason::Slow {
                        closed.set_reason(Reason::Kicked);
                    }
                };
                vec![change::<Closed>(frame, stop)]
            },
            ..NONE
        },
    ),
    (
        "token",
        Fault {
            down: |frame| vec![change::<Denied>(frame, |denied| denied.set_reason(Reason::Full))],
            ..NONE
        },
    ),
    (
        "resync",
        Fault {
            down: |frame| {
                let miss = |welcome: &mut Welcome| welcome.base -= u64::from(welcome.resync);
                vec![change::<Welcome>(frame, miss)]
            },
            ..NONE
        },
    ),
    ("unknown", Fault { down: |frame| if frame[0] == 0x7F { vec![] } else { vec![frame] }, ..NONE }),
    (
        "messages",
        Fault { up: |frame| if is::<Ping>(&frame) { vec![frame, stray()] } else { vec![frame] }, ..NONE },
    ),
    ("silence", Fault { config: |config| config.link_timeout = Duration::from_secs(60), ..NONE }),
    ("idle", Fault { config: |config| config.link_timeout = Duration::from_secs(60), plays: false, ..NONE }),
    ("new-session", Fault { joins_again: false, ..NONE }),
    ("stop", Fault { stops: false, ..NONE }),
];

#[test]
fn an_examination_continues_after_the_machine_slept() {
    let clock = Clock::manual();
    let mut exam = Exam::new(clock.clone(), Duration::from_secs(30));
    let mut client =
        Client::new(Dialer(Loopback::new(exam.attach("loopback")), NONE), ClientConfig::default());
    let (mut resumed_at, mut slept, mut number) = (None, 0, 0);

    let report = exam.run(|| {
        let dt = Duration::from_millis(5);
        clock.advance(dt);
        client.update(dt);
        let is_bound = client.state() == ClientState::Connected;
        if is_bound && clock.now().as_millis().is_multiple_of(200) {
            number += 1;
            client.send(&Say { number }).expect("room");
        }
        while let Some(event) = client.poll() {
            if let ClientEvent::Connected { .. } = event {
                client.join("arena", "").expect("room for one");
            }
        }
        // This is after the cuts during calls, and before the examiner stops sending.
        if client.resume_count() == 4 {
            let since = *resumed_at.get_or_insert(clock.now());
            if slept < 2 && clock.now() >= since + Duration::from_millis(1_300) {
                slept += 1;
                clock.advance(Duration::from_secs(6));
            }
        }
        true
    });

    assert_eq!(slept, 2);
    assert_ne!(*report.verdict("stop"), Verdict::NotReached, "{report}");
}

#[test]
fn the_client_library_keeps_every_row() {
    for plays in [true, false] {
        let report = examine(Fault { plays, ..NONE });

        assert!(report.passed(), "{report}");
        assert!(report.to_string().ends_with("0 failed, 0 not reached"));
    }
}

#[test]
fn a_client_that_breaks_a_row_fails_that_row() {
    for (row, fault) in FAULTS {
        let report = examine(*fault);

        assert!(matches!(report.verdict(row), Verdict::Failed(_)), "{row} should have failed:\n{report}");
        assert!(!report.passed());
    }
}

fn hello() -> Bytes {
    wire::encode(&Hello { protocol: wire::PROTOCOL, ..Hello::default() })
}

fn stray() -> Bytes {
    vec![0x7F, 0x00].into()
}

fn ack() -> Bytes {
    wire::encode(&Ack { received: 0 })
}

#[test]
fn without_a_client_the_hello_row_fails_and_the_others_are_not_reached() {
    let clock = Clock::manual();
    let exam = Exam::new(clock.clone(), Duration::from_secs(30));

    let report = exam.run(|| {
        clock.advance(Duration::from_millis(5));
        true
    });

    assert_eq!(report.failed(), ["hello"]);
    assert!(ROWS[1..].iter().all(|row| *report.verdict(row.name) == Verdict::NotReached));
}

/// An examiner process. It is killed when this value is dropped.
struct Examiner(Child);

impl Drop for Examiner {
    fn drop(&mut self) {
        // The process has usually ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_command_reports_failed_rows_and_exits_with_one() {
    let mut examiner = Command::new(env!("CARGO_BIN_EXE_waystation"))
        .args([
            "conformance",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--http-listen",
            "127.0.0.1:0",
            "--without",
            "quic",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map(Examiner)
        .expect("the binary starts");
    let mut out = BufReader::new(examiner.0.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    let address = line.trim_start_matches("listening udp ").split([',', '\n']).next().expect("an address");
    let mint = TokenMint::new(DEV_KEY, vec![address.parse().expect("an address")]);
    let mut client = Client::new(UdpDial::minting(mint), ClientConfig::default());

    // The client sends a Bye as soon as it has a session.
    let step = Duration::from_millis(5);
    while examiner.0.try_wait().expect("a status").is_none() {
        client.update(step);
        while let Some(event) = client.poll() {
            if let ClientEvent::Connected { .. } = event {
                client.bye();
            }
        }
        std::thread::sleep(step);
    }

    let mut report = String::new();
    out.read_to_string(&mut report).expect("text");
    assert!(!examiner.0.wait().expect("a status").success());
    assert!(report.contains("ok           hello") && report.contains("ok           throttled"), "{report}");
    assert!(report.contains("but: it said Bye and left"), "{report}");
    assert!(report.contains("not reached  stop"), "{report}");
}

#[test]
fn the_command_lists_the_rows() {
    let listed = Command::new(env!("CARGO_BIN_EXE_waystation")).args(["conformance", "list"]).output();

    let text = String::from_utf8(listed.expect("the binary starts").stdout).expect("text");
    assert_eq!(text.lines().count(), ROWS.len());
    assert!(ROWS.iter().zip(text.lines()).all(|(row, line)| line.starts_with(row.name)));
}
