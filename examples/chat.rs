//! A chat room: members join, part, broadcast, and ask who is in the room.
//!
//! Run `cargo run --example chat`. Ada and Bob chat over UDP for five seconds. Each line shows the client that has
//! received a message, the name that the server has given to the speaker, and the text.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::collections::BTreeSet;
use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use waystation::client::{Client, ClientConfig, ClientEvent, Credentials, UdpDial};
use waystation::ident::MessageId;
use waystation::prelude::*;
use waystation::proxy::renet;
use waystation::tick::{self, StopHandle};
use waystation::wire::{prost, udp::DEV_KEY};

/// A message from a client. It has no name, because a client could write any name into it.
#[derive(Clone, PartialEq, prost::Message)]
struct Say {
    #[prost(string, tag = 1)]
    text: String,
}
impl WireMessage for Say {
    const ID: MessageId = MessageId::new(0x0100);
    const NAME: &'static str = "chat.Say";
}

/// A message from the server, with the name of the principal whose session has sent the call.
#[derive(Clone, PartialEq, prost::Message)]
struct Said {
    #[prost(string, tag = 1)]
    name: String,
    #[prost(string, tag = 2)]
    text: String,
}
impl WireMessage for Said {
    const ID: MessageId = MessageId::new(0x0101);
    const NAME: &'static str = "chat.Said";
}

type Calls<'w, 's> = MessageReader<'w, 's, Call<Say>>;
fn talk(mut calls: Calls, rooms: Query<&Members>, people: Query<&Principal>, mut sender: Sender) {
    let name_of = |session| people.get(session).map_or("nobody", Principal::name).to_owned();
    for call in calls.read() {
        let text = call.message.text.clone();
        if text == "/who" {
            let here = rooms.get(call.zone).into_iter().flat_map(Members::entities).map(name_of);
            let text = here.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" and ");
            sender.reply(call, &Said { name: "only you".to_owned(), text });
        } else {
            sender.broadcast(call.zone, &Said { name: name_of(call.entity), text });
        }
    }
}

fn tell(mut joined: MessageReader<ZoneJoined>, mut parted: MessageReader<ZoneParted>, mut sender: Sender) {
    let joined = joined.read().map(|news| (news.zone, &news.principal, "joins"));
    let parted = parted.read().map(|news| (news.zone, &news.principal, "leaves"));
    for (zone, who, text) in joined.chain(parted) {
        sender.broadcast(zone, &Said { name: who.name().to_owned(), text: text.to_owned() });
    }
}

fn serve(udp: renet::RenetProxy, stop: &StopHandle) -> std::io::Result<()> {
    let mut app = App::new();
    app.add_plugins(ServerPlugins::default())
        .add_call::<Say>()
        .add_systems(Startup, |mut commands: Commands| _ = commands.spawn(Zone::new("room")))
        .add_systems(Update, (tell, talk).chain())
        .add_listener(udp)?;
    tick::run(&mut app, stop);
    Ok(())
}

fn main() -> ExitCode {
    waystation::exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let listen = ([127, 0, 0, 1], 0).into();
    let udp = renet::RenetProxy::bind(renet::RenetConfig { listen, ..renet::RenetConfig::new(DEV_KEY) })?;
    let (mint, stop) = (udp.mint(), StopHandle::default());
    let stopped = stop.clone();
    let server = thread::spawn(move || serve(udp, &stopped));
    let mut people = ["ada", "bob"].map(|name| {
        let credentials = Credentials::Anonymous { name: name.to_owned() };
        Client::new(UdpDial::minting(mint.clone()), ClientConfig { credentials, ..ClientConfig::default() })
    });
    let say = |text: &str| Say { text: text.to_owned() };
    for step in 0..250 {
        let [ada, bob] = &mut people;
        match step {
            50 => _ = ada.join("room", "")?,
            75 => _ = bob.join("room", "")?,
            100 => ada.send(&say("Hello, Bob."))?,
            125 => bob.send(&say("/who"))?,
            150 => bob.send(&say("My name is Ada."))?,
            175 => _ = bob.part("")?,
            200 => ada.send(&say("It was not."))?,
            _ => {}
        }
        for (name, client) in ["ada", "bob"].iter().zip(&mut people) {
            client.update(Duration::from_millis(20));
            while let Some(event) = client.poll() {
                let ClientEvent::Message(frame) = event else { continue };
                if let Ok(said) = frame.decode::<Said>() {
                    println!("{name} reads: <{}> {}", said.name, said.text);
                }
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    stop.stop();
    Ok(server.join().map_err(|_| "the server panicked")??)
}
