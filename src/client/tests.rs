//! Tests the client against a small server, over links in memory that fail as planned.

mod cuts;
mod deaf;
mod ends;
pub(crate) mod net;
mod resume;
mod sending;
pub(crate) mod server;
mod tickets;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::{Client, ClientConfig, ClientEvent, ClientState};
use crate::ident::MessageId;
use crate::wire::WireMessage;
use net::{Net, Plan, Shared, TestDial};
use server::Server;

/// A reliable message of a game.
#[derive(Clone, PartialEq, prost::Message)]
struct Numbered {
    #[prost(uint64, tag = "1")]
    number: u64,
}

/// An unreliable message of a game.
#[derive(Clone, PartialEq, prost::Message)]
struct Loose {
    #[prost(uint64, tag = "1")]
    number: u64,
}

/// A reliable message of any size.
#[derive(Clone, PartialEq, prost::Message)]
struct Blob {
    #[prost(bytes = "bytes", tag = "2")]
    bytes: Bytes,
}

impl WireMessage for Numbered {
    const ID: MessageId = MessageId::new(0x0100);
    const NAME: &'static str = "test.Numbered";
}

impl WireMessage for Loose {
    const ID: MessageId = MessageId::new(0x8100);
    const NAME: &'static str = "test.Loose";
}

impl WireMessage for Blob {
    const ID: MessageId = MessageId::new(0x0101);
    const NAME: &'static str = "test.Blob";
}

/// A client, its server, and the events of the client.
struct Scene {
    client: Client<TestDial>,
    server: Server,
    net: Shared,
    events: Vec<ClientEvent>,
}

impl Scene {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(plans: &[Plan]) -> Self {
        Self::over(Net { plans: plans.iter().copied().collect(), ..Net::default() })
    }

    fn over(net: Net) -> Self {
        let net: Shared = Rc::new(RefCell::new(net));
        Self {
            client: Client::new(TestDial(Rc::clone(&net)), config()),
            server: Server::new(Rc::clone(&net)),
            net,
            events: Vec::new(),
        }
    }

    /// Returns a client that has its first session.
    fn connected() -> Self {
        let mut scene = Self::new();
        scene.run(0.2);
        assert_eq!(scene.client.state(), ClientState::Connected);
        scene.events.clear();
        scene
    }

    fn step(&mut self) {
        self.client.update(STEP);
        while let Some(event) = self.client.poll() {
            self.events.push(event);
        }
        self.server.tick(STEP);
    }

    fn run(&mut self, seconds: f64) {
        for _ in 0..(seconds / STEP.as_secs_f64()).round() as u64 {
            self.step();
        }
    }

    /// Returns the numbers that the client has received.
    fn numbers(&self) -> Vec<u64> {
        self.events
            .iter()
            .filter_map(|event| match event {
                ClientEvent::Message(frame) => Some(frame.decode::<Numbered>().ok()?.number),
                _ => None,
            })
            .collect()
    }

    /// Returns the events without messages.
    fn story(&self) -> Vec<&'static str> {
        self.events
            .iter()
            .filter_map(|event| match event {
                ClientEvent::Connected { .. } => Some("connected"),
                ClientEvent::Resumed { resync: false, .. } => Some("resumed"),
                ClientEvent::Resumed { resync: true, .. } => Some("resynced"),
                ClientEvent::LinkLost => Some("link lost"),
                ClientEvent::SessionLost { .. } => Some("session lost"),
                ClientEvent::Closed { .. } => Some("closed"),
                ClientEvent::Message(_) => None,
            })
            .collect()
    }
}

fn config() -> ClientConfig {
    ClientConfig { seed: Some(7), ..ClientConfig::default() }
}

const STEP: Duration = Duration::from_millis(50);
