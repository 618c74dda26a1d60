//! Examines a client with a scripted server, and reports which rows of the protocol the client keeps.
//!
//! The examiner handles one client at a time. It has no zones and no game. It does what a network and a real server
//! may do: it withholds acknowledgements, cuts links, stays silent, and sends unknown messages. Then it checks what
//! the client does. The client must connect, send Hello, join `arena`, and go on until it receives Closed(KICKED).
//!
//! ```sh
//! waystation conformance serve          # start the client in another terminal
//! waystation conformance list           # print the rows
//! ```
//!
//! The report has a line for each row: `ok`, `FAILED` with what the client did, or `not reached` if the examination
//! ended before. `tests/golden` has the bytes of all frames.
//!
//! Data flow: adapters → [`Proxies`](crate::proxy::Proxies) → [`Exam`], which runs the steps one after another → a
//! [`Report`].

mod exam;
mod game;
mod ledger;
mod moves;
mod report;
mod steps;
mod unusual;

pub use exam::Exam;
pub use report::{ROWS, Report, Row, Verdict};
