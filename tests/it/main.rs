//! Tests over real sockets and whole apps.

mod udp;
mod udp_attacks;
mod udp_stage;
