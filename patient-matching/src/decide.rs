//! From bits to a decision: match, review or no match, and what stands in the way of an automatic match.
//!
//! Guarantees: rules only ever turn a match into a review, never the other way; a decision reads the pair and
//! its rivals, nothing else.

#![allow(clippy::indexing_slicing, reason = "levels and columns are bounded by the layout of the rows")]

use crate::birth::Birth;
use crate::levels::*;
use crate::model::{Features, Model, Thresholds};
use crate::table::{self, VERIFIED};
use serde::Serialize;

/// What to do with a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The same person.
    Match,
    /// A person has to look.
    Review,
    /// Two people.
    NoMatch,
}

impl Outcome {
    /// The word in files: "match", "review" or "no_match".
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Match => "match",
            Outcome::Review => "review",
            Outcome::NoMatch => "no_match",
        }
    }
}

/// What a person should know about a pair before believing its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// Two verified identifiers of one type differ: never an automatic match.
    VerifiedIdentifiersDiffer,
    /// A verified identifier is equal, but given name and sex both differ: never an automatic match.
    VerifiedIdentifierOfAnother,
    /// Nothing in the given names agrees and no identifier does: never an automatic match.
    GivenNamesDiffer,
    /// Beyond names and sex there is nothing on both sides to compare: never an automatic match.
    TooLittleKnown,
    /// Same birth date and household, other given name.
    PossibleTwinOrSibling,
    /// Same names in one household, but more than ten years apart.
    PossibleParentAndChild,
    /// Names stand in other slots.
    NamesSwapped,
    /// A birth date is estimated.
    EstimatedBirthDate,
    /// The phone is the same, which households share.
    SharedPhone,
    /// Names agree only after re-spelling.
    Respelled,
}

impl Flag {
    /// Whether the flag keeps a pair from being a match without a person.
    pub fn forbids_match(self) -> bool {
        matches!(
            self,
            Flag::TooLittleKnown
                | Flag::VerifiedIdentifiersDiffer
                | Flag::VerifiedIdentifierOfAnother
                | Flag::GivenNamesDiffer
        )
    }
}

/// The flags of a pair.
pub(crate) fn flags(model: &Model, f: &Features, a: &[u32], b: &[u32], soft_birth: bool) -> Vec<Flag> {
    let l = &f.levels.0;
    let layout = &model.layout;
    let mut out = Vec::new();
    let verified = |c: usize| a[c] & VERIFIED != 0 && b[c] & VERIFIED != 0;
    let columns = || (0..layout.identifiers.len()).map(|i| layout.identifier(i));
    let level = |c: usize| l[FIXED + c - table::PLACE];
    let given_differs = (LIKE70..=NAME_ELSE).contains(&l[F_GIVEN]);
    if columns().any(|c| verified(c) && (NEAR_NEAR..=NEAR_ELSE).contains(&level(c))) {
        out.push(Flag::VerifiedIdentifiersDiffer);
    }
    if columns().any(|c| verified(c) && level(c) == NEAR_SAME) && given_differs && l[F_SEX] == 1 {
        out.push(Flag::VerifiedIdentifierOfAnother);
    }
    let same_identifier = columns().any(|c| level(c) == NEAR_SAME);
    if model.relatives && l[F_GIVEN] >= LIKE70 && !same_identifier {
        out.push(Flag::GivenNamesDiffer);
    }
    let compared = l[F_BIRTH] < BIRTH_ONE
        || l[F_PHONE] < PHONE_ONE
        || l[F_MOTHER] < NEAR_ONE
        || l[F_HOUSEHOLD] < NEAR_ONE
        || (0..layout.places).any(|i| l[FIXED + i] < NEAR_ONE)
        || columns().any(|c| level(c) < NEAR_ONE);
    if model.relatives && !compared {
        out.push(Flag::TooLittleKnown);
    }
    let household = l[F_PHONE] == PHONE_SAME || l[F_MOTHER] == NEAR_SAME || l[F_HOUSEHOLD] == NEAR_SAME;
    let twin_birth = l[F_BIRTH] <= BIRTH_SOFT;
    if household && twin_birth && (given_differs || l[F_SEX] == 1) {
        out.push(Flag::PossibleTwinOrSibling);
    }
    if household && l[F_GIVEN] <= NEAR85 && matches!(l[F_BIRTH], BIRTH_FAR | BIRTH_TYPO_SOFT) {
        out.push(Flag::PossibleParentAndChild);
    }
    if (SWAPPED..=CROSS_MIDDLE).contains(&l[F_GIVEN]) || (SWAPPED..=CROSS_MIDDLE).contains(&l[F_FAMILY]) {
        out.push(Flag::NamesSwapped);
    }
    if soft_birth {
        out.push(Flag::EstimatedBirthDate);
    }
    if l[F_PHONE] == PHONE_SAME {
        out.push(Flag::SharedPhone);
    }
    if l[F_GIVEN] == KEY || l[F_FAMILY] == KEY {
        out.push(Flag::Respelled);
    }
    out
}

/// Whether a rule keeps the pair from being a match without a person.
pub(crate) fn forbidden(model: &Model, f: &Features, a: &[u32], b: &[u32]) -> bool {
    flags(model, f, a, b, false).into_iter().any(Flag::forbids_match)
}

/// Whether two people cannot stand in one cluster: verified identifiers that differ, and, where relatives are
/// to be told apart, two sexes with two given names, or births more than ten years apart.
pub(crate) fn conflict(model: &Model, f: &Features, a: &[u32], b: &[u32]) -> bool {
    let l = &f.levels.0;
    let layout = &model.layout;
    let identifiers = (0..layout.identifiers.len()).any(|i| {
        let c = layout.identifier(i);
        a[c] & b[c] & VERIFIED != 0 && l[FIXED + layout.places + i] != NEAR_SAME
    });
    let names = l[F_SEX] == 1 && (LIKE70..=NAME_ELSE).contains(&l[F_GIVEN]);
    let (ya, yb) = (Birth::from_bits(a[table::BIRTH]), Birth::from_bits(b[table::BIRTH]));
    let births = l[F_BIRTH] == BIRTH_FAR && ya.year().abs_diff(yb.year()) > 10;
    identifiers || (model.relatives && (names || births))
}

/// The decision about a pair by its probability.
pub(crate) fn outcome(thresholds: &Thresholds, probability: f64, forbidden: bool) -> Outcome {
    if probability >= thresholds.matched && !forbidden {
        Outcome::Match
    } else if probability >= thresholds.review {
        Outcome::Review
    } else {
        Outcome::NoMatch
    }
}

/// One answer of a search, with all that a decision needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The record id.
    pub id: String,
    /// Bits of the pair, without what rivals change.
    pub bits: f64,
    /// Bits of a link that this record already has with somebody else, if any.
    pub linked: Option<f64>,
    /// What stands in the way or should be known.
    pub flags: Vec<Flag>,
}

/// A decision about a person and their candidates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Decision {
    /// The person is this record.
    Match(Verdict),
    /// A person has to choose among these, most likely first.
    Review(Vec<Verdict>),
    /// Nobody here is that person.
    NoMatch,
}

/// A candidate with its probability in the light of the others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The record id.
    pub id: String,
    /// Probability that this is the person.
    pub probability: f64,
    /// The same in bits.
    pub weight: f64,
    /// Bits that rivals and the one-to-one rule added or took away.
    pub rival_bits: f64,
    /// Distance in bits to the next candidate.
    pub margin: Option<f64>,
    /// The record is linked to somebody else who fits less: that link must be looked at again.
    pub replaces: bool,
    /// What should be known.
    pub flags: Vec<Flag>,
}

/// Decides about one person. Exactly one candidate is the person, or none is: rivals share the probability.
/// The order of `candidates` does not matter.
pub fn decide(model: &Model, thresholds: &Thresholds, candidates: &[Candidate]) -> Decision {
    let mut sorted: Vec<&Candidate> = candidates.iter().collect();
    sorted.sort_by(|x, y| y.bits.total_cmp(&x.bits).then_with(|| x.id.cmp(&y.id)));
    let odds = |bits: f64| (bits + model.one_to_one_bits).exp2();
    let total: f64 = sorted.iter().map(|c| odds(c.bits)).sum();
    let verdicts: Vec<Verdict> = sorted
        .iter()
        .enumerate()
        .map(|(i, c)| {
            let rivals = (total - odds(c.bits)).max(0.0) + c.linked.map_or(0.0, odds);
            let rival_bits = model.one_to_one_bits - (1.0 + rivals).log2();
            let next = sorted.get(usize::from(i == 0));
            Verdict {
                id: c.id.clone(),
                probability: crate::model::probability(c.bits + rival_bits),
                weight: c.bits + rival_bits,
                rival_bits,
                margin: next.filter(|n| n.id != c.id).map(|n| c.bits - n.bits),
                replaces: c.linked.is_some(),
                flags: c.flags.clone(),
            }
        })
        .collect();
    if let Some(first) = verdicts.first() {
        let clear = first.margin.is_none_or(|m| m >= thresholds.margin_bits);
        let forbidden = first.flags.iter().any(|f| f.forbids_match()) || !clear;
        if outcome(thresholds, first.probability, forbidden) == Outcome::Match {
            return Decision::Match(first.clone());
        }
    }
    let review: Vec<Verdict> = verdicts.into_iter().filter(|v| v.probability >= thresholds.review).collect();
    if review.is_empty() { Decision::NoMatch } else { Decision::Review(review) }
}
