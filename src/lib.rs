//! Waystation: authoritative game servers whose sessions outlive their connections.

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
#[cfg(feature = "server")]
pub mod gate;
#[cfg(any(feature = "server", feature = "client"))]
pub mod ident;
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
