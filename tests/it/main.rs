//! The integration tests: one binary, for the sake of link time.

mod agents;
mod arena;
mod asks;
mod binary;
mod bounds;
mod calls;
mod clients;
mod cuts;
mod delivery;
mod gate;
mod load;
mod mended;
mod panics;
mod ports;
mod rates;
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
