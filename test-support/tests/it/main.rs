//! Integration tests of the stand-ins, one binary.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod cht_behaviour;
mod cht_conformance;
mod faults;
mod openmrs_behaviour;
mod openmrs_conformance;
mod process;
mod sink;
mod support;
