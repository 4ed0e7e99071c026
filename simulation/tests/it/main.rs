//! Worlds at every crash point, and with each rule taken out.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod model;
mod openmrs;
mod postgres;
mod privacy;
mod rules;
mod sink;
