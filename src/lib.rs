//! Authoritative game servers whose sessions outlive their connections.
//!
//! A game is systems and components of bevy's ECS, without the rest of bevy. Its players join
//! [`zone`]s and send calls; the game decides, and answers with replies, sends and broadcasts. A
//! player whose connection breaks and who comes back in time is the same entity in the same zone,
//! and what was sent reliably meanwhile arrives, once and in order.
//!
//! A whole game, in which players knock at a door:
//!
//! ```no_run
//! use bevy_app::{App, Startup, Update};
//! use bevy_ecs::prelude::*;
//! use waystation::proxy::{AddListener as _, renet::{RenetConfig, RenetProxy}};
//! use waystation::rpc::{AppRpc as _, Call, Sender};
//! use waystation::wire::{WireMessage, prost, udp::DEV_KEY};
//! use waystation::{ident::MessageId, server::ServerPlugins, tick, zone::Zone};
//!
//! /// From a player: a knock. To all who are there: how many those were.
//! #[derive(Clone, PartialEq, prost::Message)]
//! struct Knock {
//!     #[prost(uint32, tag = 1)]
//!     count: u32,
//! }
//! impl WireMessage for Knock {
//!     const ID: MessageId = MessageId::new(0x0100);
//!     const NAME: &'static str = "door.Knock";
//! }
//!
//! #[derive(Component, Default)]
//! struct Knocks(u32);
//!
//! fn knock(mut calls: MessageReader<Call<Knock>>, mut doors: Query<&mut Knocks>, mut sender: Sender) {
//!     for call in calls.read() {
//!         let Ok(mut knocks) = doors.get_mut(call.zone) else { continue };
//!         knocks.0 += 1;
//!         sender.broadcast(call.zone, &Knock { count: knocks.0 });
//!     }
//! }
//! fn open(mut commands: Commands) {
//!     commands.spawn((Zone::new("door"), Knocks::default()));
//! }
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let udp = RenetProxy::bind(RenetConfig::new(DEV_KEY))?;
//!     let mut app = App::new();
//!     app.add_plugins(ServerPlugins::default()).add_call::<Knock>();
//!     app.add_systems(Startup, open).add_systems(Update, knock).add_listener(udp)?;
//!     tick::run(&mut app, &tick::StopHandle::default());
//!     Ok(())
//! }
//! ```
//!
//! A game of some size declares its messages in `.proto` files: the docs of `build` hold such a
//! game, from its `Cargo.toml` to its tests. The examples of the repository show one idea each;
//! `hello` is a server and a client on one page.
//!
//! It is not an engine: no rendering, no physics, no matchmaking. It is not peer-to-peer either:
//! there is one server, and it is right.
//!
//! # The rooms
//!
//! | for | rooms |
//! | --- | --- |
//! | a game | [`server`] (start here), [`session`], [`zone`], [`rpc`], [`tick`], [`identity`], [`config`] |
//! | its players | `client` |
//! | its tests | `testing` |
//! | its messages | [`wire`], `build` |
//! | its operator | [`proxy`], [`gate`], [`telemetry`], [`admin`] |
//! | whoever wants to see one | [`arena`], `bot` |
//! | whoever writes a client in another language | `conformance` |
//!
//! # Features
//!
//! | feature | default | gives |
//! | --- | --- | --- |
//! | `server` | yes | sessions, zones, calls, proxies, the arena |
//! | `client` | yes | the client library: no ECS, no async runtime |
//! | `cli` | yes | the binary, and the bots |
//! | `build` | | for build scripts: compiles a game's `.proto` files, without `protoc` |
//! | `testing` | | for tests: a server on virtual time, scripted players, invariants checked |

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod arena;
#[cfg(feature = "cli")]
pub mod bot;
#[cfg(feature = "build")]
pub mod build;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "cli")]
pub mod conformance;
#[cfg(feature = "server")]
pub mod gate;
#[cfg(any(feature = "server", feature = "client"))]
pub mod ident;
#[cfg(feature = "server")]
pub mod identity;
#[cfg(feature = "server")]
pub mod proxy;
#[cfg(feature = "server")]
pub mod rpc;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod session;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "server")]
pub mod tick;
#[cfg(any(feature = "server", feature = "client"))]
pub mod wire;
#[cfg(feature = "server")]
pub mod zone;
