//! Find the same person in lists of people, without labelled examples, and say why.
//!
//! Pure computation: no network, no async runtime, no FHIR types. A model is learnt from the people themselves
//! (see [`learn`]); scores are sums of bits that a person can read; relatives, who share family name, phone,
//! village and mother, are told from copies of one person.
//!
//! Two lists in twenty lines:
//!
//! ```
//! use patient_matching::{Layout, Options, Outcome, Person, Table, link};
//!
//! let layout = Layout { places: 1, identifiers: vec!["national_id".into()] };
//! let mut table = Table::new(layout);
//! for (i, (given, family, born)) in
//!     [("Amina", "Otieno", "1990-04-12"), ("Juma", "Saad", "1985-11-23"), ("Rose", "Kimani", "2001-02-14")]
//!         .into_iter()
//!         .enumerate()
//! {
//!     let person = Person::new(format!("a{i}")).given(given).family(family).birth_date(born).place(0, "Kuchi");
//!     table.push(&person, 0);
//!     let copy = Person::new(format!("b{i}")).given(given).family(family).birth_date(born).place(0, "Kuchi");
//!     table.push(&copy, 1);
//! }
//! let answer = link(&table, None, &Options::default());
//! for pair in answer.pairs.iter().filter(|p| p.outcome == Outcome::Match) {
//!     assert_eq!(answer.table.id(pair.a)[1..], answer.table.id(pair.b)[1..]);
//! }
//! assert_eq!(answer.pairs.iter().filter(|p| p.outcome == Outcome::Match).count(), 3);
//! ```
//!
//! A running system keeps people in an [`Index`] (or a [`Store`], which survives a crash), asks it for
//! candidates, and lets [`decide`] say match, review or no match.
#![deny(missing_docs)]

mod birth;
mod block;
mod compare;
mod decide;
mod error;
mod evaluate;
mod explain;
mod index;
mod levels;
mod logit;
mod matching;
mod model;
mod person;
mod pool;
pub mod report;
mod schema;
mod score;
mod similarity;
mod storage;
pub mod synth;
mod table;
mod text;
mod train;
mod weights;

pub use birth::Birth;
pub use block::{BlockingReport, Dropped};
pub use decide::{Candidate, Decision, Flag, Outcome, Verdict, decide};
pub use error::Error;
pub use evaluate::{Evaluation, Group, Truth, evaluate};
pub use explain::{Explanation, explain};
pub use index::Index;
pub use matching::{Matching, Pair, Summary, dedupe, learn, link};
pub use model::{
    ClosenessBits, ContextBits, FORMAT, FieldBits, Frequencies, LevelBits, Line, Model, Purpose, Thresholds,
    Training, bits, probability,
};
pub use person::{Person, Sex};
pub use schema::{IdentifierColumn, Schema};
pub use storage::Store;
pub use table::{Layout, MAX_IDENTIFIERS, MAX_PLACES, Table};
pub use train::Options;
