//! A scripted server that examines somebody's client: which rows of the protocol does it keep?
//!
//! It is no server: it has no zones, no game and one client at a time, and it does to that client what
//! a network and a real server may do. It withholds acks, cuts links, stays silent, sends what nobody
//! knows, and looks at what the client makes of it. The client needs to connect, say Hello, join
//! `arena`, and go on until it is told KICKED.
//!
//! ```sh
//! waystation conformance serve          # and in another terminal, the client
//! waystation conformance list           # what it looks at
//! ```
//!
//! The report has a line for each row: `ok`, `FAILED` with what the client did, or `not reached`, when
//! the client was gone by then. What the frames look like, byte by byte, is in `tests/golden`.
//!
//! Data flow: adapters → [`Proxies`](crate::proxy::Proxies), which are driven by hand → `Exam`, which
//! runs the steps one after another, each of them plain code that waits for what must come → a
//! [`Report`] with a line for each row.

mod exam;
mod game;
mod ledger;
mod moves;
mod report;
mod steps;
mod unusual;

pub use exam::Exam;
pub use report::{ROWS, Report, Row, Verdict};
