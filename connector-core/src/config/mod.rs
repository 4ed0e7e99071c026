//! Configuration: file, environment and flags in; every problem reported at once, by path.

mod report;

pub use report::{ConfigReport, Problem};
