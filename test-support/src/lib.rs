//! Stand-ins for the systems that connectors talk to: stateful servers that misbehave on request and count what reached
//! them. They are no part of a connector and share no type, mapping or hash with one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "stand-ins are test programs; a panic on their own state is a bug to be seen"
)]

pub mod cht;
pub mod clock;
pub mod fault;
pub mod openmrs;
pub mod people;
pub mod process;
pub mod serve;
pub mod sink;
