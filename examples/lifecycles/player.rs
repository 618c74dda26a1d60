//! A peer that uses the client library, and is paused, cut, copied and restarted.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use waystation::arena::v1::Say;
use waystation::client::{
    AnyDial, Client, ClientConfig, ClientEvent, ClientState, Credentials, Cut, Link as _, UrlError,
};

use crate::Done;
use crate::way::{Way, pause};

/// Two clients, of which one sometimes takes over the session of the other.
pub(crate) struct Player {
    clients: [Client<AnyDial>; 2],
    way: Way,
    config: ClientConfig,
    number: u64,
    pub(crate) done: Done,
}

impl Player {
    pub(crate) fn new(way: Way, index: u64) -> Result<Self, UrlError> {
        let config = ClientConfig {
            credentials: Credentials::Anonymous { name: format!("peer {index}") },
            seed: Some(index),
            ..ClientConfig::default()
        };
        let clients = [Client::new(way.dial()?, config.clone()), Client::new(way.dial()?, config.clone())];
        Ok(Self { clients, way, config, number: 0, done: Done::new() })
    }

    /// Replaces a client by one without a session.
    fn start_anew(&mut self, which: usize) {
        if let Ok(dial) = self.way.dial() {
            self.clients[which] = Client::new(dial, self.config.clone());
        }
    }

    /// Updates the clients and sometimes acts at random. Returns a pause if the act is to pause.
    pub(crate) fn step(&mut self, dt: Duration, rng: &mut StdRng) -> Option<Duration> {
        for client in &mut self.clients {
            client.update(dt);
            while let Some(event) = client.poll() {
                if matches!(event, ClientEvent::Connected { .. }) {
                    // A client whose Join fails plays on without a zone.
                    let _ = client.join("arena", "");
                }
            }
        }
        for which in 0..self.clients.len() {
            if self.clients[which].state() == ClientState::Stopped {
                self.did("start anew");
                self.start_anew(which);
            }
        }
        if rng.random_bool(OFTEN) { self.act(rng) } else { None }
    }

    fn act(&mut self, rng: &mut StdRng) -> Option<Duration> {
        let which = rng.random_range(0..self.clients.len());
        let client = &mut self.clients[which];
        let hold = Duration::from_millis(rng.random_range(0..7_000));
        let what = match rng.random_range(0..9) {
            0 | 1 => {
                self.number += 1;
                // The client refuses to send if its outbox is full.
                let _ = client.send(&Say { number: self.number });
                "say"
            }
            2 => {
                client.cut(Cut::Silent { hold });
                "cut silently"
            }
            3 => {
                client.cut(Cut::Close { hold });
                "cut by a close"
            }
            4 => {
                client.bye();
                "bye of a client"
            }
            5 => {
                let rebound = client.link_mut().map(|link| link.rebind());
                if matches!(rebound, Some(Ok(true))) { "rebind a client" } else { "rebind nothing" }
            }
            6 => {
                self.start_anew(which);
                "let a client go"
            }
            7 => {
                // Both clients have the token, and take the session over from each other.
                let token = client.token().map(<[u8]>::to_vec)?;
                let dial = self.way.dial().ok()?;
                self.clients[1 - which] = Client::resume_with_token(dial, self.config.clone(), token);
                "take over"
            }
            _ => {
                self.did("pause a client");
                return Some(pause(rng));
            }
        };
        self.did(what);
        None
    }

    fn did(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }
}

/// The probability of an act in a step: twice a second on average.
const OFTEN: f64 = 0.02;
