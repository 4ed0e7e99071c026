//! The connector against the OpenMRS stand-in, in process, and its binary: every fault, every surprise that a real server was seen to
//! hold, every defect of the mediator before it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; a panic is a failed test"
)]

mod check;
mod conformance;
mod defects;
mod deliver;
mod faults;
mod lookups;
mod marks;
mod privacy;
mod process;
mod reader;
mod readme;
mod surprises;
mod world;
