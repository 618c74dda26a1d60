//! Benchmarks of the parts of the server. Run all with `cargo bench`, or some with `cargo bench -- join`.
//!
//! The servers run in the process, on a clock that only the benchmarks advance. The players are loopback
//! links. So sockets, encryption and threads are not measured. The checks of invariants are not measured
//! either, because they run in debug builds only. What clients do between two measurements is not measured.
//! Compare medians within one run: on a shared machine, the times of two runs differ more than most changes
//! do.

mod codec;
mod idle;
mod markers;
mod membership;
mod resume;
mod stage;

fn main() {
    divan::main();
}
