//! The clients: some only log in, and the others play.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use waystation::arena::v1::{Echo, Say};
use waystation::client::{Client, ClientConfig, ClientEvent, Credentials, UdpDial};
use waystation::proxy::LinkInfo;
use waystation::proxy::loopback::{Loopback, LoopbackLink};
use waystation::wire::v1::{Hello, Joined};
use waystation::wire::{self, Lane};

fn credentials(user: &str) -> Credentials {
    let (realm, slot) = (String::new(), String::new());
    Credentials::Password { user: user.to_owned(), realm, password: "swordfish".to_owned(), slot }
}

/// Logs in 1,000 times a second, each time on another link. A round is 10 ms.
pub(crate) fn flood(links: &Loopback, rounds: u32) {
    let credentials = Some((&credentials("nobody")).into());
    let hello = wire::encode(&Hello { protocol: wire::PROTOCOL, credentials, ..Hello::default() });
    let mut open = VecDeque::<LoopbackLink>::new();
    for _ in 0..rounds {
        for _ in 0..10 {
            let link = links.connect(LinkInfo::default());
            // The send fails while the server does not read fast enough.
            _ = link.send(Lane::Reliable, hello.clone());
            open.push_back(link);
        }
        while open.len() > 6_000 {
            _ = open.pop_front().inspect(LoopbackLink::close);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Joins a zone and sends calls. Returns how many calls were sent and how many were answered.
pub(crate) fn play(dial: UdpDial, rounds: u32) -> Result<(u64, u64), String> {
    let config = ClientConfig { credentials: credentials("player"), ..ClientConfig::default() };
    let mut client = Client::new(dial, config);
    let (mut sent, mut answered, mut is_in) = (0, 0, false);
    for round in 0..rounds + 100 {
        client.update(Duration::from_millis(10));
        while let Some(event) = client.poll() {
            match event {
                ClientEvent::Connected { .. } => {
                    _ = client.join("hall", "").map_err(|error| error.to_string())?
                }
                ClientEvent::Message(frame) => {
                    is_in |= frame.decode::<Joined>().is_ok();
                    answered += u64::from(frame.decode::<Echo>().is_ok());
                }
                ClientEvent::Resumed { .. } | ClientEvent::LinkLost => {}
                lost => return Err(format!("{lost:?}")),
            }
        }
        if is_in && round % 5 == 0 && round < rounds {
            sent += 1;
            client.send(&Say { number: sent }).map_err(|error| error.to_string())?;
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok((sent, answered))
}
