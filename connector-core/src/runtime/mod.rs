//! The loops between the systems and the store.
//!
//! A [`Bridge`] joins one CHT and one partner over one store. Its steps (`poll`, `refresh`, `work`, `probe`) each do
//! what is due and return, so that a simulation can drive them one by one; [`run`](Bridge::run) drives them until it
//! is told to stop.

mod bridge;
mod deliver;
mod intake;
mod pace;
mod plan;
mod probe;
mod run;
mod system;

pub use bridge::{Begin, Bridge, BridgeOptions, Hooks, RuntimeError};
pub use intake::Polled;
pub use run::{Retention, Shutdown};
pub use system::System;
