//! A peer that breaks the rules of the protocol: it uses links of the client library without a client.

use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, seq::IndexedRandom as _};
use waystation::arena::v1::Say;
use waystation::client::{AnyDial, AnyLink, Dial as _, Link as _, LinkStatus};
use waystation::wire::v1::{Ack, Bye, Join, Welcome};
use waystation::wire::{Frame, encode};

use crate::Done;
use crate::way::{hello, pause};

/// A peer with a link, and open links that it no longer updates.
pub(crate) struct Stranger {
    dial: AnyDial,
    link: Option<AnyLink>,
    /// Open links that send nothing, [`UNSERVED_MAX`] at most.
    unserved: Vec<AnyLink>,
    /// The resume token of the last session.
    token: Bytes,
    /// Frames received, on all links.
    received: u64,
    pub(crate) done: Done,
}

impl Stranger {
    pub(crate) fn new(dial: AnyDial) -> Self {
        let done = Done::new();
        Self { dial, link: None, unserved: Vec::new(), token: Bytes::new(), received: 0, done }
    }

    /// Updates the link and sometimes acts at random. Returns a pause if the act is to pause.
    pub(crate) fn step(&mut self, dt: Duration, rng: &mut StdRng) -> Option<Duration> {
        let Some(link) = &mut self.link else {
            if rng.random_bool(0.2) {
                self.link = self.dial.dial().ok();
                self.did("open");
            }
            return None;
        };
        link.update(dt);
        while let Some((_, bytes)) = link.receive() {
            let Ok(frame) = Frame::parse(bytes) else { continue };
            self.received += 1;
            if let Ok(welcome) = frame.decode::<Welcome>() {
                self.token = welcome.token;
            }
        }
        link.flush();
        if link.status() == LinkStatus::Closed && rng.random_bool(0.5) {
            self.link = None;
            self.did("find it closed");
        }
        if rng.random_bool(OFTEN) { self.act(rng) } else { None }
    }

    /// Acts once, in any state of the link.
    fn act(&mut self, rng: &mut StdRng) -> Option<Duration> {
        let act = *ACTS.choose(rng)?;
        self.did(act);
        let link = self.link.as_mut()?;
        match act {
            "hello" => tell(link, hello(None)),
            "resume" => tell(link, hello(Some(self.token.clone()))),
            "hello, and close in one breath" => {
                tell(link, hello(None));
                link.close();
            }
            "join" => tell(link, encode(&Join { request: 1, zone: "arena".to_owned(), ..Join::default() })),
            "say" => (0..rng.random_range(1..50)).for_each(|number| tell(link, encode(&Say { number }))),
            "ack" => tell(link, encode(&Ack { received: rng.random_range(0..=self.received) })),
            "bye" => tell(link, encode(&Bye::default())),
            "close" => link.close(),
            "let go" => self.link = None,
            "leave it open" => {
                self.unserved.extend(self.link.take());
                if self.unserved.len() > UNSERVED_MAX {
                    self.unserved.remove(rng.random_range(0..UNSERVED_MAX));
                }
            }
            "rebind" => drop(link.rebind()),
            _ => return Some(pause(rng)),
        }
        None
    }

    fn did(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }
}

fn tell(link: &mut AnyLink, frame: Bytes) {
    link.send(frame);
    link.flush();
}

/// The names of the acts.
const ACTS: [&str; 12] = [
    "hello",
    "resume",
    "hello, and close in one breath",
    "join",
    "say",
    "ack",
    "bye",
    "close",
    "let go",
    "leave it open",
    "rebind",
    "pause",
];
/// The probability of an act in a step: five times a second on average.
const OFTEN: f64 = 0.05;
/// The most links that a peer leaves open.
const UNSERVED_MAX: usize = 3;
