//! The model: how many bits each level of agreement is worth, in a file that a person can read and pin.
//!
//! Guarantees: a score is a plain sum of the lines that [`Model::lines`] lists; scoring reads the model and the
//! two rows only, so that other records never change a pair's bits; a file of another format is refused.

#![allow(clippy::indexing_slicing, reason = "levels and fields are bounded by the tables in `levels`")]

use crate::birth::Heaped;
use crate::compare::{Comparer, Levels};
use crate::error::Error;
use crate::levels::*;
use crate::table::{self, Layout, Pools, Texts};
use crate::weights::Weights;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// The format this version writes and reads.
pub const FORMAT: u32 = 1;

/// A trained model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Format of the file.
    pub format: u32,
    /// What the model was trained for.
    pub purpose: Purpose,
    /// The fields it was trained on.
    pub layout: Layout,
    /// Bits before anything is compared: how rare true pairs are among the compared ones.
    pub prior_bits: f64,
    /// Bits per field and level.
    pub fields: Vec<FieldBits>,
    /// For links: bits that a pair gains because most people of one source have a counterpart in the other, so
    /// that a pair without competitors is likely to be right.
    pub one_to_one_bits: f64,
    /// Whether the people have phones, mothers or households, so that relatives were told from strangers. A
    /// pair is then never a match without evidence from the given name or an equal identifier.
    pub relatives: bool,
    /// Corrections for combinations of family name, phone, place and mother, which relatives share.
    pub household_bits: Vec<ContextBits>,
    /// Corrections for given name, middle name and birth date by how close the two households are: twins share
    /// birth dates, siblings middle names.
    pub closeness_bits: Vec<ClosenessBits>,
    /// How many records hold the common values of the name fields.
    pub frequencies: BTreeMap<String, Frequencies>,
    /// Days that people are given as birthdays ("06-30").
    pub estimated_days: Vec<String>,
    /// The year in which ages are counted.
    pub reference_year: u32,
    /// Where a pair becomes a match or goes to review.
    pub thresholds: Thresholds,
    /// What it was trained on.
    pub trained_on: Training,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Pairs across two sources, one to one.
    Link,
    /// Pairs within one source.
    Dedupe,
}

/// Bits of one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldBits {
    /// Name of the field.
    pub field: String,
    /// Bits per level, in the order of the levels.
    pub levels: Vec<LevelBits>,
    /// Bits per doubling of rarity when the values agree.
    pub rarity: f64,
}

/// Bits of one level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelBits {
    /// Name of the level.
    pub level: String,
    /// Its bits.
    pub bits: f64,
}

/// Bits of a combination of the fields that relatives share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextBits {
    /// Family name, phone, place, mother: "agrees", "differs" or "missing".
    pub combination: [String; 4],
    /// Bits of correction.
    pub bits: f64,
}

/// Corrections of one field's levels for one closeness of the households.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClosenessBits {
    /// Name of the field.
    pub field: String,
    /// "one household", "one family and place" or "strangers".
    pub closeness: String,
    /// Bits per level, in the order of the levels.
    pub bits: Vec<f64>,
}

/// Counts of common values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frequencies {
    /// Records that have a value.
    pub records: u64,
    /// Distinct values.
    pub distinct: u64,
    /// Values held by at least ten records.
    pub common: BTreeMap<String, u64>,
}

/// Where a pair becomes a match or goes to review, as probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// At or above: a match.
    pub matched: f64,
    /// At or above, and below `matched`: for review.
    pub review: f64,
    /// For links made one at a time: a runner-up closer than this many bits sends the pair to review.
    pub margin_bits: f64,
}

impl Thresholds {
    /// Thresholds for systems that link without asking: a match only at p >= 0.99, review from p >= 0.05.
    pub const CAUTIOUS: Thresholds = Thresholds { matched: 0.99, review: 0.05, margin_bits: 3.0 };
}

/// What a model was trained on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Records.
    pub records: u64,
    /// Compared pairs, estimated from the sample.
    pub pairs: u64,
    /// True pairs among them, as estimated.
    pub expected_matches: f64,
}

/// Positions of the fields with term frequencies, and their columns.
pub(crate) const RARE: [(usize, usize); 4] = [
    (F_GIVEN, table::GIVEN),
    (F_MIDDLE, table::MIDDLE),
    (F_FAMILY, table::FAMILY),
    (F_MOTHER, table::MOTHER),
];
/// Combinations of the context fields.
pub(crate) const CONTEXTS: usize = 81;
/// Most levels of a field.
pub(crate) const MAX_LEVELS: usize = 18;
/// How close two households can be, see [`Features::closeness`].
pub(crate) const CLOSENESS: usize = 3;
/// Fields whose levels mean less (or more) the closer the households are.
pub(crate) const CLOSE_FIELDS: [usize; 3] = [F_GIVEN, F_MIDDLE, F_BIRTH];
pub(crate) const CLOSE_WORDS: [&str; CLOSENESS] = ["one household", "one family and place", "strangers"];
const STATES: [&str; 3] = ["agrees", "differs", "missing"];

/// What scoring reads of a pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Features {
    pub levels: Levels,
    /// Rarity of the agreeing value, in doublings, for the fields in [`RARE`].
    pub rarity: [f32; 4],
}

impl Features {
    /// 0: phone, mother or household agree; 1: family name and place agree; 2: neither.
    pub fn closeness(&self, layout: &Layout) -> usize {
        let l = &self.levels.0;
        if l[F_PHONE] <= PHONE_EDIT || l[F_MOTHER] <= NEAR_NEAR || l[F_HOUSEHOLD] == NEAR_SAME {
            0
        } else if l[F_FAMILY] <= NICK && (layout.places == 0 || l[FIXED] <= NEAR_NEAR) {
            1
        } else {
            2
        }
    }

    /// The combination of family name, phone, place and mother.
    pub fn context(&self, layout: &Layout) -> usize {
        let l = &self.levels.0;
        let family = match l[F_FAMILY] {
            EXACT..=NICK => 0,
            NAME_ONE.. => 2,
            _ => 1,
        };
        let phone = match l[F_PHONE] {
            PHONE_SAME..=PHONE_EDIT => 0,
            PHONE_ONE.. => 2,
            _ => 1,
        };
        let near = |level| match level {
            NEAR_SAME | NEAR_NEAR => 0,
            NEAR_ONE.. => 2,
            _ => 1,
        };
        let place = if layout.places > 0 { near(l[FIXED]) } else { 2 };
        ((family * 3 + phone) * 3 + place) * 3 + near(l[F_MOTHER])
    }
}

impl Model {
    /// Reads a model file.
    pub fn from_json(json: &str) -> Result<Model, Error> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_str(json).map_err(|e| Error::Model(e.to_string()))?;
        if head.format != FORMAT {
            return Err(Error::Model(format!(
                "its format is {}, this version reads format {FORMAT}; train it anew",
                head.format
            )));
        }
        let model: Model = serde_json::from_str(json).map_err(|e| Error::Model(e.to_string()))?;
        model.check()?;
        Ok(model)
    }

    /// The model file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// A short name of exactly these weights.
    pub fn id(&self) -> String {
        format!("pm{}-{:016x}", self.format, crate::pool::hash_bytes(self.to_json().as_bytes()))
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Model(format!("{what}; train it anew")));
        if self.layout.places > table::MAX_PLACES || self.layout.identifiers.len() > table::MAX_IDENTIFIERS {
            return wrong("its layout has too many places or identifiers".to_owned());
        }
        let expected = self.field_count();
        if self.fields.len() != expected {
            return wrong(format!("it has {} fields, its layout asks for {expected}", self.fields.len()));
        }
        for (i, field) in self.fields.iter().enumerate() {
            let kind = kind(i, self.layout.places);
            if field.levels.len() != kind.levels.len() {
                return wrong(format!(
                    "the field {} has {} levels, not {}",
                    i + 1,
                    field.levels.len(),
                    kind.levels.len()
                ));
            }
            if field.levels.iter().any(|l| !l.bits.is_finite()) || !field.rarity.is_finite() {
                return wrong(format!("the field {} has a weight that is no number", i + 1));
            }
        }
        Ok(())
    }

    /// Number of compared fields.
    pub(crate) fn field_count(&self) -> usize {
        FIXED + self.layout.places + self.layout.identifiers.len()
    }

    /// Name of a compared field.
    pub(crate) fn field_name(layout: &Layout, field: usize) -> String {
        if field < FIXED {
            kind(field, layout.places).name.to_owned()
        } else if field < FIXED + layout.places {
            if layout.places == 1 { "place".to_owned() } else { format!("place {}", field - FIXED + 1) }
        } else {
            layout.identifiers.get(field - FIXED - layout.places).cloned().unwrap_or_default()
        }
    }

    /// The days and year that comparisons need.
    pub(crate) fn heaped(&self) -> Heaped {
        Heaped::from_days(&self.estimated_days)
    }
}

/// The combination's words, for the model file.
pub(crate) fn context_words(context: usize) -> [String; 4] {
    [context / 27, context / 9 % 3, context / 3 % 3, context % 3].map(|s| STATES[s].to_owned())
}

/// The word for a closeness.
pub(crate) fn closeness_word(closeness: usize) -> &'static str {
    CLOSE_WORDS[closeness]
}

pub(crate) fn context_index(words: &[String; 4]) -> Option<usize> {
    words.iter().try_fold(0, |index, word| Some(index * 3 + STATES.iter().position(|s| s == word)?))
}

/// Rarity of name values, in doublings above one person in 128, between -5 and 5.
pub(crate) struct Rarity {
    tables: [HashMap<String, f32>; 4],
    rest: [f32; 4],
}

impl Rarity {
    pub fn new(frequencies: &BTreeMap<String, Frequencies>, layout: &Layout) -> Rarity {
        let mut out = Rarity { tables: Default::default(), rest: [0.0; 4] };
        for (i, (field, _)) in RARE.into_iter().enumerate() {
            let Some(f) = frequencies.get(&Model::field_name(layout, field)) else { continue };
            let (n, k) = (f.records as f64, 10.0);
            let share = |count: f64| (count + k / f.distinct.max(1) as f64) / (n + k);
            let doublings = |count: f64| (-(share(count).log2()) - 7.0).clamp(-5.0, 5.0) as f32;
            let common: u64 = f.common.values().sum();
            let others = f.distinct.saturating_sub(f.common.len() as u64).max(1);
            out.rest[i] = doublings(f.records.saturating_sub(common) as f64 / others as f64);
            out.tables[i] =
                f.common.iter().map(|(name, count)| (name.clone(), doublings(*count as f64))).collect();
        }
        out
    }

    pub fn of(&self, value: &str) -> [f32; 4] {
        let mut out = self.rest;
        for (slot, table) in out.iter_mut().zip(&self.tables) {
            if let Some(r) = table.get(value) {
                *slot = *r;
            }
        }
        out
    }

    /// Rarities of all names of a pool, from number `from` on.
    pub fn extend(&self, pools: &Pools, from: usize, out: &mut Vec<[f32; 4]>) {
        out.extend((from..pools.names.len()).map(|i| self.of(pools.names.text(i as u32))));
    }
}

/// Probability of a total.
pub fn probability(bits: f64) -> f64 {
    1.0 / (1.0 + (-bits).exp2())
}

/// Bits of a probability.
pub fn bits(probability: f64) -> f64 {
    (probability / (1.0 - probability)).log2()
}

/// Computes the features of pairs.
pub(crate) struct Featurer<'a> {
    pub comparer: Comparer<'a>,
    rarity: &'a [[f32; 4]],
    extra: &'a [[f32; 4]],
}

impl<'a> Featurer<'a> {
    /// `rarity` holds those of the names of the table, `extra` those of an overlay.
    pub fn new(comparer: Comparer<'a>, rarity: &'a [[f32; 4]], extra: &'a [[f32; 4]]) -> Featurer<'a> {
        Featurer { comparer, rarity, extra }
    }

    fn rarity(&self, name: u32, i: usize) -> f32 {
        let name = name as usize;
        match self.rarity.get(name) {
            Some(r) => r[i],
            None => self.extra.get(name - self.rarity.len()).map_or(0.0, |r| r[i]),
        }
    }

    pub fn features(&mut self, a: &[u32], b: &[u32]) -> Features {
        let levels = self.comparer.levels(a, b);
        let mut rarity = [0.0; 4];
        for (i, (field, column)) in RARE.into_iter().enumerate() {
            let level = levels.0[field];
            let near = if field == F_MIDDLE || field == F_MOTHER { NEAR_NEAR } else { NEAR85 };
            if level == SWAPPED && field != F_MIDDLE && field != F_MOTHER {
                rarity[i] = 0.5 * (self.rarity(a[column], i) + self.rarity(b[column], i));
            } else if level == EXACT {
                rarity[i] = self.rarity(a[column], i);
            } else if level <= near {
                rarity[i] = 0.5 * self.rarity(a[column], i).min(self.rarity(b[column], i));
            }
        }
        Features { levels, rarity }
    }
}

/// One line of a score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The field, "prior" or "household".
    pub field: String,
    /// The level of agreement.
    pub level: String,
    /// The two normalised values, empty when missing.
    pub values: [String; 2],
    /// Bits of the level.
    pub bits: f64,
    /// Bits for the rarity of the value.
    pub rarity_bits: f64,
}

impl Model {
    /// The lines of a pair's score; their bits (with rarity bits) sum to the total.
    pub(crate) fn lines(
        &self,
        weights: &Weights,
        f: &Features,
        a: &[u32],
        b: &[u32],
        texts: &Texts<'_>,
    ) -> Vec<Line> {
        let mut lines = vec![Line {
            field: "prior".to_owned(),
            level: "how rare true pairs are among compared ones".to_owned(),
            values: Default::default(),
            bits: weights.prior,
            rarity_bits: 0.0,
        }];
        for field in 0..self.field_count() {
            let level = usize::from(f.levels.0[field]);
            let rare = RARE.iter().position(|(i, _)| *i == field);
            lines.push(Line {
                field: Model::field_name(&self.layout, field),
                level: kind(field, self.layout.places).levels[level].to_owned(),
                values: [shown(field, a, texts, &self.layout), shown(field, b, texts, &self.layout)],
                bits: weights.bits[field][level],
                rarity_bits: rare.map_or(0.0, |i| weights.rarity[i] * f64::from(f.rarity[i])),
            });
        }
        let context = f.context(&self.layout);
        let [family, phone, place, mother] = context_words(context);
        lines.push(Line {
            field: "household".to_owned(),
            level: format!("family name {family}, phone {phone}, place {place}, mother {mother}"),
            values: Default::default(),
            bits: weights.household(f, &self.layout),
            rarity_bits: 0.0,
        });
        lines
    }
}

/// A field's value in words.
fn shown(field: usize, row: &[u32], texts: &Texts<'_>, layout: &Layout) -> String {
    match field {
        F_GIVEN => texts.name(row[table::GIVEN]).to_owned(),
        F_MIDDLE => texts.name(row[table::MIDDLE]).to_owned(),
        F_FAMILY => texts.name(row[table::FAMILY]).to_owned(),
        F_SEX => ["", "female", "male"].get(row[table::SEX] as usize).copied().unwrap_or_default().to_owned(),
        F_BIRTH => crate::birth::Birth::from_bits(row[table::BIRTH]).display(),
        F_PHONE => texts.code(row[table::PHONE]).to_owned(),
        F_MOTHER => texts.name(row[table::MOTHER]).to_owned(),
        F_HOUSEHOLD => texts.code(row[table::HOUSEHOLD]).to_owned(),
        f if f < FIXED + layout.places => texts.place(row[table::PLACE + f - FIXED]).to_owned(),
        f => texts.code(row[table::PLACE + f - FIXED]).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_words_and_index_agree() {
        for c in 0..CONTEXTS {
            assert_eq!(context_index(&context_words(c)), Some(c));
        }
        assert_eq!(context_index(&["x", "agrees", "agrees", "agrees"].map(str::to_owned)), None);
    }

    #[test]
    fn rare_names_count_more() {
        let mut f = BTreeMap::new();
        f.insert(
            "given name".to_owned(),
            Frequencies { records: 1000, distinct: 200, common: [("amina".to_owned(), 300)].into() },
        );
        let r = Rarity::new(&f, &Layout::default());
        assert!(r.of("amina")[0] < r.of("thinhinane")[0]);
    }
}
