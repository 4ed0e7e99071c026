//! Why two records are, or are not, the same person: one line per field, and the lines sum to the total.

use crate::compare::Comparer;
use crate::decide::{Flag, Outcome, flags, outcome};
use crate::model::{Line, Model, probability};
use crate::pool::hash_bytes;
use crate::score::Scorer;
use crate::table::{BIRTH, Table};
use serde::Serialize;

/// The explanation of one pair, as stable JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The model that scored it.
    pub model: String,
    /// What to do.
    pub outcome: Outcome,
    /// Probability that the two are one person.
    pub probability: f64,
    /// The sum of all lines, in bits.
    pub weight: f64,
    /// One sentence for the person who decides.
    pub reason: String,
    /// The lines; `bits` and `rarity_bits` of all of them sum to `weight`.
    pub lines: Vec<Line>,
    /// What should be known before believing the score.
    pub flags: Vec<Flag>,
}

impl Explanation {
    /// The same without names, dates and numbers: values become short hashes, equal ones equal hashes.
    #[must_use]
    pub fn hashed(mut self) -> Explanation {
        for value in self.lines.iter_mut().flat_map(|l| &mut l.values).filter(|v| !v.is_empty()) {
            *value = format!("{:08x}", hash_bytes(value.as_bytes()) >> 32);
        }
        self
    }
}

/// Explains the pair of two rows of a table. `rival_bits` is what the one-to-one rule and rivals changed.
pub fn explain(model: &Model, table: &Table, a: u32, b: u32, rival_bits: f64) -> Explanation {
    let scorer = Scorer::new(model, table);
    let comparer = Comparer::new(table.texts(), table.layout(), &scorer.heaped, model.reference_year);
    let mut featurer = crate::model::Featurer::new(comparer, &scorer.rarities, &[]);
    let (ra, rb) = (table.row(a), table.row(b));
    let features = featurer.features(ra, rb);
    let lines = model.lines(&scorer.weights, &features, ra, rb, &table.texts());
    let soft = [ra, rb].iter().any(|r| {
        r.get(BIRTH).is_some_and(|d| *d != 0 && scorer.heaped.is_soft(crate::birth::Birth::from_bits(*d)))
    });
    build(model, lines, flags(model, &features, ra, rb, soft), rival_bits)
}

pub(crate) fn build(model: &Model, mut lines: Vec<Line>, flags: Vec<Flag>, rival_bits: f64) -> Explanation {
    if rival_bits != 0.0 {
        lines.push(Line {
            field: "rivals".to_owned(),
            level: "each person has one counterpart at most".to_owned(),
            values: Default::default(),
            bits: rival_bits,
            rarity_bits: 0.0,
        });
    }
    let weight: f64 = lines.iter().map(|l| l.bits + l.rarity_bits).sum();
    let p = probability(weight);
    let forbidden = flags.iter().any(|f| f.forbids_match());
    Explanation {
        model: model.id(),
        outcome: outcome(&model.thresholds, p, forbidden),
        probability: p,
        weight,
        reason: reason(&lines, &flags),
        lines,
        flags,
    }
}

fn reason(lines: &[Line], flags: &[Flag]) -> String {
    let mut fields: Vec<&Line> =
        lines.iter().filter(|l| !["prior", "rivals"].contains(&l.field.as_str())).collect();
    fields.sort_by(|x, y| (y.bits + y.rarity_bits).total_cmp(&(x.bits + x.rarity_bits)));
    let words = |l: &&Line| format!("{}: {} ({:+.1})", l.field, l.level, l.bits + l.rarity_bits);
    let pro: Vec<String> =
        fields.iter().take(3).filter(|l| l.bits + l.rarity_bits > 0.5).map(words).collect();
    let contra: Vec<String> =
        fields.iter().rev().take(2).filter(|l| l.bits + l.rarity_bits < -0.5).map(words).collect();
    let mut out = if pro.is_empty() {
        "nothing speaks for it".to_owned()
    } else {
        format!("for it: {}", pro.join("; "))
    };
    if !contra.is_empty() {
        out.push_str(&format!(". Against it: {}", contra.join("; ")));
    }
    if flags.contains(&Flag::PossibleTwinOrSibling) {
        out.push_str(". Possible twin or sibling");
    }
    if flags.contains(&Flag::PossibleParentAndChild) {
        out.push_str(". Possible parent and child of one name");
    }
    out
}
