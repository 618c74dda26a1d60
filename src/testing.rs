//! A server for tests on virtual time, with scripted players and faulty links, and a relay for real sockets.
//!
//! The test decides when things happen. A [`Harness`] ticks only when the test calls it. A [`Player`] does what a
//! client does (it counts, acknowledges, and echoes Beacons) only when the test calls it. So a test can leave any of
//! this out. The harness checks the invariants of sessions and zones after each tick.
//!
//! Links have no faults unless the test sets [`Faults`]. The harness records the counted frames that sessions send.
//! A player compares them with the frames that it receives, and fails the test if one is lost, doubled or out of
//! order.
//!
//! Data flow: [`Player`] → a loopback link of one of two proxies ([`Via`]) → [`Harness::tick`] → frames back to the
//! player; the messages to the game → [`Harness::news_of`].
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
pub use player::{Omitted, Player};
pub use relay::{
    Network, Outages, ROUTES_MAX, Relay, RelayConfig, RelayCounts, RelayError, Route, WayCounts,
};
pub use view::SessionView;
pub use watch::{Watch, WatchedDial, WatchedLink};
