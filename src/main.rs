//! The headless server.
fn main() {}
