//! What every connector must do, as checks that run it against a stand-in.
//!
//! A connector offers a [`Harness`]; [`conformance!`] makes one test of each check. The checks drive the real core
//! over a store in memory and a clock moved by hand: changes go in at one end, the stand-in misbehaves, and what counts
//! is what the stand-in was made to do. `docs/spec/connector.md` says the same in words.
#![allow(clippy::expect_used, clippy::panic, reason = "a check that cannot go on is a failed test")]

mod checks;
mod harness;
mod world;

pub use checks::{CHECKS, Check, run};
pub use harness::{Configured, Harness, StandIn, configured};

/// One test for each check of the suite, over the harness that the expression makes.
#[macro_export]
macro_rules! conformance {
    ($harness:expr) => {
        #[test]
        fn conformance() {
            let failures: Vec<String> =
                $crate::CHECKS.iter().filter_map(|check| $crate::run(&$harness, check).err()).collect();
            assert!(failures.is_empty(), "{}", failures.join("\n"));
        }
    };
}
