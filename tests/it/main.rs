//! The integration tests: one binary, for the sake of link time.

mod agents;
mod arena;
mod asks;
mod binary;
mod bounds;
mod clients;
mod cuts;
mod delivery;
mod faults;
mod gate;
mod mended;
mod model;
mod ports;
mod rows;
mod rows_end;
mod rows_zones;
mod support;
mod telemetry;
mod tidy;
mod tokens;
mod udp;
mod udp_attacks;
mod udp_stage;
mod zones;
