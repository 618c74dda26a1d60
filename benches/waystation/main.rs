//! What the parts cost: `cargo bench`, or `cargo bench -- join` for some of it.
//!
//! Servers of these benches run in the process, on a clock that moves only when a bench says so,
//! and their players are loopback links: no socket, no encryption and no thread is measured, and
//! the invariants, which are checked in debug builds, are not. What clients do between two
//! measurements is not measured. Compare within one run and look at medians: on a shared machine the
//! times of two runs differ more than most changes do.

mod codec;
mod idle;
mod markers;
mod membership;
mod resume;
mod stage;

fn main() {
    divan::main();
}
