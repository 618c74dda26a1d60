//! A server in a test: virtual time, two proxies, scripted players, faulty links, invariants after
//! every tick.
//!
//! Nothing happens at a time that the test did not choose: a [`Harness`] ticks when it is told,
//! and a [`Player`] does what a client does (it counts, acknowledges, echoes beacons) when it is
//! asked to, so that any of it can also be left out.
//!
//! A link is faultless until it is given [`Faults`]. What a session is sent and counts is numbered
//! on the way, so that a player fails its test on a frame that is lost, doubled or out of order.
//!
//! Data flow: [`Player`] → a loopback link of one of the [`Via`]s → [`Harness::tick`] → frames back
//! to the player; what the game was told → [`Harness::news_of`].
//!
//! ```
//! use waystation::testing::{Harness, Via};
//!
//! let mut game = Harness::new();
//! let mut ada = game.player(Via::Alpha);
//! game.join(&mut ada, "hall");
//!
//! ada.cut();
//! game.run_ms(300);
//! ada.connect(&game, Via::Beta);
//! ada.resume();
//! game.exchange(&mut [&mut ada]);
//!
//! assert_eq!(ada.zone(), Some("hall"));
//! ```

mod end;
mod faults;
mod harness;
mod link;
mod news;
mod player;
mod relay;
mod view;
mod watch;

pub use faults::Faults;
pub use harness::{Harness, Via};
pub use link::{HarnessDial, HarnessLink};
pub use news::{Entry, News};
pub use player::{Hang, Player};
pub use relay::{
    Network, Outages, ROUTES_MAX, Relay, RelayConfig, RelayCounts, RelayError, Route, WayCounts,
};
pub use view::SessionView;
pub use watch::{Watch, WatchedDial, WatchedLink};
