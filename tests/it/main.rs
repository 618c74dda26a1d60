//! The integration tests: one binary, for the sake of link time.

mod arena;
mod gate;
mod rows;
mod rows_end;
mod support;
mod telemetry;
mod tidy;
mod udp;
mod udp_attacks;
mod udp_stage;
