//! The integration tests of the core, in one binary.

mod cht;
mod cht_surprises;
mod cht_writes;
mod inprocess;
