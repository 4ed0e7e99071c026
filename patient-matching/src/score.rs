//! Scoring all pairs of a table that blocking finds.
//!
//! Guarantees: the same pairs with the same bits on any number of threads; pairs below the floor are left out
//! only when no agreement of the remaining fields could have lifted them above it.

#![allow(clippy::indexing_slicing, reason = "rows come from the table that is scored")]

use crate::block::{BlockingReport, Wanted, visit_pairs};
use crate::compare::Comparer;
use crate::model::{Featurer, Model, Purpose, Rarity};
use crate::table::Table;
use crate::train::Options;
use crate::weights::Weights;

/// A pair of rows and its bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scored {
    pub a: u32,
    pub b: u32,
    pub bits: f64,
}

/// A model made ready for one table.
pub(crate) struct Scorer<'a> {
    pub model: &'a Model,
    pub weights: Weights,
    pub heaped: crate::birth::Heaped,
    pub rarities: Vec<[f32; 4]>,
    pub table: &'a Table,
}

impl<'a> Scorer<'a> {
    pub fn new(model: &'a Model, table: &'a Table) -> Scorer<'a> {
        let rarity = Rarity::new(&model.frequencies, &model.layout);
        let mut rarities = Vec::with_capacity(table.pools.names.len());
        rarity.extend(&table.pools, 0, &mut rarities);
        Scorer { model, weights: Weights::new(model), heaped: model.heaped(), rarities, table }
    }

    pub fn featurer(&self) -> Featurer<'_> {
        let comparer =
            Comparer::new(self.table.texts(), &self.table.layout, &self.heaped, self.model.reference_year);
        Featurer::new(comparer, &self.rarities, &[])
    }

    pub fn bits(&self, featurer: &mut Featurer<'_>, a: u32, b: u32) -> f64 {
        self.weights.total(&featurer.features(self.table.row(a), self.table.row(b)), &self.table.layout)
    }

    /// All pairs at or above `floor` bits, in order.
    pub fn pairs(&self, floor: f64, options: &Options) -> (Vec<Scored>, BlockingReport) {
        let wanted = if self.model.purpose == Purpose::Link { Wanted::Across } else { Wanted::All };
        let (states, report) = visit_pairs(
            self.table,
            options.cap,
            options.threads,
            wanted,
            |_, _| true,
            || (self.featurer(), Vec::new()),
            |(featurer, out), a, b, _| {
                let (ra, rb) = (self.table.row(a), self.table.row(b));
                if self.weights.ceiling(&mut featurer.comparer, ra, rb) < floor {
                    return;
                }
                let bits = self.weights.total(&featurer.features(ra, rb), &self.table.layout);
                if bits >= floor {
                    out.push(Scored { a, b, bits });
                }
            },
        );
        let mut pairs: Vec<Scored> = states.into_iter().flat_map(|(_, out)| out).collect();
        pairs.sort_unstable_by_key(|s| (s.a, s.b));
        (pairs, report)
    }
}
