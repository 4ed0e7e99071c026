//! The integration tests of the core, in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that panics is a test that fails, its helpers included"
)]

mod cht;
mod cht_surprises;
mod cht_writes;
mod configuration;
mod http;
mod inprocess;
mod panics;
