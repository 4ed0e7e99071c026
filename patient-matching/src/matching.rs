//! Linking two lists and finding the duplicates of one, in one call each.
//!
//! Guarantees: the same people in any order and on any number of threads give the same answer; a link is one to
//! one; no cluster holds two people whom the guards keep apart.

#![allow(clippy::indexing_slicing, reason = "rows come from the table that was scored")]

use crate::block::BlockingReport;
use crate::decide::{self, Outcome, conflict, forbidden};
use crate::model::{Model, Purpose, bits, probability};
use crate::score::{Scored, Scorer};
use crate::table::Table;
use crate::train::{Options, train};
use std::collections::HashMap;

/// A pair that is a match or for review.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Row of the first record (of source 0 when linking).
    pub a: u32,
    /// Row of the second record.
    pub b: u32,
    /// Probability that the two are one person.
    pub probability: f64,
    /// The same in bits, rivals included.
    pub weight: f64,
    /// What to do.
    pub outcome: Outcome,
}

/// The answer of [`link`] or [`dedupe`].
pub struct Matching {
    /// The people in the order that the rows of the pairs refer to.
    pub table: Table,
    /// The model that was used.
    pub model: Model,
    /// Matches and pairs for review, by rows.
    pub pairs: Vec<Pair>,
    /// For dedupe: the cluster of each row, named by its first row.
    pub clusters: Vec<u32>,
    /// What blocking did.
    pub blocking: BlockingReport,
    /// Bits of all pairs that were kept, for the report.
    pub(crate) scored: Vec<Scored>,
}

/// Numbers about an answer that need no truth.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Summary {
    /// Records.
    pub records: usize,
    /// Pairs compared per record.
    pub candidates_per_record: f64,
    /// Matches.
    pub matches: usize,
    /// Pairs for review.
    pub review: usize,
    /// Share of the records that occur in a pair for review.
    pub records_in_review: f64,
    /// Estimated share of the matches that are right.
    pub stated_precision: f64,
    /// Estimated number of true pairs among the compared ones.
    pub expected_pairs: f64,
}

/// Pairs below this are not kept.
const FLOOR: f64 = -8.0;
/// Most records that may go to review, as a share.
const REVIEW_SHARE: f64 = 0.02;
/// Pairs less likely than this are not worth a person's time.
const REVIEW_FLOOR: f64 = 0.05;

/// Learns a model from people, without labels: for linking if the table has two sources and `purpose` says so.
pub fn learn(table: &Table, purpose: Purpose, options: &Options) -> Model {
    run(table, None, purpose, options).model
}

/// Links the people of source 0 with those of source 1. Without a model it learns one from these people.
pub fn link(table: &Table, model: Option<Model>, options: &Options) -> Matching {
    run(table, model, Purpose::Link, options)
}

/// Finds the duplicates of one source. Without a model it learns one from these people.
pub fn dedupe(table: &Table, model: Option<Model>, options: &Options) -> Matching {
    run(table, model, Purpose::Dedupe, options)
}

fn run(table: &Table, model: Option<Model>, purpose: Purpose, options: &Options) -> Matching {
    let table = table.canonical();
    let fresh = model.is_none();
    let mut model = model.unwrap_or_else(|| train(&table, purpose, options));
    model.purpose = purpose;
    let scorer = Scorer::new(&model, &table);
    let (scored, blocking) = scorer.pairs(FLOOR, options);
    let one_to_one = match (purpose, fresh) {
        (Purpose::Dedupe, _) => 0.0,
        (Purpose::Link, true) => one_to_one_bits(&table, &scored, model.trained_on.expected_matches),
        (Purpose::Link, false) => model.one_to_one_bits,
    };
    let mut pairs = match purpose {
        Purpose::Link => linked(&table, &scored, one_to_one),
        Purpose::Dedupe => scored
            .iter()
            .map(|s| Judged { a: s.a, b: s.b, weight: s.bits, best: true, forbidden: false })
            .collect(),
    };
    let mut featurer = scorer.featurer();
    for pair in pairs.iter_mut().filter(|p| p.weight > -4.0) {
        let (ra, rb) = (table.row(pair.a), table.row(pair.b));
        pair.forbidden = forbidden(&model, &featurer.features(ra, rb), ra, rb);
    }
    let mut thresholds = model.thresholds;
    if fresh {
        thresholds.matched = best_threshold(&pairs);
        thresholds.review = review_threshold(&table, &pairs, thresholds.matched);
    }
    let mut found: Vec<Pair> = pairs
        .iter()
        .filter_map(|p| {
            let probability = probability(p.weight);
            let outcome = decide::outcome(&thresholds, probability, p.forbidden || !p.best);
            (outcome != Outcome::NoMatch).then_some(Pair {
                a: p.a,
                b: p.b,
                probability,
                weight: p.weight,
                outcome,
            })
        })
        .collect();
    let mut clusters = Vec::new();
    if purpose == Purpose::Dedupe {
        (found, clusters) = cluster(&scorer, found);
    }
    drop(featurer);
    drop(scorer);
    if fresh {
        model.one_to_one_bits = one_to_one;
        model.thresholds = thresholds;
    }
    Matching { table, model, pairs: found, clusters, blocking, scored }
}

/// A pair on its way to a decision.
struct Judged {
    a: u32,
    b: u32,
    weight: f64,
    /// Nobody fits either of the two better.
    best: bool,
    forbidden: bool,
}

/// How the odds of a pair without rivals rise because the two lists hold the same people: when a share `r` of a
/// list has counterparts, a record that is still free is rarer by `1 - r`.
fn one_to_one_bits(table: &Table, scored: &[Scored], expected: f64) -> f64 {
    let sizes = [0, 1].map(|s| table.sources.iter().filter(|x| **x == s).count().max(1) as f64);
    let sums = row_odds(table, scored);
    let mut matches = expected;
    let mut factor = 1.0;
    for _ in 0..12 {
        factor = sizes.iter().map(|n| 1.0 - (matches / n).min(0.95)).product::<f64>().recip();
        matches = scored.iter().map(|s| probability(shared(s, &sums, factor))).sum();
    }
    factor.log2()
}

fn row_odds(table: &Table, scored: &[Scored]) -> Vec<f64> {
    let mut sums = vec![0.0; table.len()];
    for s in scored {
        let odds = s.bits.exp2();
        sums[s.a as usize] += odds;
        sums[s.b as usize] += odds;
    }
    sums
}

/// Bits of a pair when its two records may have one counterpart each.
fn shared(s: &Scored, sums: &[f64], factor: f64) -> f64 {
    let odds = s.bits.exp2() * factor;
    let rivals = ((sums[s.a as usize] + sums[s.b as usize]) * factor - 2.0 * odds).max(0.0);
    s.bits + factor.log2() - (1.0 + rivals).log2()
}

fn linked(table: &Table, scored: &[Scored], one_to_one: f64) -> Vec<Judged> {
    let sums = row_odds(table, scored);
    let mut best = vec![f64::NEG_INFINITY; table.len()];
    let mut ties = vec![0_u32; table.len()];
    for s in scored {
        for r in [s.a as usize, s.b as usize] {
            if s.bits > best[r] {
                (best[r], ties[r]) = (s.bits, 1);
            } else if s.bits == best[r] {
                ties[r] += 1;
            }
        }
    }
    scored
        .iter()
        .map(|s| {
            let alone = |r: u32| best[r as usize] == s.bits && ties[r as usize] == 1;
            let (a, b) = if table.source(s.a) == 0 { (s.a, s.b) } else { (s.b, s.a) };
            Judged {
                a,
                b,
                weight: shared(s, &sums, one_to_one.exp2()),
                best: alone(a) && alone(b),
                forbidden: false,
            }
        })
        .collect()
}

/// The probability at which the expected F1 of all matches is highest.
fn best_threshold(pairs: &[Judged]) -> f64 {
    let mut open: Vec<f64> =
        pairs.iter().filter(|p| p.best && !p.forbidden).map(|p| probability(p.weight)).collect();
    open.sort_by(|x, y| y.total_cmp(x));
    let all: f64 = pairs.iter().map(|p| probability(p.weight)).sum();
    let (mut right, mut top, mut at) = (0.0, 0.0, 0.5);
    for (i, p) in open.iter().enumerate() {
        right += p;
        let f1 = 2.0 * right / (i as f64 + 1.0 + all);
        if f1 > top {
            (top, at) = (f1, *p);
        }
    }
    at.clamp(0.4, 0.9)
}

/// The probability down to which review takes no more records than people can look at.
fn review_threshold(table: &Table, pairs: &[Judged], matched: f64) -> f64 {
    let mut open: Vec<(f64, u32, u32)> = pairs
        .iter()
        .map(|p| (probability(p.weight), p))
        .filter(|(p, j)| *p >= REVIEW_FLOOR && (*p < matched || j.forbidden || !j.best))
        .map(|(p, j)| (p, j.a, j.b))
        .collect();
    open.sort_by(|x, y| y.0.total_cmp(&x.0));
    let budget = (table.len() as f64 * REVIEW_SHARE).max(4.0) as usize;
    let mut seen = vec![false; table.len()];
    let (mut count, mut lowest) = (0, matched);
    for group in open.chunk_by(|x, y| x.0 == y.0) {
        for r in group.iter().flat_map(|g| [g.1, g.2]) {
            count += usize::from(!std::mem::replace(&mut seen[r as usize], true));
        }
        if count > budget {
            break;
        }
        lowest = group.first().map_or(lowest, |g| g.0);
    }
    lowest.min(matched)
}

/// Puts matches into clusters, surest first. A match that would bring together two people whom the guards keep
/// apart goes to review. All pairs of a cluster are returned, each with its own probability.
fn cluster(scorer: &Scorer<'_>, mut found: Vec<Pair>) -> (Vec<Pair>, Vec<u32>) {
    let table = scorer.table;
    let mut featurer = scorer.featurer();
    let mut root: Vec<u32> = (0..table.len() as u32).collect();
    let mut members: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut order: Vec<usize> = (0..found.len()).filter(|i| found[*i].outcome == Outcome::Match).collect();
    order.sort_by(|x, y| {
        let (p, q) = (&found[*x], &found[*y]);
        q.weight.total_cmp(&p.weight).then_with(|| (p.a, p.b).cmp(&(q.a, q.b)))
    });
    for i in order {
        let (x, y) = (root[found[i].a as usize], root[found[i].b as usize]);
        if x == y {
            continue;
        }
        let own = |r: u32| members.get(&r).cloned().unwrap_or_else(|| vec![r]);
        let (left, right) = (own(x), own(y));
        let mut apart = false;
        let mut sum = 0.0;
        let few = left.len() * right.len() <= GUARDED;
        if few {
            for (&p, &q) in left.iter().flat_map(|p| right.iter().map(move |q| (p, q))) {
                let features = featurer.features(table.row(p), table.row(q));
                apart |= conflict(scorer.model, &features, table.row(p), table.row(q));
                sum += probability(scorer.weights.total(&features, &table.layout));
            }
            apart |= sum / ((left.len() * right.len()) as f64) < COHESION;
        }
        if apart {
            found[i].outcome = Outcome::Review;
            continue;
        }
        let (keep, gone) = if left.len() >= right.len() { (x, y) } else { (y, x) };
        let moved = if keep == x { right } else { left.clone() };
        moved.iter().for_each(|r| root[*r as usize] = keep);
        members.entry(keep).or_insert_with(|| vec![keep]).extend(moved);
        members.remove(&gone);
    }
    let known: HashMap<(u32, u32), usize> = found.iter().enumerate().map(|(i, p)| ((p.a, p.b), i)).collect();
    let mut pairs: Vec<Pair> =
        found.iter().filter(|p| root[p.a as usize] != root[p.b as usize]).copied().collect();
    pairs.iter_mut().for_each(|p| p.outcome = Outcome::Review);
    let mut clusters = root.clone();
    for (_, mut rows) in members {
        rows.sort_unstable();
        let first = rows[0];
        rows.iter().for_each(|r| clusters[*r as usize] = first);
        let all = rows.len() <= LISTED;
        for (i, &a) in rows.iter().enumerate() {
            for (j, &b) in rows.iter().enumerate().skip(i + 1) {
                if !all && j > i + 1 {
                    break;
                }
                let pair = match known.get(&(a, b)) {
                    Some(k) => Pair { outcome: Outcome::Match, ..found[*k] },
                    None => {
                        let weight = scorer.bits(&mut featurer, a, b);
                        Pair { a, b, probability: probability(weight), weight, outcome: Outcome::Match }
                    }
                };
                pairs.push(pair);
            }
        }
    }
    pairs.sort_unstable_by_key(|p| (p.a, p.b));
    (pairs, clusters)
}

/// Most pairs that are looked at before two clusters are joined.
const GUARDED: usize = 400;
/// Mean probability of the pairs between two clusters below which they stay apart.
const COHESION: f64 = 0.15;
/// Clusters of more records are listed as a chain of pairs.
const LISTED: usize = 200;

impl Matching {
    /// Numbers about the answer.
    pub fn summary(&self) -> Summary {
        let matches = || self.pairs.iter().filter(|p| p.outcome == Outcome::Match);
        let review = || self.pairs.iter().filter(|p| p.outcome == Outcome::Review);
        let mut rows: Vec<u32> = review().flat_map(|p| [p.a, p.b]).collect();
        rows.sort_unstable();
        rows.dedup();
        let records = self.table.len();
        let count = matches().count();
        Summary {
            records,
            candidates_per_record: self.blocking.pairs as f64 / records.max(1) as f64,
            matches: count,
            review: review().count(),
            records_in_review: rows.len() as f64 / records.max(1) as f64,
            stated_precision: matches().map(|p| p.probability).sum::<f64>() / count.max(1) as f64,
            expected_pairs: self.model.trained_on.expected_matches,
        }
    }

    /// Bits of a probability, for those who compare thresholds with weights.
    pub fn match_bits(&self) -> f64 {
        bits(self.model.thresholds.matched)
    }
}
