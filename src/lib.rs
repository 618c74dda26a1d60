//! Authoritative game servers whose sessions outlive their connections.
//!
//! A game is a set of systems and components of bevy's ECS. It uses no other part of bevy. Players
//! join [`zone`]s and send calls. The game answers them with replies, sends and broadcasts. A player
//! whose connection is lost can resume the session over a new one. The session keeps its entity and
//! its zone, and reliable messages that were sent in the meantime arrive in order, each exactly once.
//!
//! A complete game, in which players knock at a door:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use waystation::ident::MessageId;
//! use waystation::prelude::*;
//! use waystation::wire::prost;
//!
//! /// A player sends this message to knock. The zone broadcasts it with the number of knocks so far.
//! #[derive(Clone, PartialEq, prost::Message)]
//! #[prost(prost_path = "waystation::wire::prost")]
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
//! fn add_game(app: &mut App) {
//!     app.add_call::<Knock>().add_systems(Startup, open).add_systems(Update, knock);
//! }
//! fn main() -> ExitCode {
//!     waystation::launch("door", "0.1.0").setup(add_game).run()
//! }
//! ```
//!
//! `waystation new` writes a larger game, with messages in `.proto` files, agents, a bot, tests, and a page for browsers.
//! Each example in the repository shows one idea. The example `hello` has a server and a client in one file.
//!
//! Waystation is not a game engine: it has no rendering, physics or matchmaking. It is not
//! peer-to-peer: the server is authoritative.
//!
//! # Modules
//!
//! | purpose | modules |
//! | --- | --- |
//! | to write a game | [`prelude`], [`server`] (start here), [`session`], [`zone`], [`rpc`], [`tick`], [`identity`], [`config`] |
//! | to define its messages | [`wire`], `build` |
//! | to write its client | `client` |
//! | to run it | `launch`, `app` |
//! | to test it | `testing`, `bot` |
//! | to operate it | `settings`, [`proxy`], [`gate`], [`telemetry`], [`admin`] |
//! | to try a finished game | [`arena`] |
//! | to check a client in another language | `conformance` |
//!
//! # Features
//!
//! | feature | default | contents |
//! | --- | --- | --- |
//! | `server` | yes | sessions, zones, calls, proxies and the arena |
//! | `client` | yes | the client library, without ECS and without async runtime |
//! | `bot` | yes | bots: many clients at once that test a server |
//! | `app` | yes | `launch`, which runs a game from its command line |
//! | `build` | | a compiler for a game's `.proto` files, for build scripts; it does not need `protoc` |
//! | `testing` | | a server on virtual time with scripted players, for tests; it checks the invariants |

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "app")]
pub mod app;
#[cfg(feature = "server")]
pub mod arena;
#[cfg(feature = "bot")]
pub mod bot;
#[cfg(feature = "build")]
pub mod build;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "app")]
pub mod conformance;
#[cfg(feature = "server")]
pub mod gate;
#[cfg(any(feature = "server", feature = "client"))]
pub mod ident;
#[cfg(feature = "server")]
pub mod identity;
#[cfg(feature = "server")]
pub mod prelude;
#[cfg(feature = "server")]
pub mod proxy;
#[cfg(feature = "server")]
pub mod rpc;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod session;
#[cfg(any(feature = "server", feature = "client"))]
pub mod settings;
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

#[cfg(feature = "app")]
pub use app::{exit, launch};
