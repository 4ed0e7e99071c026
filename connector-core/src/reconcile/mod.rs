//! What moved at which end, who wins, who is who. Pure.

mod fields;
mod matching;
mod merge;

pub use fields::{adopts, same};
pub use matching::{Candidate, Match, identify};
pub use merge::{Ends, Merge, Policies, Policy, Side, merge};
