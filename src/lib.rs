//! Waystation: authoritative game servers whose sessions outlive their connections.

#[cfg(feature = "cli")]
pub mod bot;
#[cfg(feature = "build")]
pub mod build;
#[cfg(feature = "client")]
pub mod client;
#[cfg(any(feature = "server", feature = "client"))]
pub mod ident;
#[cfg(feature = "server")]
pub mod proxy;
#[cfg(feature = "server")]
pub mod tick;
#[cfg(any(feature = "server", feature = "client"))]
pub mod wire;
