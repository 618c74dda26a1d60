//! The integration tests: one binary, for the sake of link time.

mod agents;
mod bounds;
mod broken;
mod cuts;
mod delivery;
mod gate;
mod ports;
mod rows;
mod rows_end;
mod support;
mod tidy;
mod tokens;
mod zones;
