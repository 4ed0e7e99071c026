//! Worlds in one process: the core, its connectors and the stand-ins under one clock that is moved by hand.
//!
//! A world is run once without a crash to count its crash points, then once for each of them: the engine dies there and
//! starts again from its store. At the end the world is compared with what people typed at either side.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a simulation that cannot go on is a failed test"
)]

pub mod engine;
pub mod openmrs_world;
pub mod points;
pub mod run;
pub mod sink_world;
pub mod wire;
