//! Behaviour that users rely on: quality, traps, order, and what survives a crash.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod command;
mod metamorphic;
mod people;
mod quality;
mod storage;
mod traps;
