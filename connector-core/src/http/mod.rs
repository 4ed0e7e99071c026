//! The HTTP side of the process: entrances for other systems, health, metrics.

pub mod endpoint;
pub mod server;
