//! Integration tests of the stand-ins, one binary.

mod faults;
mod support;
