//! The conformance suite over the plain sink.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod harness;

conformance::conformance!(harness::Sink);
