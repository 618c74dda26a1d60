//! The integration tests: one binary, for the sake of link time.

mod tidy;
