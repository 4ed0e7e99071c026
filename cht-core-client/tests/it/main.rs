//! The client against recorded answers of a real CHT, and against servers on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod changes;
mod play;
mod privacy;
mod recordings;
mod replay;
mod session;
mod transport;
