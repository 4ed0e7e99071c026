//! The HTTP side of the process: entrances for other systems, health, metrics.

mod access;
pub mod endpoint;
mod serve;
pub mod server;

pub use serve::serve;
